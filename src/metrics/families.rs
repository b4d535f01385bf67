//! Series of subjects that come and go (nodes, keys) or come (models), made when somebody asks: no request pays for them,
//! and who is gone leaves none.

use prometheus::core::Desc;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::durations::{Durations, about};

/// A family of series, and what one subject tells in it.
pub(super) struct Family<S> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) tell: fn(&S, &mut Told<'_>),
}

/// What one subject tells.
pub(super) struct Told<'t> {
    /// Its own label.
    label: (&'static str, &'t str),
    metrics: Vec<Metric>,
}

impl Told<'_> {
    pub(super) fn count(&mut self, count: u64) {
        self.push(None, |metric| metric.set_counter(counter(count)));
    }

    /// One of several, told apart by another label.
    pub(super) fn count_of(&mut self, label: &'static str, value: &str, count: u64) {
        self.push(Some((label, value)), |metric| metric.set_counter(counter(count)));
    }

    pub(super) fn gauge(&mut self, value: f64) {
        self.push(None, |metric| metric.set_gauge(gauge(value)));
    }

    /// 1 for the word that holds.
    pub(super) fn word(&mut self, label: &'static str, word: &str) {
        self.push(Some((label, word)), |metric| metric.set_gauge(gauge(1.0)));
    }

    /// What has no stream has no series of them: each takes as much room as twenty counters.
    pub(super) fn durations_if_any(&mut self, durations: &Durations) {
        let histogram = durations.histogram();
        if histogram.get_sample_count() > 0 {
            self.push(None, |metric| metric.set_histogram(histogram));
        }
    }

    fn push(&mut self, other: Option<(&'static str, &str)>, set: impl FnOnce(&mut Metric)) {
        let pair = |(name, value): (&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let labels = std::iter::once(self.label).chain(other).map(pair);
        let mut metric = Metric::from_label(labels.collect());
        set(&mut metric);
        self.metrics.push(metric);
    }
}

fn counter(count: u64) -> Counter {
    let mut counter = Counter::default();
    counter.set_value(about(count));
    counter
}

fn gauge(value: f64) -> Gauge {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    gauge
}

/// By which the registry knows the families.
pub(super) fn descriptions<S>(families: &[Family<S>]) -> prometheus::Result<Vec<Desc>> {
    let of = |family: &Family<S>| {
        let (name, help) = (family.name.to_owned(), family.help.to_owned());
        Desc::new(name, help, Vec::new(), std::collections::HashMap::new())
    };
    families.iter().map(of).collect()
}

/// All series of `subjects`, each with the value of its label.
pub(super) fn collect<'s, S: 's>(
    families: &[Family<S>],
    label: &'static str,
    subjects: &[(&'s str, &'s S)],
) -> Vec<MetricFamily> {
    let of_family = |family: &Family<S>| {
        let mut metrics = Vec::with_capacity(subjects.len());
        for (value, subject) in subjects {
            let mut told = Told { label: (label, value), metrics };
            (family.tell)(subject, &mut told);
            metrics = told.metrics;
        }
        let mut told = MetricFamily::default();
        told.set_name(family.name.to_owned());
        told.set_help(family.help.to_owned());
        told.set_field_type(family.kind);
        told.set_metric(metrics);
        told
    };
    families.iter().map(of_family).collect()
}
