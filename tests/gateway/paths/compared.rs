//! One request, asked of a node directly and through gateways, and both answers side by side.

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sluice::sim::{Seen, Settings, Simulator};

use crate::support::{TestGateway, node_with};

/// The key of the node, which no client knows.
const NODE_KEY: &str = "sk-node-of-the-paths";

/// Hexadecimal digits of the ids that nodes make up, at least.
const ID_DIGITS: usize = 16;

/// A node, and the ways to it through a gateway.
pub(super) struct Ways {
    pub(super) node: Simulator,
    /// By `preset: vllm`.
    pub(super) preset: TestGateway,
    /// By a short route for each of the paths asked for.
    pub(super) short: TestGateway,
}

/// A request.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    /// Content type and content.
    pub(super) body: Option<(&'static str, Bytes)>,
}

/// An answer, ids and times made equal where it is text.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    content_type: Option<String>,
    metadata: Option<String>,
    body: Vec<u8>,
}

impl Ways {
    /// To a node of its own; short routes for these paths and methods.
    pub(super) async fn to(paths: &[(&str, Vec<Method>)]) -> Self {
        let node = node_with(Settings {
            models: vec!["llama".into()],
            api_keys: vec![NODE_KEY.to_owned()],
            enable_scale_out: true,
            ..Settings::default()
        })
        .await;
        let url = format!("http://{}", node.addr());
        let preset = format!(
            "upstreams:\n  llama: {{ kind: vllm, nodes: [\"{url}\"], key: {NODE_KEY} }}\n\
             routes:\n  - {{ preset: vllm, upstream: llama }}\n"
        );
        let short = |(path, methods): &(&str, Vec<Method>)| {
            format!(
                "  - path: {path}\n    methods: {methods:?}\n    upstream_url: {url}{path}\n    upstream_key: {NODE_KEY}\n"
            )
        };
        let short: String = paths.iter().map(short).collect();
        let (preset, short) = (
            TestGateway::start(&preset).await,
            TestGateway::start(&format!("routes:\n{short}")).await,
        );
        Self { node, preset, short }
    }

    /// Asks the node, then it through `gateway`: both answers are equal, and so is what arrived.
    pub(super) async fn compare(&self, gateway: &TestGateway, ask: &Ask) {
        let url = format!("http://{}{}", self.node.addr(), ask.target);
        let direct = gateway.client.request(ask.method.clone(), url).bearer_auth(NODE_KEY);
        let direct = self.told(ask, direct.header("x-request-id", "asked-directly")).await;
        let through = gateway.client.request(ask.method.clone(), gateway.url(&ask.target));
        let through = self.told(ask, through.bearer_auth(crate::support::KEY)).await;
        let shown = |told: &Told| String::from_utf8_lossy(&told.body).into_owned();
        assert!(
            direct == through,
            "{} {}\ndirectly {direct:?}\n{}\nthrough {through:?}\n{}",
            ask.method,
            ask.target,
            shown(&direct),
            shown(&through)
        );
        let came = self.came(ask);
        assert_eq!(came.headers["authorization"], format!("Bearer {NODE_KEY}"));
        if let Some((content_type, body)) = &ask.body {
            assert_eq!(came.headers["content-type"], *content_type);
            // The gateway may ask for more usage than the client of a stream did.
            assert!(came.body == body || asks_for_stream(body), "{} {}", ask.method, ask.target);
        } else {
            assert!(came.body.is_empty());
        }
    }

    /// What the node read last of `ask`, query and all.
    fn came(&self, ask: &Ask) -> Seen {
        let seen = self.node.requests().into_iter().rev();
        let mut seen = seen.filter(|seen| seen.method == ask.method && seen.target == ask.target);
        seen.next().unwrap()
    }

    async fn told(&self, ask: &Ask, mut request: RequestBuilder) -> Told {
        if let Some((content_type, body)) = &ask.body {
            request = request.header("content-type", *content_type).body(body.clone());
        }
        let reply = request.send().await.unwrap();
        let header = |name: &str| Some(reply.headers().get(name)?.to_str().unwrap().to_owned());
        let (status, content_type) = (reply.status().as_u16(), header("content-type"));
        let id = self.came(ask).headers["x-request-id"].to_str().unwrap().to_owned();
        let metadata = header("metadata").map(|text| without_ids(&text, &id));
        let mut body = reply.bytes().await.unwrap().to_vec();
        if content_type.as_deref() != Some("application/octet-stream") {
            let text = String::from_utf8(body).unwrap();
            let is_metrics = ask.target.starts_with("/metrics");
            let text = if is_metrics { names(&text) } else { without_ids(&text, &id) };
            body = text.into_bytes();
        }
        Told { status, content_type, metadata, body }
    }

    /// The id of a response that the node made for a client of `gateway`.
    pub(super) async fn response_id(&self, gateway: &TestGateway) -> String {
        let body = json!({ "model": "llama", "input": "Hello", "store": true });
        let reply = gateway.post("/v1/responses").json(&body).send().await.unwrap();
        reply.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }
}

fn asks_for_stream(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body["stream"] == true)
}

/// The series of an exposition without their values: time goes on.
fn names(exposition: &str) -> String {
    let name = |line: &'_ str| line.rsplit_once(' ').map_or(line, |(name, _)| name).to_owned();
    exposition.lines().map(name).collect::<Vec<_>>().join("\n")
}

/// `text` without what differs from one request to the next: the id that the node was given, those that it made up, and
/// times.
fn without_ids(text: &str, id: &str) -> String {
    let text = text.replace(id, "ID");
    let (mut out, mut rest) = (String::new(), text.as_str());
    while let Some(letter) = rest.chars().next() {
        let digits = rest.find(|letter: char| !letter.is_ascii_hexdigit()).unwrap_or(rest.len());
        let is_time =
            ["created\": ", "created\":", "_at\":"].iter().any(|name| out.ends_with(name));
        let is_id = out.ends_with(['-', '_']) && digits >= ID_DIGITS;
        if is_id || (is_time && digits > 0) {
            out.push('0');
            rest = rest[digits..].trim_start_matches(|letter: char| is_time && letter == '.');
            continue;
        }
        let taken = digits.max(letter.len_utf8());
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}
