//! Models that think before they answer.

use serde_json::{Value, json};

use super::super::support::with;
use super::{answer, chat, lines, node, streamed, told};

const CHAT: &str = "/api/chat";

/// Thoughts and content of a stream, each joined.
fn said(lines: &[Value]) -> (String, String) {
    let all = |name: &str| lines.iter().filter_map(|line| line["message"][name].as_str()).collect();
    (all("thinking"), all("content"))
}

#[tokio::test]
async fn a_model_that_can_think_does_so_unless_told_not_to() {
    let node = node().await;
    let once = "The user wants an answer.";
    let (twice, thrice) = (format!("{once} {once}"), format!("{once} {once} {once}"));
    for (think, thought) in [
        (Value::Null, twice.as_str()),
        (json!(true), &twice),
        (json!(false), ""),
        (json!("low"), once),
        (json!("high"), &thrice),
    ] {
        let body =
            with(chat("qwen3:8b", "Hi"), json!({"think": think, "options": {"num_predict": 30}}));
        let (thinking, content) = said(&lines(&node, CHAT, &body).await);
        assert_eq!(thinking, thought, "{think}");
        assert!(content.starts_with("You said: Hi Hi"), "{content}");
    }
}

#[tokio::test]
async fn thoughts_come_in_lines_before_the_content() {
    let node = node().await;
    let body = with(chat("qwen3:8b", "Hi"), json!({"think": "low", "options": {"num_predict": 9}}));
    let (_, chunks) = streamed(&node, CHAT, &body).await;
    assert_eq!(
        chunks[0],
        r#"{"model":"qwen3:8b","created_at":"T","message":{"role":"assistant","content":"","thinking":"The"},"done":false}"#.to_owned() + "\n"
    );
    assert!(chunks[6].contains(r#""message":{"role":"assistant","content":"You"},"done":false"#));
    assert!(
        chunks.last().unwrap().contains(r#""eval_count":9,"#),
        "six thoughts, their end, two words"
    );
    let whole = with(chat("qwen3:8b", "Hi"), json!({"stream": false, "think": "low"}));
    let reply = answer(&node, CHAT, &whole).await;
    assert_eq!(reply["message"]["thinking"], "The user wants an answer.");
    let generated = json!({"model": "qwen3:8b", "prompt": "Hi", "stream": false, "think": "low"});
    let reply = answer(&node, "/api/generate", &generated).await;
    assert_eq!(reply["thinking"], "The user wants an answer.");
}

#[tokio::test]
async fn who_is_cut_short_while_thinking_says_nothing() {
    let node = node().await;
    let body =
        with(chat("qwen3:8b", "Hi"), json!({"stream": false, "options": {"num_predict": 3}}));
    let reply = answer(&node, CHAT, &body).await;
    assert_eq!(
        reply["message"],
        json!({"role": "assistant", "content": "", "thinking": "The user wants"})
    );
    assert_eq!((&reply["done_reason"], &reply["eval_count"]), (&json!("length"), &json!(3)));
}

#[tokio::test]
async fn a_model_that_cannot_think_refuses_to() {
    let node = node().await;
    for path in [CHAT, "/api/generate"] {
        let body = with(chat("sim-llama", "Hi"), json!({"think": true, "prompt": "Hi"}));
        let (status, _, says) = told(&node, path, &body).await;
        assert_eq!(
            (status, says.as_str()),
            (400, r#"{"error":"\"sim-llama\" does not support thinking"}"#)
        );
    }
    let body = with(chat("sim-llama", "Hi"), json!({"think": false, "stream": false}));
    assert!(answer(&node, CHAT, &body).await["message"].get("thinking").is_none());
    let body = with(chat("qwen3:8b", "Hi"), json!({"think": "deep"}));
    let (status, _, says) = told(&node, CHAT, &body).await;
    assert_eq!(status, 400);
    assert!(says.starts_with(r#"{"error":"invalid think value: \"deep\" (must be"#), "{says}");
}
