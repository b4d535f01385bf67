//! Accepts connections and lets go of them.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::http;
use super::node::Node;
use super::wire::{Line, Wire};

/// Connections at a time: more than one machine's ports. Those beyond wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 65_536;

/// Connections that wait to be accepted after the port was closed for a time: what std asks for at first.
const BACKLOG: u32 = 4_096;

/// How long to wait when no connection can be accepted: most often all file descriptors are in use.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// Bytes written at once: a few hundred events, which still fit into a processor's cache.
const WRITE_BYTES: usize = 64 * 1024;

/// How a node goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It serves.
    Serve,
    /// It serves until then, and stops.
    ServeUntil(Instant),
    /// It lets go of all connections and refuses new ones; until then, if there is an end to it.
    Refuse(Option<Instant>),
    /// It finishes what it has begun, and accepts nothing.
    Finish,
    /// It lets go of everything.
    Stop,
}

/// Serves as the node's course says, then lets go of all connections. The listener is closed first.
pub(super) async fn run(mut listener: TcpListener, node: Arc<Node>) {
    let mut told = node.course.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let course = *told.borrow_and_update();
        match course {
            Course::Serve | Course::ServeUntil(_) => {
                node.reached.send_replace(course);
                if serve_until_told(&listener, &node, (&mut connections, &mut told)).await {
                    break;
                }
            }
            Course::Refuse(_) => {
                match refuse(listener, &node, (&mut connections, &mut told)).await {
                    Ok(Some(open)) => listener = open,
                    // Either it is the end, or somebody else has taken the port: to clients that is the same.
                    Ok(None) | Err(_) => {
                        node.reached.send_replace(Course::Stop);
                        return;
                    }
                }
            }
            Course::Finish | Course::Stop => break,
        }
    }
    drop(listener);
    node.reached.send_replace(Course::Finish);
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        changed = told.wait_for(|course| *course != Course::Finish) => drop(changed),
    }
    connections.shutdown().await;
    node.reached.send_replace(Course::Stop);
}

/// Accepts connections until the course changes; true when it has come to its end.
async fn serve_until_told(
    listener: &TcpListener,
    node: &Arc<Node>,
    (connections, told): (&mut JoinSet<()>, &mut watch::Receiver<Course>),
) -> bool {
    let end = match *told.borrow() {
        Course::ServeUntil(end) => Some(end),
        _ => None,
    };
    loop {
        tokio::select! {
            accepted = accept(listener), if connections.len() < CONNECTIONS_MAX => {
                connections.spawn(serve(accepted, node.clone()));
            }
            Some(_) = connections.join_next() => {}
            _ = told.changed() => return false,
            () = until(end) => {
                node.course.send_replace(Course::Stop);
                return true;
            }
        }
    }
}

/// Closes the port and keeps it, until it is time to listen again; none if that time never comes. A bound socket that
/// does not listen refuses. The connections go after it: whose connection is gone finds the port closed.
async fn refuse(
    listener: TcpListener,
    node: &Node,
    (connections, told): (&mut JoinSet<()>, &mut watch::Receiver<Course>),
) -> io::Result<Option<TcpListener>> {
    let addr = listener.local_addr()?;
    drop(listener);
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    connections.shutdown().await;
    loop {
        let course = *told.borrow_and_update();
        match course {
            Course::Refuse(end) => {
                node.reached.send_replace(course);
                tokio::select! {
                    _ = told.changed() => {}
                    () = until(end) => drop(node.course.send_replace(Course::Serve)),
                }
            }
            Course::Serve | Course::ServeUntil(_) => return socket.listen(BACKLOG).map(Some),
            Course::Finish | Course::Stop => return Ok(None),
        }
    }
}

/// Ready then; without an end never.
async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => pending().await,
    }
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
async fn serve(stream: TcpStream, node: Arc<Node>) {
    // Without it the last event of a stream would wait for the acknowledgement of the one before. If it cannot be set,
    // the client has gone.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut told = node.course.subscribe();
    let line = Line::new();
    let wire = TokioIo::new(Wire::new(stream, line.clone()));
    let service = service_fn(move |request| http::serve(node.clone(), line.clone(), request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    // One copy into one buffer costs less than a vector of small writes.
    server.http1().timer(TokioTimer::new()).writev(false).max_buf_size(WRITE_BYTES);
    server.http2().timer(TokioTimer::new());
    let connection = server.serve_connection(wire, service);
    tokio::pin!(connection);
    // An error is a client that left, or a fault.
    tokio::select! {
        _ = connection.as_mut() => return,
        // The node holds the sender, and the connection holds the node.
        _ = told.wait_for(|course| *course == Course::Finish) => {
            connection.as_mut().graceful_shutdown();
        }
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
