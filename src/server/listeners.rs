//! The two listeners: what Pingora accepts goes through [`Listener`] to the application.

use std::io;
use std::net::TcpListener;
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::apps::http_app::HttpServer;
use pingora_core::apps::{HttpServerApp as _, HttpServerOptions, ServerApp};
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Fds, ShutdownWatch};
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use pingora_proxy::{HttpProxy, ProxyServiceBuilder};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::{CannotStart, NODE_CONNECTIONS_IDLE_MAX, ca_file};
use crate::admin::Admin;
use crate::config::Settings;
use crate::config::certificate::Texts;
use crate::gateway::Gateway;
use crate::listener::{Bounds, Certificate, Listener, Places, descriptors};
use crate::metrics::Metrics;
use crate::upstream::connection::{Connections, Pool};

/// Before a client's connection: none. Pingora reads heads and bodies into buffers of their own; its 64 KiB more would be
/// zeroed for each connection, which is a ninth of what a connection costs.
const READ_BUFFER_BYTES: usize = 0;

/// Towards a client: the head and the body of an answer of a few pages leave in one packet. Events are not kept back.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// Connections of operators at once: scrapes, pages and commands.
const OPERATORS_MAX: usize = 256;

/// What accepts connections.
pub(super) struct Accepting {
    stop: watch::Sender<bool>,
    /// When they are told to stop, they close idle connections, too.
    services: [AbortHandle; 2],
    /// Of clients.
    pub(super) places: Arc<Places>,
}

impl Accepting {
    /// Begins to: for the gateway on `public`, for the operators' pages on `admin`.
    pub(super) fn start(
        settings: &Settings,
        (gateway, pool, pages): (Gateway, Arc<Pool>, Admin),
        (public, admin): (TcpListener, TcpListener),
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, CannotStart> {
        let listener = of_clients(settings, &pages.seen.metrics)?;
        listener.follow_certificate(settings, tasks);
        let (places, (stop, stopping)) = (listener.places.clone(), watch::channel(false));
        let clients = proxy(settings, gateway, (pool, listener));
        let clients = serve(tasks, clients, public, stopping.clone())?;
        let operators = serve(tasks, operators(pages, settings), admin, stopping)?;
        Ok(Self { stop, services: [clients, operators], places })
    }

    /// No more are accepted, and idle ones are closed.
    pub(super) fn end(&self) {
        let _nobody_listens = self.stop.send(true);
    }

    /// No more are accepted.
    pub(super) fn end_and_let_idle_ones_be(&self) {
        self.services.iter().for_each(AbortHandle::abort);
        self.end();
    }
}

/// For clients.
fn of_clients(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Arc<Listener>, CannotStart> {
    let texts = settings.tls_files().map(|files| Texts::read(&files)).transpose();
    let texts = texts.map_err(CannotStart::Certificate)?;
    let tls = texts.map(Certificate::new).transpose().map_err(CannotStart::Certificate)?;
    let all = descriptors();
    let max = Some(settings.max_connections).filter(|max| *max > 0).unwrap_or(all);
    Ok(Arc::new(Listener {
        bounds: bounds(settings, settings.h2c),
        places: Places::new(max, metrics.connections("public")),
        tls,
        metrics: metrics.clone(),
    }))
}

fn bounds(settings: &Settings, h2c: bool) -> Bounds {
    Bounds {
        header_timeout: settings.header_timeout,
        keepalive_timeout: settings.keepalive_timeout,
        h2c,
    }
}

/// The proxy behind `listener`. Pingora hands out a proxy with connectors of ours only to what serves protocols of one's own:
/// so each connection is one, to it.
fn proxy(
    settings: &Settings,
    gateway: Gateway,
    (pool, listener): (Arc<Pool>, Arc<Listener>),
) -> Service<HttpProxy<Gateway, Connections>> {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: NODE_CONNECTIONS_IDLE_MAX,
        ca_file: ca_file(settings),
        ..ServerConf::default()
    };
    let mut options = HttpServerOptions::default();
    options.force_custom = true;
    let builder = ProxyServiceBuilder::new(&Arc::new(conf), gateway).server_options(options);
    let serve = move |proxy, socket, shutdown: &ShutdownWatch| {
        let serving = listener.clone().serve(proxy, socket, shutdown.clone());
        let closed: futures_util::future::BoxFuture<'static, Option<Stream>> =
            Box::pin(async move {
                serving.await;
                None
            });
        closed
    };
    builder.custom(Connections(pool), Arc::new(serve)).build()
}

/// The operators' pages. Their places are their own, so that they come in when clients have taken all others.
fn operators(admin: Admin, settings: &Settings) -> Service<Operators> {
    let metrics = admin.seen.metrics.clone();
    let listener = Arc::new(Listener {
        bounds: bounds(settings, false),
        places: Places::new(OPERATORS_MAX, metrics.connections("operators")),
        tls: None,
        metrics,
    });
    let app = Arc::new(HttpServer::new_app(admin));
    Service::new("admin".to_owned(), Operators { app, listener })
}

/// See [`operators`].
struct Operators {
    app: Arc<HttpServer<Admin>>,
    listener: Arc<Listener>,
}

#[async_trait]
impl ServerApp for Operators {
    async fn process_new(
        self: &Arc<Self>,
        socket: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        self.listener.clone().serve(self.app.clone(), socket, shutdown.clone()).await;
        None
    }

    async fn cleanup(&self) {
        self.app.http_cleanup().await;
    }
}

/// Hands a bound socket to a service, under the name by which Pingora looks for inherited ones.
fn serve<A>(
    tasks: &mut JoinSet<()>,
    mut service: Service<A>,
    socket: TcpListener,
    stopping: ShutdownWatch,
) -> io::Result<AbortHandle>
where
    A: ServerApp + Send + Sync + 'static,
{
    let name = socket.local_addr()?.to_string();
    socket.set_nonblocking(true)?;
    let buffers = L4BufferSettings::new(READ_BUFFER_BYTES, WRITE_BUFFER_BYTES);
    service.add_listener(ListenerConfig::tcp(name.as_str()).l4_buffer(buffers));
    let mut sockets = Fds::new();
    sockets.add(name, socket.into_raw_fd());
    Ok(tasks.spawn(async move {
        service.start_service(Some(Arc::new(Mutex::new(sockets))), stopping, 1).await;
    }))
}
