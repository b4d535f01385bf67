//! The operators' listener: the status page, metrics, drain and undrain; on an address of its own, never on the public
//! port.

mod answer;
mod entrance;
mod form;
mod login;
mod page;
mod status;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::task::block_in_place;

use http::{HeaderValue, Response, StatusCode, header};
use pingora::http::RequestHeader;
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;

use crate::access::store::Store;
use crate::chat::sessions::Sessions;
use crate::gateway::{Drain, RecentErrors, Snapshot, Streams};
use crate::listener::Link;
use crate::metrics::Metrics;
use crate::reload::Failed;
use crate::upstream::node::Registry;
use crate::wire::query;
use answer::{Answer, TEXT};
pub use entrance::Entrance;
use entrance::{Stranger, Visitor};
use form::Form;
use status::{Sources, Status};

/// Prometheus' text format (prometheus.io, "Exposition formats").
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What there is, and by which methods.
const PATHS: [(&str, &str); 13] = [
    ("/", "GET, HEAD"),
    ("/style.css", "GET, HEAD"),
    ("/app.js", "GET, HEAD"),
    ("/icon.svg", "GET, HEAD"),
    ("/metrics", "GET, HEAD"),
    ("/livez", "GET, HEAD"),
    ("/readyz", "GET, HEAD"),
    ("/api/status", "GET, HEAD"),
    ("/api/nodes/drain", "POST"),
    ("/api/nodes/undrain", "POST"),
    ("/login", "POST"),
    ("/logout", "POST"),
    ("/nodes", "POST"),
];

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
    /// Who may come in.
    pub entrance: Entrance,
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

impl Admin {
    async fn answer(&self, session: &mut ServerSession) -> Answer {
        let request = session.req_header();
        let Some((path, allow)) = PATHS.iter().find(|(path, _)| *path == request.uri.path()) else {
            let paths = PATHS.map(|(path, methods)| format!("{methods} {path}\n")).concat();
            return Answer::new(StatusCode::NOT_FOUND, TEXT, paths.into_bytes());
        };
        if !allow.split(", ").any(|method| method == request.method) {
            return Answer::error(StatusCode::METHOD_NOT_ALLOWED, allow)
                .with(header::ALLOW, HeaderValue::from_static(allow));
        }
        match *path {
            // What takes some milliseconds must not keep streams waiting that this thread serves.
            "/" => block_in_place(|| self.page(request)),
            "/style.css" => Answer::asset(&page::STYLE),
            "/app.js" => Answer::asset(&page::SCRIPT),
            "/icon.svg" => Answer::asset(&page::ICON),
            "/metrics" => block_in_place(|| self.exposition(request)),
            "/livez" => Answer::new(StatusCode::OK, TEXT, b"ok\n".to_vec()),
            "/readyz" if !self.drain.is_ready() => {
                Answer::new(StatusCode::SERVICE_UNAVAILABLE, TEXT, b"draining\n".to_vec())
            }
            "/readyz" => Answer::new(StatusCode::OK, TEXT, b"ok\n".to_vec()),
            "/api/status" => block_in_place(|| self.let_in(request, |_| self.json())),
            "/api/nodes/drain" => self.let_in(request, |who| self.ordered(request, true, who)),
            "/api/nodes/undrain" => self.let_in(request, |who| self.ordered(request, false, who)),
            _ => self.form(session).await,
        }
    }

    /// What the page's forms ask for. Who has no script sees the answer.
    async fn form(&self, session: &mut ServerSession) -> Answer {
        let read = form::read(session).await;
        let request = session.req_header();
        let form = match read {
            Ok(form) => form,
            Err(unread) => return told(unread.status(), unread.message()),
        };
        match request.uri.path() {
            "/login" => self.login(session, &form),
            "/logout" => {
                if let Err(stranger) = self.entrance.own_page(&request.method, &request.headers) {
                    return told(stranger.status(), stranger.message());
                }
                self.entrance.logout(&request.headers);
                Answer::to_the_page()
                    .with(header::SET_COOKIE, HeaderValue::from_static(login::FORGET))
            }
            _ => self.button(request, &form),
        }
    }

    fn page(&self, request: &RequestHeader) -> Answer {
        match self.visitor(request) {
            Ok(who) => Answer::html(StatusCode::OK, page::page(&self.status(), &who)),
            Err(Stranger::NoKey) => Answer::html(StatusCode::UNAUTHORIZED, page::login(None)),
            // The key of a session may have lost it: another one may be given.
            Err(stranger @ Stranger::NoScope) => {
                Answer::html(stranger.status(), page::login(Some(stranger.message())))
            }
            Err(stranger) => told(stranger.status(), stranger.message()),
        }
    }

    fn login(&self, session: &ServerSession, form: &Form) -> Answer {
        let request = session.req_header();
        let address = session.client_addr().and_then(|address| address.as_inet());
        let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
        let key = form.field("key").unwrap_or_default();
        let own = self.entrance.own_page(&request.method, &request.headers);
        let begun = own.and_then(|()| self.entrance.login(&key, address, &self.live.load().keys));
        match begun {
            Ok(cookie) => Answer::to_the_page().with(header::SET_COOKIE, cookie),
            Err(stranger) => {
                let page = page::login(Some(stranger.message()));
                let answer = Answer::html(stranger.status(), page);
                match stranger {
                    Stranger::MustWait(wait) => {
                        answer.with(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1))
                    }
                    _ => answer,
                }
            }
        }
    }

    /// The buttons of nodes: `drain` or `undrain` with the node's URL.
    fn button(&self, request: &RequestHeader, form: &Form) -> Answer {
        let who = match self.visitor(request) {
            Ok(who) => who,
            Err(stranger) => return told(stranger.status(), stranger.message()),
        };
        let (drain, undrain) = (form.field("drain"), form.field("undrain"));
        let is_drain = drain.is_some();
        let done = match drain.xor(undrain) {
            Some(node) => self.drain(&node, is_drain, &who),
            None => return told(StatusCode::BAD_REQUEST, "name a node to drain or undrain"),
        };
        match done {
            true => Answer::to_the_page(),
            false => told(StatusCode::NOT_FOUND, NO_NODE),
        }
    }

    fn exposition(&self, request: &RequestHeader) -> Answer {
        if let Err(stranger) = self.entrance.own_page(&request.method, &request.headers) {
            return Answer::error(stranger.status(), stranger.message());
        }
        if !self.entrance.opens_metrics(&request.headers) {
            return Answer::error(StatusCode::UNAUTHORIZED, "the metrics_key is needed")
                .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        match self.seen.metrics.render() {
            Ok(text) => Answer::new(StatusCode::OK, EXPOSITION, text),
            Err(error) => {
                log::error!("the metrics cannot be written: {error}");
                Answer::new(StatusCode::INTERNAL_SERVER_ERROR, TEXT, Vec::new())
            }
        }
    }

    fn visitor(&self, request: &RequestHeader) -> Result<Visitor, Stranger> {
        self.entrance.visitor((&request.method, &request.headers), &self.live.load().keys)
    }

    /// The answer of `inside` for those who may have it.
    fn let_in(&self, request: &RequestHeader, inside: impl FnOnce(&Visitor) -> Answer) -> Answer {
        match self.visitor(request) {
            Ok(who) => inside(&who),
            Err(stranger) => Answer::error(stranger.status(), stranger.message()),
        }
    }

    fn status(&self) -> Status {
        let failed_reload = self.failed_reload.load();
        let sources = Sources {
            snapshot: &self.live.load(),
            draining: self.drain.is_draining(),
            began: self.began,
            failed_reload: failed_reload.as_deref(),
            seen: &self.seen,
        };
        Status::of(&sources, Instant::now())
    }

    fn json(&self) -> Answer {
        // Texts and numbers always have a JSON form.
        Answer::json(serde_json::to_vec(&self.status()).unwrap_or_default())
    }

    /// Drain and undrain for scripts: the node stands in the query.
    fn ordered(&self, request: &RequestHeader, yes: bool, who: &Visitor) -> Answer {
        let named = query::take(request.uri.query(), "node=").ok();
        let Some(named) = named.and_then(|taken| query::decoded(taken.1?)) else {
            return Answer::error(StatusCode::BAD_REQUEST, "name a node with `?node=URL`");
        };
        match self.drain(&named, yes, who) {
            true => self.json(),
            false => Answer::error(StatusCode::NOT_FOUND, NO_NODE),
        }
    }

    /// Takes a node out of work, or back; false where there is none of that name.
    fn drain(&self, named: &str, yes: bool, who: &Visitor) -> bool {
        let nodes = self.registry.nodes();
        let mut found = false;
        for node in nodes.iter().filter(|node| node.is_called(named)) {
            found = true;
            if node.health.drain(yes, Instant::now()) {
                let what = if yes { "drained: it gets no new work" } else { "gets work again" };
                log::info!("node {} {what}, as {who} asked", node.id);
            }
        }
        found
    }
}

const NO_NODE: &str = "there is no such node";

/// A page that says why not.
fn told(status: StatusCode, message: &str) -> Answer {
    Answer::html(status, page::told(message))
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let link = Link::of(session.digest()).cloned();
        if let Some(link) = &link {
            link.request_begins();
        }
        let answer = self.answer(session).await;
        if let Some(link) = &link {
            link.request_ends(false);
        }
        let request = session.req_header();
        answer.finish(&request.method, &request.headers)
    }
}
