//! Idle connections to nodes: kept for the next request, and given up before the node does, or when it has.
//!
//! Pingora's own pool watches each idle connection by a task, which is started after each request and has to be ended
//! before the next. Here a connection sets a flag when something happens to it, and one task looks at those that did.

use std::collections::HashMap;
use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora_core::protocols::SocketDigest;
use pingora_core::protocols::raw_connect::ProxyDigest;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::super::idle::Owner;

/// How often connections are looked for that have been idle for too long.
const LOOK: Duration = Duration::from_secs(1);

/// What a connection is, whatever is written on it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) socket: TcpStream,
    /// Its addresses, for whoever asks Pingora.
    pub(super) digest: Arc<SocketDigest>,
    pub(super) owner: Arc<Owner>,
    /// The same, where Pingora hands it on: it asks for it with each request.
    pub(super) carried: Option<Arc<ProxyDigest>>,
    /// When the last bytes came; none on a connection that has not been used.
    pub(super) last_read: Option<Instant>,
    /// How long it may be idle.
    pub(super) limit: Duration,
    flag: Arc<Flag>,
}

/// Something happened to an idle connection: its node closed it, or sent what nobody asked for.
#[derive(Debug)]
struct Flag {
    set: AtomicBool,
    seen_by: Arc<Notify>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.set.store(true, Ordering::Release);
        self.seen_by.notify_one();
    }
}

/// The idle connections to all nodes, by what Pingora tells their peers apart by.
#[derive(Debug)]
pub struct Pool {
    idle: Mutex<Idle>,
    /// Connections, in all.
    most: usize,
    flagged: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The one that was used last is the last of its list.
    of_peers: HashMap<u64, Vec<Link>>,
    count: usize,
}

impl Pool {
    /// A pool of at most `most` connections.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), most, flagged: Arc::default() })
    }

    /// A connection that was just made.
    pub(super) fn link(&self, socket: TcpStream, digest: SocketDigest, limit: Duration) -> Link {
        let owner = Arc::<Owner>::default();
        Link {
            socket,
            digest: Arc::new(digest),
            carried: super::carrying(&owner),
            owner,
            last_read: None,
            limit,
            flag: Arc::new(Flag { set: AtomicBool::new(false), seen_by: self.flagged.clone() }),
        }
    }

    /// Keeps a connection that is between two requests.
    pub(super) fn put(&self, peer: u64, link: Link) {
        let mut idle = self.idle.lock();
        if idle.count < self.most && link.is_quiet() {
            idle.count += 1;
            idle.of_peers.entry(peer).or_default().push(link);
            return;
        }
        // It is closed after the lock is given back.
        drop(idle);
        link.note_end();
    }

    /// A connection that has not been idle for longer than `limit`.
    pub(super) fn take(&self, peer: u64, limit: Duration) -> Option<Link> {
        loop {
            let mut idle = self.idle.lock();
            let list = idle.of_peers.get_mut(&peer)?;
            let mut link = list.pop()?;
            idle.count -= 1;
            drop(idle);
            if link.idle_at(Instant::now()) > limit {
                // The next ones are older still: whoever looks for them comes by soon.
                return None;
            }
            if link.is_open_indeed() {
                link.limit = limit;
                return Some(link);
            }
            link.note_end();
        }
    }

    /// Gives up connections that are to be closed, or are already. Runs as long as the gateway does.
    pub async fn watch(self: Arc<Self>) {
        let mut turn = tokio::time::interval(LOOK);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = turn.tick() => {}
                () = self.flagged.notified() => {}
            }
            self.out_of_use().iter().for_each(Link::note_end);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.idle.lock().count
    }

    fn out_of_use(&self) -> Vec<Link> {
        let (mut out, now) = (Vec::new(), Instant::now());
        let mut idle = self.idle.lock();
        idle.of_peers.retain(|_, list| {
            out.extend(list.extract_if(.., |link| !link.may_stay(now)));
            !list.is_empty()
        });
        idle.count -= out.len();
        out
    }
}

impl Link {
    fn idle_at(&self, now: Instant) -> Duration {
        self.last_read.map_or(Duration::ZERO, |last| now.saturating_duration_since(last))
    }

    fn may_stay(&self, now: Instant) -> bool {
        let flagged = self.flag.set.load(Ordering::Acquire);
        self.idle_at(now) <= self.limit && (!flagged || self.is_quiet())
    }

    /// Nothing has happened to it. From now on its flag tells.
    fn is_quiet(&self) -> bool {
        self.flag.set.store(false, Ordering::Release);
        let waker = Waker::from(self.flag.clone());
        let mut context = Context::from_waker(&waker);
        let ready = poll_fn(|context| self.socket.poll_read_ready(context));
        // Without a budget: of a task that has used its own up, the flag would be set for nothing.
        let mut ready = pin!(tokio::task::unconstrained(ready));
        while ready.as_mut().poll(&mut context).is_ready() {
            if !self.is_open() {
                return false;
            }
        }
        true
    }

    /// Its node has neither closed it nor sent anything. The kernel is asked only where there may be something.
    fn is_open(&self) -> bool {
        let read = self.socket.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same as the kernel has it now. What the runtime has not looked at since is not known to the socket: on a busy
    /// machine an answer that nobody asked for would be taken for that to the next request.
    fn is_open_indeed(&self) -> bool {
        let peeked = SockRef::from(&self.socket).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// It is used no more: where its node closed it, that tells how long it lets a connection be idle.
    fn note_end(&self) {
        let closed = match self.socket.try_read(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        if let (true, Some(last), Some(node)) = (closed, self.last_read, self.owner.get()) {
            let now = Instant::now();
            node.closed(now.saturating_duration_since(last), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const PEER: u64 = 7;

    /// A node, and connections to it on which an answer has come.
    struct Node(TcpListener);

    impl Node {
        async fn new() -> Self {
            Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
        }

        /// Our end, and the node's.
        async fn connect(&self, pool: &Pool) -> (Link, TcpStream) {
            let socket = TcpStream::connect(self.0.local_addr().unwrap()).await.unwrap();
            let mut link = pool.link(socket, SocketDigest::from_raw_fd(-1), LONG);
            link.last_read = Some(Instant::now());
            (link, self.0.accept().await.unwrap().0)
        }
    }

    fn local(link: Option<Link>) -> Option<std::net::SocketAddr> {
        link.map(|link| link.socket.local_addr().unwrap())
    }

    /// What comes of `waiting` while the pool's task runs.
    async fn while_watched<T>(pool: &Arc<Pool>, waiting: impl Future<Output = T>) -> T {
        tokio::select! {
            () = pool.clone().watch() => unreachable!("it never ends"),
            told = tokio::time::timeout(LONG, waiting) => told.unwrap(),
        }
    }

    async fn emptied(pool: &Pool) {
        while pool.len() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(pool.idle.lock().of_peers.is_empty());
    }

    #[tokio::test]
    async fn the_one_used_last_is_taken_first_and_by_its_peer_alone() {
        let (pool, node) = (Pool::new(8), Node::new().await);
        let (first, _at_node) = node.connect(&pool).await;
        let (second, _at_node) = node.connect(&pool).await;
        let names = [&first, &second].map(|link| link.socket.local_addr().ok());
        pool.put(PEER, first);
        pool.put(PEER, second);
        assert!(pool.take(PEER + 1, LONG).is_none());
        assert_eq!(local(pool.take(PEER, LONG)), names[1]);
        assert_eq!(local(pool.take(PEER, LONG)), names[0]);
        assert!(pool.take(PEER, LONG).is_none());
    }

    #[tokio::test]
    async fn one_that_its_node_closes_is_given_up_at_once() {
        let (pool, node) = (Pool::new(8), Node::new().await);
        let (link, at_node) = node.connect(&pool).await;
        pool.put(PEER, link);
        drop(at_node);
        while_watched(&pool, emptied(&pool)).await;
    }

    #[tokio::test]
    async fn one_on_which_the_node_says_what_nobody_asked_is_given_up() {
        let (pool, node) = (Pool::new(8), Node::new().await);
        let (link, mut at_node) = node.connect(&pool).await;
        pool.put(PEER, link);
        at_node.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        while_watched(&pool, emptied(&pool)).await;
        // So is one that brings it along.
        let (link, mut at_node) = node.connect(&pool).await;
        at_node.write_all(b"more than was asked").await.unwrap();
        link.socket.readable().await.unwrap();
        pool.put(PEER, link);
        assert!(pool.take(PEER, LONG).is_none());
    }

    /// The test's only thread has no time for the runtime in between.
    #[tokio::test]
    async fn one_on_which_something_came_that_the_runtime_has_not_seen_is_not_taken() {
        let (pool, node) = (Pool::new(8), Node::new().await);
        let (link, at_node) = node.connect(&pool).await;
        pool.put(PEER, link);
        let mut at_node = at_node.into_std().unwrap();
        at_node.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        assert!(pool.take(PEER, LONG).is_none());
    }

    #[tokio::test]
    async fn one_that_is_idle_for_too_long_is_neither_taken_nor_kept() {
        let (pool, node) = (Pool::new(8), Node::new().await);
        let (mut link, mut at_node) = node.connect(&pool).await;
        link.last_read = Instant::now().checked_sub(Duration::from_secs(5));
        pool.put(PEER, link);
        assert!(pool.take(PEER, Duration::from_secs(4)).is_none());
        assert_eq!(at_node.read(&mut [0]).await.unwrap(), 0);
        let ((mut link, mut at_node), mut read) = (node.connect(&pool).await, [0]);
        (link.last_read, link.limit) = (Some(Instant::now()), Duration::ZERO);
        pool.put(PEER, link);
        let closed = while_watched(&pool, at_node.read(&mut read)).await;
        assert_eq!(closed.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_full_pool_keeps_no_more() {
        let (pool, node) = (Pool::new(1), Node::new().await);
        let (first, _at_node) = node.connect(&pool).await;
        let (second, mut at_node) = node.connect(&pool).await;
        pool.put(PEER, first);
        pool.put(PEER, second);
        assert_eq!(at_node.read(&mut [0]).await.unwrap(), 0);
        assert!(pool.take(PEER, LONG).is_some());
        assert!(pool.take(PEER, LONG).is_none());
        let (third, _at_node) = node.connect(&pool).await;
        pool.put(PEER, third);
        assert!(pool.take(PEER, LONG).is_some());
    }
}
