//! A gateway as `serve` starts it, on port 0, from files of its own.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sluice::config::{Environment, Source};
use sluice::config::{Settings, SettingsArgs};
use sluice::gateway::{AccessLog, Format};
use sluice::metrics::Metrics;
use sluice::server::{CannotStart, Server, Start, bind};
use sluice::upstream::resolve::{Resolve, SystemResolver};

use super::{DEADLINE, KEY};

/// A running gateway.
pub(crate) struct TestGateway {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) client: reqwest::Client,
    pub(crate) server: Server,
    pub(crate) dir: tempfile::TempDir,
    log: Lines,
    _silence: Silence,
}

/// Whatever a test did: when it is over, no key is in the log or in the metrics. All keys of the tests begin alike.
struct Silence {
    log: Lines,
    metrics: Arc<Metrics>,
}

impl Drop for Silence {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let log = self.log.0.lock().unwrap().clone();
        for told in [log, self.metrics.render().unwrap()] {
            let told = String::from_utf8(told).unwrap();
            let begins_a_word =
                |at: usize| at == 0 || !told.as_bytes()[at - 1].is_ascii_alphanumeric();
            let key = told.match_indices("sk-").find(|(at, _)| begins_a_word(*at));
            assert_eq!(key, None, "{told}");
        }
    }
}

/// What a gateway starts from.
pub(crate) struct Setup {
    routes: Option<String>,
    keys: Option<String>,
    environment: Vec<(String, String)>,
    flags: SettingsArgs,
    resolver: Arc<dyn Resolve>,
    files: Vec<(String, String)>,
    /// Where operators connect.
    admin: SocketAddr,
}

/// The lines of the access log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Setup {
    /// These `routes.yaml`, and [`KEY`] with every scope.
    pub(crate) fn routes(routes: &str) -> Self {
        Self { routes: Some(routes.to_owned()), ..Self::bare() }.env("PROXY_SECRET_KEY", KEY)
    }

    /// No file, no variable.
    pub(crate) fn bare() -> Self {
        Self {
            routes: None,
            keys: None,
            environment: Vec::new(),
            flags: SettingsArgs::default(),
            resolver: Arc::new(SystemResolver),
            files: Vec::new(),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }

    /// `keys.yaml`.
    pub(crate) fn keys(mut self, keys: &str) -> Self {
        self.keys = Some(keys.to_owned());
        self
    }

    /// A variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another file in the configuration's folder.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Flags of the command line.
    pub(crate) fn flags(mut self, set: impl FnOnce(&mut SettingsArgs)) -> Self {
        set(&mut self.flags);
        self
    }

    /// Others than this machine can reach the operators' listener.
    pub(crate) fn operators_from_anywhere(mut self) -> Self {
        self.admin = SocketAddr::from(([0, 0, 0, 0], 0));
        self
    }

    /// Names to addresses.
    pub(crate) fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Starts it.
    pub(crate) async fn start(self) -> TestGateway {
        self.try_start().await.map_err(|error| error.to_string()).unwrap()
    }

    /// Starts it, or tells why not.
    pub(crate) async fn try_start(self) -> Result<TestGateway, CannotStart> {
        let dir = tempfile::tempdir().unwrap();
        let own = [("routes.yaml", self.routes), ("keys.yaml", self.keys)];
        for (name, text) in own {
            if let Some(text) = text {
                std::fs::write(dir.path().join(name), text).unwrap();
            }
        }
        for (name, text) in self.files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let environment = Environment::from_iter(self.environment);
        let settings = Settings::resolve(&self.flags, &environment, dir.path());
        let settings = settings.map_err(|problems| problems.to_string()).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (public, admin) = (bind(any).unwrap(), bind(self.admin).unwrap());
        let addr = public.local_addr().unwrap();
        let admin_addr = SocketAddr::new(any.ip(), admin.local_addr().unwrap().port());
        let log = Lines::default();
        let (access_log, writer) = AccessLog::start(Format::Json, log.clone()).unwrap();
        let server = Server::start(Start {
            settings,
            source: Source { dir: dir.path().to_owned(), environment, backend: None },
            public,
            admin,
            resolver: self.resolver,
            access_log: (access_log, Some(writer)),
        })?;
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .build()
            .unwrap();
        let _silence = Silence { log: log.clone(), metrics: server.metrics.clone() };
        Ok(TestGateway { addr, admin: admin_addr, client, server, dir, log, _silence })
    }
}

impl TestGateway {
    /// A gateway with these `routes.yaml`, and [`KEY`].
    pub(crate) async fn start(routes: &str) -> Self {
        Setup::routes(routes).start().await
    }

    /// A gateway in front of one node, with every path of vLLM, and [`KEY`].
    pub(crate) async fn before(node: SocketAddr) -> Self {
        Self::start(&preset(node)).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// A GET with the key.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path)).bearer_auth(KEY)
    }

    /// A POST with the key.
    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path)).bearer_auth(KEY)
    }

    /// A chat of one message, with the key.
    pub(crate) fn chat(&self, model: &str) -> RequestBuilder {
        self.post("/v1/chat/completions").json(&chat(model))
    }

    /// A file in the configuration's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `routes.yaml` in place and waits until it was tried.
    pub(crate) async fn rewrite_routes(&self, routes: &str) {
        self.after_reload(|| std::fs::write(self.file("routes.yaml"), routes).unwrap()).await;
    }

    /// Does `change` and waits until a reload was tried.
    pub(crate) async fn after_reload(&self, change: impl FnOnce()) {
        let tried = || self.series("sluice_config_reloads_total");
        let before = tried();
        change();
        super::eventually(|| async { tried() > before }).await;
    }

    /// The sum of a series over its labels.
    pub(crate) fn series(&self, name: &str) -> f64 {
        self.series_with(name, "")
    }

    /// The same, where `label` stands in them.
    pub(crate) fn series_with(&self, name: &str, label: &str) -> f64 {
        let text = String::from_utf8(self.server.metrics.render().unwrap()).unwrap();
        let of_name = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        };
        text.lines()
            .filter(of_name)
            .filter(|line| line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// What the access log holds, after `count` lines are there.
    pub(crate) async fn log_lines(&self, count: usize) -> Vec<Value> {
        let text = || String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap();
        super::eventually(|| async { text().lines().count() >= count }).await;
        text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Every path of vLLM, to one node, which gets no request but those of the test.
pub(crate) fn preset(node: SocketAddr) -> String {
    format!(
        "upstreams:\n  llama: {{ kind: vllm, nodes: [\"http://{node}\"], health: off }}\nroutes:\n  - {{ preset: vllm, upstream: llama }}\n"
    )
}

/// A chat of one message.
pub(crate) fn chat(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hello there" }] })
}

/// The text of a file beside the tests.
pub(crate) fn written(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
