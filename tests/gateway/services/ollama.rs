//! Ollama beside vLLM, as the proxy with limits had them (rows D2, D5).

use serde_json::{Value, json};
use sluice::sim::{Kind, Settings, Simulator};

use super::credentials;
use crate::support::gateway::{Setup, chat};
use crate::support::{KEY, TestGateway, node, node_with};

async fn ollama(models: &[&str]) -> Simulator {
    let models = models.iter().map(|model| (*model).into()).collect();
    node_with(Settings { kind: Kind::Ollama, models, ..Settings::default() }).await
}

/// The variables of the service that is replaced.
fn replaced(vllm: &Simulator, ollama: &Simulator) -> Setup {
    Setup::bare()
        .env("PROXY_SECRET_KEY", KEY)
        .env("VLLM_BASE_URL", &format!("http://{}", vllm.addr()))
        .env("VLLM_API_KEY", "sk-vllm")
        .env("OLLAMA_BASE_URL", &format!("http://{}/v1", ollama.addr()))
}

/// The model of the chat that a node was asked for last, and where.
fn asked(node: &Simulator) -> Option<(String, String)> {
    let last = node.requests().into_iter().rfind(|seen| seen.method == "POST")?;
    let body: Value = serde_json::from_slice(&last.body).unwrap();
    Some((last.target, body["model"].as_str().unwrap().to_owned()))
}

async fn chats(gateway: &TestGateway, model: &str) -> Value {
    let reply = gateway.chat(model).send().await.unwrap();
    assert_eq!(reply.status(), 200, "{model}");
    reply.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_the_prefix_picks_the_backend_and_is_cut_off_and_else_the_default_is_asked() {
    let native = |model: &str| Some(("/api/chat".to_owned(), model.to_owned()));
    let openai = |model: &str| Some(("/v1/chat/completions".to_owned(), model.to_owned()));
    // A model that both have.
    let (vllm, other) = (node(&["same"]).await, ollama(&["same", "qwen3:8b"]).await);
    let gateway = replaced(&vllm, &other).start().await;
    chats(&gateway, "vllm:same").await;
    assert_eq!((asked(&vllm), asked(&other)), (openai("same"), None));
    chats(&gateway, "ollama:same").await;
    assert_eq!(
        (vllm.requests().iter().filter(|seen| seen.method == "POST").count(), asked(&other)),
        (1, native("same"))
    );
    // A tag is none of the names of upstreams, and what follows the first `:` is the model's whole name.
    for model in ["qwen3:8b", "ollama:qwen3:8b"] {
        chats(&gateway, model).await;
        assert_eq!(asked(&other), native("qwen3:8b"), "{model}");
    }
    // Ollama means the latest where there is no tag, and lists it so.
    for model in ["same:latest", "ollama:same:latest"] {
        chats(&gateway, model).await;
        assert_eq!(asked(&other), native("same:latest"), "{model}");
    }
    // What neither is known to have goes where the variable says.
    for (default, there) in [("vllm", &vllm), ("ollama", &other)] {
        let gateway = replaced(&vllm, &other).env("DEFAULT_BACKEND", default).start().await;
        let reply = gateway.chat("unheard-of").send().await.unwrap();
        assert_eq!(reply.status(), 404, "{default}");
        assert_eq!(asked(there).unwrap().1, "unheard-of", "{default}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_ollama_is_spoken_to_in_its_own_api_and_answers_as_openai_does() {
    let (vllm, node) = (node(&["m"]).await, ollama(&["qwen3:8b"]).await);
    let gateway = replaced(&vllm, &node).start().await;
    let whole = chats(&gateway, "ollama:qwen3:8b").await;
    let message = &whole["choices"][0]["message"];
    let text = message["content"].as_str().unwrap();
    assert_eq!(
        (whole["object"].as_str(), message["role"].as_str()),
        (Some("chat.completion"), Some("assistant"))
    );
    assert!(!text.is_empty() && whole["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
    let mut body = chat("ollama:qwen3:8b");
    body["stream"] = json!(true);
    let stream = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream; charset=utf-8");
    let stream = stream.text().await.unwrap();
    let events: Vec<&str> =
        stream.split("\n\n").filter_map(|one| one.strip_prefix("data: ")).collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks =
        events[..events.len() - 1].iter().map(|one| serde_json::from_str::<Value>(one).unwrap());
    let said: String = chunks
        .map(|chunk| {
            chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(said, text);
    let prompt = json!({ "model": "ollama:qwen3:8b", "prompt": "Hello", "max_tokens": 3 });
    let told: Value =
        gateway.post("/v1/completions").json(&prompt).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (told["object"].as_str(), told["usage"]["completion_tokens"].as_u64()),
        (Some("text_completion"), Some(3))
    );
    let input = json!({ "model": "ollama:qwen3:8b", "input": ["one", "two"] });
    let told: Value =
        gateway.post("/v1/embeddings").json(&input).send().await.unwrap().json().await.unwrap();
    assert_eq!(told["data"].as_array().unwrap().len(), 2);
    let seen = node.requests();
    let targets: Vec<&str> =
        seen.iter().map(|one| &*one.target).filter(|one| *one != "/api/version").collect();
    for path in ["/api/chat", "/api/generate", "/api/embed", "/api/tags"] {
        assert!(targets.contains(&path), "{path}: {targets:?}");
    }
    assert!(!targets.iter().any(|target| target.starts_with("/v1")), "{targets:?}");
    // Neither the client's key nor vLLM's.
    for one in &seen {
        assert_eq!(credentials(one), [], "{}", one.target);
    }
    let models: Value = gateway.get("/v1/models").send().await.unwrap().json().await.unwrap();
    let ids: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["m", "qwen3:8b"]);
}
