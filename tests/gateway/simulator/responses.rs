//! `/v1/responses` in one piece and as a stream, as vLLM 0.32 shapes it.

use serde_json::{Value, json};
use sluice::sim::Settings;

use super::support::{Node, chunks, with};

const RESPONSES: &str = "/v1/responses";

/// A question for four tokens of an answer.
fn asking(input: &str) -> Value {
    json!({"model": "sim-llama", "input": input, "max_output_tokens": 4, "temperature": 0})
}

/// A tool that needs a city, and a wish to call it.
fn with_tool(choice: &Value) -> Value {
    let parameters =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let tool = json!({"type": "function", "name": "get_weather", "parameters": parameters});
    json!({"input": "Paris", "tools": [tool], "tool_choice": choice})
}

/// `text` with fresh ids and times set to `0`.
fn ageless(text: &str) -> String {
    let mut out = text.to_owned();
    for (before, length) in
        [("resp_", 16), ("msg_", 16), ("fc_", 16), ("chatcmpl-tool-", 16), ("\"created_at\":", 10)]
    {
        let pieces: Vec<&str> = out.split(before).collect();
        let (first, rest) = pieces.split_first().unwrap();
        let rest = rest.iter().map(|piece| format!("{before}0{}", &piece[length..]));
        out = std::iter::once((*first).to_owned()).chain(rest).collect();
    }
    out
}

/// The answer to `body`.
async fn answered(body: Value) -> Value {
    Node::start().await.told(RESPONSES, body).await.parse().unwrap()
}

/// The events of the answer to `body`: name and data.
async fn events(body: Value) -> Vec<(String, Value)> {
    let node = Node::start().await;
    let body = with(body, json!({"stream": true}));
    let chunks = chunks(&node.bytes(RESPONSES, &body, "").await);
    chunks.iter().map(|chunk| event(chunk)).collect()
}

fn event(chunk: &str) -> (String, Value) {
    let (name, data) = chunk.split_once("\ndata: ").unwrap();
    (name.strip_prefix("event: response.").unwrap().to_owned(), data.parse().unwrap())
}

fn names(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn a_response_is_answered_byte_for_byte_as_vllm_shapes_it() {
    let node = Node::start().await;
    assert_eq!(
        ageless(&node.told(RESPONSES, asking("Hi")).await),
        r#"{"id":"resp_0","created_at":0,"incomplete_details":{"reason":"max_output_tokens"},"instructions":null,"metadata":null,"model":"sim-llama","object":"response","output":[{"id":"msg_0","content":[{"annotations":[],"text":"You said: Hi","type":"output_text","logprobs":null}],"role":"assistant","status":"completed","type":"message","phase":null}],"parallel_tool_calls":true,"temperature":0.0,"tool_choice":"none","tools":[],"top_p":1.0,"background":false,"max_output_tokens":4,"max_tool_calls":null,"previous_response_id":null,"prompt":null,"reasoning":null,"service_tier":"auto","status":"incomplete","text":null,"top_logprobs":null,"truncation":"disabled","usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0,"input_tokens_per_turn":[],"cached_tokens_per_turn":[]},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":0,"tool_output_tokens":0,"output_tokens_per_turn":[],"tool_output_tokens_per_turn":[]},"total_tokens":13},"user":null,"presence_penalty":0.0,"frequency_penalty":0.0,"kv_transfer_params":null,"ec_transfer_params":null,"input_messages":null,"output_messages":null}"#
    );
}

#[tokio::test]
async fn a_response_streams_byte_for_byte_as_vllm_shapes_it() {
    let node = Node::start().await;
    let body = with(asking("Hi"), json!({"stream": true, "max_output_tokens": 1}));
    let chunks = chunks(&node.bytes(RESPONSES, &body, "").await);
    let chunks: Vec<_> = chunks.iter().map(|chunk| ageless(chunk)).collect();
    assert!(chunks[0].starts_with("event: response.created\ndata: {\"response\":{\"id\":\"resp_0\",\"created_at\":0,\"incomplete_details\":null,"));
    assert!(chunks[0].contains("\"output\":[]") && chunks[0].contains("\"usage\":null,"));
    assert!(chunks[0].ends_with("},\"sequence_number\":0,\"type\":\"response.created\"}\n\n"));
    assert_eq!(
        chunks[2..8],
        [
            "event: response.output_item.added\ndata: {\"item\":{\"id\":\"msg_0\",\"content\":[],\"role\":\"assistant\",\"status\":\"in_progress\",\"type\":\"message\",\"phase\":null},\"output_index\":0,\"sequence_number\":2,\"type\":\"response.output_item.added\"}\n\n",
            "event: response.content_part.added\ndata: {\"content_index\":0,\"item_id\":\"msg_0\",\"output_index\":0,\"part\":{\"annotations\":[],\"text\":\"\",\"type\":\"output_text\",\"logprobs\":[]},\"sequence_number\":3,\"type\":\"response.content_part.added\"}\n\n",
            "event: response.output_text.delta\ndata: {\"content_index\":0,\"delta\":\"You\",\"item_id\":\"msg_0\",\"logprobs\":[],\"output_index\":0,\"sequence_number\":4,\"type\":\"response.output_text.delta\"}\n\n",
            "event: response.output_text.done\ndata: {\"content_index\":0,\"item_id\":\"msg_0\",\"logprobs\":[],\"output_index\":0,\"sequence_number\":5,\"text\":\"You\",\"type\":\"response.output_text.done\"}\n\n",
            "event: response.content_part.done\ndata: {\"content_index\":0,\"item_id\":\"msg_0\",\"output_index\":0,\"part\":{\"annotations\":[],\"text\":\"You\",\"type\":\"output_text\",\"logprobs\":null},\"sequence_number\":6,\"type\":\"response.content_part.done\"}\n\n",
            "event: response.output_item.done\ndata: {\"item\":{\"id\":\"msg_0\",\"content\":[{\"annotations\":[],\"text\":\"You\",\"type\":\"output_text\",\"logprobs\":null}],\"role\":\"assistant\",\"status\":\"completed\",\"type\":\"message\",\"phase\":null},\"output_index\":0,\"sequence_number\":7,\"type\":\"response.output_item.done\"}\n\n",
        ]
    );
    assert_eq!(chunks.len(), 9);
    let (name, completed) = event(&chunks[8]);
    assert_eq!((name.as_str(), &completed["sequence_number"]), ("completed", &json!(8)));
    assert_eq!(completed["response"]["status"], "incomplete");
}

#[tokio::test]
async fn what_was_asked_is_repeated() {
    let asked = json!({
        "instructions": "Be brief", "metadata": {"a": "b"}, "temperature": 0.5, "top_p": 0.9, "truncation": "auto",
        "service_tier": "flex", "user": "u", "prompt_cache_key": "k", "max_tool_calls": 3, "parallel_tool_calls": false,
        "presence_penalty": 0.5, "frequency_penalty": 0.25,
    });
    let reply = answered(with(asking("Hi"), asked.clone())).await;
    for (name, value) in asked.as_object().unwrap() {
        let wanted = if name == "prompt_cache_key" { &Value::Null } else { value };
        assert_eq!(&reply[name], wanted, "{name}");
    }
    let reply = answered(json!({
        "input": "Hi", "reasoning": {"effort": "low"}, "text": {"format": {"type": "text"}}, "request_id": "resp_mine",
    }))
    .await;
    let reasoning = json!({"context": null, "effort": "low", "generate_summary": null, "mode": null, "summary": null});
    assert_eq!(reply["reasoning"], reasoning);
    assert_eq!(reply["text"], json!({"format": {"type": "text"}, "verbosity": null}));
    assert_eq!(
        (&reply["id"], &reply["max_output_tokens"]),
        (&json!("resp_mine"), &json!(8192 - 9))
    );
}

#[tokio::test]
async fn input_is_a_text_or_a_list_of_items() {
    let parts =
        json!([{"type": "input_text", "text": "Well"}, {"type": "input_text", "text": "now"}]);
    let reply = answered(json!({"input": [
        {"role": "developer", "content": "Be brief"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes?"}]},
        {"role": "user", "content": parts},
    ]}))
    .await;
    assert_eq!(
        reply["output"][0]["content"][0]["text"],
        "You said: Well\nnow Well\nnow Well\nnow Well\nnow Well\nnow Well\nnow Well"
    );
    let reply = answered(json!({"input": []})).await;
    assert_eq!(
        reply["error"]["message"],
        "Cannot apply chat template to an empty conversation. Provide at least one message."
    );
}

#[tokio::test]
async fn a_tool_that_must_be_called_is() {
    let named = json!({"type": "function", "name": "get_weather"});
    for choice in [json!("required"), named] {
        let reply = answered(with_tool(&choice)).await;
        let call = &reply["output"][0];
        assert_eq!(call["type"], "function_call");
        assert_eq!((&call["name"], &call["status"]), (&json!("get_weather"), &json!("completed")));
        assert_eq!(call["arguments"], r#"{"city": "Paris"}"#);
        assert_eq!((&reply["status"], &reply["tool_choice"]), (&json!("completed"), &choice));
    }
}

#[tokio::test]
async fn a_call_streams_its_arguments() {
    let events = events(with_tool(&json!("required"))).await;
    let (first, last) = (3, events.len() - 3);
    assert_eq!(names(&events)[..3], ["created", "in_progress", "output_item.added"]);
    assert_eq!(
        names(&events)[last..],
        ["function_call_arguments.done", "output_item.done", "completed"]
    );
    let deltas = &events[first..last];
    assert!(
        deltas.len() > 1 && deltas.iter().all(|(name, _)| name == "function_call_arguments.delta")
    );
    let arguments: String =
        deltas.iter().map(|(_, data)| data["delta"].as_str().unwrap()).collect();
    assert_eq!(arguments, r#"{"city": "Paris"}"#);
    let done = &events[last].1;
    assert_eq!((&done["arguments"], &done["name"]), (&json!(arguments), &json!("get_weather")));
    let call = &events[last + 1].1["item"];
    assert_eq!(call["id"], events[2].1["item"]["id"]);
    assert_eq!(&events[last + 2].1["response"]["output"], &json!([call]));
}

#[tokio::test]
async fn a_call_that_is_cut_short_is_text_but_in_streams() {
    let whole = answered(with_tool(&json!("required"))).await;
    let tokens = whole["usage"]["output_tokens"].as_u64().unwrap();
    let cut = with(with_tool(&json!("required")), json!({"max_output_tokens": tokens - 9}));
    let reply = answered(cut.clone()).await;
    let text = reply["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("<tool_call>\n{\"name\": \"get_weather\""), "{text}");
    assert_eq!(
        (&reply["status"], &reply["usage"]["output_tokens"]),
        (&json!("incomplete"), &json!(tokens - 9))
    );

    let events = events(cut).await;
    let last = &events.last().unwrap().1["response"];
    assert_eq!(last["status"], "incomplete");
    assert!(r#"{"city": "Paris"}"#.starts_with(last["output"][0]["arguments"].as_str().unwrap()));
}

#[tokio::test]
async fn a_tool_may_be_called_when_the_user_names_it() {
    let auto = with_tool(&json!("auto"));
    let reply = answered(with(auto.clone(), json!({"input": "Try get_weather."}))).await;
    assert_eq!(reply["output"][0]["name"], "get_weather");
    assert_eq!(answered(auto.clone()).await["output"][0]["type"], "message");
    let never = json!({"input": "Try get_weather.", "tool_choice": "none"});
    assert_eq!(answered(with(auto.clone(), never)).await["output"][0]["type"], "message");
    let answered_by_tool = json!({"input": [
        {"role": "user", "content": "Try get_weather."},
        {"type": "function_call", "call_id": "1", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "sunny"},
    ]});
    assert_eq!(answered(with(auto, answered_by_tool)).await["output"][0]["type"], "message");
}

#[tokio::test]
async fn an_answer_can_be_held_to_a_schema() {
    let schema =
        json!({"type": "object", "required": ["word"], "properties": {"word": {"type": "string"}}});
    let format = json!({"type": "json_schema", "name": "n", "schema": schema});
    let reply = answered(json!({"input": "Hi", "text": {"format": format}})).await;
    assert_eq!(reply["output"][0]["content"][0]["text"], r#"{"word": "Hi"}"#);
    assert_eq!(
        (&reply["status"], &reply["text"]["format"]["strict"]),
        (&json!("completed"), &Value::Null)
    );
}

#[tokio::test]
async fn it_is_told_how_likely_the_tokens_were() {
    let include = json!({"include": ["message.output_text.logprobs"], "top_logprobs": 2});
    let reply = answered(with(asking("Hi"), include.clone())).await;
    let logprobs = reply["output"][0]["content"][0]["logprobs"].as_array().unwrap();
    assert_eq!((logprobs.len(), &reply["top_logprobs"]), (4, &json!(2)));
    assert_eq!(
        (&logprobs[0]["token"], &logprobs[0]["bytes"]),
        (&json!("You"), &json!([89, 111, 117]))
    );
    assert_eq!(logprobs[0]["top_logprobs"].as_array().unwrap().len(), 2);
    let events = events(with(asking("Hi"), include)).await;
    assert_eq!(events[4].1["logprobs"][0]["token"], "You");
    assert_eq!(events[4].1["logprobs"][0].get("bytes"), None);
}

#[tokio::test]
async fn a_stop_string_ends_an_answer() {
    let reply = answered(with(asking("Hi"), json!({"stop": ["said"]}))).await;
    assert_eq!(reply["output"][0]["content"][0]["text"], "You ");
    assert_eq!(
        (&reply["status"], &reply["usage"]["output_tokens"]),
        (&json!("completed"), &json!(2))
    );
}

#[tokio::test]
async fn what_has_no_room_is_cut_or_refused() {
    let node = Node::with(Settings { max_model_len: 32, ..Settings::default() }).await;
    let told = async |body: Value| node.told(RESPONSES, body).await.parse::<Value>().unwrap();
    let reply = told(with(asking("Hi"), json!({"max_output_tokens": 30}))).await;
    assert_eq!(
        (&reply["max_output_tokens"], &reply["usage"]["total_tokens"]),
        (&json!(23), &json!(32))
    );
    let long = "word ".repeat(99);
    let reply = told(asking(&long)).await;
    assert_eq!(reply["error"]["param"], "input_tokens");
    let reply = told(with(asking(&long), json!({"truncation": "auto"}))).await;
    assert_eq!(reply["usage"]["input_tokens"], 31);
    assert_eq!(reply["usage"]["output_tokens"], 1);
    for (tokens, says) in [
        (
            33,
            "max_output_tokens=33 cannot be greater than max_model_len=32. Please request fewer output tokens. (parameter=max_output_tokens, value=33)",
        ),
        (0, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)"),
    ] {
        let reply = told(with(asking("Hi"), json!({"max_output_tokens": tokens}))).await;
        assert_eq!(reply["error"]["message"], says);
    }
}

#[tokio::test]
async fn a_wish_that_makes_no_sense_is_refused_in_vllms_words() {
    for (fields, wanted) in [
        (
            json!({"prompt": {"id": "p"}}),
            r#"{"error":{"message":"prompt template is not supported (parameter=prompt)","type":"BadRequestError","param":"prompt","code":400}}"#,
        ),
        (
            json!({"tool_choice": "required"}),
            r#"{"error":{"message":"Tool choice 'required' must be specified with 'tools' parameter. (parameter=tool_choice)","type":"BadRequestError","param":"tool_choice","code":400}}"#,
        ),
        (
            json!({"previous_response_id": "resp_1", "previous_input_messages": []}),
            r#"{"error":{"message":"Only one of `previous_input_messages` and `previous_response_id` can be set.","type":"invalid_request_error","param":"previous_response_id","code":400}}"#,
        ),
        (
            json!({"input": [{"type": "item_reference", "id": "x"}]}),
            r#"{"error":{"message":"Unsupported input item type: item_reference (parameter=input)","type":"BadRequestError","param":"input","code":400}}"#,
        ),
    ] {
        let node = Node::start().await;
        assert_eq!(node.told(RESPONSES, with(asking("Hi"), fields)).await, wanted);
    }
}

#[tokio::test]
async fn a_response_whose_engine_dies_has_no_last_words() {
    let node = Node::start().await;
    let body = with(asking("Hi"), json!({"stream": true}));
    let answer = node.bytes(RESPONSES, &body, "x-sim-fault: die-after=5\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\n\n\r\n"), "{answer}");
    assert_eq!(chunks(&answer).len(), 5);
    let reply = node
        .post(RESPONSES, &asking("Hi"))
        .header("x-sim-fault", "die-after=1")
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 500);
}
