//! `sluice sim` as a process: it ends as vLLM's does, and says why.

use std::net::SocketAddr;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::support::{chat, soon, with};

fn sim(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["sim", "--listen", "127.0.0.1:0"]).args(flags).env_clear().kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A node that answers, and where.
async fn started(flags: &[&str]) -> (Child, SocketAddr) {
    let mut child = sim(flags).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = soon(out.next_line()).await.unwrap().unwrap();
    (child, line.split_once("http://").unwrap().1.parse().unwrap())
}

async fn asked(addr: SocketAddr, body: &Value) -> reqwest::Response {
    let url = format!("http://{addr}/v1/chat/completions");
    soon(reqwest::Client::new().post(url).json(body).send()).await.unwrap()
}

/// What it said to the operator, and its exit code.
async fn ended(child: Child) -> (String, Option<i32>) {
    let Output { stderr, status, .. } = soon(child.wait_with_output()).await.unwrap();
    (String::from_utf8(stderr).unwrap(), status.code())
}

#[tokio::test]
async fn a_killed_engine_takes_its_process_with_it() {
    let (child, addr) = started(&["--fault", "kill-after=1,exit=10ms"]).await;
    let answer =
        asked(addr, &with(chat("Hi"), json!({"stream": true}))).await.text().await.unwrap();
    assert!(answer.contains("EngineCore encountered an issue."), "{answer}");
    assert_eq!(
        ended(child).await,
        ("sluice: the engine died, as it was told to\n".to_owned(), Some(1))
    );
}

#[tokio::test]
async fn sigterm_ends_streams_and_then_the_process() {
    let (child, addr) = started(&["--token-delay", "1h"]).await;
    let mut reply = asked(addr, &with(chat("Hi"), json!({"stream": true}))).await;
    let first = soon(reply.chunk()).await.unwrap().unwrap();
    assert!(first.starts_with(b"data: "));
    let id = child.id().unwrap().to_string();
    assert!(Command::new("/bin/kill").args(["-TERM", &id]).status().await.unwrap().success());
    let rest = soon(reply.text()).await.unwrap();
    assert!(rest.ends_with("\"code\": 500}}\n\ndata: [DONE]\n\n"), "{rest}");
    assert_eq!(ended(child).await, (String::new(), Some(0)));
}

#[tokio::test]
async fn flags_that_fit_no_node_are_told() {
    let (says, code) = ended(sim(&["--max-num-seqs", "0"]).spawn().unwrap()).await;
    assert_eq!((says.as_str(), code), ("sluice: --max-num-seqs must be at least 1\n", Some(2)));
    let (says, code) = ended(sim(&["--fault", "nonsense"]).spawn().unwrap()).await;
    assert!(says.contains("`nonsense` is no fault: write status=CODE"), "{says}");
    assert_eq!(code, Some(2));
}
