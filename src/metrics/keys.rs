//! The series of keys, by their names.

use std::sync::Arc;

use prometheus::proto::MetricType;

use super::families::Family;
use super::traffic::{CLASSES, KeyTraffic};
use super::{LABEL_VALUES_MAX, OTHER};

/// One key at one moment.
#[derive(Clone)]
pub struct KeyReading {
    /// Its name.
    pub key: String,
    /// What came of its requests.
    pub traffic: Arc<KeyTraffic>,
}

impl KeyReading {
    /// As many as may have series of their own; the others as one.
    pub(super) fn bounded(mut keys: Vec<Self>) -> Vec<Self> {
        if keys.len() > LABEL_VALUES_MAX {
            keys.sort_unstable_by(|one, other| one.key.cmp(&other.key));
            let others = keys.split_off(LABEL_VALUES_MAX);
            let other = KeyTraffic::default();
            others.iter().for_each(|key| other.add(&key.traffic));
            keys.push(Self { key: OTHER.to_owned(), traffic: Arc::new(other) });
        }
        keys
    }
}

pub(super) const FAMILIES: [Family<KeyReading>; 3] = [
    Family {
        name: "sluice_key_requests_total",
        help: "Requests that went to a node, or should have, by the name of their key and class of status.",
        kind: MetricType::COUNTER,
        tell: |key, told| {
            for (class, count) in CLASSES.iter().zip(&key.traffic.totals.answers) {
                // Most keys have answers of two classes.
                if count.get() > 0 {
                    told.count_of("status", class, count.get());
                }
            }
        },
    },
    Family {
        name: "sluice_key_tokens_total",
        help: "Tokens of requests, as far as they are known, by the name of their key and kind: prompt, cached, completion.",
        kind: MetricType::COUNTER,
        tell: |key, told| key.traffic.totals.tell_tokens(told),
    },
    Family {
        name: "sluice_key_limited_total",
        help: "Requests that a limit of their key has refused, by its name.",
        kind: MetricType::COUNTER,
        tell: |key, told| told.count(key.traffic.limited.get()),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_thousandth_all_are_one() {
        let key = |number: usize| {
            let traffic = Arc::<KeyTraffic>::default();
            traffic.answered(200, Default::default());
            traffic.limited();
            KeyReading { key: format!("{number:05}"), traffic }
        };
        let keys = KeyReading::bounded((0..LABEL_VALUES_MAX + 7).map(key).collect());
        assert_eq!(keys.len(), LABEL_VALUES_MAX + 1);
        let last = keys.last().unwrap();
        let (requests, limited, _) = last.traffic.told();
        assert_eq!((last.key.as_str(), requests, limited), (OTHER, 7, 7));
    }
}
