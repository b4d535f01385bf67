//! What is typed: several lines, the history, words.

use std::os::unix::fs::PermissionsExt;

use super::{CTRL_D, Terminal, chats, quick, texts};
use crate::support::TestGateway;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_have_several_lines() {
    let (node, dir) = (quick().await, tempfile::tempdir().unwrap());
    let gateway = TestGateway::before(node.addr()).await;
    let mut chat = Terminal::at(&gateway, dir.path(), &[]);
    chat.say("\"\"\"one\rtwo \"and\" three\r\"\"\"").await;
    chat.shows("in, 8 out").await;
    // As a terminal sends what is pasted.
    chat.say("\x1b[200~four\nfive\x1b[201~").await;
    chat.shows("in, 8 out").await;
    chat.asks().await;
    chat.press(CTRL_D);
    assert_eq!(chat.left().await.0, Some(0));
    let last = chats(&node).pop().unwrap();
    let texts = texts(&last);
    assert_eq!((texts[0], texts[2]), ("one\ntwo \"and\" three", "four\nfive"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_typed_is_remembered_for_its_owner_alone() {
    const UP: &str = "\x1b[A";
    let (node, dir) = (quick().await, tempfile::tempdir().unwrap());
    let gateway = TestGateway::before(node.addr()).await;
    let folder = dir.path().join(".local/state/sluice");
    let mut chat = Terminal::at(&gateway, dir.path(), &["--no-history"]);
    chat.say("a secret").await;
    chat.say("/bye").await;
    assert_eq!(chat.left().await.0, Some(0));
    assert!(!folder.exists());

    let mut chat = Terminal::at(&gateway, dir.path(), &[]);
    chat.say("Hello there").await;
    chat.say("/bye").await;
    assert_eq!(chat.left().await.0, Some(0));
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("chat_history"))), (0o700, 0o600));

    let mut chat = Terminal::at(&gateway, dir.path(), &[]);
    // The last line but one: the last is /bye.
    chat.say(&format!("{UP}{UP}")).await;
    chat.shows("in, 8 out").await;
    chat.say("/bye").await;
    assert_eq!(chat.left().await.0, Some(0));
    assert_eq!(texts(chats(&node).last().unwrap()), ["Hello there"]);
    let kept = std::fs::read_to_string(folder.join("chat_history")).unwrap();
    assert!(!kept.contains(crate::support::KEY) && !kept.contains("secret"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_set_and_show_what_holds_and_the_key_is_never_shown() {
    let (node, dir) = (quick().await, tempfile::tempdir().unwrap());
    let gateway = TestGateway::before(node.addr()).await;
    let mut chat = Terminal::at(&gateway, dir.path(), &[]);
    chat.say("/?").await;
    chat.shows("/set parameter NAME VALUE").await;
    chat.say("/shwo info").await;
    chat.shows("did you mean `/show`?").await;
    chat.say("/set parameter temprature 1").await;
    chat.shows("did you mean `temperature`?").await;
    chat.say("/set parameter temperature 0.5").await;
    chat.say("/set system \"\"\"Be brief.\rBe kind.\"\"\"").await;
    chat.say("/set quiet").await;
    chat.say("Hello").await;
    chat.shows("You said: Hello").await;
    chat.say("/show history").await;
    chat.shows("user: Hello").await;
    chat.say("/show parameters").await;
    chat.shows("\"temperature\": 0.5").await;
    chat.say("/show system").await;
    chat.shows("Be brief.\r\nBe kind.").await;
    chat.say("/clear").await;
    chat.say("/set verbose").await;
    chat.say("New").await;
    chat.shows("in, 8 out").await;
    chat.say("/show info").await;
    chat.shows("key      set").await;
    chat.say("/set model other").await;
    chat.say("Hello").await;
    chat.shows("there are: m").await;
    chat.say("/bye").await;
    let (code, shown) = chat.left().await;
    assert_eq!(code, Some(0));
    assert!(!shown.contains(crate::support::KEY));
    assert_eq!(shown.matches("first token").count(), 1, "the footer was hidden for one answer");
    let chats = chats(&node);
    assert_eq!(chats[0]["temperature"], 0.5);
    assert_eq!(texts(&chats[0]), ["Be brief.\nBe kind.", "Hello"]);
    assert_eq!(texts(&chats[1]), ["Be brief.\nBe kind.", "New"]);
}
