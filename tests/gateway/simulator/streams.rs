//! Answers as events: what is sent, in which order, and in which HTTP chunks.

use serde_json::json;

use super::support::{Node, chat, chunks, with};

const CHAT: &str = "/v1/chat/completions";

/// The chunks of a chat of two tokens that streams, with these fields.
async fn stream(fields: serde_json::Value) -> Vec<String> {
    let node = Node::start().await;
    let body = with(with(chat("Hi"), json!({"stream": true, "max_tokens": 2})), fields);
    chunks(&node.bytes(CHAT, &body, "").await)
}

#[tokio::test]
async fn a_stream_has_one_chunk_for_each_event() {
    assert_eq!(
        stream(json!({})).await,
        [
            "data: {\"id\":\"chatcmpl-ID\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"sim-llama\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}],\"prompt_token_ids\":null,\"prompt_text\":null}\n\n",
            "data: {\"id\":\"chatcmpl-ID\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"sim-llama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"You\"},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]}\n\n",
            "data: {\"id\":\"chatcmpl-ID\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"sim-llama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" said\"},\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null,\"token_ids\":null}],\"system_fingerprint\":\"vllm-0.32.0-df802a1c\"}\n\n",
            "data: [DONE]\n\n",
        ]
    );
}

#[tokio::test]
async fn usage_is_one_more_event_at_the_end() {
    let chunks = stream(json!({"stream_options": {"include_usage": true}})).await;
    assert_eq!(chunks.len(), 5);
    assert!(!chunks[2].contains("system_fingerprint") && !chunks[2].contains("usage"));
    assert_eq!(
        chunks[3],
        "data: {\"id\":\"chatcmpl-ID\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"sim-llama\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"total_tokens\":11,\"completion_tokens\":2},\"system_fingerprint\":\"vllm-0.32.0-df802a1c\"}\n\n"
    );
}

#[tokio::test]
async fn continuous_usage_is_in_every_event() {
    let options = json!({"include_usage": true, "continuous_usage_stats": true});
    let chunks = stream(json!({"stream_options": options})).await;
    assert_eq!(chunks.len(), 5);
    for (tokens, chunk) in chunks[..3].iter().enumerate() {
        let usage = format!(
            "\"usage\":{{\"prompt_tokens\":9,\"total_tokens\":{},\"completion_tokens\":{tokens},\"completion_tokens_details\":null}}",
            9 + tokens
        );
        assert!(chunk.contains(&usage), "{chunk}");
    }
    assert!(chunks[0].ends_with("},\"prompt_token_ids\":null,\"prompt_text\":null}\n\n"));
}

#[tokio::test]
async fn choices_take_turns() {
    let chunks = stream(json!({"n": 2, "stream_options": {"include_usage": true}})).await;
    let index = |chunk: &String| chunk.split("\"index\":").nth(1).map(|rest| rest[..1].to_owned());
    let turns: Vec<_> = chunks.iter().filter_map(index).collect();
    assert_eq!(turns, ["0", "1", "0", "1", "0", "1"]);
    assert!(chunks[6].contains("\"completion_tokens\":4}"));
    assert_eq!(chunks[7], "data: [DONE]\n\n");
}

#[tokio::test]
async fn a_completion_streams_too() {
    let node = Node::start().await;
    let body = json!({"prompt": "Hello", "max_tokens": 4, "stream": true, "stream_options": {"include_usage": true}});
    let answer = node.bytes("/v1/completions", &body, "").await;
    assert!(answer.contains("content-type: text/event-stream; charset=utf-8\r\n"), "{answer}");
    let chunks = chunks(&answer);
    assert_eq!(chunks.len(), 6);
    assert_eq!(
        chunks[3],
        "data: {\"id\":\"cmpl-ID\",\"object\":\"text_completion\",\"created\":0,\"model\":\"sim-llama\",\"choices\":[{\"index\":0,\"text\":\" Hello\",\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null,\"prompt_token_ids\":null,\"token_ids\":null}]}\n\n"
    );
    assert_eq!(chunks[5], "data: [DONE]\n\n");
}

/// What each chunk calls its event.
fn names(chunks: &[String]) -> Vec<&str> {
    chunks
        .iter()
        .map(|chunk| chunk.lines().next().unwrap().strip_prefix("event: ").unwrap())
        .collect()
}

#[tokio::test]
async fn a_response_is_told_in_order_and_has_no_done() {
    let node = Node::start().await;
    let body = json!({"input": "Hi", "max_output_tokens": 2, "stream": true});
    let chunks = chunks(&node.bytes("/v1/responses", &body, "").await);
    assert_eq!(
        names(&chunks),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    for (number, chunk) in chunks.iter().enumerate() {
        let data = chunk.split_once("data: ").unwrap().1;
        let data: serde_json::Value = data.parse().unwrap();
        assert_eq!(data["sequence_number"], number);
    }
    assert!(chunks[6].contains("\"text\":\"You said\""));
}

#[tokio::test]
async fn a_message_is_told_in_order_and_has_no_done() {
    let node = Node::start().await;
    let body = with(chat("Hi"), json!({"max_tokens": 1, "stream": true}));
    assert_eq!(
        chunks(&node.bytes("/v1/messages", &body, "").await),
        [
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"chatcmpl-ID\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"sim-llama\",\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":0}}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"},\"index\":0}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"You\"},\"index\":0}\n\n",
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null},\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ]
    );
}

#[tokio::test]
async fn http_2_is_spoken_with_prior_knowledge() {
    let node = Node::start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let body = with(chat("Hi"), json!({"stream": true}));
    let reply = client.post(node.url(CHAT)).json(&body).send().await.unwrap();
    assert_eq!(reply.version(), reqwest::Version::HTTP_2);
    assert!(reply.text().await.unwrap().ends_with("data: [DONE]\n\n"));
}
