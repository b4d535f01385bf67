//! How much of a conversation fits: the oldest questions and their answers go, as few as do.

/// What is shown to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Pairs that are left out, the oldest.
    pub dropped: usize,
    /// Tokens of what is left.
    pub tokens: u64,
}

/// The question does not fit even alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// Tokens of it, with all that is always there.
    pub tokens: u64,
}

/// Looks for how few pairs must be left out for a prompt to fit. Who has it counts, and tells; a step that is too short is doubled:
/// mostly no pair goes or one, and never is each tried.
#[derive(Debug)]
pub struct Search {
    pairs: usize,
    limit: u64,
    /// Without so many it does not fit; none where that is not known of any number.
    too_few: Option<usize>,
    /// Without so many it does.
    fit: Option<Fit>,
    step: usize,
}

impl Search {
    /// Among `pairs`, for at most `limit` tokens.
    pub fn new(pairs: usize, limit: u64) -> Self {
        Self { pairs, limit, too_few: None, fit: None, step: 1 }
    }

    /// Without how many of the oldest pairs the prompt is to be counted next.
    pub fn next(&self) -> usize {
        match (self.too_few, self.fit) {
            (None, _) => 0,
            (Some(too_few), None) => too_few + self.step.min((self.pairs - too_few).div_ceil(2)),
            (Some(too_few), Some(fit)) => too_few + (fit.dropped - too_few) / 2,
        }
    }

    /// So many `tokens` it has. What was looked for, once it is found.
    pub fn tell(&mut self, tokens: u64) -> Option<Result<Fit, TooLong>> {
        let dropped = self.next();
        if tokens > self.limit {
            if dropped == self.pairs {
                return Some(Err(TooLong { tokens }));
            }
            self.step = if self.too_few.is_none() { 1 } else { self.step * 2 };
            self.too_few = Some(dropped);
        } else {
            self.fit = Some(Fit { dropped, tokens });
        }
        let fit = self.fit?;
        (self.too_few.is_none_or(|too_few| fit.dropped == too_few + 1)).then_some(Ok(fit))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_few_go_as_do(pairs in proptest::collection::vec(1..50_u64, 0..40), alone in 0..50_u64, limit in 0..500_u64) {
            let left = |dropped: usize| alone + pairs[dropped..].iter().sum::<u64>();
            let mut search = Search::new(pairs.len(), limit);
            let mut counts = 1;
            let found = loop {
                match search.tell(left(search.next())) {
                    Some(found) => break found,
                    None => counts += 1,
                }
            };
            let dropped = (0..=pairs.len()).find(|dropped| left(*dropped) <= limit);
            let wanted = dropped.map(|dropped| Fit { dropped, tokens: left(dropped) });
            prop_assert_eq!(found, wanted.ok_or(TooLong { tokens: alone }));
            prop_assert!(counts <= 14, "{}", counts);
        }
    }
}
