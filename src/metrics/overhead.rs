//! What the gateway itself takes of a request's time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::durations::Durations;

const NAME: &str = "sluice_overhead_seconds";

const HELP: &str = "Time of a request in the gateway itself: from its first byte until it is on its way, without waiting for its \
                    body, for lists of models, for a place or for a connection, and with each piece of its answer. Waiting for \
                    Redis, and what a chat session asks of nodes, is in it.";

/// The one histogram.
#[derive(Clone)]
pub(super) struct Overhead(Arc<(Durations, Desc)>);

impl Overhead {
    pub(super) fn new() -> prometheus::Result<Self> {
        let described = Desc::new(NAME.to_owned(), HELP.to_owned(), Vec::new(), HashMap::new())?;
        Ok(Self(Arc::new((Durations::overhead(), described))))
    }

    pub(super) fn observe(&self, own: Duration) {
        self.0.0.observe(own);
    }
}

impl Collector for Overhead {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.1]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut metric = Metric::default();
        metric.set_histogram(self.0.0.histogram());
        let mut family = MetricFamily::default();
        family.set_name(NAME.to_owned());
        family.set_help(HELP.to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}
