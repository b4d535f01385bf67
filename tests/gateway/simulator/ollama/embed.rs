//! `/api/embed`, and `/api/embeddings` from before it.

use serde_json::{Value, json};

use super::super::support::with;
use super::{answer, node, told};

const EMBED: &str = "/api/embed";

fn length(vector: &Value) -> f64 {
    let numbers = vector.as_array().unwrap().iter().map(|number| number.as_f64().unwrap());
    numbers.map(|number| number * number).sum::<f64>().sqrt()
}

#[tokio::test]
async fn each_text_has_a_vector_of_length_one() {
    let node = node().await;
    let body = json!({"model": "nomic-embed-text", "input": ["one two", "three"]});
    let reply = answer(&node, EMBED, &body).await;
    assert_eq!(
        (&reply["model"], &reply["prompt_eval_count"]),
        (&json!("nomic-embed-text"), &json!(3))
    );
    assert!(reply["total_duration"].is_u64() && reply["load_duration"].is_u64());
    for vector in reply["embeddings"].as_array().unwrap() {
        assert!((length(vector) - 1.0).abs() < 1e-5);
        assert_eq!(vector.as_array().unwrap().len(), 64);
    }
    let alone = answer(&node, EMBED, &with(body, json!({"input": "three", "dimensions": 8}))).await;
    assert!((length(&alone["embeddings"][0]) - 1.0).abs() < 1e-5);
    assert_eq!(alone["embeddings"][0].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn numbers_have_no_more_digits_than_they_need() {
    let node = node().await;
    let (_, content_type, says) =
        told(&node, EMBED, &json!({"model": "nomic-embed-text", "input": "one"})).await;
    assert_eq!(content_type, "application/json; charset=utf-8");
    let numbers = says.split_once("[[").unwrap().1.split_once("]]").unwrap().0;
    assert!(numbers.split(',').all(|number| number == "0.125" || number == "-0.125"), "{numbers}");
    assert!(
        says.ends_with(r#"]],"total_duration":1,"load_duration":1,"prompt_eval_count":1}"#),
        "{says}"
    );
}

#[tokio::test]
async fn no_text_has_no_vector() {
    let node = node().await;
    for input in [json!(""), json!([]), Value::Null] {
        let body = json!({"model": "nomic-embed-text", "input": input});
        assert_eq!(
            told(&node, EMBED, &body).await.2,
            r#"{"model":"nomic-embed-text","embeddings":[]}"#
        );
    }
    let old = json!({"model": "nomic-embed-text", "prompt": ""});
    assert_eq!(told(&node, "/api/embeddings", &old).await.2, r#"{"embedding":[]}"#);
}

#[tokio::test]
async fn the_older_path_has_one_vector() {
    let node = node().await;
    let body = json!({"model": "sim-llama", "prompt": "one two"});
    let reply = answer(&node, "/api/embeddings", &body).await;
    assert!((length(&reply["embedding"]) - 1.0).abs() < 1e-5);
    assert_eq!(reply.as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn a_text_that_is_too_long_is_cut_unless_it_must_not_be() {
    let node = node().await;
    let body = json!({"model": "sim-llama", "input": "a b c d e f", "options": {"num_ctx": 4}});
    assert_eq!(answer(&node, EMBED, &body).await["prompt_eval_count"], 4);
    let (status, _, says) = told(&node, EMBED, &with(body, json!({"truncate": false}))).await;
    assert_eq!(
        (status, says.as_str()),
        (400, r#"{"error":"the input length exceeds the context length"}"#)
    );
    for input in [json!(1), json!([1]), json!([["a"]])] {
        let (status, _, says) =
            told(&node, EMBED, &json!({"model": "sim-llama", "input": input})).await;
        assert_eq!((status, says.as_str()), (400, r#"{"error":"invalid input type"}"#));
    }
}
