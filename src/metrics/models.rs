//! The series of models, and how their number is bounded: a name has series where it is configured, or once an answer for
//! it was good; what clients make up has none. They stay: counters that are gone and come again would be wrong.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::proto::MetricType;

use super::Failure;
use super::families::Family;
use super::traffic::Traffic;
use super::{LABEL_VALUES_MAX, OTHER};

/// Stands for every model that no node has answered for.
const UNKNOWN: &str = "_unknown";

/// Stands for requests that name no model.
const NONE: &str = "_none";

/// How a model is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is configured, or a node lists it.
    Listed,
    /// A node has answered for it, which some do for any name.
    Answered,
    /// Its client alone says so.
    Not,
}

/// Places for models that nobody lists: the others are kept for those that somebody does.
const UNLISTED_MAX: usize = LABEL_VALUES_MAX / 2;

/// What is known of each.
pub(super) struct Models {
    known: ArcSwap<HashMap<String, Arc<Traffic>>>,
    /// Held while one is added.
    adding: Mutex<()>,
    none: Arc<Traffic>,
    unknown: Arc<Traffic>,
    other: Arc<Traffic>,
}

impl Models {
    pub(super) fn new() -> Self {
        Self {
            known: ArcSwap::default(),
            adding: Mutex::default(),
            none: Arc::default(),
            unknown: Arc::default(),
            other: Arc::default(),
        }
    }

    /// Of `model`, which has series from now on where it is known.
    pub(super) fn of(&self, model: Option<&str>, how: Known) -> Arc<Traffic> {
        let Some(model) = model else { return self.none.clone() };
        if [NONE, UNKNOWN, OTHER].contains(&model) {
            return self.unknown.clone();
        }
        if let Some(known) = self.known.load().get(model) {
            return known.clone();
        }
        match how {
            Known::Listed => self.add(model, LABEL_VALUES_MAX),
            Known::Answered => self.add(model, UNLISTED_MAX),
            Known::Not => self.unknown.clone(),
        }
    }

    fn add(&self, model: &str, most: usize) -> Arc<Traffic> {
        let _adding = self.adding.lock();
        let known = self.known.load_full();
        if let Some(known) = known.get(model) {
            return known.clone();
        }
        if known.len() >= most {
            return self.other.clone();
        }
        let new = Arc::<Traffic>::default();
        let mut more = HashMap::clone(&known);
        more.insert(model.to_owned(), new.clone());
        self.known.store(Arc::new(more));
        new
    }

    /// All that there are, by name.
    pub(super) fn all(&self) -> Vec<(String, Arc<Traffic>)> {
        let known = self.known.load_full();
        let own = [(NONE, &self.none), (UNKNOWN, &self.unknown), (OTHER, &self.other)];
        let own = own.into_iter().filter(|(_, traffic)| traffic.is_used());
        let named = known.iter().map(|(name, traffic)| (name.as_str(), traffic)).chain(own);
        let mut all: Vec<_> =
            named.map(|(name, traffic)| (name.to_owned(), traffic.clone())).collect();
        all.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        all
    }
}

pub(super) const FAMILIES: [Family<Traffic>; 5] = [
    Family {
        name: "sluice_model_requests_total",
        help: "Requests that went to a node, or should have, by model (`_none` without one, `_unknown` where no node has \
               answered for it) and class of status.",
        kind: MetricType::COUNTER,
        tell: |traffic, told| traffic.totals.tell_answers(told),
    },
    Family {
        name: "sluice_model_broken_streams_total",
        help: "Streams that broke after their begin, by model: they are not among the requests.",
        kind: MetricType::COUNTER,
        tell: |traffic, told| told.count(traffic.failures[Failure::Broken as usize].get()),
    },
    Family {
        name: "sluice_tokens_total",
        help: "Tokens of requests, as far as they are known, by model and kind: prompt, cached (of the prompt), completion.",
        kind: MetricType::COUNTER,
        tell: |traffic, told| traffic.totals.tell_tokens(told),
    },
    Family {
        name: "sluice_time_to_first_token_seconds",
        help: "From a request's first byte to the first token of its stream, by model; vLLM's buckets.",
        kind: MetricType::HISTOGRAM,
        tell: |traffic, told| told.durations_if_any(&traffic.first_token),
    },
    Family {
        name: "sluice_inter_token_latency_seconds",
        help: "Between two tokens of a stream, by model; vLLM's buckets.",
        kind: MetricType::HISTOGRAM,
        tell: |traffic, told| told.durations_if_any(&traffic.between_tokens),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(models: &Models) -> Vec<String> {
        models.all().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_clients_make_up_has_no_series() {
        let models = Models::new();
        assert!(Arc::ptr_eq(&models.of(Some(OTHER), Known::Listed), &models.unknown));
        let answered = |model, how, status| {
            models.of(model, how).answered(status, Default::default());
        };
        answered(Some("made up"), Known::Not, 404);
        answered(Some("real"), Known::Answered, 200);
        answered(Some("real"), Known::Not, 500);
        answered(None, Known::Answered, 200);
        assert_eq!(names(&models), ["_none", "_unknown", "real"]);
        assert_eq!(models.of(Some("real"), Known::Not).outcome().errors, 1);
    }

    #[test]
    fn past_the_last_place_all_are_one_and_those_that_are_listed_have_their_own() {
        let models = Models::new();
        for model in 0..UNLISTED_MAX + 5 {
            models.of(Some(&model.to_string()), Known::Answered).answered(200, Default::default());
        }
        assert_eq!(names(&models).len(), UNLISTED_MAX + 1);
        assert_eq!(models.of(Some("more"), Known::Answered).outcome().ok, 5);
        for model in 0..UNLISTED_MAX + 5 {
            models.of(Some(&format!("listed-{model}")), Known::Listed);
        }
        assert_eq!(names(&models).len(), LABEL_VALUES_MAX + 1);
    }
}
