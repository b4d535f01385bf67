//! Vectors. The node of the samples has no model that makes any: names, types and order of fields are those of vLLM 0.32's
//! `pooling/embed/protocol.py` and `pooling/pooling/protocol.py`, refusals what its routers answer.

use data_encoding::BASE64;
use serde_json::{Value, json};
use sluice::sim::Settings;

use super::support::Node;

const PATH: &str = "/v1/embeddings";

async fn embedded(node: &Node, body: Value) -> Value {
    node.told(PATH, body).await.parse().unwrap()
}

/// The numbers of each vector of an answer.
fn vectors(answer: &Value) -> Vec<Vec<f64>> {
    let numbers = |item: &Value| {
        let list = item["embedding"].as_array().unwrap();
        list.iter().map(|number| number.as_f64().unwrap()).collect()
    };
    answer["data"].as_array().unwrap().iter().map(numbers).collect()
}

fn likeness(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn an_embedding_is_shaped_as_vllms() {
    let node = Node::start().await;
    assert_eq!(
        node.told(PATH, json!({"model": "sim-llama", "input": "Hello", "dimensions": 1})).await,
        r#"{"id":"embd-ID","object":"list","created":0,"model":"sim-llama","data":[{"index":0,"object":"embedding","embedding":[-1.0]}],"usage":{"prompt_tokens":1,"total_tokens":1,"completion_tokens":0,"prompt_tokens_details":null,"completion_tokens_details":null}}"#
    );
    let named = node.post(PATH, &json!({"input": "Hello", "request_id": "mine"}));
    let answer: Value = named.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["id"], "embd-mine");
}

#[tokio::test]
async fn equal_texts_have_equal_vectors_and_like_texts_like_ones() {
    let node = Node::start().await;
    let cats = ["the cat sat on the mat", "the cat sat on a mat", "GPUs run hot"];
    let answer = embedded(&node, json!({"input": cats})).await;
    let vectors_of_list = vectors(&answer);
    assert_eq!(answer["data"][2]["index"], 2);
    assert_eq!(answer["usage"]["prompt_tokens"], 15);
    for vector in &vectors_of_list {
        assert_eq!(vector.len(), 64);
        assert!((likeness(vector, vector) - 1.0).abs() < 1e-5);
    }
    let [cat, near, far] = vectors_of_list.as_slice() else { panic!("{answer}") };
    assert!(likeness(cat, near) > likeness(cat, far) + 0.3);
    assert_eq!(vectors(&embedded(&node, json!({"input": cats[0]})).await)[0], *cat);
}

#[tokio::test]
async fn token_ids_and_chats_are_inputs_too() {
    let node = Node::start().await;
    let text = vectors(&embedded(&node, json!({"input": ["Hello, world"]})).await);
    let ids: Value =
        node.told("/tokenize", json!({"prompt": "Hello, world"})).await.parse().unwrap();
    let one = embedded(&node, json!({"input": ids["tokens"]})).await;
    assert_eq!(vectors(&one), text);
    let lists = embedded(&node, json!({"input": [ids["tokens"], [1, 2]]})).await;
    assert_eq!((&vectors(&lists)[0], vectors(&lists).len()), (&text[0], 2));

    let chat = json!([{"role": "user", "content": "Hello"}]);
    let messages = embedded(&node, json!({"messages": chat})).await;
    assert_eq!(messages["usage"]["prompt_tokens"], 6);
    assert_eq!(vectors(&embedded(&node, json!({"input": chat})).await), vectors(&messages));
    let batch = embedded(&node, json!({"messages": [chat, chat]})).await;
    assert_eq!(vectors(&batch), [vectors(&messages), vectors(&messages)].concat());
}

#[tokio::test]
async fn base64_and_bytes_are_the_same_numbers() {
    let node = Node::start().await;
    let input = ["Hello, world", "Bye"];
    let floats = vectors(&embedded(&node, json!({"input": input})).await);
    let read = |bytes: &[u8]| -> Vec<f64> {
        let numbers = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
        numbers.map(f64::from).collect()
    };
    let body = json!({"input": input, "encoding_format": "base64", "endianness": "little"});
    let answer = embedded(&node, body).await;
    for (place, vector) in floats.iter().enumerate() {
        let text = answer["data"][place]["embedding"].as_str().unwrap();
        assert_eq!(read(&BASE64.decode(text.as_bytes()).unwrap()), *vector);
    }

    let body = json!({"input": input, "encoding_format": "bytes", "endianness": "little"});
    let reply = node.post(PATH, &body).header("x-request-id", "ID").send().await.unwrap();
    assert_eq!(reply.headers()["content-type"], "application/octet-stream");
    assert_eq!(reply.headers()["transfer-encoding"], "chunked");
    let metadata: Value = serde_json::from_slice(reply.headers()["metadata"].as_bytes()).unwrap();
    assert_eq!(metadata["data"][1]["start"], 256);
    assert_eq!(metadata["data"][1]["shape"], json!([64]));
    assert_eq!(metadata["usage"], json!({"prompt_tokens": 4, "total_tokens": 4}));
    assert_eq!(read(&reply.bytes().await.unwrap()), floats.concat());
    let body = json!({"input": input, "encoding_format": "bytes_only"});
    let reply = node.post(PATH, &body).send().await.unwrap();
    assert_eq!(reply.headers().get("metadata"), None);
    assert_eq!(reply.bytes().await.unwrap().len(), 512);
}

#[tokio::test]
async fn what_cannot_be_embedded_is_told_in_vllms_words() {
    let node = Node::with(Settings { max_model_len: 2048, ..Settings::default() }).await;
    for (status, body, wanted) in [
        (
            404,
            json!({"model": "nope", "input": "a"}),
            r#"{"error":{"message":"The model `nope` does not exist.","type":"NotFoundError","param":null,"code":404}}"#,
        ),
        (
            400,
            json!({"input": "word ".repeat(5000)}),
            r#"{"error":{"message":"This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=2049)","type":"BadRequestError","param":"input_tokens","code":400}}"#,
        ),
        (
            400,
            json!({"input": "a", "dimensions": 65}),
            r#"{"error":{"message":"Model 'sim-llama' only supports dimensions in range [1, 64], got 65.","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            400,
            json!({"input": []}),
            r#"{"error":{"message":"You must pass at least one prompt","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            400,
            json!({"input": "a", "normalize": true}),
            r#"{"error":{"message":"Parameter `normalize` was removed; use `use_activation` instead. (parameter=normalize)","type":"BadRequestError","param":"normalize","code":400}}"#,
        ),
        (
            400,
            json!({}),
            r#"{"error":{"message":"7 validation errors:\n  {'type': 'missing', 'loc': 'body.input', 'msg': 'Field required', 'input': '<dict of 0 items>'}\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 0 items>'}\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 0 items>'}\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 0 items>'}\n  {'type': 'missing', 'loc': 'body.input', 'msg': 'Field required', 'input': '<dict of 0 items>'}\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 0 items>'}\n  {'type': 'missing', 'loc': 'body.input', 'msg': 'Field required', 'input': '<dict of 0 items>'}","type":"Bad Request","param":"body.input","code":400}}"#,
        ),
        (
            400,
            json!({"input": 5}),
            r#"{"error":{"message":"10 validation errors:\n  {'type': 'list_type', 'loc': 'body.input', 'msg': 'Input should be a valid list', 'input': '5'}\n  {'type': 'list_type', 'loc': 'body.input', 'msg': 'Input should be a valid list', 'input': '5'}\n  {'type': 'string_type', 'loc': 'body.input', 'msg': 'Input should be a valid string', 'input': '5'}\n  {'type': 'list_type', 'loc': 'body.input', 'msg': 'Input should be a valid list', 'input': '5'}\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 1 items>'}\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 1 items>'}\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 1 items>'}\n  {'type': 'list_type', 'loc': 'body.input', 'msg': 'Input should be a valid list', 'input': '5'}\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 1 items>'}\n  {'type': 'is_instance_of', 'loc': 'body.input', 'msg': 'Input should be an instance of Sequence', 'input': '5', 'ctx': {'class': 'Sequence'}}","type":"Bad Request","param":"body.input","code":400}}"#,
        ),
    ] {
        let reply = node.post(PATH, &body).send().await.unwrap();
        assert_eq!(reply.status(), status, "{body}");
        assert_eq!(reply.text().await.unwrap(), wanted);
    }
    let told = node.told(PATH, json!({"input": "a", "encoding_format": "hex"})).await;
    assert!(told.starts_with(r#"{"error":{"message":"11 validation errors:\n  {'type': 'literal_error', 'loc': 'body.encoding_format', 'msg': \"Input should be 'float', 'base64', 'bytes' or 'bytes_only'\", 'input': 'hex', 'ctx': {'expected': \"'float', 'base64', 'bytes' or 'bytes_only'\"}}\n"#), "{told}");
    assert!(told.ends_with(r#"\n  ...and 1 more errors","type":"Bad Request","param":"body.encoding_format","code":400}}"#), "{told}");
}

#[tokio::test]
async fn the_pooler_makes_a_vector_or_one_for_each_token() {
    let node = Node::start().await;
    let told = node.told("/pooling", json!({"input": "Hello", "task": "token_classify"})).await;
    let answer: Value = told.parse().unwrap();
    let [one, other] = [0, 1].map(|place| answer["data"][0]["data"][0][place].as_f64().unwrap());
    assert!((one + other - 1.0).abs() < 1e-6, "{told}");
    assert_eq!(
        told,
        format!(
            r#"{{"id":"pooling-ID","object":"list","created":0,"model":"sim-llama","data":[{{"index":0,"object":"pooling","data":[[{one},{other}]]}}],"usage":{{"prompt_tokens":1,"total_tokens":1,"completion_tokens":0,"prompt_tokens_details":null,"completion_tokens_details":null}}}}"#
        )
    );
    let embedded = embedded(&node, json!({"input": "Hello there"})).await;
    let pooled: Value =
        node.told("/pooling", json!({"input": "Hello there"})).await.parse().unwrap();
    assert_eq!(pooled["data"][0]["data"], embedded["data"][0]["embedding"]);
    let body = json!({"input": "Hello there", "task": "token_embed"});
    let tokens: Value = node.told("/pooling", body).await.parse().unwrap();
    assert_eq!(tokens["data"][0]["data"].as_array().unwrap().len(), 2);

    for (body, wanted) in [
        (
            json!({"input": "a", "dimensions": 4}),
            r#"{"error":{"message":"dimensions is currently not supported (parameter=dimensions)","type":"BadRequestError","param":"dimensions","code":400}}"#,
        ),
        (
            json!({}),
            r#"{"error":{"message":"3 validation errors:\n  {'type': 'missing', 'loc': 'body.input', 'msg': 'Field required', 'input': '<dict of 0 items>'}\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 0 items>'}\n  {'type': 'missing', 'loc': 'body.data', 'msg': 'Field required', 'input': '<dict of 0 items>'}","type":"Bad Request","param":"body.input","code":400}}"#,
        ),
    ] {
        assert_eq!(node.told("/pooling", body).await, wanted);
    }
}

#[tokio::test]
async fn prompts_of_a_pooler_count_as_all_others_do() {
    let node = Node::start().await;
    node.told(PATH, json!({"input": ["one two", "three"]})).await;
    let metrics = node.get("/metrics").await.text().await.unwrap();
    assert!(
        metrics.contains("vllm:prompt_tokens_total{engine=\"0\",model_name=\"sim-llama\"} 3.0")
    );
    assert_eq!(node.sim.counts().finished, 1);
}
