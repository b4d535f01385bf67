//! `/api/generate`: a prompt, and what goes on from it.

use serde_json::{Value, json};

use super::super::support::with;
use super::{answer, lines, node, streamed, told};

const GENERATE: &str = "/api/generate";

fn prompt(text: &str) -> Value {
    json!({"model": "sim-llama", "prompt": text, "options": {"num_predict": 4}})
}

#[tokio::test]
async fn a_line_has_a_response_and_the_last_one_a_context() {
    let node = node().await;
    let (head, chunks) = streamed(&node, GENERATE, &prompt("Hi")).await;
    assert!(head.contains("content-type: application/x-ndjson"), "{head}");
    assert_eq!(chunks.len(), 5);
    assert_eq!(
        chunks[3],
        r#"{"model":"sim-llama","created_at":"T","response":" Hi","done":false}"#.to_owned() + "\n"
    );
    let (before, after) = chunks[4].split_once(r#""context":["#).unwrap();
    let (context, after) = after.split_once(']').unwrap();
    assert_eq!(
        before,
        r#"{"model":"sim-llama","created_at":"T","response":"","done":true,"done_reason":"length","#
    );
    assert_eq!(context.split(',').count(), 9 + 4);
    assert_eq!(
        after,
        r#","total_duration":1,"load_duration":1,"prompt_eval_count":9,"prompt_eval_duration":1,"eval_count":4,"eval_duration":1}"#.to_owned() + "\n"
    );
}

#[tokio::test]
async fn a_context_comes_before_the_prompt() {
    let node = node().await;
    let first = answer(&node, GENERATE, &with(prompt("Hi"), json!({"stream": false}))).await;
    let body = with(prompt("Hi"), json!({"stream": false, "context": first["context"]}));
    assert_eq!(answer(&node, GENERATE, &body).await["prompt_eval_count"], 9 + 4 + 9);
    let body = with(prompt("Hi"), json!({"stream": false, "system": "Rules", "images": ["aGk="]}));
    assert!(answer(&node, GENERATE, &body).await["prompt_eval_count"].as_u64().unwrap() > 9);
}

#[tokio::test]
async fn a_raw_prompt_is_not_set_between_marks() {
    let node = node().await;
    let raw = lines(&node, GENERATE, &with(prompt("Hi"), json!({"raw": true}))).await;
    let last = raw.last().unwrap();
    assert_eq!((&last["prompt_eval_count"], last.get("context")), (&json!(1), None));
    let (status, _, says) =
        told(&node, GENERATE, &with(prompt("Hi"), json!({"raw": true, "system": "Rules"}))).await;
    assert_eq!(
        (status, says.as_str()),
        (400, r#"{"error":"raw mode does not support template, system, or context"}"#)
    );
}

#[tokio::test]
async fn no_model_fills_gaps() {
    let node = node().await;
    let (status, _, says) =
        told(&node, GENERATE, &with(prompt("Hi"), json!({"suffix": "b"}))).await;
    assert_eq!(
        (status, says.as_str()),
        (400, r#"{"error":"registry.ollama.ai/library/sim-llama:latest does not support insert"}"#)
    );
    let body = json!({"model": "nomic-embed-text", "prompt": "Hi"});
    let (status, _, says) = told(&node, GENERATE, &body).await;
    assert_eq!(
        (status, says.as_str()),
        (400, r#"{"error":"\"nomic-embed-text\" does not support generate"}"#)
    );
}

#[tokio::test]
async fn probabilities_come_after_the_sums() {
    let node = node().await;
    let body = with(prompt("Hi"), json!({"logprobs": true, "stream": false}));
    let (_, _, says) = told(&node, GENERATE, &body).await;
    assert!(says.contains(r#""eval_duration":1,"logprobs":[{"token":"You","logprob""#), "{says}");
    let (_, chunks) =
        streamed(&node, GENERATE, &with(prompt("Hi"), json!({"logprobs": true}))).await;
    assert!(chunks[0].contains(r#""response":"You","done":false,"logprobs":[{"token""#));
}
