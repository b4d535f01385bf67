//! The store that all gateways share: each decision is one call of one script, by the server's own time.

pub(crate) mod link;
mod pending;
mod script;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use redis::aio::ConnectionManager;
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo as _, RedisError, RedisResult, TlsCertificates};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::limits::{Part, Rules, Standings, TOKENS, TakenParts};
use crate::config::{KeyLimits, RedisUrl};
use crate::metrics::RedisMetrics;
use crate::names::KeyName;
use crate::refusal::Exceeded;
use link::Link;
use pending::{Numbered, Pending};
use script::{Change, Decided, Script};

/// The longest that a request waits for a decision, connecting and all: with what else it waits for, below the 200 ms that
/// it may be kept by a Redis that is away.
const DECISION_MAX: Duration = Duration::from_millis(150);

/// Turns of the runtime after it: in one the answer is read, in another it is handed on.
const LATE_LOOKS: usize = 3;

/// Of it, the longest that a request waits for what came before of the same key to be written.
const SETTLED_MAX: Duration = Duration::from_millis(50);

/// From one renewal of places to the next. Also where none is taken: so nobody closes a connection that seems to be idle, and
/// a Redis that is gone is found out about before somebody asks.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// Changes or renewals that are under way at once, beside the decisions: that keeps a connection busy over some milliseconds.
const CALLS: usize = 256;

/// The longest that changes take to be written when the gateway stops.
const LAST_CHANGES: Duration = Duration::from_secs(1);

/// What Redis says where a key holds something else than the script writes.
const WRONG_TYPE: &str = "WRONGTYPE";

/// The key and the place of looks. No other key has a space in its name.
const LOOK: &str = "a look";

/// A Redis, and what this gateway has to do with it.
pub struct Redis {
    link: Link,
    script: Script,
    pending: Pending,
    /// What the places of this gateway begin with: nobody else's do.
    name: String,
    places: AtomicU64,
    metrics: RedisMetrics,
    /// What holds while it is away, for the log.
    instead: String,
}

/// What must run for a [`Redis`].
pub struct Work {
    redis: Arc<Redis>,
    changes: mpsc::Receiver<Numbered>,
}

/// What comes of a decision: what was taken, or is in the way; how the key stands; when, in milliseconds of the server's.
pub(super) type Decision = (Result<Taken, Exceeded>, Standings, u64);

/// What was taken for one request. Dropping it ends the request; the windows keep what was taken, unless it is given back.
pub struct Taken {
    redis: Arc<Redis>,
    key: KeyName,
    taken: TakenParts,
    /// What is written in the end.
    change: Change,
}

/// What connects to `url`. Over TLS it must be certified by `authorities`, a PEM file, or else by the system's.
///
/// # Errors
/// What the address says cannot be done, or this is no PEM file.
pub fn client(url: &RedisUrl, authorities: Option<Vec<u8>>) -> RedisResult<Client> {
    // Without it a call would wait for the acknowledgement of the one before.
    let settings = TcpSettings::default().set_nodelay(true);
    let info = url.secret().into_connection_info()?.set_tcp_settings(settings);
    match authorities.filter(|_| url.is_tls()) {
        Some(pem) => {
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
            Client::build_with_tls(info, certificates)
        }
        None => Client::open(info),
    }
}

/// The connection was closed, as by a restart or by what closes idle ones: the same call goes over another. What the first did
/// is at worst done twice: too much is counted, never too little.
fn is_closed(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
}

/// What comes of `decision` in [`DECISION_MAX`]. Where it has come, and this process was too busy to see it, that is looked at before
/// Redis is blamed.
async fn in_time<T>(decision: impl Future<Output = T>) -> Option<T> {
    let mut decision = std::pin::pin!(decision);
    if let Ok(decided) = tokio::time::timeout(DECISION_MAX, &mut decision).await {
        return Some(decided);
    }
    for _ in 0..LATE_LOOKS {
        tokio::task::yield_now().await;
        if let Some(decided) = (&mut decision).now_or_never() {
            return Some(decided);
        }
    }
    None
}

impl Redis {
    /// A store at `client`, which may be away. What holds `instead` of it then is for the log.
    ///
    /// # Errors
    /// What the address says cannot be done.
    pub fn new(
        client: Client,
        metrics: RedisMetrics,
        instead: &'static str,
    ) -> RedisResult<(Arc<Self>, Work)> {
        let (pending, changes) = Pending::new();
        let redis = Arc::new(Self {
            link: Link::new(client, "limits", metrics.clone())?,
            script: Script::new(),
            pending,
            name: Uuid::new_v4().simple().to_string(),
            places: AtomicU64::new(0),
            metrics,
            instead: format!("`on_store_error: {instead}` holds"),
        });
        Ok((redis.clone(), Work { redis, changes }))
    }

    /// Takes a `part` of a request of `key`, or says what is in the way. None where Redis is away.
    pub(super) async fn take(
        self: &Arc<Self>,
        key: &KeyName,
        limits: &KeyLimits,
        part: Part,
    ) -> Option<Decision> {
        if !self.link.is_up() {
            return None;
        }
        let rules = Rules::of(limits);
        let place = (part.takes_place() && limits.concurrent.is_some()).then(|| self.place());
        // From here on: if this is given up, nobody knows whether the place was taken. It is free either way.
        let change = Change { place: place.clone(), ..Change::default() };
        let mut taken =
            Taken { redis: self.clone(), key: key.clone(), taken: TakenParts::default(), change };
        let decision = self.decide((key, &rules), (part, place.as_deref()));
        let decided = match in_time(decision).await {
            Some(Ok(decided)) => decided,
            Some(Err(error)) => {
                self.blame(&error);
                return None;
            }
            None => {
                self.link.failed(format!("no answer within {DECISION_MAX:?}"));
                return None;
            }
        };
        let admitted = match decided.taken {
            Ok(parts) => {
                taken.taken = parts;
                place.into_iter().for_each(|place| self.pending.hold(key, place));
                Ok(taken)
            }
            Err(exceeded) => {
                taken.change = Change::default();
                Err(exceeded)
            }
        };
        Some((admitted, decided.standings, decided.at))
    }

    async fn decide(
        &self,
        of_key: (&KeyName, &Rules),
        wanted: (Part, Option<&str>),
    ) -> RedisResult<Decided> {
        let _in_time = tokio::time::timeout(SETTLED_MAX, self.pending.settled(of_key.0)).await;
        let mut connection = self.link.connection();
        match self.script.decide(&mut connection, of_key, wanted, None).await {
            Err(error) if is_closed(&error) => {
                self.script.decide(&mut connection, of_key, wanted, None).await
            }
            decided => decided,
        }
    }

    /// Waits until all is written of requests that have ended, as far as that can be.
    pub async fn flush(&self) {
        if self.link.is_up() {
            let _in_time = tokio::time::timeout(LAST_CHANGES, self.pending.all_settled()).await;
        }
    }

    /// A call failed: because of what somebody else has written under its key, or because Redis is away.
    fn blame(&self, error: &RedisError) {
        match error.code() {
            Some(WRONG_TYPE) => self.link.told_off(error),
            _ => self.link.failed(error.to_string()),
        }
    }

    /// Does over a connection of its own all that requests need, as one that hung is never used again. Before anybody is let in
    /// the places are there: a Redis that was restarted knows of none.
    async fn look(&self) -> RedisResult<ConnectionManager> {
        let connection = self.link.another()?;
        self.renew(&connection).await?;
        Ok(connection)
    }

    async fn write(&self, mut changes: mpsc::Receiver<Numbered>) {
        let mut renewal = tokio::time::interval(RENEW_EVERY);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(CALLS);
        loop {
            tokio::select! {
                _ = renewal.tick() => if self.link.is_up() {
                    let renewed = self.renew(&self.link.connection()).await;
                    renewed.unwrap_or_else(|error| self.link.failed(error.to_string()));
                },
                _ = changes.recv_many(&mut batch, CALLS) => {
                    // What came before an outage is written after it: the slots are still the same.
                    self.link.until(true).await;
                    self.write_all(&batch).await;
                    self.pending.done(&batch);
                    batch.clear();
                }
            }
        }
    }

    /// What fails is not written again: nobody knows whether it was, and what is given back twice lets too many in.
    async fn write_all(&self, batch: &[Numbered]) {
        let written =
            futures_util::stream::iter(batch).for_each_concurrent(CALLS, |change| async {
                let (_, key, change) = change;
                let mut connection = self.link.connection();
                if let Err(error) = self.script.change(&mut connection, (key, change), None).await {
                    self.metrics.dropped.inc();
                    self.blame(&error);
                }
            });
        written.await;
    }

    /// Holds the places of all requests under way for another lease; where there are none, that of [`LOOK`].
    async fn renew(&self, connection: &ConnectionManager) -> RedisResult<()> {
        let (look, place) = (LOOK.into(), [LOOK.to_owned()]);
        match self.script.renew(&mut connection.clone(), &look, &place).await {
            Err(error) if is_closed(&error) => {
                self.script.renew(&mut connection.clone(), &look, &place).await?;
            }
            renewed => renewed?,
        }
        let places = futures_util::stream::iter(self.pending.places().into_iter().map(Ok));
        let renewed = places.try_for_each_concurrent(CALLS, |(key, places)| async move {
            self.script.renew(&mut connection.clone(), &key, &places).await
        });
        renewed.await
    }

    fn place(&self) -> String {
        format!("{}:{}", self.name, self.places.fetch_add(1, Ordering::Relaxed))
    }
}

impl Work {
    /// Writes what becomes of requests, holds the places of those under way, and finds out when Redis is away and when it is
    /// back. Until the task is dropped.
    pub async fn run(self) {
        let redis = &self.redis;
        let watch = redis.link.watch(&redis.instead, || redis.look());
        tokio::join!(watch, redis.write(self.changes));
    }
}

impl Taken {
    /// Nothing came of the request: it is as if it had not been there.
    pub(super) fn give_back(mut self) {
        self.change.give_back(&self.taken);
    }

    /// The request had so many tokens.
    pub(super) fn settle(mut self, tokens: u64) {
        self.change.settle(&self.taken, u32::try_from(tokens).unwrap_or(u32::MAX));
    }

    /// Its tokens are counted.
    pub(super) fn has_tokens(&self) -> bool {
        self.taken.iter().skip(TOKENS).any(Option::is_some)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let change = std::mem::take(&mut self.change);
        if !change.is_none() && !self.redis.pending.push(&self.key, change) {
            self.redis.metrics.dropped.inc();
        }
    }
}
