//! The ledger: a row for each request that was let through, with the tokens that it had.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::sim::{Settings, Simulator};

use super::tokens::{post, told, with};
use super::{CHAT, key, keys};
use crate::services::process::{Port, Process};
use crate::support::gateway::{Setup, chat, preset};
use crate::support::{TestGateway, eventually, node, node_with, within};

/// The rows of a file. A line may be under way, or cut off.
fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

async fn keeping(node: &Simulator, ledger: &Path) -> TestGateway {
    let keys = keys(&[key("team", "rpm: 1000"), key("poor", "rpm: 1")]);
    let setup = Setup::routes(&format!("{}aliases: {{ gpt: m }}\n", preset(node.addr())));
    let ledger = ledger.to_str().unwrap().to_owned();
    setup.keys(&keys).flags(|flags| flags.ledger = Some(ledger)).start().await
}

async fn written(ledger: &Path, count: usize) -> Vec<Value> {
    within(eventually(|| async { rows(ledger).len() == count })).await;
    rows(ledger)
}

fn tokens(row: &Value) -> (u64, u64, &str) {
    let number = |name: &str| row[name].as_u64().unwrap();
    let source = row["usage_source"].as_str().unwrap();
    (number("prompt_tokens"), number("completion_tokens"), source)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_that_is_let_through_has_a_row_with_what_its_node_told() {
    let (node, dir) = (node(&["m"]).await, tempfile::tempdir().unwrap());
    let ledger = dir.path().join("usage.jsonl");
    let gateway = keeping(&node, &ledger).await;
    let (_, usage) = told(post(&gateway, CHAT, &chat("m")).await).await;
    let usage = ["prompt_tokens", "completion_tokens"].map(|name| usage[name].as_u64().unwrap());
    let reported = (usage[0], usage[1], "reported");
    let (text, none) =
        told(post(&gateway, CHAT, &with(chat("gpt"), "stream", json!(true))).await).await;
    assert_eq!(none, Value::Null, "{text}");
    node.set_fault(Some("reset".parse().unwrap()));
    assert_eq!(post(&gateway, CHAT, &chat("m")).await.status(), 502);
    // The next request comes on another connection: its row might be there first.
    written(&ledger, 3).await;
    node.set_fault(Some("status=400".parse().unwrap()));
    assert_eq!(post(&gateway, CHAT, &chat("m")).await.status(), 400);
    node.set_fault(None);
    let ask = |key: &'static str| gateway.client.post(gateway.url(CHAT)).bearer_auth(key);
    for (key, status) in [("sk-poor", 200), ("sk-poor", 429), ("sk-none", 401)] {
        let reply = within(ask(key).json(&chat("m")).send()).await.unwrap();
        assert_eq!(reply.status(), status);
        within(reply.bytes()).await.unwrap();
    }
    let rows = written(&ledger, 5).await;
    assert_eq!((tokens(&rows[0]), tokens(&rows[1])), (reported, reported));
    assert_eq!((tokens(&rows[2]), &rows[2]["status"]), ((0, 0, "counted"), &json!(502)));
    assert_eq!((tokens(&rows[3]), &rows[3]["status"]), ((0, 0, "counted"), &json!(400)));
    assert_eq!(
        (&rows[1]["model"], &rows[1]["asked_model"], &rows[1]["stream"], &rows[1]["upstream"]),
        (&json!("m"), &json!("gpt"), &json!(true), &json!("llama"))
    );
    assert_eq!((&rows[0]["key"], &rows[4]["key"]), (&json!("team"), &json!("poor")));
    assert_eq!(rows[0]["asked_model"], Value::Null);
    let lines = gateway.log_lines(7).await;
    assert_eq!(tokens(&lines[1]), reported, "the access log tells it, too");
    assert_eq!(rows[0]["id"], lines[0]["id"]);
    assert_eq!(gateway.series("sluice_ledger_rows_total"), 5.0);
    assert_eq!(gateway.series("sluice_ledger_dropped_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_has_what_was_made_by_then() {
    let settings = Settings {
        models: vec!["m".into()],
        token_delay: Duration::from_millis(5),
        ..Settings::default()
    };
    let (node, dir) = (node_with(settings).await, tempfile::tempdir().unwrap());
    let ledger = dir.path().join("usage.jsonl");
    let gateway = keeping(&node, &ledger).await;
    let long = with(with(chat("m"), "max_tokens", json!(8_000)), "ignore_eos", json!(true));
    let choices = with(with(long.clone(), "stream", json!(true)), "n", json!(2));
    let mut reply = post(&gateway, CHAT, &choices).await;
    let mut seen = Vec::new();
    while String::from_utf8_lossy(&seen).matches("\"content\":\"").count() < 22 {
        seen.extend_from_slice(&within(reply.chunk()).await.unwrap().unwrap());
    }
    drop(reply);
    within(node.wait_until(|counts| counts.aborted == 1)).await;
    let rows = written(&ledger, 1).await;
    let (prompt, answer, source) = tokens(&rows[0]);
    let (_, usage) =
        told(post(&gateway, CHAT, &with(chat("m"), "max_tokens", json!(1))).await).await;
    assert_eq!((Some(prompt), source), (usage["prompt_tokens"].as_u64(), "reported"));
    assert!((20..4_000).contains(&answer), "{answer}: two beginnings, and twenty tokens at least");
    assert_eq!(rows[0]["client_left"], json!(true));

    let mut asking = tokio::task::JoinSet::new();
    let request = gateway.client.post(gateway.url(CHAT)).bearer_auth("sk-team").json(&long);
    asking.spawn(request.send());
    within(node.wait_until(|counts| counts.running == 1)).await;
    asking.shutdown().await;
    within(node.wait_until(|counts| counts.aborted == 2)).await;
    let rows = written(&ledger, 3).await;
    let (prompt, answer, source) = tokens(&rows[2]);
    assert_eq!((source, &rows[2]["status"]), ("estimated", &json!(499)));
    assert!(prompt > 0 && answer < 8_000, "by its bytes, and by the time that it took: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_written_stops_nobody() {
    let node = node(&["m"]).await;
    let gateway = keeping(&node, Path::new("/dev/full")).await;
    for _ in 0..20 {
        assert_eq!(post(&gateway, CHAT, &chat("m")).await.status(), 200);
    }
    eventually(|| async { gateway.series("sluice_ledger_write_failures_total") > 0.0 }).await;
    assert_eq!(gateway.series("sluice_ledger_rows_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_no_row_that_was_written_and_the_sums_are_right() {
    let (node, dir) = (node(&["m"]).await, tempfile::tempdir().unwrap());
    let ledger = dir.path().join("usage.jsonl");
    std::fs::write(dir.path().join("routes.yaml"), preset(node.addr())).unwrap();
    std::fs::write(dir.path().join("keys.yaml"), keys(&[key("team", "rpm: 1000")])).unwrap();
    std::fs::write(dir.path().join("server.yaml"), "ledger: usage.jsonl\n").unwrap();
    let client = reqwest::Client::new();
    let mut asked = 0;
    for _ in 0..2 {
        let port = Port::of([127, 0, 0, 1]);
        let listen = port.addr.to_string();
        let flags = ["--config", ".", "--listen", &listen];
        let process = Process::serve(dir.path(), &flags, &[], port.addr).await;
        for number in 0..10 {
            let body = with(chat("m"), "stream", json!(number % 2 == 0));
            let url = format!("http://{}{CHAT}", port.addr);
            let reply = within(client.post(url).bearer_auth("sk-team").json(&body).send()).await;
            within(reply.unwrap().bytes()).await.unwrap();
            asked += 1;
        }
        written(&ledger, asked).await;
        // Dropped, it is killed.
        drop(process);
        let torn = std::fs::read_to_string(&ledger).unwrap() + "{\"time\":\"20";
        std::fs::write(&ledger, torn).unwrap();
    }
    let usage = ["usage", "--config", ".", "--by", "key", "--json"];
    let ended = Process::start(dir.path(), &usage, &[]).ended().await;
    assert!(ended.err.contains("2 lines are no rows"), "{}", ended.err);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let sum: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&sum["key"], &sum["requests"]), (&json!("team"), &json!(20)));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_cut_when_the_gateway_stops_have_rows_and_lines() {
    let token_delay = Duration::from_millis(5);
    let settings = Settings { models: vec!["m".into()], token_delay, ..Settings::default() };
    let (node, dir) = (node_with(settings).await, tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("routes.yaml"), preset(node.addr())).unwrap();
    std::fs::write(dir.path().join("keys.yaml"), keys(&[key("team", "rpm: 1000")])).unwrap();
    let port = Port::of([127, 0, 0, 1]);
    let listen = port.addr.to_string();
    let flags = ["--config", ".", "--listen", &listen, "--ledger", "usage.jsonl"];
    let flags = [&flags[..], &["--drain-timeout", "0s"]].concat();
    let process = Process::serve(dir.path(), &flags, &[], port.addr).await;
    let client = reqwest::Client::new();
    let long = with(with(chat("m"), "max_tokens", json!(8_000)), "ignore_eos", json!(true));
    let request = |body: &Value| {
        let url = format!("http://{}{CHAT}", port.addr);
        client.post(url).bearer_auth("sk-team").json(body).send()
    };
    let mut stream = within(request(&with(long.clone(), "stream", json!(true)))).await.unwrap();
    let mut seen = Vec::new();
    while String::from_utf8_lossy(&seen).matches("data: {").count() < 10 {
        seen.extend_from_slice(&within(stream.chunk()).await.unwrap().unwrap());
    }
    let mut asking = tokio::task::JoinSet::new();
    asking.spawn(request(&long));
    within(node.wait_until(|counts| counts.running == 2)).await;
    let ended = process.stop().await;
    assert_eq!(ended.code, Some(0));
    let lines = ended.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut lines: Vec<_> = lines.filter(|line| line["error"] == "draining").collect();
    lines.sort_by_key(|line| line["status"].as_u64());
    let told = |line: &Value| ["path", "key", "status", "stream"].map(|name| line[name].clone());
    let path = json!(CHAT);
    assert_eq!(
        lines.iter().map(told).collect::<Vec<_>>(),
        [
            [path.clone(), json!("team"), json!(200), json!(true)],
            [path, json!("team"), json!(503), json!(false)],
        ]
    );
    // Both were told why, and what they were told is counted.
    assert!(lines.iter().all(|line| line["bytes_out"].as_u64() > Some(80)), "{lines:?}");
    let mut rows = rows(&dir.path().join("usage.jsonl"));
    rows.sort_by_key(|row| row["status"].as_u64());
    let [of_stream, other] = rows.as_slice() else { panic!("{rows:?}") };
    let (prompt, answer, source) = tokens(of_stream);
    assert!(prompt > 0 && answer >= 9 && source == "reported", "{of_stream}");
    assert_eq!((&other["status"], tokens(other).1), (&json!(503), 0));
}
