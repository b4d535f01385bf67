//! `/save` and `/load`.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{Terminal, chats, quick, texts};
use crate::support::TestGateway;

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_was_saved_is_loaded_and_goes_on() {
    let (node, dir) = (quick().await, tempfile::tempdir().unwrap());
    let gateway = TestGateway::before(node.addr()).await;
    let mut chat = Terminal::at(&gateway, dir.path(), &["--system-prompt", "Be brief."]);
    chat.say("Hello there").await;
    chat.say("/save my chat.json").await;
    chat.shows("Saved to my chat.json.").await;
    chat.say("/save my chat.json").await;
    chat.shows("/save! writes over it").await;
    chat.say("/save! ~/my chat.json").await;
    chat.shows("Saved to").await;
    chat.say("/bye").await;
    assert_eq!(chat.left().await.0, Some(0));
    let file = dir.path().join("my chat.json");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let saved: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!((&saved["model"], &saved["system"]), (&json!("m"), &json!("Be brief.")));

    std::fs::write(dir.path().join("odd.json"), r#"{"mesages": []}"#).unwrap();
    let mut chat = Terminal::at(&gateway, dir.path(), &["--model", "other"]);
    chat.say("/load odd.json").await;
    chat.shows("did you mean `messages`?").await;
    chat.say("/load none.json").await;
    chat.shows("No such file").await;
    chat.say("/load my chat.json").await;
    chat.shows("model m.").await;
    chat.say("Go on").await;
    chat.shows("in, 8 out").await;
    let last = chats(&node).pop().unwrap();
    assert_eq!(last["model"], "m");
    let answer = saved["messages"][1]["content"].as_str().unwrap();
    assert_eq!(texts(&last), ["Be brief.", "Hello there", answer, "Go on"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_replaced_by_one_that_is_whole_and_for_its_owner_alone() {
    let (node, dir) = (quick().await, tempfile::tempdir().unwrap());
    let gateway = TestGateway::before(node.addr()).await;
    let (file, folder) = (dir.path().join("chat.json"), dir.path().join("chat.json.d"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&file, "before").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    // Who reads it meanwhile sees no half of the new one.
    let mut read_meanwhile = File::open(&file).unwrap();
    let mut chat = Terminal::at(&gateway, dir.path(), &[]);
    chat.say("/save! chat.json").await;
    chat.shows("Saved to chat.json.").await;
    assert_eq!(std::io::read_to_string(&mut read_meanwhile).unwrap(), "before");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    chat.say("/save! chat.json.d").await;
    chat.shows("chat.json.d: Is a directory").await;
    chat.asks().await;
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> =
        names.filter(|name| name.to_str().unwrap().starts_with("chat.json")).collect();
    names.sort();
    assert_eq!(names, ["chat.json", "chat.json.d"], "nothing else is left behind");
}
