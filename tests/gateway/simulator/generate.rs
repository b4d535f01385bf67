//! Token ids for token ids, and any API under one path: compared with what vLLM 0.32 answered with `--enable-scale-out`.

use serde_json::{Value, json};
use sluice::sim::Settings;

use super::support::{Node, chunks};

const PATH: &str = "/inference/v1/generate";

async fn scaled_out() -> Node {
    Node::with(Settings { enable_scale_out: true, max_model_len: 64, ..Settings::default() }).await
}

/// The ids of a text, and those of the first `length` tokens that answer it.
async fn ids(node: &Node, prompt: &str, answer: &str) -> (Value, Value) {
    let mut ids = Vec::new();
    for text in [prompt, answer] {
        let told = node.told("/tokenize", json!({"prompt": text})).await;
        ids.push(told.parse::<Value>().unwrap()["tokens"].clone());
    }
    (ids.remove(0), ids.remove(0))
}

#[tokio::test]
async fn only_a_node_that_scales_out_gives_out_token_ids() {
    let reply = Node::start().await.post(PATH, &json!({})).send().await.unwrap();
    assert_eq!(reply.status(), 403);
    assert_eq!(
        reply.text().await.unwrap(),
        r#"{"error":{"message":"Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out to enable them.","type":"PermissionDeniedError","param":null,"code":403}}"#
    );
}

#[tokio::test]
async fn token_ids_are_answered_with_token_ids() {
    let node = scaled_out().await;
    let (prompt, said) = ids(&node, "Hello there", "You said: Hello").await;
    let sampling = json!({"max_tokens": 4});
    let body = json!({"model": "sim-llama", "token_ids": prompt, "sampling_params": sampling});
    let wanted = format!(
        r#"{{"request_id":"generate-tokens-ID","model":"sim-llama","created":0,"usage":{{"prompt_tokens":2,"total_tokens":6,"completion_tokens":4,"prompt_tokens_details":null,"completion_tokens_details":null}},"prompt_logprobs":null,"prompt_token_id_logprobs":null,"prompt_token_ids":null,"mm_placeholders":null,"metrics":null,"kv_transfer_params":null,"ec_transfer_params":null,"output_mode":"tokens","choices":[{{"index":0,"finish_reason":"length","stop_reason":null,"token_ids":{said},"routed_experts":null,"sampling_mask":null,"weight_versions":[{{"version":"default","start":0,"end":4}}],"logprobs":null}}]}}"#
    );
    assert_eq!(node.told(PATH, body).await, wanted);

    let sampling = json!({"max_tokens": 4, "n": 2});
    let body = json!({"token_ids": prompt, "sampling_params": sampling, "output_mode": "text", "return_token_ids": true});
    let answer: Value = node.told(PATH, body).await.parse().unwrap();
    assert_eq!(answer["output_mode"], "text");
    assert_eq!(answer["choices"][1]["text"], "You said: Hello");
    assert_eq!(answer["prompt_token_ids"], prompt);
    assert_eq!(answer["usage"]["completion_tokens"], 8);
}

#[tokio::test]
async fn token_ids_are_streamed_one_by_one() {
    let node = scaled_out().await;
    let (prompt, said) = ids(&node, "Hi", "You said").await;
    let body = json!({"token_ids": prompt, "sampling_params": {"max_tokens": 2}, "stream": true, "return_token_ids": true, "stream_options": {"include_usage": true}});
    let head = r#"data: {"request_id":"generate-tokens-ID","usage":"#;
    let tail = |id: &Value, reason: &str, versions: &str| {
        format!(
            r#""output_mode":"tokens","choices":[{{"index":0,"finish_reason":{reason},"stop_reason":null,"token_ids":[{id}],"routed_experts":null,"sampling_mask":null,"weight_versions":{versions},"logprobs":null}}]}}"#
        )
    };
    let last = tail(&said[1], r#""length""#, r#"[{"version":"default","start":0,"end":2}]"#);
    let wanted = [
        format!(r#"{head}null,"prompt_token_ids":{prompt},{}"#, tail(&said[0], "null", "null")),
        format!("{head}null,{last}"),
        format!(
            r#"{head}{{"prompt_tokens":1,"total_tokens":3,"completion_tokens":2}},"output_mode":"tokens","choices":[]}}"#
        ),
        "data: [DONE]".to_owned(),
    ]
    .map(|event| event + "\n\n");
    assert_eq!(chunks(&node.bytes(PATH, &body, "").await), wanted);
}

#[tokio::test]
async fn what_cannot_be_generated_is_told_in_vllms_words() {
    let node = scaled_out().await;
    let long = |ids: usize| json!({"token_ids": vec![40; ids], "sampling_params": {}});
    for (status, body, wanted) in [
        (
            400,
            json!({}),
            r#"{"error":{"message":"2 validation errors:\n  {'type': 'missing', 'loc': 'body.token_ids', 'msg': 'Field required', 'input': '<dict of 0 items>'}\n  {'type': 'missing', 'loc': 'body.sampling_params', 'msg': 'Field required', 'input': '<dict of 0 items>'}","type":"Bad Request","param":"body.token_ids","code":400}}"#,
        ),
        (
            400,
            json!({"token_ids": [1, -2], "sampling_params": {}}),
            r#"{"error":{"message":"1 validation error:\n  {'type': 'value_error', 'loc': 'body.token_ids', 'msg': 'Value error, token_ids must not contain negative values', 'input': '<list of 2 items>', 'ctx': {'error': ValueError('token_ids must not contain negative values')}}","type":"Bad Request","param":"body.token_ids","code":400}}"#,
        ),
        (
            400,
            json!({"token_ids": [1], "sampling_params": {"max_tokens": "x"}}),
            r#"{"error":{"message":"2 validation errors:\n  {'type': 'is_instance_of', 'loc': 'body.sampling_params', 'msg': 'Input should be an instance of SamplingParams', 'input': '<dict of 1 items>', 'ctx': {'class': 'SamplingParams'}}\n  {'type': 'int_parsing', 'loc': 'body.sampling_params.max_tokens', 'msg': 'Input should be a valid integer, unable to parse string as an integer', 'input': 'x'}","type":"Bad Request","param":"body.sampling_params","code":400}}"#,
        ),
        (
            400,
            long(65),
            r#"{"error":{"message":"The decoder prompt (length 65) is longer than the maximum model length of 64. Make sure that `max_model_len` is no smaller than the number of text tokens.","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            400,
            long(64),
            r#"{"error":{"message":"The decoder prompt (length 64) plus the number of requested output tokens (at least 1) is longer than the maximum model length of 64. Make sure that `max_model_len` is no smaller than the number of text tokens (prompt + requested output tokens).","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            404,
            json!({"model": "nope", "token_ids": [1], "sampling_params": {}}),
            r#"{"error":{"message":"The model `nope` does not exist. Valid aliases: sim-llama.","type":"NotFoundError","param":"model","code":404}}"#,
        ),
    ] {
        let reply = node.post(PATH, &body).send().await.unwrap();
        assert_eq!(reply.status(), status, "{body}");
        assert_eq!(reply.text().await.unwrap(), wanted);
    }
    let body = json!({"token_ids": vec![40; 60], "sampling_params": {"max_tokens": 20}});
    let answer: Value = node.told(PATH, body).await.parse().unwrap();
    assert_eq!(answer["usage"]["completion_tokens"], 4, "cut to the room there is");
}

#[tokio::test]
async fn an_invocation_is_what_its_body_is() {
    let node = Node::locked("sk-node-1").await;
    let messages = json!([{"role": "user", "content": "Hi"}]);
    for (body, path) in [
        (json!({"messages": messages, "prompt": "x", "max_tokens": 3}), "/v1/chat/completions"),
        (json!({"messages": messages, "max_tokens": 3, "stream": true}), "/v1/chat/completions"),
        (json!({"prompt": "Hi", "max_tokens": 3}), "/v1/completions"),
        (json!({"input": "Hi"}), "/v1/embeddings"),
        (json!({"query": "a", "documents": ["b"]}), "/rerank"),
        (json!({"text_1": "a", "text_2": ["b"]}), "/score"),
        (json!({"data": "a"}), "/pooling"),
        (json!({}), "/v1/completions"),
    ] {
        let open = Node::start().await;
        assert_eq!(node.told("/invocations", body.clone()).await, open.told(path, body).await);
    }
    let named = json!({"model": "nope", "prompt": "Hi", "max_tokens": 1});
    let answer: Value = node.told("/invocations", named).await.parse().unwrap();
    assert_eq!(answer["model"], "sim-llama", "vLLM does not look at it here either");
    for (body, wanted) in [
        (
            r#"{"prompt":5}"#,
            r#"{"error":{"message":"Cannot find suitable handler for request. Expected one of: ['ChatCompletionRequest', 'CompletionRequest']","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            "",
            r#"{"error":{"message":"JSON decode error: Expecting value: line 1 column 1 (char 0)","type":"Bad Request","param":null,"code":400}}"#,
        ),
    ] {
        let request = node.client.post(node.url("/invocations")).body(body);
        let reply = request.header("content-type", "application/json").send().await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), reply.text().await.unwrap()),
            (400, wanted.to_owned())
        );
    }
}
