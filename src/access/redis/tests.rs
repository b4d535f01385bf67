//! The script, held to the store in memory: the same steps, with the same answers.

use std::sync::atomic::AtomicU32;

use proptest::prelude::*;
use redis::aio::MultiplexedConnection;
use server::RedisServer;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::*;
use crate::access::limits::{self, Account};
use crate::access::passes::Pass;
use crate::access::ring::Span;
use crate::config::Day;
use crate::refusal::Limit;

#[expect(dead_code, reason = "stories stop and kill it; these tests do not")]
#[path = "../../../tests/gateway/support/redis.rs"]
mod server;

const BEGAN: u64 = 1_800_000_000_000;

/// Of the windows in these tests. All steps together pass less than a lease.
const MINUTE: Span = Span { slot: 250, slots: 12 };
const DAYS: [Span; 2] = [Span { slot: 500, slots: 8 }, Span { slot: 2_000, slots: 0 }];
const STEPS_MAX: usize = 60;
const PASSES_MAX: u64 = 160;

#[derive(Debug, Clone)]
enum Step {
    Takes(Kind, u32),
    /// One of the requests under way ends.
    Ends(usize, End),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    All,
    Ahead,
    /// What was counted ahead so many milliseconds ago.
    Counted(u64),
}

#[derive(Debug, Clone, Copy)]
enum End {
    GivenBack,
    Settled(u32),
    Dropped,
}

fn amounts() -> impl Strategy<Value = u32> {
    prop_oneof![10 => 0..9_u32, 1 => Just(u32::MAX), 1 => Just(u32::MAX - 3)]
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let kind = prop_oneof![
        4 => Just(Kind::All),
        1 => Just(Kind::Ahead),
        2 => (0..2_000_u64).prop_map(Kind::Counted),
    ];
    let end =
        prop_oneof![Just(End::GivenBack), amounts().prop_map(End::Settled), Just(End::Dropped),];
    let step = prop_oneof![
        3 => (kind, amounts()).prop_map(|(kind, tokens)| Step::Takes(kind, tokens)),
        2 => (any::<usize>(), end).prop_map(|(which, end)| Step::Ends(which, end)),
    ];
    prop::collection::vec((0..PASSES_MAX, step), 1..STEPS_MAX)
}

fn key_limits() -> impl Strategy<Value = KeyLimits> {
    let limit =
        |most: u32| prop::option::of(prop_oneof![9 => 1..most, 1 => Just(1_000_000_000_u32)]);
    (limit(9), limit(20), limit(40), limit(60), prop::option::of(1..6_u32)).prop_map(
        |(rpm, rpd, tpm, tpd, concurrent)| KeyLimits {
            rpm,
            rpd,
            tpm,
            tpd,
            concurrent,
            day: Day::Rolling,
        },
    )
}

/// Both stores, at the same steps.
struct Both {
    script: Script,
    connection: MultiplexedConnection,
    key: KeyName,
    rules: Rules,
    account: Arc<Account>,
    under_way: Vec<(limits::Admitted, TakenParts, Option<String>)>,
    number: u32,
}

impl Both {
    fn new(connection: MultiplexedConnection, rules: Rules) -> Self {
        static KEYS: AtomicU32 = AtomicU32::new(0);
        let key = format!("key-{}", KEYS.fetch_add(1, Ordering::Relaxed)).into();
        let (script, account, under_way) = (Script::new(), Arc::default(), Vec::new());
        Self { script, connection, key, rules, account, under_way, number: 0 }
    }

    async fn takes(&mut self, part: Part, now: u64) {
        self.number += 1;
        let place = part.takes_place() && self.rules.concurrent.is_some();
        let place = place.then(|| self.number.to_string());
        let (admitted, standings) = self.account.take_by(&self.rules, part, now);
        let of_key = (&self.key, &self.rules);
        let wanted = (part, place.as_deref());
        let decided = self.script.decide(&mut self.connection, of_key, wanted, Some(now)).await;
        let Decided { taken, standings: told, at } = decided.unwrap();
        assert_eq!((told, at), (standings, now));
        match (admitted, taken) {
            (Ok(admitted), Ok(taken)) => {
                assert_eq!(admitted.taken(), &taken);
                self.under_way.push((admitted, taken, place));
            }
            (admitted, taken) => assert_eq!(admitted.map(drop), taken.map(drop)),
        }
    }

    async fn ends(&mut self, which: usize, end: End, now: u64) {
        let Some(which) = which.checked_rem(self.under_way.len()) else { return };
        let (admitted, taken, place) = self.under_way.swap_remove(which);
        let mut change = Change { place, ..Change::default() };
        match end {
            End::GivenBack => {
                admitted.give_back();
                change.give_back(&taken);
            }
            End::Settled(tokens) => {
                admitted.settle(tokens.into(), now);
                change.settle(&taken, tokens);
            }
            End::Dropped => {}
        }
        let of_key = (&self.key, &change);
        self.script.change(&mut self.connection, of_key, Some(now)).await.unwrap();
    }

    async fn play(&mut self, steps: Vec<(u64, Step)>) {
        let mut now = BEGAN;
        for (passes, step) in steps {
            now += passes;
            match step {
                Step::Takes(kind, tokens) => {
                    let nonce = u128::from(self.number).to_be_bytes();
                    let part = match kind {
                        Kind::All => Part::All(tokens),
                        Kind::Ahead => Part::Ahead,
                        Kind::Counted(ago) => Part::Counted(Pass::of(now - ago, nonce), tokens),
                    };
                    self.takes(part, now).await;
                }
                Step::Ends(which, end) => self.ends(which, end, now).await,
            }
        }
    }
}

async fn connection(server: &RedisServer) -> MultiplexedConnection {
    let client = Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[test]
fn both_stores_answer_the_same_steps_alike() {
    let (runtime, server) = (Runtime::new().unwrap(), RedisServer::start());
    let connection = runtime.block_on(connection(&server));
    proptest!(|(steps in steps(), limits in key_limits(), day in prop::sample::select(&DAYS[..]))| {
        let rules = Rules::with_spans(&limits, MINUTE, day);
        runtime.block_on(Both::new(connection.clone(), rules).play(steps));
    });
}

#[tokio::test]
async fn a_pass_is_good_once_whoever_it_is_brought_to_and_until_it_expires() {
    let server = RedisServer::start();
    let (script, mut connection) = (Script::new(), connection(&server).await);
    let limits = KeyLimits { rpm: Some(9), ..KeyLimits::default() };
    let (key, rules) = ("team".into(), Rules::of(&limits));
    let mut left = async |part: Part, now: u64| {
        let decided = script.decide(&mut connection, (&key, &rules), (part, None), Some(now)).await;
        decided.unwrap().standings.requests.unwrap().remaining
    };
    let counted = |nonce: u8| Part::Counted(Pass::of(BEGAN, [nonce; 16]), 0);
    assert_eq!(left(Part::Ahead, BEGAN).await, 8);
    assert_eq!(left(counted(1), BEGAN + 5).await, 8);
    assert_eq!(left(counted(1), BEGAN + 5).await, 7, "it was used");
    assert_eq!(left(counted(2), BEGAN + 60_000).await, 6, "it has expired");
    assert_eq!(left(counted(3), BEGAN - 60_001).await, 5, "nobody's clock is so far ahead");
}

#[tokio::test]
async fn by_the_servers_time_no_window_has_more_than_may_be_and_who_waits_as_told_gets_in() {
    const WINDOW: u64 = 3_000;
    const LIMIT: u32 = 20;
    const ROUNDS: usize = 3;
    let server = RedisServer::start();
    let limits = KeyLimits { rpm: Some(LIMIT), ..KeyLimits::default() };
    let rules = Rules::with_spans(&limits, MINUTE, Span::DAY);
    let mut clients = JoinSet::new();
    for _ in 0..LIMIT {
        let mut connection = connection(&server).await;
        clients.spawn(async move {
            let (script, key, mut admitted) = (Script::new(), "team".into(), Vec::new());
            while admitted.len() < ROUNDS {
                let wanted = (Part::All(0), None);
                let decided = script.decide(&mut connection, (&key, &rules), wanted, None).await;
                let decided = decided.unwrap();
                match decided.taken {
                    Ok(_) => admitted.push(decided.at),
                    Err(exceeded) => {
                        assert_eq!(exceeded.limit, Limit::RequestsPerMinute);
                        assert!(exceeded.wait <= Duration::from_millis(WINDOW + MINUTE.slot));
                        tokio::time::sleep(exceeded.wait).await;
                    }
                }
            }
            admitted
        });
    }
    let mut admitted = clients.join_all().await.concat();
    admitted.sort_unstable();
    let limit = usize::try_from(LIMIT).unwrap();
    assert_eq!(admitted.len(), ROUNDS * limit);
    for of_window in admitted.windows(limit + 1) {
        assert!(of_window[limit] - of_window[0] >= WINDOW, "{of_window:?}");
    }
}
