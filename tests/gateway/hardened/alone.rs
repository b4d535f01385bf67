//! A gateway in a process of its own: what that holds open, and what memory it takes, is nobody else's.

use std::net::SocketAddr;
use std::path::PathBuf;

use reqwest::RequestBuilder;

use crate::services::process::{Port, Process};
use crate::support::gateway::{chat, preset};
use crate::support::{KEY, within};

/// `sluice serve` with [`KEY`] before one node, and a client that keeps no connection.
pub(super) struct Alone {
    pub(super) process: Process,
    pub(super) client: reqwest::Client,
    /// Where operators connect.
    operators: String,
    port: Port,
    dir: tempfile::TempDir,
}

impl Alone {
    /// Every path of vLLM to `node`, with these words for its upstream.
    pub(super) async fn before(node: SocketAddr, upstream: &str) -> Self {
        Self::start(&preset(node).replace("kind: vllm", &format!("kind: vllm{upstream}"))).await
    }

    /// With these `routes.yaml`.
    pub(super) async fn start(routes: &str) -> Self {
        Self::with(routes, &[]).await
    }

    /// The same, and it speaks HTTP/2 without TLS, too.
    pub(super) async fn speaking_http2(routes: &str) -> Self {
        Self::with(routes, &[("SLUICE_H2C", "true")]).await
    }

    async fn with(routes: &str, more: &[(&str, &str)]) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), Port::of([127, 0, 0, 1]));
        std::fs::write(dir.path().join("routes.yaml"), routes).unwrap();
        let listen = port.addr.to_string();
        let arguments = ["--config", ".", "--listen", &listen];
        let variables = [&[("PROXY_SECRET_KEY", KEY)], more].concat();
        let process = Process::serve(dir.path(), &arguments, &variables, port.addr).await;
        let told = process.complained("operators on http://").await;
        let (_, operators) = told.split_once("operators on ").unwrap();
        let end = operators.find(|c: char| !c.is_ascii_graphic() || c == '"').unwrap();
        let operators = operators[..end].to_owned();
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { process, client, operators, port, dir }
    }

    /// Where applications connect.
    pub(super) fn addr(&self) -> SocketAddr {
        self.port.addr
    }

    /// A chat of one message.
    pub(super) fn chat(&self) -> RequestBuilder {
        self.post("/v1/chat/completions").json(&chat("m"))
    }

    /// A POST with the key.
    pub(super) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.port.addr)).bearer_auth(KEY)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What it holds open: sockets, files and the rest.
    pub(super) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Memory that it has, in bytes.
    pub(super) fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    /// The sum of a series over its labels, as Prometheus would read it.
    pub(super) async fn series(&self, name: &str) -> f64 {
        let scraped = self.client.get(format!("{}/metrics", self.operators)).send();
        let text = within(within(scraped).await.unwrap().text()).await.unwrap();
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        };
        text.lines()
            .filter(of_name)
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}
