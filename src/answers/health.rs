//! `GET /health`: every upstream's state in one answer, short for the world, whole for a key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::StatusCode;
use serde::Serialize;
use tokio::sync::Mutex;

use super::{Answer, NAME_TIMEOUT};
use crate::config::Kind;
use crate::routing::table::{Route, RouteTable};
use crate::upstream::Upstream;
use crate::upstream::client::{Client, Unanswered};
use crate::upstream::node::Node;

/// How long a report is good (SPEC 5.2): a storm of probes asks nodes once a second.
const FRESH: Duration = Duration::from_secs(1);

/// What nodes are asked.
const PATH: &str = "/health";

/// Longest wait for one node, as that of a probe by default. With [`NAME_TIMEOUT`] it is below the 4 s in which a report is
/// promised when every node hangs.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The last report, and who is to be asked for the next.
#[derive(Default)]
pub struct Health {
    /// Asked, each node of them.
    probes: Vec<Probe>,
    /// Not asked: their state is what requests and operators said of them last.
    watched: Vec<Arc<Upstream>>,
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

/// Whose nodes are asked, and where.
struct Probe {
    upstream: Arc<Upstream>,
    /// That of `GET /health`, whose path may be another at the node.
    route: Option<Arc<Route>>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    status: &'static str,
    upstreams: Vec<State>,
}

#[derive(Debug, Clone, Serialize)]
struct State {
    upstream: String,
    url: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Health {
    /// Asks what the routes of `GET /health` say; without any, the nodes that have a `/health` of their own.
    pub fn new(table: &RouteTable, upstreams: &[Arc<Upstream>]) -> Self {
        let routes = table.asked_at(PATH);
        let mut health = Self::default();
        for route in routes {
            health
                .probes
                .push(Probe { upstream: route.upstream.clone(), route: Some(route.clone()) });
        }
        if routes.is_empty() {
            for upstream in upstreams {
                match upstream.kind {
                    Kind::Vllm => {
                        health.probes.push(Probe { upstream: upstream.clone(), route: None });
                    }
                    Kind::Generic | Kind::OpenAi | Kind::Ollama => {
                        health.watched.push(upstream.clone())
                    }
                }
            }
        }
        health
    }

    /// The report of this second. Callers at the same time share it.
    pub async fn report(&self, client: &Client) -> Arc<Report> {
        let mut last = self.last.lock().await;
        if let Some((at, report)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return report.clone();
        }
        let probes = self.probes.iter().map(|probe| probe.ask(client));
        let mut upstreams = join_all(probes).await.concat();
        for upstream in &self.watched {
            upstreams
                .extend(upstream.members().iter().map(|member| watched(upstream, &member.node)));
        }
        let up = upstreams.iter().filter(|state| state.status == "ok").count();
        let status = match up {
            all if all == upstreams.len() => "ok",
            0 => "down",
            _ => "degraded",
        };
        let report = Arc::new(Report { status, upstreams });
        *last = Some((Instant::now(), report.clone()));
        report
    }
}

impl Report {
    /// For those without a key: the word alone.
    pub fn short(&self) -> Answer {
        Answer::json(self.http_status(), format!(r#"{{"status":"{}"}}"#, self.status))
    }

    /// For those with one.
    pub fn whole(&self) -> Answer {
        // A report is plain text and numbers: it always has a JSON form.
        let body = serde_json::to_vec(self).unwrap_or_default();
        Answer::json(self.http_status(), body)
    }

    fn http_status(&self) -> StatusCode {
        match self.status {
            "down" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        }
    }
}

impl Probe {
    /// Asks every node, all at the same time. A name of nodes that is not found is down itself.
    async fn ask(&self, client: &Client) -> Vec<State> {
        let members = self.upstream.found_members_within(NAME_TIMEOUT).await;
        if members.is_empty() {
            return vec![State {
                upstream: self.upstream.name.to_string(),
                url: self.upstream.place(),
                status: "down",
                http_status: None,
                latency_ms: None,
                error: Some(Unanswered::NoAddress.to_string()),
            }];
        }
        join_all(members.iter().map(|member| self.ask_node(&member.node, client))).await
    }

    async fn ask_node(&self, node: &Node, client: &Client) -> State {
        let path = match &self.route {
            Some(route) => route.target_path(PATH, node).into_owned(),
            None => node.path_for(PATH),
        };
        let started = Instant::now();
        let answer = client.get(&self.upstream, node, &path, PROBE_TIMEOUT).await;
        let latency_ms = Some((started.elapsed().as_secs_f64() * 1e5).round() / 100.0);
        let (ok, http_status, error) = match answer {
            Ok(answer) => (answer.status.is_success(), Some(answer.status.as_u16()), None),
            Err(why) => (false, None, Some(why.to_string())),
        };
        let status = if ok { "ok" } else { "down" };
        State { latency_ms, http_status, error, status, ..watched(&self.upstream, node) }
    }
}

/// The state of a node that is not asked: whether the last request reached it, and what became of those before.
fn watched(upstream: &Upstream, node: &Node) -> State {
    let up = node.health.standing(Instant::now()).takes_work();
    State {
        upstream: upstream.name.to_string(),
        url: node.id.to_string(),
        status: if up && node.is_reachable() { "ok" } else { "down" },
        http_status: None,
        latency_ms: None,
        error: None,
    }
}
