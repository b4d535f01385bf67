//! The operators' listener: metrics, the state of nodes, drain and undrain; on an address of its own, never on the public
//! port.

mod entrance;
mod status;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{HeaderMap, Method, Response, StatusCode, header};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;

use crate::access::keys;
use crate::access::store::Store;
use crate::chat::sessions::Sessions;
use crate::gateway::{Drain, RecentErrors, Snapshot, Streams};
use crate::metrics::Metrics;
use crate::reload::Failed;
use crate::upstream::node::Registry;
use crate::wire::query;
use status::{Sources, Status};

/// Prometheus' text format (prometheus.io, "Exposition formats").
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

const TEXT: &str = "text/plain; charset=utf-8";

const JSON: &str = "application/json";

/// Answers operators.
pub struct Admin {
    /// What is served.
    pub live: Arc<ArcSwap<Snapshot>>,
    /// Every node.
    pub registry: Arc<Registry>,
    /// Whether the process is about to stop.
    pub drain: Arc<Drain>,
    /// When it began.
    pub began: Instant,
    /// Why the files are not what is served.
    pub failed_reload: Failed,
    /// What became of requests.
    pub seen: Seen,
    /// The listener can be reached from this machine alone: no key is asked for.
    pub local: bool,
}

/// What became of requests.
pub struct Seen {
    /// Every series.
    pub metrics: Arc<Metrics>,
    /// Counts what keys take.
    pub store: Arc<Store>,
    /// Event streams under way.
    pub streams: Arc<Streams>,
    /// What went wrong of late.
    pub errors: Arc<RecentErrors>,
    /// Chat sessions, where there are any.
    pub sessions: Option<Arc<Sessions>>,
}

/// Status, content type, body.
type Answer = (StatusCode, &'static str, Vec<u8>);

impl Admin {
    fn answer(&self, method: &Method, uri: &http::Uri, headers: &HeaderMap) -> Answer {
        match (uri.path(), method) {
            ("/metrics", &Method::GET) => match self.seen.metrics.render() {
                Ok(text) => (StatusCode::OK, EXPOSITION, text),
                Err(error) => {
                    log::error!("the metrics cannot be written: {error}");
                    (StatusCode::INTERNAL_SERVER_ERROR, TEXT, Vec::new())
                }
            },
            ("/livez", &Method::GET) => (StatusCode::OK, TEXT, b"ok\n".to_vec()),
            ("/api/status", &Method::GET) => self.let_in(headers, || self.status()),
            ("/api/nodes/drain", &Method::POST) => {
                self.let_in(headers, || self.drain(uri.query(), true))
            }
            ("/api/nodes/undrain", &Method::POST) => {
                self.let_in(headers, || self.drain(uri.query(), false))
            }
            ("/metrics" | "/livez" | "/api/status", _) => error(StatusCode::METHOD_NOT_ALLOWED, "GET"),
            ("/api/nodes/drain" | "/api/nodes/undrain", _) => {
                error(StatusCode::METHOD_NOT_ALLOWED, "POST")
            }
            _ => (
                StatusCode::NOT_FOUND,
                TEXT,
                b"GET /metrics\nGET /api/status\nPOST /api/nodes/drain?node=URL\nPOST /api/nodes/undrain?node=URL\n"
                    .to_vec(),
            ),
        }
    }

    /// The answer of `inside` for those who may have it: with a key of scope `admin`, or on this machine; and never for the
    /// page of another origin.
    fn let_in(&self, headers: &HeaderMap, inside: impl FnOnce() -> Answer) -> Answer {
        if !entrance::is_own_page(headers) {
            return error(StatusCode::FORBIDDEN, "a page of another origin may not ask here");
        }
        if self.local {
            return match entrance::is_local_name(headers) {
                true => inside(),
                false => error(StatusCode::FORBIDDEN, "the Host is not a name of this machine"),
            };
        }
        let live = self.live.load();
        let presented = keys::presented(headers).ok().flatten();
        let key = presented.and_then(|key| live.keys.find(key, SystemTime::now()));
        match key {
            Some(key) if key.admin => inside(),
            Some(_) => error(StatusCode::FORBIDDEN, "the key has no scope `admin`"),
            None => error(StatusCode::UNAUTHORIZED, "a key of scope `admin` is needed"),
        }
    }

    fn status(&self) -> Answer {
        let failed_reload = self.failed_reload.load();
        let sources = Sources {
            snapshot: &self.live.load(),
            draining: self.drain.is_draining(),
            began: self.began,
            failed_reload: failed_reload.as_deref(),
            seen: &self.seen,
        };
        let status = Status::of(&sources, Instant::now());
        // Texts and numbers always have a JSON form.
        (StatusCode::OK, JSON, serde_json::to_vec(&status).unwrap_or_default())
    }

    /// Takes a node out of work, or back.
    fn drain(&self, asked: Option<&str>, yes: bool) -> Answer {
        let named = query::take(asked, "node=").ok().and_then(|taken| query::decoded(taken.1?));
        let Some(named) = named else {
            return error(StatusCode::BAD_REQUEST, "name a node with `?node=URL`");
        };
        let nodes = self.registry.nodes();
        let found: Vec<_> = nodes.iter().filter(|node| node.is_called(&named)).collect();
        if found.is_empty() {
            return error(StatusCode::NOT_FOUND, "there is no such node");
        }
        for node in found {
            if node.health.drain(yes, Instant::now()) {
                let what = if yes { "drained: it gets no new work" } else { "gets work again" };
                log::info!("node {} {what}, as an operator asked", node.id);
            }
        }
        self.status()
    }
}

fn error(status: StatusCode, message: &str) -> Answer {
    let body = serde_json::json!({ "error": { "message": message } });
    (status, JSON, body.to_string().into_bytes())
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let (status, content_type, body) =
            self.answer(&request.method, &request.uri, &request.headers);
        let length = http::HeaderValue::from(body.len());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, length);
        headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        response
    }
}
