//! The terminal client, with its guide and its settings in JSON (row E9).

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::sluice;
use crate::support::gateway::written;
use crate::support::{KEY, TestGateway, node};
use crate::terminal::{Terminal, chats};

#[tokio::test(flavor = "multi_thread")]
async fn e9_a_terminal_client_takes_its_settings_from_json_and_has_a_guide() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (node, dir) = (node(&["llama-3.1-8b"]).await, tempfile::tempdir().unwrap());
    let gateway = TestGateway::before(node.addr()).await;
    let mut settings: Value =
        serde_json::from_str(&written(&root.join("config/chat.json"))).unwrap();
    settings["url"] = gateway.url("/v1").into();
    std::fs::write(dir.path().join("chat.json"), settings.to_string()).unwrap();
    let variables = [("SLUICE_API_KEY", KEY)];
    let mut chat = Terminal::start(dir.path(), &["--settings", "chat.json"], &variables);
    chat.say("Hello").await;
    chat.shows("You said: Hello").await;
    chat.say("/bye").await;
    assert_eq!(chat.left().await.0, Some(0));
    let asked = chats(&node).pop().unwrap();
    assert_eq!(asked["model"], settings["model"]);
    let system = json!({"role": "system", "content": settings["system_prompt"]});
    assert_eq!(asked["messages"][0], system);
    for (name, value) in settings["parameters"].as_object().unwrap() {
        assert_eq!(&asked[name], value);
    }

    let guide = written(&root.join("docs/chat.md"));
    let help = sluice(dir.path(), &["chat", "--help"], &[]).await.out;
    let flags = help.split_whitespace().filter(|word| word.starts_with("--"));
    for name in flags.chain(settings.as_object().unwrap().keys().map(String::as_str)) {
        assert!(guide.contains(name.trim_end_matches([',', ']'])), "{name} is not in the guide");
    }
}
