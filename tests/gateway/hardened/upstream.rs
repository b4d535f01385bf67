//! Nodes that break, hang or say too much (R30 to R37): no request pays for a connection, and nothing is left behind.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};

use super::alone::Alone;
use crate::support::gateway::{Setup, preset};
use crate::support::scripted::{Came, Peer, Scripted};
use crate::support::{KEY, TestGateway, eventually, within};

/// The head of an event stream.
const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// For a bound of a second: with what a busy machine takes for the rest.
const SOON: Duration = Duration::from_secs(8);

/// A chat that no other is like.
fn numbered(number: usize) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": format!("number {number}") }] })
}

fn text(came: &Came) -> &str {
    std::str::from_utf8(&came.body).unwrap()
}

/// Three ways in which a node's idle connection ends as the next request comes: at once, when it is read, when it
/// has begun. The first is seen in time or not; whoever sent on it has lost nothing.
#[tokio::test(flavor = "multi_thread")]
async fn r30_sixty_of_sixty_posts_survive_connections_that_close_as_they_come() {
    const POSTS: usize = 60;
    let node = Scripted::start(|number, mut peer: Peer| async move {
        let Some(came) = peer.request().await else { return };
        peer.answer("200 OK", text(&came)).await;
        match number % 3 {
            0 => {}
            1 => drop(peer.request().await),
            // With bytes unread: a reset.
            _ => drop(peer.stream.read_u8().await),
        }
    })
    .await;
    // One try: what is lost with a pooled connection is none.
    let routes = preset(node.addr).replace("kind: vllm", "kind: vllm, retry: { attempts: 1 }");
    let gateway = Setup::routes(&routes).start().await;
    for number in 0..POSTS {
        let sent = numbered(number);
        let reply = gateway.post("/v1/chat/completions").json(&sent).send();
        let reply = within(reply).await.unwrap();
        assert_eq!(reply.status(), 200, "{number}");
        assert_eq!(reply.json::<Value>().await.unwrap(), sent);
    }
    let seen = node.seen();
    let bodies: BTreeSet<_> = seen.iter().map(|came| text(came).to_owned()).collect();
    assert_eq!(bodies, (0..POSTS).map(|number| numbered(number).to_string()).collect());
    assert!(seen.len() <= 2 * POSTS, "each at most once more: {}", seen.len());
    assert_eq!(gateway.series("sluice_upstream_failures_total"), 0.0, "the node did nothing wrong");
    assert_eq!(gateway.series("sluice_retries_total"), 0.0);
    assert_eq!(gateway.series("sluice_requests_in_flight"), 0.0);
}

/// uvicorn closes after 5 s.
#[tokio::test(flavor = "multi_thread")]
async fn r30_an_idle_connection_is_given_up_before_uvicorn_closes_it() {
    let (told, mut given_up) = mpsc::channel(1);
    let node = Scripted::start(move |_, mut peer: Peer| {
        let told = told.clone();
        async move {
            peer.request().await;
            peer.answer("200 OK", "{}").await;
            let idle = Instant::now();
            peer.closed().await;
            told.send(idle.elapsed()).await.unwrap();
        }
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    assert_eq!(gateway.chat("m").send().await.unwrap().status(), 200);
    let live = gateway.server.live.load_full();
    assert_eq!(live.upstreams[0].keepalive_idle, Duration::from_secs(4));
    // What looks for such connections comes by each second.
    let idle = within(given_up.recv()).await.unwrap();
    assert!(idle > Duration::from_secs(3), "{idle:?}");
    assert_eq!(node.seen().len(), 1);
}

/// Two nodes of one upstream, by turns; each says `answer` to what it is asked, and closes.
async fn pair(answer: &'static str) -> ([Scripted; 2], TestGateway) {
    let node = || {
        Scripted::start(move |_, mut peer: Peer| async move {
            if peer.request().await.is_some() {
                peer.send(answer.as_bytes()).await;
            }
        })
    };
    let nodes = [node().await, node().await];
    let both = format!("nodes: [\"http://{}\", ", nodes[0].addr);
    let routes = preset(nodes[1].addr).replace("nodes: [", &both);
    let routes = routes.replace("health: off", "health: off, models: [m], balance: round_robin");
    (nodes, Setup::routes(&routes).start().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn r31_after_the_first_byte_of_a_body_nobody_else_is_asked() {
    const ASKED: usize = 4;
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"id\"",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n",
    ] {
        let (nodes, gateway) = pair(answer).await;
        for number in 0..ASKED {
            let reply = gateway.post("/v1/chat/completions").json(&numbered(number)).send();
            let reply = within(reply).await.unwrap();
            assert_eq!(reply.status(), 200);
            assert!(within(reply.bytes()).await.is_err(), "it looks whole");
        }
        let seen = [nodes[0].seen(), nodes[1].seen()].concat();
        let bodies: BTreeSet<_> = seen.iter().map(|came| text(came).to_owned()).collect();
        assert_eq!((seen.len(), bodies.len()), (ASKED, ASKED), "each once, at one node");
        assert_eq!(gateway.series("sluice_retries_total"), 0.0);
    }
}

/// A try at another upstream's node shows that node's host, key and header, and nothing of the first one's.
#[tokio::test(flavor = "multi_thread")]
async fn r32_each_try_is_written_for_the_node_that_gets_it() {
    let first = Scripted::start(|_, mut peer| async move { drop(peer.request().await) }).await;
    let second = Scripted::replying("{}").await;
    let routes = format!(
        "upstreams:\n  \
           first: {{ kind: openai, nodes: ['http://{}'], key: sk-first, key_header: x-first-key, key_prefix: '', models: [a], health: off }}\n  \
           second: {{ kind: openai, nodes: ['http://{}/under'], key: sk-second, models: [b], health: off }}\n\
         routes:\n  - {{ path: /v1/chat/completions, methods: [POST], upstream: first }}\n  \
           - {{ path: /v1/chat/completions, methods: [POST], upstream: second }}\n\
         fallbacks: {{ a: [b] }}\n",
        first.addr, second.addr
    );
    let gateway = TestGateway::start(&routes).await;
    let sent = json!({ "model": "a", "messages": [] });
    let reply = gateway.post("/v1/chat/completions").json(&sent).send();
    assert_eq!(within(reply).await.unwrap().status(), 200);
    assert_eq!((first.seen().len(), second.seen().len()), (1, 1));
    for came in first.seen() {
        assert_eq!(came.header("x-first-key"), Some("sk-first"));
        assert_eq!(came.header("authorization"), None);
        assert_eq!(came.header("host"), Some(&*first.addr.to_string()));
        assert_eq!(came.body, br#"{"messages":[],"model":"a"}"#);
    }
    for came in second.seen() {
        assert!(came.head.starts_with("POST /under/chat/completions "), "{}", came.head);
        assert_eq!(came.header("authorization"), Some("Bearer sk-second"));
        assert_eq!(came.header("x-first-key"), None);
        assert_eq!(came.header("host"), Some(&*second.addr.to_string()));
        assert_eq!(came.body, br#"{"messages":[],"model":"b"}"#);
        assert!(!came.head.contains(KEY), "{}", came.head);
    }
}

/// What a faulty node does to its connection of this number.
async fn faulty(number: usize, mut peer: Peer) {
    if peer.request().await.is_none() {
        return;
    }
    let answer = match number % 8 {
        0 => "",
        1 => "this is not HTTP\r\n\r\n",
        2 => "HTTP/1.1 200 OK\r\ncontent-",
        3 => "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
        4 => "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        5 => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        6 => {
            peer.answer("503 Service Unavailable", "{}").await;
            while peer.request().await.is_some() {
                peer.answer("503 Service Unavailable", "{}").await;
            }
            return;
        }
        _ => {
            peer.send(STREAM.as_bytes()).await;
            peer.send(b"10\r\ndata: {\"half\":\"a\r\n").await;
            return;
        }
    };
    peer.send(answer.as_bytes()).await;
    if number % 8 >= 4 {
        peer.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r35_four_hundred_faulty_requests_leave_no_socket_behind() {
    const REQUESTS: usize = 400;
    let node = Scripted::start(faulty).await;
    let gateway = Alone::before(node.addr, "").await;
    // Threads, pools and the like are there once something was asked.
    let _broken = within(gateway.chat().send()).await;
    eventually(|| async { gateway.series("sluice_requests_in_flight").await == 0.0 }).await;
    let before = gateway.descriptors();
    let asked = stream::iter(0..REQUESTS).map(|number| {
        let request = gateway.post("/v1/chat/completions").json(&numbered(number)).send();
        async move {
            let reply = within(request).await.unwrap();
            let status = reply.status().as_u16();
            assert!([200, 502, 503].contains(&status), "{number}: {status}");
            let _cut = within(reply.bytes()).await;
        }
    });
    asked.buffer_unordered(20).collect::<Vec<()>>().await;
    let sent: BTreeSet<_> = (0..REQUESTS).map(|number| numbered(number).to_string()).collect();
    let seen = node.seen();
    assert!(seen.len() >= REQUESTS);
    assert!(seen[1..].iter().filter(|came| !sent.contains(text(came))).count() <= 1);
    eventually(|| async { gateway.series("sluice_requests_in_flight").await == 0.0 }).await;
    eventually(|| async { gateway.descriptors() <= before + 3 }).await;
}

/// The requirement's two seconds more are those of a machine that does nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn r35_four_hundred_hanging_requests_all_end_in_time() {
    const REQUESTS: usize = 400;
    const FIRST_BYTE: Duration = Duration::from_secs(3);
    let node = Scripted::start(|_, mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let gateway = Alone::before(node.addr, ", timeouts: { first_byte: 3s }").await;
    let before = gateway.descriptors();
    let all = (0..REQUESTS).map(|number| {
        let request = gateway.post("/v1/chat/completions").json(&numbered(number)).send();
        async move {
            let asked = Instant::now();
            let reply = within(request).await.unwrap();
            assert_eq!(reply.status(), 504);
            let took = asked.elapsed();
            assert!(took < FIRST_BYTE + 2 * SOON, "{took:?}");
        }
    });
    futures_util::future::join_all(all).await;
    let bodies: BTreeSet<_> = node.seen().iter().map(|came| text(came).to_owned()).collect();
    assert_eq!((node.seen().len(), bodies.len()), (REQUESTS, REQUESTS), "each was sent once");
    eventually(|| async { gateway.series("sluice_requests_in_flight").await == 0.0 }).await;
    eventually(|| async { gateway.descriptors() <= before + 3 }).await;
}

/// An answer that nobody asked for, behind the one that somebody did: nobody gets it.
#[tokio::test(flavor = "multi_thread")]
async fn r36_what_follows_an_answer_is_nobodys_and_ends_its_connection() {
    const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned";
    for stray in [POISON, "\r\n", "x"] {
        let (told, mut left) = mpsc::channel(1);
        let node = Scripted::start(move |number, mut peer: Peer| {
            let told = told.clone();
            async move {
                let Some(came) = peer.request().await else { return };
                let (body, length) = (text(&came), came.body.len());
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
                // In one packet with the answer, or when the connection is idle already.
                if number % 2 == 0 {
                    peer.send((answer + stray).as_bytes()).await;
                } else {
                    peer.send(answer.as_bytes()).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    peer.send(stray.as_bytes()).await;
                }
                let mut more = Vec::new();
                let _reset = peer.stream.read_to_end(&mut more).await;
                told.send(more).await.unwrap();
            }
        })
        .await;
        let gateway = TestGateway::before(node.addr).await;
        for number in 0..6 {
            let sent = numbered(number);
            let reply = gateway.post("/v1/chat/completions").json(&sent).send();
            let reply = within(reply).await.unwrap();
            assert_eq!(reply.json::<Value>().await.unwrap(), sent, "{stray:?}");
            let more = within(left.recv()).await.unwrap();
            assert!(more.is_empty(), "sent on it: {:?}", String::from_utf8_lossy(&more));
        }
        assert_eq!(node.seen().len(), 6);
        assert_eq!(gateway.series("sluice_upstream_failures_total"), 0.0);
    }
}

/// Each event is made when the client has the one before: one that was kept back would be waited for.
#[tokio::test(flavor = "multi_thread")]
async fn r37_each_event_is_with_its_client_before_the_next_is_made() {
    const EVENTS: usize = 30;
    let event = |turn: usize| {
        let choice = json!({ "index": 0, "delta": { "content": format!("word{turn} ") }, "finish_reason": null });
        format!("data: {}\n\n", json!({ "choices": [choice] }))
    };
    let (next, told) = watch::channel(1);
    let node = Scripted::start(move |_, mut peer: Peer| {
        let mut told = told.clone();
        async move {
            peer.request().await;
            peer.send(STREAM.as_bytes()).await;
            for turn in 1..=EVENTS {
                told.wait_for(|next| *next >= turn).await.unwrap();
                let event = event(turn);
                peer.send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await;
            }
            told.wait_for(|next| *next > EVENTS).await.unwrap();
            peer.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let setup = Setup::routes(&preset(node.addr));
    let gateway = setup.flags(|flags| flags.h2c = Some("true".into())).start().await;
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for client in [&gateway.client, &http2] {
        next.send_replace(1);
        let sent = json!({ "model": "m", "messages": [], "stream": true });
        let request = client.post(gateway.url("/v1/chat/completions")).bearer_auth(KEY);
        let mut reply = within(request.json(&sent).send()).await.unwrap();
        let (mut came, began) = (String::new(), Instant::now());
        for turn in 1..=EVENTS {
            let wanted: String = (1..=turn).map(event).collect();
            while came.len() < wanted.len() {
                let piece = within(reply.chunk()).await.unwrap().unwrap();
                came += std::str::from_utf8(&piece).unwrap();
            }
            assert_eq!(came, wanted);
            next.send_replace(turn + 1);
        }
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        let rest = within(reply.text()).await.unwrap();
        assert_eq!(rest, "data: [DONE]\n\n");
    }
    assert_eq!(node.seen().len(), 2);
}
