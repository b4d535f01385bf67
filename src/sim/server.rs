//! Accepts connections and lets go of them.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::http;
use super::node::Node;
use super::wire::{Line, Wire};

/// Connections at a time: more than one machine's ports. Those beyond wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 65_536;

/// How long to wait when no connection can be accepted: most often all file descriptors are in use.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// Bytes written at once: a few hundred events, which still fit into a processor's cache.
const WRITE_BYTES: usize = 64 * 1024;

/// How a node goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It serves.
    Serve,
    /// It finishes what it has begun, and accepts nothing.
    Finish,
    /// It lets go of everything.
    Stop,
}

/// Serves until told otherwise, then lets go of all connections. The listener is closed first.
pub(super) async fn run(
    listener: TcpListener,
    node: Arc<Node>,
    mut course: watch::Receiver<Course>,
) {
    let mut connections = JoinSet::new();
    let at_end = course.clone();
    loop {
        tokio::select! {
            accepted = accept(&listener), if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(serve(accepted, node.clone(), at_end.clone()));
            }
            Some(_) = connections.join_next() => {}
            changed = course.wait_for(|course| *course != Course::Serve) => {
                drop(changed);
                break;
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        changed = course.wait_for(|course| *course == Course::Stop) => drop(changed),
    }
    connections.shutdown().await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

/// Serves one connection until it ends, or gracefully from the moment the node is told to finish.
async fn serve(stream: TcpStream, node: Arc<Node>, mut course: watch::Receiver<Course>) {
    // Without it the last event of a stream would wait for the acknowledgement of the one before. If it cannot be set,
    // the client has gone.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let line = Line::new();
    let wire = TokioIo::new(Wire::new(stream, line.clone()));
    let service = service_fn(move |request| http::serve(node.clone(), line.clone(), request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    // One copy into one buffer costs less than a vector of small writes.
    server.http1().timer(TokioTimer::new()).writev(false).max_buf_size(WRITE_BYTES);
    server.http2().timer(TokioTimer::new());
    let connection = server.serve_connection(wire, service);
    tokio::pin!(connection);
    let finish = async {
        let changed = course.wait_for(|course| *course != Course::Serve).await.map(drop);
        if changed.is_err() {
            // The simulator was dropped, and this task with it.
            pending::<Infallible>().await;
        }
    };
    // An error is a client that left, or a fault.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = finish => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The listener for tokio.
///
/// # Errors
/// The socket cannot be made non-blocking, or no runtime is there to drive it.
pub(super) fn listener(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
