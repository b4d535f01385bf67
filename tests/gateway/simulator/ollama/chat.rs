//! `/api/chat`: lines, and one object where no stream is wanted.

use serde_json::{Value, json};
use sluice::sim::{Kind, Settings};

use super::super::support::{Node, with};
use super::{answer, chat, lines, node, settled, streamed, told};

const CHAT: &str = "/api/chat";

#[tokio::test]
async fn a_stream_is_the_default_and_has_a_line_in_each_chunk() {
    let node = node().await;
    let body = with(chat("sim-llama", "a <b>"), json!({"options": {"num_predict": 5}}));
    let (head, lines) = streamed(&node, CHAT, &body).await;
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n"),
        "{head}"
    );
    assert!(!head.contains("server:") && !head.contains("vary:"), "{head}");
    let line = |content: &str| {
        format!(
            r#"{{"model":"sim-llama","created_at":"T","message":{{"role":"assistant","content":"{content}"}},"done":false}}"#
        ) + "\n"
    };
    assert_eq!(
        lines,
        [
            line("You"),
            line(" said"),
            line(":"),
            line(" a"),
            line(r" \u003c"),
            r#"{"model":"sim-llama","created_at":"T","message":{"role":"assistant","content":""},"done":true,"done_reason":"length","total_duration":1,"load_duration":1,"prompt_eval_count":12,"prompt_eval_duration":1,"eval_count":5,"eval_duration":1}"#.to_owned() + "\n",
        ]
    );
}

#[tokio::test]
async fn an_answer_in_one_piece_has_the_sums_too() {
    let node = node().await;
    let body = with(
        chat("Library/SIM-LLAMA:latest", "Hi"),
        json!({"stream": false, "options": {"num_predict": 4}}),
    );
    let (status, content_type, body) = told(&node, CHAT, &body).await;
    assert_eq!((status, content_type.as_str()), (200, "application/json; charset=utf-8"));
    assert_eq!(
        body,
        r#"{"model":"Library/SIM-LLAMA:latest","created_at":"T","message":{"role":"assistant","content":"You said: Hi"},"done":true,"done_reason":"length","total_duration":1,"load_duration":1,"prompt_eval_count":9,"prompt_eval_duration":1,"eval_count":4,"eval_duration":1}"#
    );
}

#[tokio::test]
async fn a_count_of_none_is_left_out() {
    let node = node().await;
    let body = with(chat("sim-llama", "Hi"), json!({"options": {"num_predict": 0}}));
    let lines = lines(&node, CHAT, &body).await;
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].get("eval_count"), &lines[0]["done_reason"]), (None, &json!("length")));
    assert_eq!(lines[0]["prompt_eval_count"], 9);
}

#[tokio::test]
async fn an_answer_has_its_own_length_or_that_which_is_asked_for() {
    let node = Node::with(Settings { kind: Kind::Ollama, tokens: 7, ..Settings::default() }).await;
    for (options, tokens, reason) in [
        (json!({}), 7, "stop"),
        (json!({"num_predict": -1}), 7, "stop"),
        (json!({"num_predict": 3}), 3, "length"),
        (json!({"num_predict": 3.9, "seed": 1, "temperature": 0.1, "top_k": 5}), 3, "length"),
        (json!({"stop": ["said"]}), 2, "stop"),
        (json!({"unknown": [1]}), 7, "stop"),
    ] {
        let body = with(chat("sim-llama", "Hi"), json!({"options": options, "stream": false}));
        let reply = answer(&node, CHAT, &body).await;
        assert_eq!(
            (&reply["eval_count"], &reply["done_reason"]),
            (&tokens.into(), &reason.into()),
            "{options}"
        );
    }
    let stopped = with(
        chat("sim-llama", "one two three"),
        json!({"options": {"stop": ["ne tw"], "num_predict": 50}}),
    );
    let text: String = lines(&node, CHAT, &stopped)
        .await
        .iter()
        .filter_map(|line| line["message"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, "You said: o");
}

#[tokio::test]
async fn a_format_is_kept() {
    let node = node().await;
    let says = |format: Value| {
        let body = with(
            chat("sim-llama", "Oslo"),
            json!({"format": format, "stream": false, "options": {"num_predict": 99}}),
        );
        let node = &node;
        async move { answer(node, CHAT, &body).await["message"]["content"].clone() }
    };
    assert_eq!(says(json!("json")).await, r#"{"said": "Oslo"}"#);
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
    assert_eq!(says(schema).await, r#"{"city": "Oslo", "days": 1}"#);
    assert_eq!(says(json!("")).await.as_str().unwrap().split_at(9).0, "You said:");
    let wrong = with(chat("sim-llama", "Oslo"), json!({"format": "xml"}));
    assert_eq!(
        told(&node, CHAT, &wrong).await,
        (
            500,
            "application/json".to_owned(),
            r#"{"error":"invalid format: \"\\\"xml\\\"\"; expected \"json\" or a valid JSON Schema object"}"#.to_owned()
        )
    );
}

#[tokio::test]
async fn probabilities_are_told_where_they_are_asked_for() {
    let node = node().await;
    let body = with(
        chat("sim-llama", "Hi"),
        json!({"logprobs": true, "top_logprobs": 2, "options": {"num_predict": 2}}),
    );
    let (_, chunks) = streamed(&node, CHAT, &body).await;
    assert_eq!(
        chunks[0],
        r#"{"model":"sim-llama","created_at":"T","message":{"role":"assistant","content":"You"},"done":false,"logprobs":[{"token":"You","logprob":-0.5,"bytes":[89,111,117],"top_logprobs":[{"token":"You","logprob":-0.5,"bytes":[89,111,117]},{"token":" other1","logprob":-1.68,"bytes":[32,111,116,104,101,114,49]}]}]}"#.to_owned() + "\n"
    );
    assert!(!chunks[2].contains("logprobs"));
    let whole = with(chat("sim-llama", "Hi"), json!({"logprobs": true, "stream": false}));
    let reply = answer(&node, CHAT, &whole).await;
    assert_eq!(reply["logprobs"].as_array().unwrap().len(), 16);
    assert_eq!(
        reply["logprobs"][0],
        json!({"token": "You", "logprob": -0.5, "bytes": [89, 111, 117]})
    );
}

#[tokio::test]
async fn images_are_part_of_the_prompt() {
    let node = node().await;
    let count = |message: Value| {
        let body = json!({"model": "sim-llama", "messages": [message], "stream": false});
        let node = &node;
        async move { answer(node, CHAT, &body).await["prompt_eval_count"].as_u64().unwrap() }
    };
    let without = count(json!({"role": "user", "content": "Hi"})).await;
    let with = count(json!({"role": "user", "content": "Hi", "images": ["aGk=", "aGk="]})).await;
    assert!(with > without);
}

#[tokio::test]
async fn a_prompt_that_is_too_long_loses_its_oldest_messages() {
    let node = node().await;
    let long: Vec<_> = (0..40).map(|n| format!("word{n}")).collect();
    let mut body = json!({"model": "sim-llama", "stream": false, "options": {"num_ctx": 32}, "messages": [
        {"role": "system", "content": "Rules"}, {"role": "user", "content": long.join(" ")},
        {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "And now"}]});
    assert_eq!(answer(&node, CHAT, &body).await["prompt_eval_count"], 22);
    body["messages"] = json!([{"role": "user", "content": long.join(" ")}]);
    assert_eq!(
        answer(&node, CHAT, &body).await["prompt_eval_count"],
        18,
        "half of what is not kept"
    );
    body["truncate"] = false.into();
    let (status, _, says) = told(&node, CHAT, &body).await;
    assert_eq!(status, 400);
    assert!(
        says.contains("request (48 tokens) exceeds the available context size (32 tokens)"),
        "{says}"
    );
}

#[tokio::test]
async fn messages_of_one_role_are_one_and_roles_have_no_case() {
    let node = node().await;
    let body = json!({"model": "sim-llama", "stream": false, "options": {"num_predict": 5}, "messages": [
        {"role": "User", "content": "one"}, {"role": "user", "content": "two"}]});
    assert_eq!(answer(&node, CHAT, &body).await["message"]["content"], "You said: one\n\ntwo");
    assert_eq!(
        settled(r#"{"created_at":"2026-11-20T18:00:00.2Z","a":1}"#),
        r#"{"created_at":"T","a":1}"#
    );
}
