//! What an Ollama node says of itself, and what paths and methods it has.

use reqwest::Method;
use serde_json::{Value, json};

use super::super::support::Node;
use super::{answer, node};

async fn get(node: &Node, path: &str) -> (u16, String, String) {
    let reply = node.get(path).await;
    let content_type =
        reply.headers().get("content-type").map(|of| of.to_str().unwrap().to_owned());
    (reply.status().as_u16(), content_type.unwrap_or_default(), reply.text().await.unwrap())
}

#[tokio::test]
async fn it_says_that_it_runs() {
    let node = node().await;
    let text = "text/plain; charset=utf-8".to_owned();
    assert_eq!(get(&node, "/").await, (200, text, "Ollama is running".to_owned()));
    let (status, content_type, body) = get(&node, "/api/version").await;
    assert_eq!((status, content_type.as_str()), (200, "application/json; charset=utf-8"));
    assert!(body.starts_with(r#"{"version":"0."#), "{body}");
    for path in ["/", "/api/version", "/api/tags"] {
        let reply = node.client.head(node.url(path)).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{path}");
        assert!(reply.text().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_is_installed_is_listed_by_short_names() {
    let node = node().await;
    let tags: Value = serde_json::from_str(&get(&node, "/api/tags").await.2).unwrap();
    let names: Vec<_> = tags["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["sim-llama:latest", "qwen3:8b", "gemma3:4b", "hf.co/me/own:Q4", "nomic-embed-text:latest"]
    );
    let first = &tags["models"][0];
    assert_eq!(first["model"], "sim-llama:latest");
    assert_eq!(first["digest"].as_str().unwrap().len(), 64);
    assert!(first["size"].is_u64() && first["modified_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        first["details"],
        json!({"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
            "parameter_size": "8.0B", "quantization_level": "Q4_K_M", "context_length": 8192, "embedding_length": 64})
    );
    assert_eq!(tags["models"][1]["capabilities"], json!(["completion", "tools", "thinking"]));
    node.sim.set_models(&["other"]);
    let tags: Value = serde_json::from_str(&get(&node, "/api/tags").await.2).unwrap();
    assert_eq!(tags["models"][0]["name"], "other:latest");
}

#[tokio::test]
async fn one_model_is_shown() {
    let node = node().await;
    for body in [json!({"model": "sim-llama"}), json!({"name": "sim-llama:latest"})] {
        let shown = answer(&node, "/api/show", &body).await;
        assert_eq!(shown["model_info"]["llama.context_length"], 8192);
        assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
        assert!(shown["modelfile"].as_str().unwrap().contains("# FROM sim-llama:latest\n"));
        assert!(shown["template"].is_string() && shown["details"]["family"] == "llama");
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_text() {
    let node = node().await;
    for path in
        ["/health", "/metrics", "/v1/responses", "/api/pull", "/v1/models/a/b", "/api/chat/"]
    {
        let text = "text/plain".to_owned();
        assert_eq!(get(&node, path).await, (404, text, "404 page not found".to_owned()), "{path}");
    }
    for (method, path, allow) in [
        (Method::GET, "/api/chat", "POST"),
        (Method::POST, "/api/tags", "HEAD, GET"),
        (Method::HEAD, "/api/ps", "GET"),
        (Method::DELETE, "/v1/models/sim-llama", "GET"),
    ] {
        let reply = node.client.request(method.clone(), node.url(path)).send().await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["allow"]),
            (405, &allow.parse().unwrap())
        );
        let body = if method == Method::HEAD { "" } else { "405 method not allowed" };
        assert_eq!(reply.text().await.unwrap(), body);
    }
}
