//! The server that a chat is held with. A request has a connection of its own: dropped, it closes, and the node is free.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode, Uri};
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora_core::ErrorType;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use serde_json::Value;

use super::events::{Bad, Event, Events};
use super::told::{Failure, Refused, message};

/// Longest wait for TCP and TLS together: a server that is there needs a hundredth.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that is read whole, in bytes: a list of 10,000 models is about 5 MB.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where an API like OpenAI's begins: `http://127.0.0.1:8080/v1`.
#[derive(Clone)]
pub(super) struct BaseUrl {
    /// Without its last `/`.
    text: String,
    tls: bool,
    host: String,
    port: u16,
    authority: HeaderValue,
    path: String,
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no_url = || format!("`{text}` is no base URL: write http://HOST:PORT/v1");
        let uri: Uri = text.parse().map_err(|_| no_url())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(no_url()),
        };
        let authority = uri.authority().ok_or_else(no_url)?.as_str();
        if authority.contains('@') || uri.query().is_some() {
            return Err("no password and no query can stand in the base URL".to_owned());
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        Ok(Self {
            text: text.trim_end_matches('/').to_owned(),
            tls,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority).map_err(|_| no_url())?,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A server, and the key for it.
pub(super) struct Server {
    pub(super) url: BaseUrl,
    key: Option<HeaderValue>,
    connector: Connector,
}

/// The head of an answer, and the connection on which its body comes.
struct Reply {
    session: HttpSession,
    status: StatusCode,
}

/// An answer that streams.
pub(super) struct Answer {
    session: HttpSession,
    events: Events,
}

impl Server {
    /// Only on a runtime.
    ///
    /// # Errors
    /// The key cannot be sent.
    pub(super) fn new(url: BaseUrl, key: Option<&str>) -> Result<Self, String> {
        let header = |key| {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| "a key has no line breaks and the like".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        Ok(Self { url, key: key.map(header).transpose()?, connector: Connector::new(None) })
    }

    /// A key is sent.
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The ids of the models, in the server's order.
    ///
    /// # Errors
    /// There is no list.
    pub(super) async fn models(&self) -> Result<Vec<String>, Failure> {
        let mut reply = self.send(Method::GET, "/models", None).await?;
        let body = reply.whole().await?;
        let list: Value = serde_json::from_slice(&body).unwrap_or_default();
        let models = list["data"]
            .as_array()
            .ok_or_else(|| Failure::Told(format!("{}/models is no list of models", self.url)))?;
        Ok(models.iter().filter_map(|model| model["id"].as_str()).map(str::to_owned).collect())
    }

    /// Asks for an answer that streams.
    ///
    /// # Errors
    /// There will be none.
    pub(super) async fn chat(&self, body: &Value) -> Result<Answer, Failure> {
        let body = Bytes::from(body.to_string());
        let reply = self.send(Method::POST, "/chat/completions", Some(body)).await?;
        let head = reply.session.response_header();
        let kind = head.and_then(|head| head.headers.get(header::CONTENT_TYPE));
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            return Err(no_chat());
        }
        Ok(Answer { session: reply.session, events: Events::default() })
    }

    /// Sends a request and waits for the head of its answer, which is 200.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Reply, Failure> {
        let path = format!("{}{path}", self.url.path);
        let head = self.head(method, &path, body.as_ref());
        let head = head.map_err(|_| Failure::Told(format!("{} cannot be asked", self.url)))?;
        let mut session = self.connect().await?;
        let broken = |_| broke();
        session.write_request_header(Box::new(head)).await.map_err(broken)?;
        if let Some(body) = body {
            session.write_request_body(body, true).await.map_err(broken)?;
        }
        session.finish_request_body().await.map_err(broken)?;
        session.read_response_header().await.map_err(broken)?;
        let status = session.response_header().ok_or_else(broke)?.status;
        let mut reply = Reply { session, status };
        if reply.status == StatusCode::OK { Ok(reply) } else { Err(self.refused(&mut reply).await) }
    }

    fn head(
        &self,
        method: Method,
        path: &str,
        body: Option<&Bytes>,
    ) -> Result<RequestHeader, Box<pingora_core::Error>> {
        let mut head = RequestHeader::build(method, path.as_bytes(), Some(6))?;
        head.insert_header(header::HOST, self.url.authority.clone())?;
        let agent = concat!("sluice/", env!("CARGO_PKG_VERSION"));
        head.insert_header(header::USER_AGENT, agent)?;
        head.insert_header(header::CONNECTION, "close")?;
        if let Some(key) = &self.key {
            head.insert_header(header::AUTHORIZATION, key.clone())?;
        }
        if let Some(body) = body {
            head.insert_header(header::CONTENT_TYPE, "application/json")?;
            head.insert_header(header::CONTENT_LENGTH, body.len())?;
        }
        Ok(head)
    }

    /// A connection to the first address of the host that takes one.
    async fn connect(&self) -> Result<HttpSession, Failure> {
        let BaseUrl { host, port, tls, .. } = &self.url;
        let found = tokio::net::lookup_host((host.as_str(), *port)).await;
        let unknown = |error| Failure::Told(format!("the name {host} is not known: {error}"));
        let mut last = Failure::Told(format!("the name {host} has no address"));
        for address in found.map_err(unknown)? {
            let name = if *tls { host.clone() } else { String::new() };
            let mut peer = HttpPeer::new(address, *tls, name);
            peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
            peer.options.total_connection_timeout = Some(CONNECT_TIMEOUT);
            match self.connector.get_http_session(&peer).await {
                Ok((session, _)) => return Ok(session),
                Err(error) => last = self.unreachable(address, error.etype()),
            }
        }
        Err(last)
    }

    fn unreachable(&self, address: SocketAddr, why: &ErrorType) -> Failure {
        let url = &self.url;
        Failure::Told(match why {
            ErrorType::ConnectRefused if address.ip().is_loopback() => format!(
                "nobody answers at {url}: is the gateway running? `sluice demo` starts one to try"
            ),
            ErrorType::ConnectRefused => format!("nobody answers at {url}"),
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
                format!("{url} does not answer")
            }
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => {
                format!("no TLS with {url}: its certificate is not trusted, or it speaks none")
            }
            other => format!("no connection to {url}: {}", other.as_str()),
        })
    }

    async fn refused(&self, reply: &mut Reply) -> Failure {
        let body = reply.whole().await.unwrap_or_default();
        let head = reply.session.response_header();
        let retry_after = head.and_then(|head| head.headers.get(header::RETRY_AFTER));
        let refused = Refused {
            url: &self.url.text,
            status: reply.status,
            retry_after: retry_after.and_then(|value| value.to_str().ok()?.parse().ok()),
            body: &body,
            with_key: self.has_key(),
        };
        refused.failure()
    }
}

impl Reply {
    /// The body, to its end.
    async fn whole(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(piece) = self.session.read_response_body().await.map_err(|_| broke())? {
            body.extend_from_slice(&piece);
            if body.len() > BODY_BYTES_MAX {
                return Err(Failure::Told("the answer is too large".to_owned()));
            }
        }
        Ok(body)
    }
}

impl Answer {
    /// The next event; the last one is `done`.
    ///
    /// # Errors
    /// The server says that it cannot go on, or breaks off.
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            let next = self.events.next().map_err(|bad| match bad {
                Bad::Error(error) => Failure::Told(
                    message(&error).unwrap_or_else(|| "the server tells of an error".to_owned()),
                ),
                Bad::NoChat => no_chat(),
            })?;
            if let Some(event) = next {
                return Ok(event);
            }
            let piece = self.session.read_response_body().await.map_err(|_| broke())?;
            self.events.push(&piece.ok_or_else(broke)?);
        }
    }
}

fn broke() -> Failure {
    Failure::Told("the connection broke off".to_owned())
}

fn no_chat() -> Failure {
    Failure::Told("what the server answers is no chat that streams".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_taken_apart() {
        let url: BaseUrl = "https://[::1]/api/v1/".parse().unwrap();
        assert_eq!((url.tls, &*url.host, url.port, &*url.path), (true, "::1", 443, "/api/v1"));
        assert_eq!(url.to_string(), "https://[::1]/api/v1");
        let url: BaseUrl = "http://h:8080".parse().unwrap();
        assert_eq!((&*url.host, url.port, &*url.path), ("h", 8080, ""));
        for bad in ["h:8080", "ftp://h", "http://u:p@h/v1", "http://h/v1?key=x", "http://"] {
            assert!(bad.parse::<BaseUrl>().is_err(), "{bad}");
        }
    }
}
