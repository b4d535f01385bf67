//! Looks at nodes, again and again: whether they work, what they have to do, and what they serve.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use serde::Deserialize;

use super::Upstream;
use super::client::{self, Client, Unanswered};
use super::health::{Halt, Thresholds};
use super::load::Gauges;
use super::member::Member;
use crate::config::{HealthConfig, Kind};
use crate::wire::exposition;

/// Nodes that are looked at at the same time: as many connections, at most.
const AT_ONCE: usize = 64;

/// Longest sleep between two looks at what is due: a reload brings new nodes.
const SLEEP_MAX: Duration = Duration::from_millis(250);

/// To the next probe of a node that took no connection, and of one that answers again, until that is believed: what is certain
/// is known within a second or two. Whoever is slow, or answers with an error, has all of the interval to get well.
const SOON: Duration = Duration::from_millis(500);

/// Between probes: this much of the interval more or less, by chance, so that gateways and nodes do not march in step.
const JITTER: f64 = 0.1;

/// When a node is due.
#[derive(Debug, Default)]
pub struct Schedule(Mutex<Due>);

#[derive(Debug, Default)]
struct Due {
    /// None before the first time: at once.
    at: Option<Instant>,
    running: bool,
    /// It has no `/is_paused`, as it did not run in developers' mode when it was last asked.
    never_pauses: bool,
}

impl Schedule {
    /// The node is looked at as soon as it can be.
    pub fn hurry(&self) {
        self.0.lock().at = None;
    }

    /// True where it is due, which is then taken for done until [`Schedule::done`].
    fn begin(&self, now: Instant, interval: Duration) -> bool {
        let mut due = self.0.lock();
        if due.running || due.at.is_some_and(|at| now < at) {
            return false;
        }
        due.at = Some(now + interval.mul_f64(1.0 + JITTER * chance()));
        due.running = true;
        true
    }

    fn done(&self, works: bool, soon: bool) {
        let mut due = self.0.lock();
        due.running = false;
        if soon {
            due.at = due.at.map(|at| at.min(Instant::now() + SOON));
        }
        // What comes back may have been started in another way.
        due.never_pauses &= works;
    }
}

/// Between -1 and 1.
fn chance() -> f64 {
    const BITS: u64 = 1 << 52;
    #[expect(clippy::cast_precision_loss, reason = "52 bits fit")]
    let part = (client::fresh() % BITS) as f64 / BITS as f64;
    2.0 * part - 1.0
}

/// Looks at the nodes of `upstreams`, each time anew, until the task is dropped.
pub async fn run(upstreams: impl Fn() -> Vec<Arc<Upstream>>, client: Arc<Client>) {
    let mut running = FuturesUnordered::new();
    loop {
        // Nothing of a configuration is held while nothing is due: it may be replaced meanwhile.
        for (upstream, member) in due(&upstreams(), AT_ONCE.saturating_sub(running.len())) {
            running.push(look(upstream, member, client.clone(), false));
        }
        tokio::select! {
            () = tokio::time::sleep(SLEEP_MAX) => {}
            Some(()) = running.next() => {}
        }
    }
}

/// The nodes that are due, `room` of them at most: each by the first upstream that probes it.
fn due(all: &[Arc<Upstream>], room: usize) -> Vec<(Arc<Upstream>, Subject)> {
    let now = Instant::now();
    let mut due = Vec::new();
    for upstream in all {
        let Some(health) = &upstream.health else { continue };
        for member in upstream.members().iter() {
            if due.len() < room && member.node.schedule.begin(now, health.interval) {
                due.push((upstream.clone(), (member.clone(), lists_of(all, member))));
            }
        }
    }
    due
}

/// Upstreams that ask for a list of models, each with the member by which it does.
type Lists = Vec<(Arc<Upstream>, Arc<Member>)>;

/// A node that is looked at, and who wants its list.
type Subject = (Arc<Member>, Lists);

/// Who wants to know what the node of `member` lists: of all that have it, those whose nodes may differ.
fn lists_of(all: &[Arc<Upstream>], member: &Member) -> Lists {
    let differing = all.iter().filter(|upstream| upstream.may_differ());
    let of_node = |upstream: &Arc<Upstream>| {
        let members = upstream.members();
        let same = members.iter().find(|one| Arc::ptr_eq(&one.node, &member.node))?;
        Some((upstream.clone(), same.clone()))
    };
    differing.filter_map(of_node).collect()
}

/// Looks at every node of `upstream` once. One look is enough to take a node for down.
pub async fn once(upstream: &Arc<Upstream>, client: &Arc<Client>) {
    let members = upstream.found_members().await;
    let lists = |one| lists_of(std::slice::from_ref(upstream), one);
    let looks = members
        .iter()
        .map(|one| look(upstream.clone(), (one.clone(), lists(one)), client.clone(), true));
    futures_util::future::join_all(looks).await;
}

/// Looks at one node.
async fn look(upstream: Arc<Upstream>, (member, lists): Subject, client: Arc<Client>, once: bool) {
    let Some(health) = &upstream.health else { return };
    let node = &member.node;
    let look = Look { upstream: &upstream, member: &member, client: &client, health };
    let found = look.health().await;
    let works = found.is_ok();
    let need = match once {
        true => Thresholds { unhealthy_after: 1, healthy_after: 1 },
        false => Thresholds {
            unhealthy_after: health.unhealthy_after,
            healthy_after: health.healthy_after,
        },
    };
    let refused = found == Err(Unanswered::NoConnection.to_string());
    node.tell(node.health.probed(found, need, Instant::now()));
    if works {
        if upstream.kind == Kind::Vllm {
            look.load().await;
        }
        for (upstream, member) in &lists {
            upstream.learn_of(member, &client).await;
        }
    } else {
        node.load.compare(None, 0);
        node.cache_use.forget();
    }
    let is_down = node.health.told(Instant::now()).state == "down";
    node.schedule.done(works, if is_down { works } else { refused });
}

struct Look<'l> {
    upstream: &'l Upstream,
    member: &'l Member,
    client: &'l Client,
    health: &'l HealthConfig,
}

#[derive(Deserialize)]
struct Pause {
    is_paused: bool,
}

impl Look<'_> {
    async fn ask(&self, path: &str) -> Result<client::Answer, String> {
        let path = self.member.node.path_for(path);
        let asked = self.client.get(self.upstream, &self.member.node, &path, self.health.timeout);
        asked.await.map_err(|why| why.to_string())
    }

    /// What it says of itself. A node that refuses the key works: that is another fault, told elsewhere.
    async fn health(&self) -> Result<(), String> {
        let answer = self.ask(&self.health.path).await?;
        match answer.status.as_u16() {
            200..=299 | 401 | 403 => Ok(()),
            status => Err(format!("answered {status}")),
        }
    }

    /// vLLM's own gauges; and whether it is paused or asleep, which `/health` does not tell.
    async fn load(&self) {
        let node = &self.member.node;
        let before = node.load.requests();
        let answer = self.ask("/metrics").await.ok().filter(|answer| answer.status.is_success());
        let ours = before.max(node.load.requests());
        let load = answer.map(|answer| exposition::load(&String::from_utf8_lossy(&answer.body)));
        let gauges = load.and_then(|load| {
            Some(Gauges { running: load.running?, waiting: load.waiting.unwrap_or(0) })
        });
        node.load.compare(gauges, ours);
        if let Some(load) = &load {
            node.room.is_of(load.cache_tokens);
            node.began_at(load.started);
            node.cache_use.seen(load.kv_cache, load.prefix, Instant::now());
        }
        let halt = match load {
            Some(load) if load.asleep => Some(Halt::Asleep),
            _ => self.is_paused().await.then_some(Halt::Paused),
        };
        node.tell(node.health.halt(halt, Instant::now()));
    }

    /// Only a vLLM in developers' mode can be paused and asked for it.
    async fn is_paused(&self) -> bool {
        if self.member.node.schedule.0.lock().never_pauses {
            return false;
        }
        let Ok(answer) = self.ask("/is_paused").await else { return false };
        if matches!(answer.status.as_u16(), 404 | 405) {
            self.member.node.schedule.0.lock().never_pauses = true;
        }
        serde_json::from_slice::<Pause>(&answer.body).is_ok_and(|pause| pause.is_paused)
    }
}
