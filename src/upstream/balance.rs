//! Which of an upstream's nodes gets a request: only those that may have it, and of them the one that the policy names.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::health::Standing;
use super::load::{Place, Trial};
use super::member::Member;
use super::node::Node;
use super::prefix::chain::{Chain, mixed};
use super::prefix::index::Held;
use crate::config::Balance;
use crate::names::NodeId;

/// What is asked for.
pub struct Wish<'w> {
    /// The model, where it is known: only nodes that have it.
    pub model: Option<&'w str>,
    /// This node and no other.
    pub only: Option<&'w NodeId>,
    /// Also a node that may get no work: what is asked for is none, as of an operator who takes it back.
    pub any_state: bool,
    /// Where the request was before: another node, if there is one.
    pub tried: &'w [Arc<Node>],
    /// The request can be sent again if this try fails: it may try a node that was ejected.
    pub spare: bool,
    /// What ties it to some of the nodes.
    pub affinity: Affinity<'w>,
    /// Bytes of the body.
    pub bytes: usize,
}

/// What ties a request to some of the nodes rather than others.
#[derive(Debug, Clone, Copy)]
pub enum Affinity<'w> {
    /// Nothing.
    None,
    /// What it has in common with others, as a hash.
    Session(u64),
    /// Its prompt.
    Prompt(&'w Chain),
}

/// Why no node was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoNode {
    /// None of those that there are may get work; one may after so long, where that is known.
    Away(Option<Duration>),
    /// All that may have it have as much as they may.
    Full,
    /// There is none: the name of the nodes has no address, or the one that is asked for is not there any more.
    Unknown,
}

/// How often a request is passed over for the trial of a node.
const TRIALS_LOST_MAX: usize = 2;

/// Looks for a place, where others take the last one of the best node each time.
const LOOKS_MAX: usize = 8;

/// How an upstream's nodes share its requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) policy: Balance,
    /// Requests under way at one node.
    pub(super) most: Option<u32>,
}

/// Where an upstream's turns are.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicUsize);

/// How good a node is for a request: what comes first is taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It is to be tried again, and this request can go elsewhere if that fails.
    Trial,
    /// It works.
    Up,
    /// It works, and is passed over this time.
    UpLater,
    /// It works, and has failed this request before.
    UpAgain,
    /// It was ejected. Where nothing else is left, a node that may work is better than none.
    Ejected,
    EjectedAgain,
    /// It gets no work, and this is none.
    Out,
}

/// How much more than the mean the node of a session may have to do (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with
/// Bounded Loads).
const LOAD_OVER_MEAN: f64 = 1.25;

/// What it may have in any case: of an answer that its client has just read, the place may not be free yet.
const LOAD_IN_ANY_CASE: f64 = 2.0;

/// The best so far.
struct Best<'m> {
    member: &'m Arc<Member>,
    rank: Rank,
    /// Lower is better: of what takes equally long, the emptier cache.
    score: (u64, u64),
    /// What the request weighs there.
    weight: u64,
}

/// What is known of all nodes when one is chosen.
#[expect(clippy::large_enum_variant, reason = "it stays on the stack")]
enum View {
    Load,
    Turn,
    /// The hash, and how many requests a node may have.
    Session(u64, f64),
    /// What each holds of the prompt, and its length.
    Prompt(Held, u64),
}

impl Turn {
    /// Takes a place at the best of `members`.
    ///
    /// # Errors
    /// [`NoNode`].
    pub(super) fn pick(
        &self,
        members: &[Arc<Member>],
        rules: Rules,
        wish: &Wish<'_>,
        now: Instant,
    ) -> Result<Place, NoNode> {
        // Somebody else may take the place of a trial in between, or the last place at a node: the next look finds it taken.
        let mut spare = wish.spare;
        for look in 0..=LOOKS_MAX {
            spare &= look < TRIALS_LOST_MAX;
            let best = self.best(members, rules, &Wish { spare, ..*wish }, now)?;
            if best.rank == Rank::Trial && !best.member.node.health.begin_trial(now) {
                continue;
            }
            if let Some(place) = best.take(rules.most, wish, now) {
                return Ok(place);
            }
            if best.rank == Rank::Trial {
                best.member.node.health.trial_untold();
            }
        }
        Err(NoNode::Full)
    }

    fn best<'m>(
        &self,
        members: &'m [Arc<Member>],
        rules: Rules,
        wish: &Wish<'_>,
        now: Instant,
    ) -> Result<Best<'m>, NoNode> {
        let first = self.0.fetch_add(1, Ordering::Relaxed);
        let view = View::new(rules.policy, members, (wish, now));
        let mut away: Option<Duration> = None;
        let mut best: Option<Best<'m>> = None;
        let (mut there, mut full) = (false, false);
        for turn in 0..members.len() {
            // Each pick begins at another node: equals take turns.
            let Some(member) = members.get((first.wrapping_add(turn)) % members.len()) else {
                break;
            };
            if wish.only.is_some_and(|only| member.node.id != *only) {
                continue;
            }
            there = true;
            if wish.model.is_some_and(|model| !member.may_serve(model)) {
                continue;
            }
            let standing = member.node.health.standing(now);
            let known = rank(standing, wish.tried_at(&member.node), wish.spare);
            let Some((rank, share)) = known.or(wish.any_state.then_some((Rank::Out, 1.0))) else {
                if let Standing::Out { until: Some(until) } = standing {
                    let wait = until.saturating_duration_since(now);
                    away = Some(away.map_or(wait, |known| known.min(wait)));
                }
                continue;
            };
            if rules.most.is_some_and(|most| !wish.any_state && member.node.load.requests() >= most)
            {
                full |= matches!(rank, Rank::Up | Rank::UpAgain);
                continue;
            }
            // A node in slow start is passed over in some of its turns, whatever the policy.
            let passed = rank == Rank::Up && share < 1.0 && scattered(first) >= share;
            let rank = if passed { Rank::UpLater } else { rank };
            let weight = view.weight(&member.node, wish);
            let score = view.score(&member.node, (turn, weight), now);
            let better = |best: &Best<'_>| (rank, score) < (best.rank, best.score);
            if best.as_ref().is_none_or(better) {
                best = Some(Best { member, rank, score, weight });
            }
        }
        match best {
            // Who works is waited for, rather than asked again or asked while it may not work.
            Some(best) if !full || best.rank < Rank::UpAgain => Ok(best),
            _ if full => Err(NoNode::Full),
            Some(best) => Ok(best),
            None => Err(if there { NoNode::Away(away) } else { NoNode::Unknown }),
        }
    }
}

/// Whether a node of this standing may get the request, and which share of others' work.
fn rank(standing: Standing, tried: bool, spare: bool) -> Option<(Rank, f64)> {
    Some(match (standing, tried) {
        (Standing::Up(share), false) => (Rank::Up, share),
        (Standing::Up(share), true) => (Rank::UpAgain, share),
        (Standing::Trial, false) if spare => (Rank::Trial, 1.0),
        (Standing::Trial | Standing::Ejected, false) => (Rank::Ejected, 1.0),
        (Standing::Trial | Standing::Ejected, true) => (Rank::EjectedAgain, 1.0),
        (Standing::Out { .. }, _) => return None,
    })
}

impl View {
    fn new(policy: Balance, members: &[Arc<Member>], (wish, now): (&Wish<'_>, Instant)) -> Self {
        match (policy, wish.affinity) {
            (Balance::RoundRobin, _) => Self::Turn,
            (Balance::ConsistentHash, Affinity::Session(hash)) => {
                let takes_work = |member: &&Arc<Member>| wish.may_have(member, now);
                let loads = members.iter().filter(takes_work).map(|one| one.node.load.all());
                let (nodes, all) = loads
                    .fold((0.0, 1.0), |(nodes, all), load| (nodes + 1.0, all + f64::from(load)));
                let most = (all / f64::max(nodes, 1.0) * LOAD_OVER_MEAN).ceil();
                Self::Session(hash, most.max(LOAD_IN_ANY_CASE))
            }
            (Balance::PrefixAware, Affinity::Prompt(chain)) => {
                let held = members.first().map(|one| one.node.prefixes.held(chain));
                Self::Prompt(held.unwrap_or_default(), chain.bytes())
            }
            _ => Self::Load,
        }
    }

    /// What the request weighs at `node`: what that does not hold of it.
    fn weight(&self, node: &Node, wish: &Wish<'_>) -> u64 {
        let bytes = u64::try_from(wish.bytes).unwrap_or(u64::MAX / 4);
        match (self, node.number) {
            (Self::Prompt(held, prompt), Some(number)) => prompt.saturating_sub(held.at(number)),
            (Self::Prompt(_, prompt), None) => *prompt,
            _ => bytes,
        }
    }

    fn score(&self, node: &Node, (turn, weight): (usize, u64), now: Instant) -> (u64, u64) {
        let score = match self {
            Self::Load => node.load.total(),
            Self::Turn => u64::try_from(turn).unwrap_or(u64::MAX),
            // Rendezvous hashing (Thaler, Ravishankar): who leaves takes none of the others' sessions along.
            Self::Session(hash, most) => {
                let load = node.load.all();
                match f64::from(load) < *most {
                    true => mixed(hash ^ node.hash) >> 1,
                    false => (1 << 63) | u64::from(load),
                }
            }
            Self::Prompt(..) => return (node.load.ahead(now) + weight, node.room.used()),
        };
        (score, 0)
    }
}

/// A number below 1 for each turn, those of neighbours far from each other (Knuth, 6.4: multiplicative hashing).
fn scattered(turn: usize) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let hash = u64::try_from(turn).unwrap_or_default().wrapping_mul(GOLDEN);
    f64::from(u32::try_from(hash >> 32).unwrap_or_default()) / 4_294_967_296.0
}

impl Wish<'_> {
    /// Any node that works.
    pub const ANY: Wish<'static> = Wish {
        model: None,
        only: None,
        any_state: false,
        tried: &[],
        spare: true,
        affinity: Affinity::None,
        bytes: 0,
    };

    /// True where the request was at `node` before.
    pub fn tried_at(&self, node: &Arc<Node>) -> bool {
        self.tried.iter().any(|tried| Arc::ptr_eq(tried, node))
    }

    /// True where the node has the model and works.
    fn may_have(&self, member: &Member, now: Instant) -> bool {
        self.model.is_none_or(|model| member.may_serve(model))
            && member.node.health.standing(now).takes_work()
    }
}

impl Best<'_> {
    /// None where the last place has gone meanwhile.
    fn take(&self, most: Option<u32>, wish: &Wish<'_>, now: Instant) -> Option<Place> {
        // Whoever comes to an ejected node decides whether it comes back.
        let trial = match self.rank {
            Rank::Trial => Trial::Alone,
            // What is no work tells nothing of how it would be done.
            Rank::Ejected | Rank::EjectedAgain if !wish.any_state => Trial::AmongOthers,
            _ => Trial::No,
        };
        let node = &self.member.node;
        let place = match most.filter(|_| !wish.any_state) {
            Some(most) => Place::take_one_of(most, node.clone(), self.weight, trial, now)?,
            None => Place::take(node.clone(), self.weight, trial, now),
        };
        if let (Affinity::Prompt(chain), Some(number)) = (wish.affinity, node.number) {
            node.room.holds(node.prefixes.note(number, chain, node.room.bytes()));
            return Some(place.holding_of(chain.bytes()));
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::Registry;
    use super::super::resolve::SystemResolver;
    use super::*;
    use crate::config::NodeUrl;

    fn members(count: u16) -> Vec<Arc<Member>> {
        let registry = Registry::new(Arc::new(SystemResolver), 1 << 20);
        let url = |port| NodeUrl { tls: false, host: "h".into(), port, base: String::new() };
        (1..=count).map(|port| Arc::new(Member::new(registry.node(&url(port), None)))).collect()
    }

    const RULES: Rules = Rules { policy: Balance::LeastLoad, most: None };

    #[test]
    fn a_node_that_is_back_begins_with_a_tenth_of_its_share_whatever_the_policy_and_the_place() {
        let now = Instant::now();
        for policy in [Balance::LeastLoad, Balance::RoundRobin] {
            for back in [0, 5, 9] {
                let (members, turn) = (members(10), Turn::default());
                members[back].node.health.drain(true, now);
                members[back].node.health.drain(false, now);
                let mut picks = vec![0; members.len()];
                for _ in 0..10_000 {
                    let place =
                        turn.pick(&members, Rules { policy, most: None }, &Wish::ANY, now).unwrap();
                    let at = members.iter().position(|one| Arc::ptr_eq(&one.node, place.node()));
                    picks[at.unwrap()] += 1;
                }
                assert!((50..200).contains(&picks[back]), "{policy:?} {back}: {picks:?}");
            }
        }
    }

    #[test]
    fn a_session_stays_where_one_request_is_under_way_and_leaves_where_there_are_more() {
        let (members, turn, now) = (members(4), Turn::default(), Instant::now());
        let rules = Rules { policy: Balance::ConsistentHash, most: None };
        let wish = Wish { affinity: Affinity::Session(7), ..Wish::ANY };
        let pick = || turn.pick(&members, rules, &wish, now).unwrap();
        let [first, second, third] = [pick(), pick(), pick()];
        assert!(Arc::ptr_eq(first.node(), second.node()));
        assert!(!Arc::ptr_eq(first.node(), third.node()));
    }

    #[test]
    fn prompts_that_have_nothing_in_common_fill_all_caches_also_where_nobody_waits() {
        let (members, turn, now) = (members(2), Turn::default(), Instant::now());
        let rules = Rules { policy: Balance::PrefixAware, most: None };
        let text = "a question that nobody else has ".repeat(40);
        let mut picks = [0; 2];
        for number in 0..40 {
            let chain = Chain::new("m", [format!("{number} {text}").as_bytes()]);
            let wish = Wish { affinity: Affinity::Prompt(&chain), ..Wish::ANY };
            let at = |place: &Place| usize::from(Arc::ptr_eq(place.node(), &members[1].node));
            let first = at(&turn.pick(&members, rules, &wish, now).unwrap());
            picks[first] += 1;
            // It is asked again where it was, as often as makes the turns even.
            let again = turn.pick(&members, rules, &wish, now).unwrap();
            assert_eq!(at(&again), first);
        }
        assert_eq!(picks, [20, 20]);
    }

    #[test]
    fn no_node_gets_more_than_it_may_and_who_works_is_waited_for() {
        use super::super::breaker::Fault;
        let (members, turn, now) = (members(3), Turn::default(), Instant::now());
        for _ in 0..3 {
            members[2].node.health.failed(Fault::Connect, false, now);
        }
        let rules = Rules { most: Some(2), ..RULES };
        let pick = |wish| turn.pick(&members, rules, wish, now);
        let mut places: Vec<Place> = (0..4).map(|_| pick(&Wish::ANY).unwrap()).collect();
        assert!(members[..2].iter().all(|member| member.node.load.requests() == 2));
        assert_eq!(pick(&Wish::ANY).err(), Some(NoNode::Full));
        // What operates nodes is no work.
        assert!(pick(&Wish { any_state: true, ..Wish::ANY }).is_ok());
        // Nor is a node that has failed this request before, where it is the only one that works.
        let tried = [members[0].node.clone(), members[1].node.clone()];
        let again = turn.pick(&members, rules, &Wish { tried: &tried, ..Wish::ANY }, now);
        assert_eq!(again.err(), Some(NoNode::Full));
        drop(places.pop());
        assert!(pick(&Wish::ANY).is_ok());
    }

    #[test]
    fn one_request_tries_an_ejected_node_and_the_others_go_elsewhere() {
        use super::super::breaker::Fault;
        let (members, turn, now) = (members(2), Turn::default(), Instant::now());
        for _ in 0..3 {
            members[0].node.health.failed(Fault::Connect, false, now);
        }
        let pick = |now| turn.pick(&members, RULES, &Wish::ANY, now).unwrap();
        assert!((0..9).all(|_| Arc::ptr_eq(pick(now).node(), &members[1].node)));
        let later = now + Duration::from_secs(2);
        let mut trial = pick(later);
        assert!(trial.is_trial() && Arc::ptr_eq(trial.node(), &members[0].node));
        assert!((0..9).all(|_| Arc::ptr_eq(pick(later).node(), &members[1].node)));
        trial.succeeded();
        assert!(!pick(later).is_trial());
    }
}
