//! Who is let in by which name.

use reqwest::Method;
use sluice::sim::{Settings, Simulator};

use super::super::support::Node;
use super::settings;

async fn status(node: &Node, host: &str) -> u16 {
    let request = node.client.get(node.url("/")).header("host", host);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn on_loopback_only_near_names_are_let_in() {
    let host_name = Some("gpu-7".to_owned());
    let node = Node::with(Settings { host_name, ..settings() }).await;
    for host in [
        "localhost",
        "localhost:1",
        "a.localhost",
        "gpu.local",
        "gpu.internal",
        "GPU-7",
        "10.0.0.1",
        "[::1]:80",
    ] {
        assert_eq!(status(&node, host).await, 200, "{host}");
    }
    for host in ["example.com", "ollama.example.com:11434", "gpu-8", "8.8.8.8"] {
        assert_eq!(status(&node, host).await, 403, "{host}");
    }
    let reply = node.client.get(node.url("/health")).header("host", "example.com").send().await;
    let reply = reply.unwrap();
    assert_eq!((reply.status().as_u16(), reply.headers().get("content-type")), (403, None));
    assert_eq!(reply.text().await.unwrap(), "");
}

#[tokio::test]
async fn browsers_that_ask_first_are_told_nothing() {
    let node = Node::with(settings()).await;
    let reply = node.client.request(Method::OPTIONS, node.url("/api/chat")).send().await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.text().await.unwrap()), (204, String::new()));
}

#[tokio::test]
async fn on_another_address_every_name_will_do() {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let sim = Simulator::start(listener, settings()).await.unwrap();
    let url = format!("http://127.0.0.1:{}/", sim.addr().port());
    let request = reqwest::Client::new().get(url).header("host", "ollama.example.com");
    assert_eq!(request.send().await.unwrap().status(), 200);
}
