//! Flags of an Ollama node, and its end.

use std::process::Stdio;
use std::time::Duration;

use sluice::sim::{Kind, Settings, Simulator};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::super::support::{FOREVER, Node, soon};
use super::{chat, settings};

async fn refused(settings: Settings) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Simulator::start(listener, settings).await.err().unwrap().to_string()
}

#[tokio::test]
async fn what_means_nothing_to_a_kind_is_refused() {
    let means_nothing = |flag: &str, kind: &str, why: &str| {
        format!("--{flag} means nothing with --kind {kind}: {why}")
    };
    let api_keys = vec!["sk".to_owned()];
    assert_eq!(
        refused(Settings { api_keys, ..settings() }).await,
        means_nothing("api-key", "ollama", "Ollama has no authentication")
    );
    assert_eq!(
        refused(Settings { max_num_seqs: 2, ..settings() }).await,
        means_nothing("max-num-seqs", "ollama", "set --num-parallel")
    );
    assert_eq!(
        refused(Settings { shutdown_timeout: Duration::from_secs(1), ..settings() }).await,
        means_nothing("shutdown-timeout", "ollama", "Ollama ends at once")
    );
    let vllm = Settings { num_parallel: 2, ..Settings::default() };
    assert_eq!(refused(vllm).await, means_nothing("num-parallel", "vllm", "set --max-num-seqs"));
    let vllm = Settings { load_time: FOREVER, ..Settings::default() };
    let why = "vLLM loads its model before it serves";
    assert_eq!(refused(vllm).await, means_nothing("load-time", "vllm", why));
    let models = vec!["a b".into()];
    assert_eq!(
        refused(Settings { models, ..settings() }).await,
        "--model a b: Ollama takes no such name"
    );
    let none = Settings { num_parallel: 0, kind: Kind::Ollama, ..Settings::default() };
    assert_eq!(refused(none).await, "--num-parallel must be at least 1");
}

#[tokio::test]
async fn sigterm_lets_go_of_everything_at_once() {
    let node = Node::with(Settings { token_delay: FOREVER, ..settings() }).await;
    let mut client = node.send("/api/chat", &chat("sim-llama", "Hi"), "").await;
    soon(node.sim.wait_until(|counts| counts.running == 1)).await;
    soon(node.sim.terminate(Duration::ZERO)).await;
    let mut answer = Vec::new();
    let _ = soon(client.read_to_end(&mut answer)).await;
    assert!(!answer.ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn the_command_says_which_kind_it_is() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["sim", "--kind", "ollama", "--listen", "127.0.0.1:0", "--load-time", "1ms"])
        .env_clear()
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = soon(out.next_line()).await.unwrap().unwrap();
    let url = line.strip_prefix("a simulated Ollama node answers on ").unwrap();
    let reply = soon(reqwest::get(url)).await.unwrap();
    assert_eq!(reply.text().await.unwrap(), "Ollama is running");
}
