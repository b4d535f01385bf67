//! Who is measured: nginx, HAProxy, a bare Pingora proxy and this gateway, all in front of one simulated node.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::http::{Connection, post};
use super::processes::Processes;

/// What clients present.
pub(crate) const KEY: &str = "sk-client";

/// What the node wants.
pub(crate) const NODE_KEY: &str = "sk-node";

/// The same as headers.
pub(crate) const AUTHORIZATION: &str = "Bearer sk-client";
pub(crate) const NODE_AUTHORIZATION: &str = "Bearer sk-node";

/// The path that goes to the node that streams at a pace.
pub(crate) const PACED_PATH: &str = "/v1/completions";

/// The path of all other work.
pub(crate) const CHAT_PATH: &str = "/v1/chat/completions";

/// How long a peer may take to start: the routers of Python take long.
const START: Duration = Duration::from_secs(120);

/// One that is measured.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) processes: Processes,
    /// What its clients present.
    pub(crate) authorization: &'static str,
    /// It reaches the node that streams at a pace, too.
    pub(crate) paced: bool,
    /// Its command line, and its configuration.
    described: String,
}

/// All of them, and the node behind them.
pub(crate) struct Peers {
    peers: Vec<Peer>,
    _node: Processes,
    dir: PathBuf,
}

impl Peers {
    /// # Errors
    /// One of them is missing.
    pub(crate) fn start(paced: SocketAddr, routers: Option<&Path>) -> Result<Self, String> {
        let dir = std::env::temp_dir().join(format!("sluice-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        let node = free_port()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        // At every address of this machine: eight of them are eight nodes.
        let everywhere = format!("0.0.0.0:{}", node.port());
        command.args(["sim", "--listen", &everywhere, "--api-key", NODE_KEY, "--model", "m"]);
        // A chat of 1 MB fits, and no time goes into remembering it.
        command.args(["--max-model-len", "1000000", "--no-enable-prefix-caching"]);
        let starter = Starter { dir: &dir, node, paced };
        let simulated = starter.run(&mut command, "node", "")?;
        let mut peers = vec![
            starter.nginx()?,
            starter.haproxy()?,
            starter.bare()?,
            starter.sluice("sluice", 1)?,
        ];
        peers.push(starter.sluice("sluice, 8 nodes", 8)?);
        if let Some(routers) = routers {
            for name in ["sglang-router", "vllm-router"] {
                peers.push(starter.router(name, routers)?);
            }
        }
        Ok(Self { peers, _node: simulated, dir })
    }

    /// Waits until each answers.
    ///
    /// # Errors
    /// One does not.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"Hi"}]}"#;
        for peer in &mut self.peers {
            let request = post(CHAT_PATH, peer.authorization, body);
            let begun = std::time::Instant::now();
            loop {
                let asked = async { Connection::open(peer.address).await?.ask(&request).await };
                let Err(error) = asked.await else { break };
                if begun.elapsed() > START || !peer.processes.lives() {
                    return Err(format!(
                        "{} does not answer: {error} (see {})",
                        peer.name,
                        self.dir.display()
                    ));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter()
    }

    /// All of them, beginning with another one in each round.
    pub(crate) fn from(&self, round: usize) -> impl Iterator<Item = &Peer> {
        let first = round % self.peers.len();
        self.peers[first..].iter().chain(&self.peers[..first])
    }

    /// Tells how each was started.
    pub(crate) fn describe(&self) {
        for peer in &self.peers {
            println!("## {}\n{}", peer.name, peer.described);
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.dir);
    }
}

/// What all of them need to know.
struct Starter<'a> {
    dir: &'a Path,
    node: SocketAddr,
    paced: SocketAddr,
}

impl Starter<'_> {
    /// Starts a process whose output goes to a file.
    fn run(&self, command: &mut Command, name: &str, hint: &str) -> Result<Processes, String> {
        let file = |ending: &str| {
            let created = fs::File::create(self.dir.join(format!("{name}.{ending}")));
            created.map(Stdio::from).map_err(|error| error.to_string())
        };
        Processes::start(command.stdout(file("out")?).stderr(file("err")?), hint)
    }

    fn peer(
        &self,
        (name, address): (&'static str, SocketAddr),
        mut command: Command,
        (config, hint): (&str, &str),
    ) -> Result<Peer, String> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let described = format!("{}\n{config}", line.join(" "));
        let processes = self.run(&mut command, name, hint)?;
        Ok(Peer { name, address, processes, authorization: AUTHORIZATION, paced: true, described })
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(|error| error.to_string())?;
        Ok(path)
    }

    fn nginx(&self) -> Result<Peer, String> {
        let (address, dir) = (free_port()?, self.dir.display());
        let Self { node, paced, .. } = self;
        let config = format!(
            r#"daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/nginx.error;
events {{ worker_connections 8192; }}
http {{
  access_log {dir}/nginx.access;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  client_body_buffer_size 2m; client_max_body_size 100m; keepalive_requests 1000000;
  upstream node {{ server {node}; keepalive 128; keepalive_requests 1000000; }}
  upstream paced {{ server {paced}; keepalive 2048; keepalive_requests 1000000; }}
  map $http_authorization $known {{ default 0; "{AUTHORIZATION}" 1; }}
  server {{
    listen {address} backlog=4096;
    if ($known = 0) {{ return 401; }}
    proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 600s;
    proxy_set_header Connection ""; proxy_set_header Authorization "{NODE_AUTHORIZATION}";
    location / {{ proxy_pass http://node; }}
    location = {PACED_PATH} {{ proxy_pass http://paced; }}
  }}
}}
"#
        );
        let mut command = Command::new("nginx");
        command.arg("-c").arg(self.write("nginx.conf", &config)?);
        self.peer(("nginx", address), command, (&config, "apt-get install nginx-light"))
    }

    fn haproxy(&self) -> Result<Peer, String> {
        let address = free_port()?;
        let Self { node, paced, .. } = self;
        let config = format!(
            r#"global
  nbthread 2
  maxconn 8000
  tune.bufsize 16384
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  option httplog
  option http-no-delay
  log stdout format raw local0
frontend clients
  bind {address} backlog 4096
  http-request deny deny_status 401 unless {{ req.hdr(authorization) -m str "{AUTHORIZATION}" }}
  http-request set-header Authorization "{NODE_AUTHORIZATION}"
  use_backend paced if {{ path {PACED_PATH} }}
  default_backend node
backend node
  server node {node} pool-max-conn 128
backend paced
  server paced {paced} pool-max-conn 2048
"#
        );
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(self.write("haproxy.cfg", &config)?);
        self.peer(("haproxy", address), command, (&config, "apt-get install haproxy"))
    }

    fn bare(&self) -> Result<Peer, String> {
        let address = free_port()?;
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(own);
        command.arg("--bare").args([address, self.node, self.paced].map(|to| to.to_string()));
        self.peer(("bare", address), command, ("", ""))
    }

    /// The gateway, before so many nodes: one process that answers at as many addresses of loopback.
    fn sluice(&self, name: &'static str, nodes: u8) -> Result<Peer, String> {
        let (address, admin) = (free_port()?, free_port()?);
        let Self { node, paced, .. } = self;
        let urls = (1..=nodes).map(|last| format!("\"http://127.0.0.{last}:{}\"", node.port()));
        let urls = urls.collect::<Vec<_>>().join(", ");
        let routes = format!(
            r#"upstreams:
  node: {{ kind: vllm, nodes: [{urls}], key: {NODE_KEY}, models: [m] }}
  paced: {{ kind: vllm, nodes: ["http://{paced}"], key: {NODE_KEY}, models: [m], health: off }}
routes:
  - {{ path: {PACED_PATH}, methods: [POST], upstream: paced }}
  - {{ preset: vllm, upstream: node }}
"#
        );
        let keys = format!("keys: [{{ name: client, key: {KEY}, models: [m] }}]\n");
        let config = format!("config-{nodes}");
        fs::create_dir_all(self.dir.join(&config)).map_err(|error| error.to_string())?;
        self.write(&format!("{config}/routes.yaml"), &routes)?;
        let written = self.write(&format!("{config}/keys.yaml"), &keys)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.arg("serve").arg("--config").arg(written.with_file_name(""));
        command.args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
        self.peer((name, address), command, (&format!("{routes}{keys}"), ""))
    }

    fn router(&self, name: &'static str, environment: &Path) -> Result<Peer, String> {
        let (address, hint) = (free_port()?, router_hint(environment));
        let module = match name {
            "sglang-router" => "sglang_router.launch_router",
            _ => "vllm_router.launch_router",
        };
        let mut command = Command::new(environment.join("bin/python"));
        command.args(["-m", module, "--host", "127.0.0.1", "--policy", "round_robin"]);
        command.args(["--port", &address.port().to_string(), "--api-key", NODE_KEY]);
        command.args(["--worker-urls", &format!("http://{}", self.node)]);
        command.args(["--prometheus-port", &free_port()?.port().to_string()]);
        // Neither puts another key in the place of the client's: clients present the node's.
        let peer = self.peer((name, address), command, ("", &hint))?;
        Ok(Peer { authorization: NODE_AUTHORIZATION, paced: false, ..peer })
    }
}

fn router_hint(environment: &Path) -> String {
    let path = environment.display();
    format!("python3 -m venv {path} && {path}/bin/pip install sglang-router vllm-router")
}

/// An address on loopback that was free a moment ago.
fn free_port() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}
