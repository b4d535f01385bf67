//! Scores, ranks and classes. The node of the samples has no model that makes any: names, types and order of fields are those
//! of vLLM 0.32's `pooling/scoring/protocol.py` and `pooling/classify/protocol.py`, refusals what its routers answer.

use serde_json::{Value, json};

use super::support::Node;

#[tokio::test]
async fn a_score_says_how_much_alike_two_texts_are() {
    let node = Node::start().await;
    let body = json!({"model": "sim-llama", "text_1": "Hello", "text_2": "Hello"});
    for path in ["/score", "/v1/score"] {
        assert_eq!(
            node.told(path, body.clone()).await,
            r#"{"id":"score-ID","object":"list","created":0,"model":"sim-llama","data":[{"index":0,"object":"score","score":1.0}],"usage":{"prompt_tokens":2,"total_tokens":2,"completion_tokens":0,"prompt_tokens_details":null,"completion_tokens_details":null}}"#
        );
    }
    let sides = [("queries", "documents"), ("queries", "items"), ("data_1", "data_2")];
    for (one, other) in sides {
        let body = json!({one: "red blue", other: ["red green", "yellow pink"]});
        let answer: Value = node.told("/score", body).await.parse().unwrap();
        assert_eq!(answer["usage"]["prompt_tokens"], 6, "the query is computed once");
        let score = |place: usize| answer["data"][place]["score"].as_f64().unwrap();
        assert!(score(0) > score(1), "{answer}");
        assert_eq!(answer["data"][1]["index"], 1);
    }
    let body = json!({"text_1": ["a", "b"], "text_2": ["a", "b"]});
    let answer: Value = node.told("/score", body).await.parse().unwrap();
    assert_eq!(
        (&answer["data"][0]["score"], &answer["data"][1]["score"]),
        (&json!(1.0), &json!(1.0))
    );
}

#[tokio::test]
async fn a_reranker_puts_the_best_document_first() {
    let node = Node::start().await;
    let body =
        json!({"model": "sim-llama", "query": "Hello", "documents": ["x", "Hello"], "top_n": 1});
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        assert_eq!(
            node.told(path, body.clone()).await,
            r#"{"id":"score-ID","model":"sim-llama","usage":{"prompt_tokens":3,"total_tokens":3},"results":[{"index":1,"document":{"text":"Hello","multi_modal":null},"relevance_score":1.0}]}"#
        );
    }
    let body = json!({"query": "red", "documents": ["blue", "red", "red", "green"]});
    let answer: Value = node.told("/rerank", body).await.parse().unwrap();
    let results = answer["results"].as_array().unwrap();
    let places: Vec<_> = results.iter().map(|result| result["index"].as_u64().unwrap()).collect();
    assert_eq!((places.len(), &places[..2]), (4, [1, 2].as_slice()));
    let scores = results.iter().map(|result| result["relevance_score"].as_f64().unwrap());
    assert!(scores.is_sorted_by(|one, other| one >= other), "{answer}");
}

#[tokio::test]
async fn a_classifier_names_the_likeliest_class() {
    let node = Node::start().await;
    let told = node.told("/classify", json!({"input": ["Hello", "Hello"]})).await;
    let answer: Value = told.parse().unwrap();
    let first = &answer["data"][0];
    let [one, other] = [0, 1].map(|place| first["probs"][place].as_f64().unwrap());
    let label = if other > one { "LABEL_1" } else { "LABEL_0" };
    let item = format!(r#""label":"{label}","probs":[{one},{other}],"num_classes":2}}"#);
    assert_eq!(
        told,
        format!(
            r#"{{"id":"classify-ID","object":"list","created":0,"model":"sim-llama","data":[{{"index":0,{item},{{"index":1,{item}],"usage":{{"prompt_tokens":2,"total_tokens":2,"completion_tokens":0,"prompt_tokens_details":null,"completion_tokens_details":null}}}}"#
        )
    );
    assert!((one + other - 1.0).abs() < 1e-6);
}

#[tokio::test]
async fn what_cannot_be_scored_is_told_in_vllms_words() {
    let node = Node::start().await;
    for (path, body, wanted) in [
        (
            "/score",
            json!({"text_1": ["a", "b"], "text_2": ["c"]}),
            r#"{"error":{"message":"Input lengths must be either 1:1, 1:N or N:N","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            "/score",
            json!({"text_1": [], "text_2": []}),
            r#"{"error":{"message":"At least one text element must be given","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            "/v1/score",
            json!({"queries": "a", "documents": 5}),
            r#"{"error":{"message":"8 validation errors:\n  {'type': 'string_type', 'loc': 'body.documents', 'msg': 'Input should be a valid string', 'input': '5'}\n  {'type': 'dict_type', 'loc': 'body.documents.ScoreMultiModalParam', 'msg': 'Input should be a valid dictionary', 'input': '5'}\n  {'type': 'list_type', 'loc': 'body.documents', 'msg': 'Input should be a valid list', 'input': '5'}\n  {'type': 'missing', 'loc': 'body.items', 'msg': 'Field required', 'input': '<dict of 2 items>'}\n  {'type': 'missing', 'loc': 'body.data_1', 'msg': 'Field required', 'input': '<dict of 2 items>'}\n  {'type': 'missing', 'loc': 'body.data_2', 'msg': 'Field required', 'input': '<dict of 2 items>'}\n  {'type': 'missing', 'loc': 'body.text_1', 'msg': 'Field required', 'input': '<dict of 2 items>'}\n  {'type': 'missing', 'loc': 'body.text_2', 'msg': 'Field required', 'input': '<dict of 2 items>'}","type":"Bad Request","param":"body.documents","code":400}}"#,
        ),
        (
            "/rerank",
            json!({"query": "a"}),
            r#"{"error":{"message":"1 validation error:\n  {'type': 'missing', 'loc': 'body.documents', 'msg': 'Field required', 'input': '<dict of 1 items>'}","type":"Bad Request","param":"body.documents","code":400}}"#,
        ),
        (
            "/v1/rerank",
            json!({"query": "a", "documents": ["a"], "top_n": -1}),
            r#"{"error":{"message":"1 validation error:\n  {'type': 'greater_than_equal', 'loc': 'body.top_n', 'msg': 'Input should be greater than or equal to 0', 'input': '-1', 'ctx': {'ge': 0}}","type":"Bad Request","param":"body.top_n","code":400}}"#,
        ),
        (
            "/v2/rerank",
            json!({"query": "a", "documents": [{"text": "x"}]}),
            r#"{"error":{"message":"4 validation errors:\n  {'type': 'string_type', 'loc': 'body.documents', 'msg': 'Input should be a valid string', 'input': '<list of 1 items>'}\n  {'type': 'dict_type', 'loc': 'body.documents.ScoreMultiModalParam', 'msg': 'Input should be a valid dictionary', 'input': '<list of 1 items>'}\n  {'type': 'string_type', 'loc': 'body.documents.0', 'msg': 'Input should be a valid string', 'input': '<dict of 1 items>'}\n  {'type': 'missing', 'loc': 'body.documents.0.ScoreMultiModalParam.content', 'msg': 'Field required', 'input': '<dict of 1 items>'}","type":"Bad Request","param":"body.documents","code":400}}"#,
        ),
        (
            "/classify",
            json!({"model": 7, "input": "a"}),
            r#"{"error":{"message":"3 validation errors:\n  {'type': 'string_type', 'loc': 'body.model', 'msg': 'Input should be a valid string', 'input': '7'}\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 2 items>'}\n  {'type': 'string_type', 'loc': 'body.model', 'msg': 'Input should be a valid string', 'input': '7'}","type":"Bad Request","param":"body.model","code":400}}"#,
        ),
    ] {
        let reply = node.post(path, &body).send().await.unwrap();
        assert_eq!(reply.status(), 400, "{path} {body}");
        assert_eq!(reply.text().await.unwrap(), wanted);
    }
    for (path, body) in [
        ("/score", json!({"model": "nope", "text_1": "a", "text_2": "b"})),
        ("/rerank", json!({"model": "nope", "query": "a", "documents": "b"})),
        ("/classify", json!({"model": "nope", "input": "a"})),
        ("/pooling", json!({"model": "nope", "input": "a"})),
    ] {
        let told = node.told(path, body).await;
        assert_eq!(
            told,
            r#"{"error":{"message":"The model `nope` does not exist.","type":"NotFoundError","param":null,"code":404}}"#
        );
    }
}
