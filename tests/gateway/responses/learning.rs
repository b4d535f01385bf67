//! The id of a response is known as soon as its client can know it, however its answer is written and cut.

use serde_json::json;

use super::{asked, get, keeper, make, post, told, two, unknown};
use crate::support::scripted::{Peer, Scripted};
use crate::support::{KEY, TestGateway, node, within};

/// The first event and the last of a stream of vLLM 0.32.
const STREAM: &str = concat!(
    "event: response.created\ndata: {\"response\":{\"id\":\"resp_1\",\"created_at\":1795201552,\"output\":[]},",
    "\"sequence_number\":0,\"type\":\"response.created\"}\n\n",
    "event: response.completed\ndata: {\"response\":{\"id\":\"resp_2\",\"output\":[{\"id\":\"msg_1\"}]},",
    "\"sequence_number\":1,\"type\":\"response.completed\"}\n\n",
);

const OBJECT: &str = r#"{"id":"resp_1","output":[{"id":"msg_1"}],"previous_response_id":null}"#;

/// The same from a server that writes other fields first.
const LATE: &str = r#"{ "object" : "response", "metadata": {"id": "resp_2"}, "text": "\"id\":\"resp_2\"", "n": [{"id": 1}], "id" : "resp_1" }"#;

/// A node that answers what makes a response with `answer` in chunks of so many bytes, and everything else with `{}`.
async fn chunked(status: &'static str, answer: &'static str, chunk_bytes: usize) -> Scripted {
    Scripted::start(move |_, mut peer: Peer| async move {
        while let Some(came) = peer.request().await {
            if super::target(&came) != "/v1/responses" {
                peer.answer("200 OK", "{}").await;
                continue;
            }
            let content_type = match answer.starts_with('{') {
                true => "application/json",
                false => "text/event-stream; charset=utf-8",
            };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
            );
            peer.send(head.as_bytes()).await;
            for chunk in answer.as_bytes().chunks(chunk_bytes) {
                peer.send(format!("{:x}\r\n", chunk.len()).as_bytes()).await;
                peer.send(chunk).await;
                peer.send(b"\r\n").await;
            }
            peer.send(b"0\r\n\r\n").await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_known_however_its_answer_is_written_and_cut() {
    for answer in [OBJECT, LATE, STREAM] {
        for chunk_bytes in [1, 7, 64, answer.len()] {
            let node = chunked("200 OK", answer, chunk_bytes).await;
            let gateway = TestGateway::before(node.addr).await;
            let (status, text) = told(post(&gateway, KEY, &json!({ "input": "Hi" }))).await;
            assert_eq!((status, text.as_str()), (200, answer), "it passes byte for byte");
            assert_eq!(told(get(&gateway, KEY, "resp_1")).await.0, 200, "{answer} {chunk_bytes}");
            for other in ["resp_2", "msg_1"] {
                assert_eq!(told(get(&gateway, KEY, other)).await, unknown(other), "{answer}");
            }
            assert_eq!(gateway.series("sluice_response_ids"), 1.0);
        }
    }
}

/// A client that asks for its response while that is streamed: the node sends the rest when it was asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_be_asked_for_before_its_end() {
    let (was_asked, asked) = tokio::sync::watch::channel(false);
    let was_asked = std::sync::Arc::new(was_asked);
    let node = Scripted::start(move |_, mut peer: Peer| {
        let (was_asked, mut asked) = (was_asked.clone(), asked.clone());
        async move {
            while let Some(came) = peer.request().await {
                if super::target(&came) != "/v1/responses" {
                    was_asked.send_replace(true);
                    peer.answer("200 OK", "{}").await;
                    continue;
                }
                let (first, rest) = STREAM.split_at(STREAM.find("event: response.completed").unwrap());
                peer.send(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
                )
                .await;
                peer.send(format!("{:x}\r\n{first}\r\n", first.len()).as_bytes()).await;
                asked.wait_for(|asked| *asked).await.unwrap();
                peer.send(format!("{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len()).as_bytes()).await;
            }
        }
    })
    .await;
    let gateway = TestGateway::before(node.addr).await;
    let request = post(&gateway, KEY, &json!({ "input": "Hi", "stream": true }));
    let mut stream = within(request.send()).await.unwrap();
    assert!(within(stream.chunk()).await.unwrap().unwrap().starts_with(b"event: response.created"));
    assert_eq!(told(get(&gateway, KEY, "resp_1?stream=true&starting_after=0")).await.0, 200);
    assert!(within(stream.text()).await.unwrap().ends_with("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_made_no_response() {
    for status in ["400 Bad Request", "404 Not Found", "500 Oh"] {
        let node = chunked(status, OBJECT, 1_000).await;
        let gateway = TestGateway::before(node.addr).await;
        assert_eq!(told(post(&gateway, KEY, &json!({ "input": "Hi" }))).await.1, OBJECT);
        assert_eq!(told(get(&gateway, KEY, "resp_1")).await, unknown("resp_1"), "{status}");
        assert_eq!(node.seen().len(), 1, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_other_paths_make_no_response() {
    let node = Scripted::replying(r#"{"id":"resp_1"}"#).await;
    let gateway = TestGateway::before(node.addr).await;
    for path in ["/v1/chat/completions", "/v1/messages", "/invocations"] {
        let body = json!({ "model": "m", "previous_response_id": "resp_9", "request_id": 7 });
        assert_eq!(told(gateway.post(path).json(&body)).await.0, 200, "{path}");
    }
    assert_eq!(told(get(&gateway, KEY, "resp_1")).await, unknown("resp_1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_a_response_goes_on_as_it_is() {
    let node = keeper("a").await;
    let gateway = TestGateway::before(node.addr).await;
    let id = make(&gateway, KEY, "m").await;
    let path = format!("/v1/responses/{id}");
    for query in ["", "?stream=true&starting_after=3", "?include=a%2Fb&timeout=9"] {
        assert_eq!(told(gateway.get(&format!("{path}{query}"))).await, (200, "a".into()));
    }
    for body in ["", "{}", r#"{"any":1}"#, "no JSON"] {
        assert_eq!(told(gateway.post(&format!("{path}/cancel")).body(body)).await.0, 200, "{body}");
        assert_eq!(node.seen().last().unwrap().body, body.as_bytes());
    }
    let (whole, cancelled) = (path.clone(), format!("{path}/cancel"));
    let streamed = format!("{path}?stream=true&starting_after=3");
    let included = format!("{path}?include=a%2Fb");
    let expected = [&whole, &streamed, &included].into_iter().chain([&cancelled; 4]);
    assert_eq!(asked(&node), expected.cloned().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_of_a_simulated_node_are_asked_for_there() {
    let (first, second) = (node(&["llama"]).await, node(&["qwen"]).await);
    let gateway = TestGateway::start(&two(first.addr(), second.addr())).await;
    for stream in [false, true] {
        let body = json!({ "model": "qwen", "input": "Hi", "stream": stream });
        let (status, text) = told(post(&gateway, KEY, &body)).await;
        assert_eq!(status, 200, "{text}");
        let at = text.find("resp_").unwrap();
        let id = &text[at..at + text[at..].find('"').unwrap()];
        let _kept_or_not = told(get(&gateway, KEY, id)).await;
        assert_eq!(second.requests().last().unwrap().target, format!("/v1/responses/{id}"));
    }
    assert!(first.requests().is_empty());
}
