//! The processes: a gateway from a configuration of its own, and simulated nodes.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) const KEY: &str = "sk-client-of-the-bench";

/// How long a process may take until it answers.
const START: Duration = Duration::from_secs(20);

/// A process that is killed (SIGKILL) when it is dropped.
pub(crate) struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    _process: Killed,
    _dir: tempfile::TempDir,
}

/// An address on loopback that was free a moment ago.
pub(crate) fn free() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}

pub(crate) fn spawn(command: &mut Command) -> Result<Killed, String> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Killed(command.spawn().map_err(|error| error.to_string())?))
}

/// A simulated node at `address`.
pub(crate) fn simulator(address: SocketAddr, arguments: &[&str]) -> Result<Killed, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["sim", "--model", "m", "--listen", &address.to_string()]).args(arguments);
    spawn(&mut command)
}

/// Waits until somebody listens there.
pub(crate) async fn listening(address: SocketAddr) -> Result<(), String> {
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if begun.elapsed() > START {
            return Err(format!("nobody listens on {address}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

impl Gateway {
    /// Before these nodes, with these fields of their upstream.
    pub(crate) async fn before(nodes: &[SocketAddr], fields: &str) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let urls: Vec<String> = nodes.iter().map(|node| format!("'http://{node}'")).collect();
        let routes = format!(
            "upstreams:\n  m: {{ kind: vllm, nodes: [{}], models: [m], {fields} }}\n\
             routes:\n  - {{ preset: vllm, upstream: m }}\n",
            urls.join(", ")
        );
        let keys = format!("keys: [{{ name: client, key: {KEY}, scopes: [inference, admin] }}]\n");
        for (name, text) in [("routes.yaml", routes), ("keys.yaml", keys)] {
            std::fs::write(dir.path().join(name), text).map_err(|error| error.to_string())?;
        }
        let (address, admin) = (free()?, free()?);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.arg("serve").arg("--config").arg(dir.path()).args(["--access-log", "off"]);
        command.args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
        let process = spawn(&mut command)?;
        listening(address).await?;
        Ok(Self { address, admin, _process: process, _dir: dir })
    }

    pub(crate) fn chats(&self) -> String {
        format!("http://{}/v1/chat/completions", self.address)
    }

    /// What the operators' listener tells of the nodes.
    pub(crate) async fn nodes(&self) -> Result<Vec<Value>, String> {
        let asked = reqwest::get(format!("http://{}/api/status", self.admin));
        let reply = asked.await.map_err(|error| error.to_string())?;
        let status: Value = reply.json().await.map_err(|error| error.to_string())?;
        Ok(status["upstreams"][0]["nodes"].as_array().cloned().unwrap_or_default())
    }

    /// The sum of a series over its labels, those alone whose line holds `part`.
    pub(crate) async fn series(&self, name: &str, part: &str) -> Result<f64, String> {
        let asked = reqwest::get(format!("http://{}/metrics", self.admin));
        let reply = asked.await.map_err(|error| error.to_string())?;
        let text = reply.text().await.map_err(|error| error.to_string())?;
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{'])) && line.contains(part)
        };
        let values = text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next());
        Ok(values.filter_map(|value| value.parse::<f64>().ok()).sum())
    }
}

/// A chat of so many tokens.
pub(crate) fn chat(stream: bool, tokens: u32) -> Value {
    let messages = json!([{ "role": "user", "content": "Hello there" }]);
    json!({ "model": "m", "messages": messages, "stream": stream, "max_tokens": tokens })
}
