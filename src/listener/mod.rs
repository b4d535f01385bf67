//! The gateway's own side of a client's connection, below HTTP: who may connect, for how long a head may take and how
//! large it may be, TLS, and what one connection of HTTP/2 may ask for.
//!
//! Pingora accepts, and its proxy serves requests; between the two stands [`Listener::serve`]. A connection is
//! a stream of our own (`stream.rs`), since Pingora has no bound on a head but 1 MiB, and no clock but one for each read.

mod broken;
mod framing;
mod http2;
mod link;
mod places;
mod stream;
mod tls;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{Shutdown, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::task::JoinSet;

pub use link::Link;
pub use places::{Places, descriptors};
pub use tls::Certificate;

use crate::config::Settings;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use broken::Farewell;
use stream::ClientStream;

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest wait for a whole head, and for a handshake.
    pub header_timeout: Duration,
    /// How long an idle connection is kept.
    pub keepalive_timeout: Duration,
    /// HTTP/2 is served without TLS, too.
    pub h2c: bool,
}

/// Serves the connections of one socket.
pub struct Listener {
    /// What each may take.
    pub bounds: Bounds,
    /// How many there may be.
    pub places: Arc<Places>,
    /// TLS is spoken, by this certificate.
    pub tls: Option<Arc<Certificate>>,
    /// Refused heads and connections are counted there.
    pub metrics: Arc<Metrics>,
}

impl Listener {
    /// Where TLS is spoken, takes a new certificate as soon as it is there.
    pub fn follow_certificate(&self, settings: &Settings, tasks: &mut JoinSet<()>) {
        if let Some((shown, files)) = self.tls.clone().zip(settings.tls_files()) {
            tasks.spawn(tls::follow(shown, files, self.metrics.clone()));
        }
    }

    /// Serves one connection, until it is closed.
    pub async fn serve<A>(self: Arc<Self>, app: Arc<A>, socket: Stream, shutdown: ShutdownWatch)
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let Some(_place) = self.places.take() else {
            return self.turn_away(socket).await;
        };
        match &self.tls {
            None => {
                let stream = ClientStream::plain(socket, &self);
                self.speak(app, stream, shutdown).await;
            }
            Some(certificate) => {
                match certificate.accept(socket, self.bounds.header_timeout).await {
                    Ok(socket) => {
                        self.speak(app, ClientStream::tls(socket, &self), shutdown).await;
                    }
                    Err(why) => self.metrics.handshake_failed(why),
                }
            }
        }
    }

    /// Whatever the client speaks.
    async fn speak<A, S>(&self, app: Arc<A>, mut stream: ClientStream<S>, shutdown: ShutdownWatch)
    where
        A: HttpServerApp + Send + Sync + 'static,
        S: stream::Transport,
    {
        let mut http2 = stream.link().is_http2();
        if self.bounds.h2c && self.tls.is_none() {
            match stream.begins_http2().await {
                Ok(begins) => http2 = begins,
                // What is wrong with its head is told as it is of any other.
                Err(_) => return Shutdown::shutdown(&mut stream).await,
            }
        }
        if http2 {
            let idle = self.bounds.keepalive_timeout;
            http2::serve(app, stream, idle, shutdown).await;
        } else {
            http1(app, Box::new(stream), &shutdown).await;
        }
    }

    /// Tells a client that there is no place for it, where that can be told without a handshake.
    async fn turn_away(&self, mut socket: Stream) {
        self.metrics.refused(Refusal::Overloaded.code());
        if self.tls.is_none()
            && let Some(_permit) = self.places.one_to_tell()
        {
            let mut farewell = Farewell::new(Some(&Refusal::Overloaded));
            let _gone = poll_fn(|cx| farewell.poll(&mut socket, cx)).await;
        }
    }
}

/// Requests of HTTP/1.1, one after the other.
async fn http1<A>(app: Arc<A>, stream: Stream, shutdown: &ShutdownWatch)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut session = ServerSession::new_http1(stream);
    // How long exactly, the application says when the first request is there.
    session.set_keepalive((!*shutdown.borrow()).then_some(KEEPALIVE_SECONDS));
    while let Some(reused) = app.process_new_http(session, shutdown).await {
        let (stream, settings) = reused.consume();
        session = ServerSession::new_http1(stream);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
    }
}

/// As nginx has it.
const KEEPALIVE_SECONDS: u64 = 60;
