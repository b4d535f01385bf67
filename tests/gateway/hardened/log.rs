//! R15: what is written down.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::wire::{chat, pair, request};
use crate::services::process::{Port, Process};
use crate::support::gateway::preset;
use crate::support::http::raw;
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, within};

const CHAT: &str = "POST /v1/chat/completions";

#[tokio::test(flavor = "multi_thread")]
async fn r15_a_line_of_the_log_is_one_line_whatever_a_client_writes() {
    let (node, gateway) = pair().await;
    let sly = "x\"}\\n{\"status\":200";
    let body = json!({ "model": "a\u{2028}b\"}{\"c", "user": sly }).to_string();
    let reply = gateway.post("/v1/chat/completions").header("user-agent", sly).body(body.clone());
    assert_eq!(reply.send().await.unwrap().status(), 200);
    let lines = gateway.log_lines(1).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["model"], "a\u{2028}b\"}{\"c");
    assert_eq!(node.seen()[0].body, body.as_bytes());
    let path = request("GET /%0a{\"status\":200}", "x-request-id: a\"b\r\n", "");
    raw(gateway.addr, path.as_bytes()).await;
    raw(gateway.addr, chat("").replace(KEY, "sk-wrong\"").as_bytes()).await;
    let lines = gateway.log_lines(3).await;
    assert_eq!(lines.len(), 3);
    let unknown: Vec<_> = lines.iter().filter_map(|line| line["key"].as_str()).collect();
    let printed = unknown.iter().find_map(|key| key.strip_prefix("unknown:")).unwrap();
    assert!(printed.len() == 8 && printed.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let ids: Vec<_> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert!(ids.iter().all(|id| id.starts_with("req_")), "{ids:?}");
    assert_eq!(node.seen().len(), 1);
}

/// A node that answers with what is no HTTP, in each way in which one can, and says the prompt in it.
async fn garbled() -> Scripted {
    const ANSWERS: [&str; 6] = [
        "HTTP/1.1 200 OK\r\nbroken line xyzzy-prompt\r\n\r\n",
        "xyzzy-prompt\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx\0: xyzzy-prompt\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyzzy-prompt\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nxyzzy-prompt\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nxyzzy-prompt",
    ];
    Scripted::start(|number, mut peer: Peer| async move {
        if peer.request().await.is_some() {
            peer.send(ANSWERS[number % ANSWERS.len()].as_bytes()).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_what_cannot_be_read_is_not_written_down_however_much_is_logged() {
    let node = garbled().await;
    let (dir, port) = (tempfile::tempdir().unwrap(), Port::of([127, 0, 0, 1]));
    let routes = preset(node.addr).replace("kind: vllm", "kind: vllm, key: sk-of-the-node");
    std::fs::write(dir.path().join("routes.yaml"), routes).unwrap();
    let listen = port.addr.to_string();
    let arguments = ["--config", ".", "--listen", &listen];
    let variables = [("ALLOWED_API_KEYS", "sk-of-the-client"), ("LOG_LEVEL", "trace")];
    let process = Process::serve(dir.path(), &arguments, &variables, port.addr).await;
    attack(port.addr).await;
    let ended = process.stop().await;
    for secret in ["sk-of-the-client", "sk-of-the-node", "xyzzy-prompt", "buf:"] {
        assert!(!ended.err.contains(secret), "{secret} in {}", ended.err);
        assert!(!ended.out.contains(secret), "{secret} in {}", ended.out);
    }
    let lines = ended.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(lines.filter(|line| line["path"] == "/v1/chat/completions").count() >= 12);
}

/// Whole requests with a prompt, and heads and bodies that are none, with a key in each.
async fn attack(to: SocketAddr) {
    let keyed = |text: String| text.replace(KEY, "sk-of-the-client");
    let prompt = r#"{"model":"m","user":"xyzzy-prompt"}"#;
    let whole = keyed(request(CHAT, &format!("content-length: {}\r\n", prompt.len()), prompt));
    for _ in 0..12 {
        raw(to, whole.as_bytes()).await;
    }
    for broken in [
        keyed(chat("x\0: a\r\n")),
        keyed(chat("broken line xyzzy-prompt\r\n")),
        keyed(chat("x-a: a\r\n folded\r\n")),
        keyed(chat("")).replace(" HTTP/1.1", " HTTP/9"),
        keyed(request(CHAT, "transfer-encoding: chunked\r\n", "xyzzy-prompt\r\n")),
        keyed(request(CHAT, "transfer-encoding: chunked\r\n", "2\r\n{}xyzzy-prompt")),
        keyed(request(CHAT, "content-length: x\r\n", "xyzzy-prompt")),
    ] {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let _refused_early = stream.write_all(broken.as_bytes()).await;
        let _refused_early = stream.shutdown().await;
        let mut answer = Vec::new();
        let _reset_after_the_answer = within(stream.read_to_end(&mut answer)).await;
    }
}
