//! How much of what was said a node is shown.

use serde_json::{Value, json};
use sluice::chat::tokens::{Counter, Kept};
use sluice::chat::{Conversation, Message};
use sluice::config::{Environment, SettingsArgs};
use sluice::sim::Settings;

use super::{
    NODE_KEY, answered, ask, begin, chats, error, guarded, guarded_with, post, replaced, said,
};
use crate::support::gateway::Setup;
use crate::support::{TestGateway, node_with};

/// Tokens of a chat, as its node counts them.
async fn counted(gateway: &TestGateway, messages: &Value) -> u64 {
    let body = json!({ "model": "m", "messages": messages });
    let counted = gateway.client.post(gateway.url("/tokenize")).json(&body).send().await.unwrap();
    counted.json::<Value>().await.unwrap()["count"].as_u64().unwrap()
}

/// A real tokenizer with its template, in whose folder conversations of a real vLLM were counted.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chat/model");

#[tokio::test(flavor = "multi_thread")]
async fn e4_history_is_counted_with_the_models_own_tokenizer_and_the_oldest_pairs_go() {
    let (models, api_keys) = (vec![FOLDER.into()], vec![NODE_KEY.to_owned()]);
    let node =
        node_with(Settings { models, api_keys, max_model_len: 345, ..Settings::default() }).await;
    let gateway = replaced(&node).env("VLLM_MODEL_NAME", FOLDER);
    let gateway = gateway.env("MAX_CONTEXT_TOKENS", "300").start().await;
    let counter = Counter::load(FOLDER.as_ref()).unwrap();
    let count = |messages: &[Value]| {
        let messages: Vec<Message> = serde_json::from_value(json!(messages)).unwrap();
        let conversation = Conversation { messages: &messages, extra: &serde_json::Map::new() };
        counter.count(&conversation, &mut Kept::default()).unwrap()
    };
    let id = begin(&gateway, NODE_KEY).await;
    let (mut all, mut longest): (Vec<Value>, u64) = (Vec::new(), 0);
    for number in 0..14 {
        let question = format!("вопрос {number}, question 🙂 {}", "слово ".repeat(number * 3));
        all.push(json!({ "role": "user", "content": question }));
        // What the answer may have comes on top.
        let reply = ask(&gateway, &id, &question, json!({ "max_tokens": 40 })).await;
        let reply: Value = reply.json().await.unwrap();
        let asked = chats(&node).pop().unwrap()["messages"].as_array().unwrap().clone();
        let shown = asked.len() - 1;
        assert_eq!(asked[1..], all[all.len() - shown..]);
        let tokens = count(&asked);
        assert!(tokens <= 300, "{tokens}");
        longest = longest.max(tokens);
        if shown < all.len() {
            let more = [&asked[..1], &all[all.len() - shown - 2..]].concat();
            assert!(count(&more) > 300);
        }
        all.push(json!({ "role": "assistant", "content": reply["reply"] }));
    }
    let forgotten = gateway.series("sluice_session_forgotten_pairs_total");
    assert!(longest > 200 && forgotten > 0.0, "{longest} {forgotten}");
    assert!(!node.requests().iter().any(|seen| seen.target == "/tokenize"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_counts_otherwise_is_found_out() {
    // The simulated one has a tokenizer of its own.
    let (models, api_keys) = (vec![FOLDER.into()], vec![NODE_KEY.to_owned()]);
    let node = node_with(Settings { models, api_keys, ..Settings::default() }).await;
    let by_folder = replaced(&node).env("VLLM_MODEL_NAME", FOLDER).start().await;
    let by_node =
        replaced(&node).env("VLLM_MODEL_NAME", "").env("MAX_CONTEXT_TOKENS", "900").start().await;
    for (gateway, miscounts) in [(&by_folder, 1.0), (&by_node, 0.0)] {
        let id = begin(gateway, NODE_KEY).await;
        answered(gateway, &id, "How many are these?").await;
        assert_eq!(gateway.series("sluice_session_miscounts_total"), miscounts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_a_tokenizer_is_told_before_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let variables = Environment::from_iter([("VLLM_MODEL_NAME", folder.path().to_str().unwrap())]);
    let settings = || {
        sluice::config::Settings::resolve(&SettingsArgs::default(), &variables, "/none".as_ref())
    };
    let told = settings().unwrap_err().to_string();
    assert!(told.contains("VLLM_MODEL_NAME: there is no `tokenizer.json`"), "{told}");
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert!(settings().is_ok());
    let setup = Setup::bare().env("VLLM_BASE_URL", "http://127.0.0.1:1");
    let setup = setup.env("VLLM_MODEL_NAME", folder.path().to_str().unwrap());
    let why = setup.try_start().await.err().unwrap().to_string();
    assert!(why.starts_with("session_model: ") && why.contains("tokenizer.json"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_pairs_go_until_the_prompt_fits_and_no_more() {
    let node = guarded().await;
    let gateway = replaced(&node).env("MAX_CONTEXT_TOKENS", "150").start().await;
    let id = begin(&gateway, NODE_KEY).await;
    let mut all: Vec<Value> = Vec::new();
    let mut trimmed = false;
    for number in 0..12 {
        let question = format!("question {number} {}", "word ".repeat(number));
        all.push(json!({ "role": "user", "content": question }));
        let reply = answered(&gateway, &id, &question).await;
        let asked = chats(&node).pop().unwrap()["messages"].as_array().unwrap().clone();
        // The node has counted as many, and they fit.
        let tokens = reply["input_tokens"].as_u64().unwrap();
        assert_eq!(tokens, counted(&gateway, &json!(asked)).await);
        assert!(tokens <= 150, "{tokens}");
        // With one pair more they would not.
        let shown = asked.len() - 1;
        assert_eq!(asked[1..], all[all.len() - shown..]);
        if shown < all.len() {
            trimmed = true;
            let more = [&asked[..1], &all[all.len() - shown - 2..]].concat();
            assert!(counted(&gateway, &json!(more)).await > 150);
        }
        all.push(json!({ "role": "assistant", "content": reply["reply"] }));
    }
    assert!(trimmed && gateway.series("sluice_session_forgotten_pairs_total") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_fit_alone_is_refused_and_changes_nothing() {
    let node = guarded().await;
    let gateway = replaced(&node).env("MAX_CONTEXT_TOKENS", "60").start().await;
    let id = begin(&gateway, NODE_KEY).await;
    answered(&gateway, &id, "short").await;
    let long = ask(&gateway, &id, &"word ".repeat(100), json!({})).await;
    assert_eq!(error(long).await, (400, "context_length_exceeded".into()));
    answered(&gateway, &id, "again").await;
    assert_eq!(said(&node)[1], ("user".into(), "short".into()));
    // A longer beginning leaves less room.
    let set = json!({ "session_id": id, "system_prompt": "word ".repeat(100) });
    assert_eq!(post(&gateway, "/set_system_prompt", set).await.status(), 200);
    let none = ask(&gateway, &id, "short", json!({})).await;
    assert_eq!(error(none).await, (400, "context_length_exceeded".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_has_room_in_what_the_model_takes() {
    let node = guarded_with(Settings { max_model_len: 100, ..Settings::default() }).await;
    let gateway = replaced(&node).start().await;
    let id = begin(&gateway, NODE_KEY).await;
    for number in 0..6 {
        let reply =
            ask(&gateway, &id, &format!("question {number}"), json!({ "max_tokens": 20 })).await;
        let reply: Value = reply.json().await.unwrap();
        assert!(reply["input_tokens"].as_u64().unwrap() <= 80, "{reply}");
    }
    assert!(gateway.series("sluice_session_forgotten_pairs_total") > 0.0);
    let none = ask(&gateway, &id, "question", json!({ "max_tokens": 100 })).await;
    assert_eq!(error(none).await, (400, "context_length_exceeded".into()));
}
