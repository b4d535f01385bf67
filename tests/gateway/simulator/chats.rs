//! Chats and completions with more than words: tools, formats, texts that end them, and what is told of tokens.

use serde_json::{Value, json};

use super::support::{Node, chat, chunks, with};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// The answer to a chat with these fields.
async fn answered(says: &str, fields: Value) -> Value {
    Node::start().await.told(CHAT, with(chat(says), fields)).await.parse().unwrap()
}

/// The events of the same as a stream, but for `[DONE]`.
async fn streamed(path: &str, body: Value) -> Vec<Value> {
    let body = with(body, json!({"stream": true}));
    let chunks = chunks(&Node::start().await.bytes(path, &body, "").await);
    let (done, events) = chunks.split_last().unwrap();
    assert_eq!(done, "data: [DONE]\n\n");
    events.iter().map(|chunk| chunk.strip_prefix("data: ").unwrap().parse().unwrap()).collect()
}

/// Two tools; the first needs a city.
fn tools() -> Value {
    let parameters =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!([
        {"type": "function", "function": {"name": "get_weather", "parameters": parameters}},
        {"type": "function", "function": {"name": "get_time"}},
    ])
}

#[tokio::test]
async fn a_tool_is_called_when_the_user_names_it_or_it_must_be() {
    let named = json!({"type": "function", "function": {"name": "get_time"}});
    for (says, choice, tool, reason) in [
        ("get_time please", Value::Null, Some("get_time"), "tool_calls"),
        ("Hello", json!("required"), Some("get_weather"), "tool_calls"),
        ("Hello", named, Some("get_time"), "stop"),
        ("get_time please", json!("none"), None, "stop"),
        ("Hello", json!("auto"), None, "stop"),
    ] {
        let reply = answered(says, json!({"tools": tools(), "tool_choice": choice})).await;
        let reply = &reply["choices"][0];
        let called = reply["message"]["tool_calls"][0]["function"]["name"].as_str();
        assert_eq!((called, reply["finish_reason"].as_str().unwrap()), (tool, reason), "{choice}");
    }
}

#[tokio::test]
async fn a_call_streams_its_name_and_then_its_arguments() {
    let body = with(
        chat("Oslo"),
        json!({"tools": tools(), "tool_choice": "required", "stream_options": {"include_usage": true}}),
    );
    let events = streamed(CHAT, body).await;
    let (usage, events) = events.split_last().unwrap();
    let calls: Vec<&Value> =
        events.iter().map(|event| &event["choices"][0]["delta"]["tool_calls"][0]).collect();
    assert_eq!(calls[1]["function"]["name"], "get_weather");
    assert!(calls[1]["id"].as_str().unwrap().starts_with("chatcmpl-tool-"));
    let arguments: String =
        calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(arguments.parse::<Value>().unwrap(), json!({"city": "Oslo"}));
    let last = &events.last().unwrap()["choices"][0];
    assert_eq!((&last["delta"], &last["finish_reason"]), (&json!({}), &json!("tool_calls")));
    let whole = answered("Oslo", json!({"tools": tools(), "tool_choice": "required"})).await;
    assert_eq!(usage["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
}

#[tokio::test]
async fn what_a_tool_answered_is_part_of_the_prompt_and_ends_the_calls() {
    let call =
        json!({"id": "1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}});
    let messages = json!([
        {"role": "user", "content": "get_time please"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]);
    let reply = answered("", json!({"messages": messages, "tools": tools()})).await;
    assert_eq!(reply["choices"][0]["message"]["tool_calls"], Value::Null);
    let shorter = json!([messages[0]]);
    let before = answered("", json!({"messages": shorter, "tools": tools()})).await;
    let tokens = |reply: &Value| reply["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens(&reply) > tokens(&before));
}

#[tokio::test]
async fn a_chat_can_be_held_to_a_schema_or_to_any_json() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]});
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    for (format, wanted) in
        [(format, json!({"a": 3})), (json!({"type": "json_object"}), json!({"said": "Hi"}))]
    {
        let reply = answered("Hi", json!({"response_format": format})).await;
        let text = reply["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(text.parse::<Value>().unwrap(), wanted);
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
        let cut = answered("Hi", json!({"response_format": format, "max_tokens": 2})).await;
        assert_eq!(cut["choices"][0]["finish_reason"], "length");
    }
}

#[tokio::test]
async fn a_stop_string_ends_a_chat_and_is_named() {
    let fields = json!({"stop": ["xx", "id: o"], "max_tokens": 9});
    let reply = answered("one two", fields.clone()).await;
    let choice = &reply["choices"][0];
    assert_eq!(choice["message"]["content"], "You sa");
    assert_eq!(
        (&choice["finish_reason"], &choice["stop_reason"]),
        (&json!("stop"), &json!("id: o"))
    );
    assert_eq!(reply["usage"]["completion_tokens"], 4);
    let shown = with(fields.clone(), json!({"include_stop_str_in_output": true}));
    let shown = answered("one two", shown).await;
    assert_eq!(shown["choices"][0]["message"]["content"], "You said: o");

    let events = streamed(CHAT, with(chat("one two"), fields)).await;
    let deltas = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(deltas.collect::<String>(), "You sa");
    let last = &events.last().unwrap()["choices"][0];
    assert_eq!((&last["finish_reason"], &last["stop_reason"]), (&json!("stop"), &json!("id: o")));
}

#[tokio::test]
async fn prompts_of_one_request_end_each_at_its_own_stop() {
    let body = json!({"prompt": ["one", "two"], "stop": "one", "max_tokens": 6});
    let reply: Value = Node::start().await.told(COMPLETIONS, body.clone()).await.parse().unwrap();
    let texts = [&reply["choices"][0]["text"], &reply["choices"][1]["text"]];
    assert_eq!(texts, ["You said: ", "You said: two two two"]);
    assert_eq!(reply["usage"]["completion_tokens"], 4 + 6);
    let events = streamed(COMPLETIONS, body).await;
    let text_of = |choice: u64| -> String {
        let of_choice = events.iter().filter(|event| event["choices"][0]["index"] == choice);
        of_choice.map(|event| event["choices"][0]["text"].as_str().unwrap()).collect()
    };
    assert_eq!([text_of(0), text_of(1)], texts.map(|text| text.as_str().unwrap().to_owned()));
}

#[tokio::test]
async fn token_ids_are_told_as_tokenize_knows_them() {
    let node = Node::start().await;
    let body = with(chat("Hi"), json!({"return_token_ids": true, "max_tokens": 3}));
    let reply: Value = node.told(CHAT, body.clone()).await.parse().unwrap();
    let tokens: Value = node.told("/tokenize", chat("Hi")).await.parse().unwrap();
    assert_eq!(reply["prompt_token_ids"], tokens["tokens"]);
    let said: Value = node.told("/tokenize", json!({"prompt": "You said:"})).await.parse().unwrap();
    assert_eq!(reply["choices"][0]["token_ids"], said["tokens"]);
    let events = streamed(CHAT, body).await;
    let ids = events.iter().filter_map(|event| event["choices"][0]["token_ids"].as_array());
    assert_eq!(Value::from(ids.flatten().cloned().collect::<Vec<_>>()), said["tokens"]);
    assert_eq!(events[0]["prompt_token_ids"], tokens["tokens"]);
}

#[tokio::test]
async fn likelihoods_are_told_of_every_token_and_are_the_same_in_a_stream() {
    let body = json!({"prompt": "one two", "logprobs": 2, "max_tokens": 4, "echo": true});
    let reply: Value = Node::start().await.told(COMPLETIONS, body.clone()).await.parse().unwrap();
    let whole = &reply["choices"][0]["logprobs"];
    assert_eq!(whole["tokens"], json!(["one", " two", "You", " said", ":", " one"]));
    assert_eq!(whole["text_offset"], json!([0, 3, 7, 10, 15, 16]));
    assert_eq!(
        (&whole["token_logprobs"][0], &whole["top_logprobs"][0]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(whole["top_logprobs"][3].as_object().unwrap().len(), 2);
    let events = streamed(COMPLETIONS, body).await;
    for field in ["tokens", "text_offset", "token_logprobs", "top_logprobs"] {
        let parts = events
            .iter()
            .flat_map(|event| event["choices"][0]["logprobs"][field].as_array().unwrap().clone());
        assert_eq!(Value::from(parts.collect::<Vec<_>>()), whole[field], "{field}");
    }
}

#[tokio::test]
async fn what_pydantic_takes_for_a_number_or_a_switch_is_one() {
    let fields = json!({"n": "2", "max_tokens": 3.0, "temperature": "0.5", "logprobs": "yes", "top_logprobs": "1"});
    let reply = answered("Hi", fields).await;
    assert_eq!(reply["choices"].as_array().unwrap().len(), 2, "{reply}");
    assert_eq!(reply["usage"]["completion_tokens"], 6);
    let likelihoods = &reply["choices"][1]["logprobs"]["content"];
    assert_eq!(likelihoods[0]["top_logprobs"].as_array().unwrap().len(), 1);
    let node = Node::start().await;
    let body = with(chat("Hi"), json!({"stream": 1, "stream_options": {"include_usage": "on"}}));
    let chunks = chunks(&node.bytes(CHAT, &body, "").await);
    assert!(chunks[chunks.len() - 2].contains(r#""choices":[],"usage":"#));
    for (fields, at) in [
        (json!({"stop": ["a", 7]}), "body.stop"),
        (json!({"stream_options": 5}), "body.stream_options"),
        (json!({"stream_options": {"include_usage": "x"}}), "body.stream_options.include_usage"),
        (json!({"stream": 2}), "body.stream"),
    ] {
        assert_eq!(answered("Hi", fields).await["error"]["param"], at);
    }
}

#[tokio::test]
async fn no_more_likelihoods_are_told_than_anyone_reads() {
    let wish = json!({"n": 128, "max_tokens": 150, "logprobs": true, "top_logprobs": 20});
    let reply = answered("Hi", wish).await;
    assert!(reply["error"]["message"].as_str().unwrap().contains("at most 200000 likelihoods"));
}
