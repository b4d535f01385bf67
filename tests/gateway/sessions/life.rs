//! What becomes of a session when its requests run together, fail, are streamed or left.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sluice::sim::{Settings, Simulator};

use super::{
    NODE_KEY, answered, ask, begin, chats, error, guarded, guarded_with, post, replaced, said,
};
use crate::support::gateway::Setup;
use crate::support::scripted::Scripted;
use crate::support::{KEY, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_session_run_one_after_the_other_and_none_is_lost() {
    let node =
        guarded_with(Settings { first_token: Duration::from_millis(2), ..Settings::default() })
            .await;
    let gateway = replaced(&node).start().await;
    let ids = join_all((0..10).map(|_| begin(&gateway, NODE_KEY))).await;
    let questions = (0..100).map(|number| {
        let (gateway, id) = (&gateway, &ids[number % 10]);
        async move { answered(gateway, id, &format!("question {number}")).await }
    });
    within(join_all(questions)).await;
    for id in &ids {
        answered(&gateway, id, "last").await;
        let users: Vec<_> = said(&node).into_iter().filter(|(role, _)| role == "user").collect();
        assert_eq!(users.len(), 11, "{users:?}");
    }
    // Each saw all that was answered before it.
    let mut lengths: Vec<_> =
        chats(&node).iter().map(|chat| chat["messages"].as_array().unwrap().len()).collect();
    lengths.sort_unstable();
    let each = |pairs: usize| std::iter::repeat_n(2 + 2 * pairs, 10);
    assert_eq!(lengths, (0..11).flat_map(each).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_the_nodes_own_and_what_it_said_is_kept() {
    let node = guarded().await;
    let gateway = replaced(&node).start().await;
    let id = begin(&gateway, NODE_KEY).await;
    let reply = ask(&gateway, &id, "Hello", json!({ "stream": true, "max_tokens": 4 })).await;
    assert!(reply.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let text = reply.text().await.unwrap();
    let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let events: Vec<&str> = data.collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks = events[..events.len() - 1].iter().map(|data| serde_json::from_str::<Value>(data));
    let told: String = chunks
        .map(|chunk| {
            let chunk = chunk.unwrap();
            assert_eq!(
                (chunk["object"].as_str(), chunk.get("usage")),
                (Some("chat.completion.chunk"), None)
            );
            chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert!(!told.is_empty());
    answered(&gateway, &id, "And then?").await;
    assert_eq!(said(&node)[2], ("assistant".into(), told));
}

/// What a node answers in turn, and what its clients are told.
const ANSWERS: [(&str, &str, u16); 6] = [
    ("400 Bad Request\r\nContent-Type: application/json", r#"{"error":{"message":"no"}}"#, 400),
    ("200 OK\r\nContent-Type: application/json", r#"{"choices":[]}"#, 502),
    ("200 OK\r\nContent-Type: application/json", "not JSON", 502),
    ("200 OK\r\nContent-Length: 0", "", 502),
    (
        "200 OK\r\nContent-Type: text/event-stream",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\n",
        200,
    ),
    (
        "200 OK\r\nContent-Type: application/json",
        r#"{"choices":[{"message":{"content":"fine"},"finish_reason":"stop"}]}"#,
        200,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_session_finds_its_beginning_in_a_nodes_cache() {
    let details = || Settings { enable_prompt_tokens_details: true, ..Settings::default() };
    let nodes = [guarded_with(details()).await, guarded_with(details()).await];
    let urls = nodes.each_ref().map(|node| format!("\"http://{}\"", node.addr())).join(", ");
    let upstream =
        format!("{{ kind: vllm, nodes: [{urls}], key: {NODE_KEY}, balance: prefix_aware }}");
    let routes =
        format!("upstreams:\n  u: {upstream}\nroutes:\n  - {{ preset: vllm, upstream: u }}\n");
    let gateway = Setup::routes(&routes).env("VLLM_MODEL_NAME", "m").start().await;
    let ids = [begin(&gateway, KEY).await, begin(&gateway, KEY).await];
    for (number, id) in ids.iter().enumerate() {
        let prompt = format!("session {number} begins ").repeat(100);
        let set = json!({ "session_id": id, "system_prompt": prompt });
        assert_eq!(post(&gateway, "/set_system_prompt", set).await.status(), 200);
    }
    for number in 0..8 {
        answered(&gateway, &ids[number % 2], &format!("question {number}")).await;
    }
    // Each went on where it had begun.
    for number in 0..2 {
        let its = |chat: &Value| {
            chat["messages"][0]["content"]
                .as_str()
                .unwrap()
                .starts_with(&format!("session {number}"))
        };
        let mut asked =
            nodes.each_ref().map(|node| chats(node).iter().filter(|chat| its(chat)).count());
        asked.sort_unstable();
        assert_eq!(asked, [0, 4], "{number}");
    }
    assert!(gateway.series_with("sluice_prefix_tokens_total", "found") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_leaves_the_session_as_it_was() {
    let node = Scripted::start(|number, mut peer| async move {
        if peer.request().await.is_some_and(|came| came.head.starts_with("GET ")) {
            // It is asked what it knows of the model, once.
            return peer.answer("200 OK", r#"{"data":[]}"#).await;
        }
        let (head, body, _) = ANSWERS[number - 1];
        peer.send(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{body}").as_bytes()).await;
    })
    .await;
    let upstream =
        format!("{{ kind: openai, nodes: [\"http://{}\"], health: off, models: [m] }}", node.addr);
    let routes =
        format!("upstreams:\n  u: {upstream}\nroutes:\n  - {{ preset: vllm, upstream: u }}\n");
    let gateway = Setup::routes(&routes).env("VLLM_MODEL_NAME", "m").start().await;
    let id = begin(&gateway, KEY).await;
    for (head, body, told) in &ANSWERS[..5] {
        let stream = head.ends_with("event-stream");
        let reply = ask(&gateway, &id, "failing", json!({ "stream": stream })).await;
        assert_eq!(reply.status(), *told, "{body}");
        let text = reply.text().await.unwrap();
        assert!(text.contains("error") && !text.contains("[DONE]"), "{text}");
    }
    assert_eq!(answered(&gateway, &id, "at last").await["reply"], "fine");
    let asked: Value = serde_json::from_slice(&node.seen().pop().unwrap().body).unwrap();
    let messages = asked["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &messages[1]["content"]), (2, &json!("at last")));
}

/// A node whose answers never end.
async fn endless() -> Simulator {
    let token_delay = Duration::from_secs(3_600);
    guarded_with(Settings { token_delay, ..Settings::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_the_node_and_leaves_the_session_as_it_was() {
    let node = endless().await;
    let gateway = replaced(&node).start().await;
    let id = begin(&gateway, NODE_KEY).await;
    for stream in [true, false] {
        let body = json!({ "session_id": id, "message": "endless", "stream": stream });
        let asked = gateway.client.post(gateway.url("/chat")).json(&body).send();
        let aborts = gateway.series("sluice_client_aborts_total");
        tokio::select! {
            reply = asked => drop(reply.unwrap()),
            () = eventually(|| async { node.running() > 0 }), if !stream => {}
        }
        eventually(|| async { gateway.series("sluice_client_aborts_total") > aborts }).await;
        eventually(|| async { node.running() == 0 }).await;
    }
    node.set_delays(Duration::ZERO, Duration::ZERO);
    answered(&gateway, &id, "at last").await;
    assert_eq!(said(&node).len(), 2, "as it was: nothing but how it begins");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_in_line_is_waited_for_by_nobody() {
    let node = endless().await;
    let gateway = replaced(&node).start().await;
    let id = begin(&gateway, NODE_KEY).await;
    let first = ask(&gateway, &id, "endless", json!({ "stream": true })).await;
    // More than may wait, one after the other.
    for number in 0..20 {
        let body = json!({ "session_id": id, "message": format!("gone {number}") });
        let waiting = gateway.client.post(gateway.url("/chat")).json(&body).send();
        let in_line = || async { gateway.series("sluice_requests_in_flight") >= 2.0 };
        tokio::select! {
            reply = waiting => panic!("{:?}", reply.unwrap().status()),
            () = eventually(in_line) => {}
        }
        eventually(|| async { gateway.series("sluice_requests_in_flight") == 1.0 }).await;
    }
    drop(first);
    node.set_delays(Duration::ZERO, Duration::ZERO);
    answered(&gateway, &id, "at last").await;
    let texts: Vec<String> = chats(&node).iter().map(|chat| chat["messages"].to_string()).collect();
    assert!(!texts.iter().any(|text| text.contains("gone")), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_of_a_question_holds_in_line_as_well() {
    let node = endless().await;
    let gateway = replaced(&node).start().await;
    let id = begin(&gateway, NODE_KEY).await;
    let first = ask(&gateway, &id, "endless", json!({ "stream": true })).await;
    let body = json!({ "session_id": id, "message": "in a hurry" });
    let late = gateway.client.post(gateway.url("/chat?timeout=0.1")).json(&body).send();
    assert_eq!(error(late.await.unwrap()).await, (429, "session_busy".into()));
    let wrong = gateway.client.post(gateway.url("/chat?timeout=soon")).json(&body).send();
    assert_eq!(error(wrong.await.unwrap()).await, (400, "invalid_timeout".into()));
    drop(first);
    let late = gateway.client.post(gateway.url("/chat?timeout=0.1")).json(&body).send();
    assert_eq!(error(late.await.unwrap()).await, (504, "upstream_timeout".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_session_that_is_stopped_is_told_so() {
    let node = endless().await;
    let gateway = replaced(&node).start().await;
    let id = begin(&gateway, NODE_KEY).await;
    let first = ask(&gateway, &id, "endless", json!({ "stream": true })).await;
    let second = ask(&gateway, &id, "waiting", json!({}));
    let stop = async {
        eventually(|| async { gateway.series("sluice_requests_in_flight") >= 2.0 }).await;
        post(&gateway, "/stop_session", json!({ "session_id": id })).await
    };
    let (second, stopped) = within(futures_util::future::join(second, stop)).await;
    assert_eq!(stopped.status(), 200);
    assert_eq!(error(second).await, (404, "session_not_found".into()));
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_in_memory_is_refused_with_words() {
    let node = guarded().await;
    let gateway =
        replaced(&node).flags(|flags| flags.max_sessions = Some("1".into())).start().await;
    let id = begin(&gateway, NODE_KEY).await;
    let second = super::init(&gateway, NODE_KEY).await;
    assert_eq!(second.headers()["retry-after"], "1");
    assert_eq!(error(second).await, (503, "sessions_unavailable".into()));
    answered(&gateway, &id, "Hello").await;
    let grown = gateway.series("sluice_session_bytes");
    answered(&gateway, &id, "Hello again").await;
    assert!(gateway.series("sluice_session_bytes") > grown);
    let small =
        replaced(&node).flags(|flags| flags.max_session_bytes = Some("1000".into())).start().await;
    let id = begin(&small, NODE_KEY).await;
    answered(&small, &id, &"long ".repeat(200)).await;
    assert_eq!(
        error(ask(&small, &id, "more", json!({})).await).await,
        (503, "sessions_unavailable".into())
    );
}
