//! A Pingora proxy that does nothing but put another key in the place of the client's: the floor below this gateway. It
//! has the timeouts that no proxy can do without: Pingora itself has none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_core::server::configuration::ServerConf;
use pingora_core::services::Service as _;
use pingora_proxy::{ProxyHttp, Session};
use tokio::sync::watch;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Below uvicorn's.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(4);

/// The proxy.
pub(crate) struct Bare {
    /// Where requests go.
    pub(crate) node: SocketAddr,
    /// A path that goes elsewhere.
    pub(crate) elsewhere: (&'static str, SocketAddr),
    /// `Authorization` of clients.
    pub(crate) known: &'static str,
    /// `Authorization` of the nodes.
    pub(crate) own: &'static str,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> Result<bool> {
        session.set_keepalive(Some(75));
        session.set_write_timeout(Some(TIMEOUT));
        let presented = session.req_header().headers.get("authorization");
        if presented.is_none_or(|value| value.as_bytes() != self.known.as_bytes()) {
            return Err(Error::new(ErrorType::HTTPStatus(401)));
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        let (path, other) = self.elsewhere;
        let node = if session.req_header().uri.path() == path { other } else { self.node };
        let mut peer = Box::new(HttpPeer::new(node, false, String::new()));
        peer.options.connection_timeout = Some(TIMEOUT);
        peer.options.read_timeout = Some(TIMEOUT);
        peer.options.write_timeout = Some(TIMEOUT);
        peer.options.idle_timeout = Some(KEEPALIVE_IDLE);
        Ok(peer)
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        (): &mut (),
    ) -> Result<()> {
        request.insert_header("authorization", self.own)
    }
}

impl Bare {
    /// Serves on the runtime of the caller, for ever.
    pub(crate) async fn serve(self, listen: &str) {
        let conf =
            ServerConf { threads: 1, upstream_keepalive_pool_size: 4_096, ..ServerConf::default() };
        let mut service = pingora_proxy::http_proxy_service(&Arc::new(conf), self);
        service.add_tcp(listen);
        let (_stop, stopped) = watch::channel(false);
        service.start_service(None, stopped, 1).await;
    }
}
