//! Lists of models fetched behind an answer: a bounded queue to one task that shutdown knows.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::Upstream;
use super::client::Client;
use super::member::Member;

/// Nodes that wait to be asked; more than that are asked when somebody comes again.
const QUEUE: usize = 1_024;

/// Nodes asked at the same time: as many connections to nodes, at most.
const AT_ONCE: usize = 64;

/// Asks for a newer list of a node's models, some time soon.
#[derive(Clone)]
pub struct Refresher(mpsc::Sender<Asked>);

/// Whose list is to be asked for.
type Asked = (Arc<Upstream>, Arc<Member>);

/// The other end: give it to [`run`].
pub struct Requests(mpsc::Receiver<Asked>);

impl Refresher {
    /// Both ends of the queue.
    pub fn new() -> (Self, Requests) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), Requests(receiver))
    }

    /// Never waits. A full queue loses nothing but a refresh.
    pub fn soon(&self, upstream: &Arc<Upstream>, member: &Arc<Member>) {
        let _full_or_stopping = self.0.try_send((upstream.clone(), member.clone()));
    }
}

/// Works until every [`Refresher`] is gone or the task is dropped.
pub async fn run(mut requests: Requests, client: Arc<Client>) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            next = requests.0.recv(), if running.len() < AT_ONCE => match next {
                Some((upstream, member)) => {
                    let client = client.clone();
                    running.push(async move { upstream.learn_of(&member, &client).await });
                }
                None => return,
            },
            Some(_) = running.next() => {}
        }
    }
}
