//! All that chat sessions need: where they are kept, who counts their prompts, what holds for each.

use std::sync::Arc;
use std::time::Duration;

use super::counting::Counting;
use super::store::Store;
use crate::access::attempts::Attempts;
use crate::metrics::SessionMetrics;
use crate::names::ModelName;

/// Chat sessions of this gateway.
pub struct Sessions {
    /// Where they are.
    pub store: Store,
    /// Counts their prompts.
    pub counting: Counting,
    /// Who tries keys out.
    pub attempts: Attempts,
    /// Who is asked; none: the first model that a node lists.
    pub model: Option<ModelName>,
    /// Tokens of a prompt, at most.
    pub context: u64,
    /// How long one is kept after its last request.
    pub idle: Duration,
    /// What they begin with.
    pub system: Arc<str>,
    /// Their series.
    pub metrics: SessionMetrics,
}
