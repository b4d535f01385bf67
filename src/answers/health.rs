//! `GET /health`: every upstream's state in one answer, short for the world, whole for a key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::StatusCode;
use serde::Serialize;
use tokio::sync::Mutex;

use super::Answer;
use crate::config::Kind;
use crate::routing::table::RouteTable;
use crate::upstream::Upstream;
use crate::upstream::client::Client;

/// How long a report is good (SPEC 5.2): a storm of probes asks nodes once a second.
const FRESH: Duration = Duration::from_secs(1);

/// Longest wait for one node.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The last report, and who is to be asked for the next.
#[derive(Default)]
pub struct Health {
    /// Asked, with the path.
    probes: Vec<(Arc<Upstream>, String)>,
    /// Not asked: their state is whether the last request reached them.
    watched: Vec<Arc<Upstream>>,
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    status: &'static str,
    upstreams: Vec<State>,
}

#[derive(Debug, Serialize)]
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
        let routes = table.asked_at("/health");
        let mut health = Self::default();
        for route in routes {
            let path = route.target_path("/health").into_owned();
            health.probes.push((route.upstream.clone(), path));
        }
        if routes.is_empty() {
            for upstream in upstreams {
                match upstream.kind {
                    Kind::Vllm => {
                        let path = upstream.node.path_for("/health");
                        health.probes.push((upstream.clone(), path));
                    }
                    Kind::Generic | Kind::OpenAi => health.watched.push(upstream.clone()),
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
        let probes = self.probes.iter().map(|(upstream, path)| probe(upstream, path, client));
        let mut upstreams = join_all(probes).await;
        upstreams.extend(self.watched.iter().map(|upstream| watched(upstream)));
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

async fn probe(upstream: &Upstream, path: &str, client: &Client) -> State {
    let started = Instant::now();
    let answer = client.get(upstream, path, PROBE_TIMEOUT).await;
    let latency_ms = Some((started.elapsed().as_secs_f64() * 1e5).round() / 100.0);
    let (ok, http_status, error) = match answer {
        Ok(answer) => (answer.status.is_success(), Some(answer.status.as_u16()), None),
        Err(why) => (false, None, Some(why.to_string())),
    };
    let status = if ok { "ok" } else { "down" };
    State { latency_ms, http_status, error, status, ..watched(upstream) }
}

fn watched(upstream: &Upstream) -> State {
    State {
        upstream: upstream.name.to_string(),
        url: upstream.node.shown(),
        status: if upstream.is_reachable() { "ok" } else { "down" },
        http_status: None,
        latency_ms: None,
        error: None,
    }
}
