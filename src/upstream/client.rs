//! Requests of our own to nodes, on Pingora's connector: the same TLS and the same keep-alive as traffic.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, header};
use pingora::ErrorType;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::Connector;

use super::Upstream;
use super::node::Node;
use crate::config::Credential;

/// Longest answer that is read, in bytes: a list of 10,000 models is about 5 MB.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Idle connections kept for our own requests, in all.
const IDLE_CONNECTIONS: usize = 256;

/// Asks nodes.
pub struct Client {
    connector: Connector,
}

/// What a node said.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// What it says of its body.
    pub content_type: Option<HeaderValue>,
    /// Its body, whole.
    pub body: Bytes,
}

/// What a node is asked.
#[derive(Debug)]
pub struct Question<'q> {
    /// How.
    pub method: Method,
    /// Path and query as the node sees them.
    pub path: &'q str,
    /// With its content type.
    pub body: Option<Bytes>,
    /// It may go out on a connection that the node has closed: no harm if it is not answered.
    pub again: bool,
    /// What the node is shown instead of the upstream's key.
    pub key: Option<&'q Credential>,
}

impl<'q> Question<'q> {
    /// `GET path`.
    pub fn get(path: &'q str) -> Self {
        Self { method: Method::GET, path, body: None, again: true, key: None }
    }
}

/// A word for a connection's pool that no other has: such a connection is always a new one.
pub fn fresh() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

/// Why there is no answer. The text names no header and no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Its name has no address.
    #[error("the name cannot be resolved")]
    NoAddress,
    /// No connection.
    #[error("cannot connect")]
    NoConnection,
    /// It is not the one that it should be, or speaks no TLS.
    #[error("the TLS handshake failed")]
    NotCertified,
    /// The connection broke, or what came is no HTTP.
    #[error("the connection broke")]
    Broken,
    /// Too slow.
    #[error("timed out")]
    TimedOut,
    /// Over 16 MiB.
    #[error("the answer is too large")]
    TooLarge,
}

impl Client {
    /// A client that trusts the authorities of `ca_file`, or the system's.
    pub fn new(ca_file: Option<String>) -> Self {
        let mut options = ConnectorOptions::new(IDLE_CONNECTIONS);
        options.ca_file = ca_file;
        Self { connector: Connector::new(Some(options)) }
    }

    /// `GET path` of an upstream's node, with the upstream's key, in `limit` in all.
    ///
    /// # Errors
    /// [`Unanswered`]. Any status is an answer.
    pub async fn get(
        &self,
        upstream: &Upstream,
        node: &Node,
        path: &str,
        limit: Duration,
    ) -> Result<Answer, Unanswered> {
        self.ask(upstream, node, &Question::get(path), limit).await
    }

    /// Asks an upstream's node, with the upstream's key, in `limit` in all.
    ///
    /// # Errors
    /// [`Unanswered`]. Any status is an answer.
    pub async fn ask(
        &self,
        upstream: &Upstream,
        node: &Node,
        question: &Question<'_>,
        limit: Duration,
    ) -> Result<Answer, Unanswered> {
        let mut at = None;
        let asked = async {
            let address = node.addresses.current().await.map_err(|_| Unanswered::NoAddress)?;
            at = Some(address);
            let mut peer = peer(upstream, node, address);
            peer.options.connection_timeout = Some(upstream.timeouts.connect);
            peer.options.total_connection_timeout = Some(upstream.timeouts.connect);
            peer.options.idle_timeout = Some(node.idle.limit(upstream.keepalive_idle));
            if !question.again {
                peer.group_key = fresh();
            }
            let head = request(node, question, question.key.or(upstream.credential.as_ref()));
            self.exchange(&peer, head.ok_or(Unanswered::Broken)?, question.body.clone()).await
        };
        let answer = tokio::time::timeout(limit, asked).await.unwrap_or(Err(Unanswered::TimedOut));
        let no_connection =
            matches!(answer, Err(Unanswered::NoConnection | Unanswered::NotCertified));
        let not_reached = matches!(answer, Err(Unanswered::NoAddress | Unanswered::TimedOut));
        node.reached(!no_connection && !not_reached);
        if let (true, Some(address)) = (no_connection, at) {
            node.addresses.connect_failed(address);
        }
        answer
    }

    async fn exchange(
        &self,
        peer: &HttpPeer,
        head: RequestHeader,
        question: Option<Bytes>,
    ) -> Result<Answer, Unanswered> {
        let connected = self.connector.get_http_session(peer).await;
        let (mut session, _) = connected.map_err(|error| match error.etype() {
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => Unanswered::NotCertified,
            _ => Unanswered::NoConnection,
        })?;
        let broken = |_| Unanswered::Broken;
        session.write_request_header(Box::new(head)).await.map_err(broken)?;
        if let Some(question) = question {
            session.write_request_body(question, true).await.map_err(broken)?;
        }
        session.finish_request_body().await.map_err(broken)?;
        session.read_response_header().await.map_err(broken)?;
        let head = session.response_header().ok_or(Unanswered::Broken)?;
        let status = head.status;
        let content_type = head.headers.get(header::CONTENT_TYPE).cloned();
        let mut body = BytesMut::new();
        while let Some(chunk) = session.read_response_body().await.map_err(broken)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Unanswered::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let idle = peer.options.idle_timeout;
        self.connector.release_http_session(session, peer, idle).await;
        Ok(Answer { status, content_type, body: body.freeze() })
    }
}

/// How to connect to `node` of `upstream`, for our own requests and for traffic.
pub fn peer(upstream: &Upstream, node: &Node, address: SocketAddr) -> HttpPeer {
    if !node.url.tls {
        return HttpPeer::new(address, false, String::new());
    }
    let mut peer = HttpPeer::new(address, true, upstream.server_name_of(node).to_owned());
    if let Some(authorities) = &upstream.tls.authorities {
        peer.options.ca = Some(authorities.certificates.clone());
        // Pingora's pool does not look at who was trusted: nobody shall ride on a connection that another one trusts.
        peer.group_key = authorities.mark();
    }
    peer
}

fn request(
    node: &Node,
    question: &Question<'_>,
    credential: Option<&Credential>,
) -> Option<RequestHeader> {
    let method = question.method.clone();
    let posts = method == Method::POST;
    let mut head = RequestHeader::build(method, question.path.as_bytes(), Some(6)).ok()?;
    head.insert_header(header::HOST, node.host_header.clone()).ok()?;
    head.insert_header(header::ACCEPT, "*/*").ok()?;
    head.insert_header(header::USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION"))).ok()?;
    if let Some(credential) = credential {
        head.insert_header(credential.header.clone(), credential.value.clone()).ok()?;
    }
    let length = question.body.as_ref().map_or(0, Bytes::len);
    if posts || length > 0 {
        head.insert_header(header::CONTENT_LENGTH, length).ok()?;
        head.insert_header(header::CONTENT_TYPE, "application/json").ok()?;
    }
    Some(head)
}
