//! The gateway: a process of its own, with a configuration that is written anew again and again.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::dice::Dice;

pub(crate) const KEY: &str = "sk-client-of-the-soak";

/// How long a process may take until it answers.
const START: Duration = Duration::from_secs(20);

/// Ways to balance between the nodes.
const BALANCES: [&str; 4] = ["least_load", "round_robin", "prefix_aware", "consistent_hash"];

/// A running gateway; killed (SIGKILL) when it is dropped.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    nodes: Vec<SocketAddr>,
    process: Child,
    dir: tempfile::TempDir,
    client: reqwest::Client,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _gone_already = self.process.kill();
        let _ended = self.process.wait();
    }
}

fn told(error: impl ToString) -> String {
    error.to_string()
}

/// An address on loopback that was free a moment ago.
fn free() -> Result<SocketAddr, String> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(told)
}

impl Gateway {
    /// Before these nodes.
    pub(crate) async fn start(binary: &Path, nodes: &[SocketAddr]) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(told)?;
        let keys = format!("keys: [{{ name: client, key: {KEY} }}]\n");
        fs::write(dir.path().join("keys.yaml"), keys).map_err(told)?;
        fs::write(dir.path().join("routes.yaml"), routes(nodes, "balance: least_load"))
            .map_err(told)?;
        let (address, admin) = (free()?, free()?);
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(dir.path()).args(["--access-log", "off"]);
        command.args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| format!("{}: {error}", binary.display()))?;
        let nodes = nodes.to_vec();
        // A connection for each look at the series would be a descriptor that comes and goes.
        let client = reqwest::Client::builder().pool_max_idle_per_host(1).build().map_err(told)?;
        let mut gateway = Self { address, admin, nodes, process, dir, client };
        let begun = Instant::now();
        while gateway.series("sluice_config_generation", "").await.is_err() {
            if begun.elapsed() > START || !matches!(gateway.process.try_wait(), Ok(None)) {
                return Err("the gateway does not start".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(gateway)
    }

    /// Until then writes `routes.yaml` anew every few seconds, in place or renamed over; sometimes what is none. Tells how
    /// many times.
    pub(crate) async fn reload(&self, mut dice: Dice, until: Instant) -> Result<usize, String> {
        let mut written = 0;
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_secs(1) + dice.up_to_ms(3_000)).await;
            let mut nodes = self.nodes.clone();
            nodes.rotate_left(dice.below(self.nodes.len()));
            // Sometimes one is taken out, whatever it has to do.
            nodes.truncate(nodes.len() - dice.below(2));
            let (balance, most) = (dice.one_of(&BALANCES), 64 + dice.below(64));
            let mut text = routes(&nodes, &format!("balance: {balance}, max_in_flight: {most}"));
            if dice.of_hundred(20) {
                text.truncate(dice.below(text.len()));
                text.push_str("\n  - [");
            }
            let file = self.dir.path().join("routes.yaml");
            let aside = self.dir.path().join("routes.new");
            if dice.of_hundred(50) {
                fs::write(&file, text).map_err(told)?;
            } else {
                fs::write(&aside, text).and_then(|()| fs::rename(&aside, &file)).map_err(told)?;
            }
            written += 1;
        }
        Ok(written)
    }

    /// The sum of a series over its labels, those alone whose line holds `part`.
    pub(crate) async fn series(&self, name: &str, part: &str) -> Result<f64, String> {
        let asked = self.client.get(format!("http://{}/metrics", self.admin)).send();
        let text = asked.await.map_err(told)?.text().await.map_err(told)?;
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{'])) && line.contains(part)
        };
        let values = text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next());
        Ok(values.filter_map(|value| value.parse::<f64>().ok()).sum())
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> Result<usize, String> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.process.id())).map_err(told)?;
        Ok(open.count())
    }

    /// Resident memory, in MB of 2^20 bytes.
    pub(crate) fn resident_mb(&self) -> Result<f64, String> {
        let status = format!("/proc/{}/status", self.process.id());
        let text = fs::read_to_string(status).map_err(told)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kb.ok_or("the gateway is gone")? / 1024.0)
    }
}

/// `routes.yaml` of all nodes. Waits are short, so that stalls are many.
fn routes(nodes: &[SocketAddr], fields: &str) -> String {
    let urls: Vec<String> = nodes.iter().map(|node| format!("'http://{node}'")).collect();
    format!(
        "upstreams:\n  m: {{ kind: vllm, nodes: [{}], models: [m], {fields}, retry: {{ attempts: 3 }}, keepalive_idle: 60s, \
         timeouts: {{ connect: 1s, first_byte: 3s, idle: 3s }}, health: {{ interval: 1s, timeout: 1s, unhealthy_after: 2 }} }}\n\
         routes:\n  - {{ preset: vllm, upstream: m }}\n",
        urls.join(", ")
    )
}
