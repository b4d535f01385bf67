//! Conversations that outgrow the model's context.

use serde_json::json;
use sluice::sim::{Settings, Simulator};

use super::{Terminal, chats, texts};
use crate::support::{TestGateway, node_with};

/// A node whose context takes three messages of a test with their answers, and no fourth.
async fn small() -> Simulator {
    let settings = Settings { models: vec!["m".into()], tokens: 8, ..Settings::default() };
    node_with(Settings { max_model_len: 125, ..settings }).await
}

/// A message of 20 words.
fn message(word: &str) -> String {
    [word; 20].join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_pairs_go_when_the_context_is_full() {
    let (node, dir) = (small().await, tempfile::tempdir().unwrap());
    let gateway = TestGateway::before(node.addr()).await;
    let mut chat = Terminal::at(&gateway, dir.path(), &["--system-prompt", "Be brief."]);
    let words = ["one", "two", "three", "four"];
    for word in words {
        chat.say(&message(word)).await;
        chat.shows("in, 8 out").await;
    }
    chat.shows("pair trimmed").await;
    // Nothing goes where the message alone is too long.
    chat.say(&"long ".repeat(200)).await;
    chat.shows("this does not fit the model's context").await;
    chat.say("/show info").await;
    chat.shows("pairs    3").await;
    let chats = chats(&node);
    let answered: Vec<Vec<&str>> = chats.iter().map(texts).collect();
    assert!(answered.iter().all(|texts| texts[0] == "Be brief."), "{answered:?}");
    let of_four = answered.iter().rfind(|texts| *texts.last().unwrap() == message("four")).unwrap();
    assert_eq!((of_four.len(), of_four[1]), (6, &*message("two")));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_limit_of_its_own_the_chat_trims_before_the_server_refuses() {
    let (node, dir) = (small().await, tempfile::tempdir().unwrap());
    let gateway = TestGateway::before(node.addr()).await;
    let mut chat = Terminal::at(&gateway, dir.path(), &["--max-context-tokens", "45"]);
    for word in ["one", "two", "three"] {
        chat.say(&message(word)).await;
        chat.shows("in, 8 out").await;
    }
    chat.shows("1 pair trimmed").await;
    let chats = chats(&node);
    assert_eq!(chats.len(), 3, "the server refused none");
    assert!(texts(&chats[2]).len() <= 3, "{chats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_conversation_needs_few_requests_to_fit() {
    let (node, dir) = (small().await, tempfile::tempdir().unwrap());
    let gateway = TestGateway::before(node.addr()).await;
    let pair = [("user", message("old")), ("assistant", "yes".to_owned())];
    let pair = pair.map(|(role, content)| json!({"role": role, "content": content}));
    let saved = json!({"messages": vec![pair; 257].concat()});
    std::fs::write(dir.path().join("long.json"), saved.to_string()).unwrap();
    let mut chat = Terminal::at(&gateway, dir.path(), &[]);
    chat.say("/load long.json").await;
    chat.shows("pairs 257").await;
    chat.say(&message("new")).await;
    chat.shows("255 pairs trimmed").await;
    let sent: Vec<usize> = chats(&node).iter().map(|chat| texts(chat).len() / 2).collect();
    assert_eq!(sent, [257, 256, 254, 250, 242, 226, 194, 130, 65, 32, 16, 8, 4, 2]);
}
