//! A connection lives on after every kind of answer that ended well.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{EVENTS, HEAD, pause};
use crate::support::gateway::Setup;
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, TestGateway, within};

/// A node that answers as the last part of the path says.
async fn node() -> Scripted {
    Scripted::start(|_, mut peer: Peer| async move {
        while let Some(came) = peer.request().await {
            let path = came.head.split(' ').nth(1).unwrap().to_owned();
            match path.rsplit('/').next().unwrap() {
                "json" => peer.answer("200 OK", "{}").await,
                "400" => peer.answer("400 Bad Request", "{}").await,
                "500" => peer.answer("500 Internal Server Error", "{}").await,
                "204" => peer.send(b"HTTP/1.1 204 No Content\r\n\r\n").await,
                "head" => peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await,
                "head-of-events" => peer.send(HEAD.as_bytes()).await,
                "no-events" => {
                    let head = HEAD.replace("transfer-encoding: chunked", "content-length: 0");
                    peer.send(head.as_bytes()).await;
                }
                "empty-500" => peer.send(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await,
                "events" => {
                    peer.send(HEAD.as_bytes()).await;
                    peer.events().await;
                }
                "silent-events" => {
                    peer.send(HEAD.as_bytes()).await;
                    pause().await;
                    peer.chunk(EVENTS[0]).await;
                    pause().await;
                    peer.events().await;
                }
                other => assert_eq!(other, "one of these"),
            }
        }
    })
    .await
}

/// A route to each of the answers, from a node that is taken for vLLM.
async fn gateway(node: &Scripted, names: &[&str], keepalive: &str) -> TestGateway {
    let route =
        |name: &&str| format!("  - {{ path: /{name}, methods: [GET, POST, HEAD], upstream: u }}\n");
    let routes: String = names.iter().map(route).collect();
    let routes = format!(
        "upstreams: {{ u: {{ kind: vllm, nodes: [\"http://{}\"], models: [m] }} }}\nroutes:\n{routes}",
        node.addr
    );
    let flags = |flags: &mut sluice::config::SettingsArgs| {
        flags.h2c = Some("true".into());
        flags.sse_keepalive = Some(keepalive.to_owned());
    };
    Setup::routes(&routes).flags(flags).start().await
}

fn request(method: &str, target: &str) -> http::Request<Full<Bytes>> {
    let body = if method == "POST" { r#"{"model":"m"}"# } else { "" };
    let request = http::Request::builder().method(method).uri(target);
    let request = request.header("authorization", format!("Bearer {KEY}"));
    // Over HTTP/2 it is a part of the target.
    let request = if target.starts_with('/') { request.header("host", "h") } else { request };
    request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()
}

const ANSWERS: [(&str, &str, u16); 10] = [
    ("json", "POST", 200),
    ("json", "GET", 200),
    ("events", "POST", 200),
    ("silent-events", "POST", 200),
    ("no-events", "POST", 200),
    ("empty-500", "POST", 500),
    ("204", "POST", 204),
    ("head", "HEAD", 200),
    ("400", "POST", 400),
    ("500", "POST", 500),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lives_on_after_every_answer() {
    let node = node().await;
    let names = [
        "json",
        "events",
        "silent-events",
        "no-events",
        "empty-500",
        "204",
        "head",
        "head-of-events",
        "400",
        "500",
    ];
    for keepalive in ["50ms", "0"] {
        let gateway = gateway(&node, &names, keepalive).await;
        let mut task = JoinSet::new();
        let stream = TcpStream::connect(gateway.addr).await.unwrap();
        let (mut one, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        task.spawn(async move { drop(connection.await) });
        let stream = TcpStream::connect(gateway.addr).await.unwrap();
        let two = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut two, connection) = two.await.unwrap();
        task.spawn(async move { drop(connection.await) });
        for (name, method, status) in ANSWERS {
            for _ in 0..2 {
                within(one.ready()).await.unwrap_or_else(|error| panic!("before {name}: {error}"));
                let reply = one.send_request(request(method, &format!("/{name}")));
                let reply = within(reply).await.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(reply.status(), status, "{name}");
                within(reply.into_body().collect()).await.unwrap();
                let target = format!("http://{}/{name}", gateway.addr);
                let reply = within(two.send_request(request(method, &target))).await.unwrap();
                assert_eq!(reply.status(), status, "{name} over HTTP/2");
                within(reply.into_body().collect()).await.unwrap();
            }
        }
        // A head without a body has nothing to wait for.
        let reply = within(one.send_request(request("HEAD", "/head-of-events"))).await.unwrap();
        assert_eq!(reply.headers()["content-type"], "text/event-stream");
        let lines = gateway.log_lines(4 * ANSWERS.len() + 1).await;
        let with = |status: u16| lines.iter().filter(|line| line["status"] == status).count();
        assert_eq!((with(200), with(204), with(400), with(500)), (25, 4, 4, 8), "{lines:?}");
        assert!(lines.iter().all(|line| line["tries"] == 1 && line.get("error").is_none()));
    }
}
