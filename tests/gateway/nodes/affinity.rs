//! Requests that belong together, at one node: by their session, or by what they begin with.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice::sim::{Settings, Simulator};

use super::{QUICK, chats, in_flight, until, upstream};
use crate::support::{TestGateway, eventually, node, node_with, within};

/// A chat with this text, as one of `user`'s.
fn said(text: &str, user: Option<&str>) -> Value {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }] });
    if let Some(user) = user {
        body["user"] = user.into();
    }
    body
}

/// Four nodes, and a gateway that balances so.
async fn four(fields: &str) -> ([Simulator; 4], TestGateway) {
    let nodes = [node(&["m"]).await, node(&["m"]).await, node(&["m"]).await, node(&["m"]).await];
    let addrs = nodes.each_ref().map(Simulator::addr);
    let gateway = TestGateway::start(&upstream(&addrs, &format!("models: [m], {fields}"))).await;
    (nodes, gateway)
}

/// The one node that got more chats than `before`.
fn newest(nodes: &[Simulator; 4], before: [usize; 4]) -> usize {
    let now = nodes.each_ref().map(chats);
    let grown: Vec<usize> = (0..4).filter(|at| now[*at] > before[*at]).collect();
    assert_eq!(grown.len(), 1, "{before:?} {now:?}");
    grown[0]
}

/// Sends it; which node got it.
async fn sent(
    gateway: &TestGateway,
    nodes: &[Simulator; 4],
    session: Option<(&str, &str)>,
    body: &Value,
) -> usize {
    let before = nodes.each_ref().map(chats);
    let mut request = gateway.post("/v1/chat/completions").json(body);
    if let Some((name, value)) = session {
        request = request.header(name, value);
    }
    assert_eq!(within(request.send()).await.unwrap().status(), 200);
    newest(nodes, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_at_its_node_and_sessions_spread() {
    let (nodes, gateway) = four("balance: consistent_hash, health: off").await;
    let mut homes = BTreeMap::new();
    for round in 0..3 {
        for session in 0..16 {
            let name = format!("session-{session}");
            let header = Some(("x-session-id", name.as_str()));
            // The header decides, whatever the body says.
            let at = sent(&gateway, &nodes, header, &said("hi", Some(&format!("u{round}")))).await;
            assert_eq!(*homes.entry(session).or_insert(at), at);
        }
    }
    let used: std::collections::BTreeSet<usize> = homes.into_values().collect();
    assert!(used.len() > 2, "{used:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_header_the_body_names_the_session_and_else_the_key() {
    let (nodes, gateway) =
        four("balance: consistent_hash, session_header: x-chat, health: off").await;
    // A header that is not the configured one says nothing.
    let by_user =
        sent(&gateway, &nodes, Some(("x-session-id", "a")), &said("hi", Some("ann"))).await;
    for other in ["b", "c", "d", "e"] {
        let at =
            sent(&gateway, &nodes, Some(("x-session-id", other)), &said(other, Some("ann"))).await;
        assert_eq!(at, by_user);
    }
    let mut homes = std::collections::BTreeSet::new();
    for user in 0..16 {
        homes.insert(sent(&gateway, &nodes, None, &said("hi", Some(&user.to_string()))).await);
    }
    assert!(homes.len() > 1);
    let mut body = said("hi", Some("ann"));
    body["prompt_cache_key"] = "shared".into();
    let by_cache_key = sent(&gateway, &nodes, None, &body).await;
    for user in ["bob", "cyd", "dan", "eve"] {
        body["user"] = user.into();
        assert_eq!(sent(&gateway, &nodes, None, &body).await, by_cache_key);
    }
    let by_key = sent(&gateway, &nodes, None, &said("hi", None)).await;
    for text in ["one", "two", "three", "four"] {
        assert_eq!(sent(&gateway, &nodes, None, &said(text, None)).await, by_key);
    }
    let header = Some(("x-chat", "mine"));
    let by_header = sent(&gateway, &nodes, header, &said("hi", Some("ann"))).await;
    assert_eq!(sent(&gateway, &nodes, header, &body).await, by_header);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_asks_much_at_once_does_not_melt_its_node() {
    let (nodes, gateway) = four("balance: consistent_hash, health: off").await;
    nodes.iter().for_each(Simulator::pause);
    let mut waiting = tokio::task::JoinSet::new();
    for asked in 1..=16 {
        let request = gateway.post("/v1/chat/completions").header("x-session-id", "busy");
        waiting.spawn(request.json(&said("hi", None)).send());
        eventually(|| async { nodes.iter().map(chats).sum::<usize>() == asked }).await;
    }
    // 1.25 times the mean at most.
    assert_eq!(nodes.iter().map(chats).max(), Some(5));
    waiting.shutdown().await;
    eventually(|| async { in_flight(&gateway).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_node_that_dies_go_elsewhere_and_no_others() {
    let (nodes, gateway) = four(&format!("balance: consistent_hash, {QUICK}")).await;
    let session = |number: usize| format!("session-{number}");
    let mut homes = Vec::new();
    for number in 0..12 {
        let name = session(number);
        homes.push(sent(&gateway, &nodes, Some(("x-session-id", &name)), &said("hi", None)).await);
    }
    let dead = homes[0];
    nodes[dead].set_probe_fault(Some("status=503".parse().unwrap()));
    until(&gateway, nodes[dead].addr(), "down").await;
    for (number, home) in homes.iter().enumerate() {
        let name = session(number);
        let at = sent(&gateway, &nodes, Some(("x-session-id", &name)), &said("hi", None)).await;
        assert_eq!(at == *home, *home != dead, "{number}");
    }
}

/// A node that tells how much of a prompt it found.
async fn telling() -> Simulator {
    node_with(Settings {
        models: vec!["m".into()],
        enable_prompt_tokens_details: true,
        ..Settings::default()
    })
    .await
}

/// Asks, and gives the conversation with the answer, and the tokens that the node found in its cache.
async fn go_on(gateway: &TestGateway, mut messages: Vec<Value>, text: &str) -> (Vec<Value>, u64) {
    messages.push(json!({ "role": "user", "content": text }));
    let body = json!({ "model": "m", "messages": messages });
    let reply = within(gateway.post("/v1/chat/completions").json(&body).send()).await.unwrap();
    assert_eq!(reply.status(), 200);
    let reply: Value = reply.json().await.unwrap();
    messages.push(reply["choices"][0]["message"].clone());
    let details = &reply["usage"]["prompt_tokens_details"];
    (messages, details["cached_tokens"].as_u64().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_where_it_is_remembered() {
    let nodes = [telling().await, telling().await, telling().await];
    let addrs = nodes.each_ref().map(Simulator::addr);
    let fields = "models: [m], balance: prefix_aware, health: off";
    let gateway = TestGateway::start(&upstream(&addrs, fields)).await;
    let mut talks: Vec<Vec<Value>> = Vec::new();
    for talk in 0..6 {
        let text = format!("This is talk {talk} about many things. ").repeat(20);
        let (messages, cached) = go_on(&gateway, Vec::new(), &text).await;
        assert_eq!(cached, 0);
        talks.push(messages);
    }
    // Whoever has nothing in common goes where the least is to be done.
    assert_eq!(nodes.each_ref().map(chats), [2, 2, 2]);
    for turn in 0..3 {
        for messages in &mut talks {
            let (longer, cached) = go_on(&gateway, messages.clone(), &format!("And {turn}?")).await;
            assert!(cached > 100, "{cached}");
            *messages = longer;
        }
    }
    assert_eq!(nodes.each_ref().map(chats), [8, 8, 8]);
    // What was thought to be found, and what was.
    let tokens = |kind: &str| gateway.series_with("sluice_prefix_tokens_total", kind);
    let (prompt, thought, found) = (tokens("prompt"), tokens("thought"), tokens("found"));
    assert!(
        found > prompt * 0.5 && (thought - found).abs() < prompt * 0.3,
        "{prompt} {thought} {found}"
    );
    assert!(gateway.series("sluice_prefix_index_bytes") > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_everybody_asks_for_spreads_as_its_node_gets_busy() {
    let (nodes, gateway) = four("balance: prefix_aware, health: off").await;
    nodes.iter().for_each(Simulator::pause);
    let text = "Everybody begins like this. ".repeat(80);
    let mut waiting = tokio::task::JoinSet::new();
    for asked in 1..=16 {
        let body = said(&format!("{text} {asked}"), None);
        waiting.spawn(gateway.post("/v1/chat/completions").json(&body).send());
        eventually(|| async { nodes.iter().map(chats).sum::<usize>() == asked }).await;
    }
    let got = nodes.each_ref().map(chats);
    assert!(got.iter().all(|count| (3..=5).contains(count)), "{got:?}");
    waiting.shutdown().await;
    eventually(|| async { in_flight(&gateway).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_forgets_nothing() {
    let (one, two) = (telling().await, telling().await);
    let routes = |attempts: usize| {
        let fields = format!(
            "models: [m], balance: prefix_aware, health: off, retry: {{ attempts: {attempts} }}"
        );
        upstream(&[one.addr(), two.addr()], &fields)
    };
    let gateway = TestGateway::start(&routes(1)).await;
    let text = "Something long enough to be remembered. ".repeat(20);
    let (messages, _) = go_on(&gateway, Vec::new(), &text).await;
    gateway.rewrite_routes(&routes(2)).await;
    for _ in 0..4 {
        let (_, cached) = go_on(&gateway, messages.clone(), "And?").await;
        assert!(cached > 0);
    }
    let home = if chats(&one) > 0 { &one } else { &two };
    assert_eq!(chats(home), 5);
}
