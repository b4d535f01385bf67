//! What rows come to: by day, key and model, or some of these.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead};

use serde::Serialize;

use super::row::Written;
use crate::wire::usage::spent::Source;

/// Longest line that is read, in bytes; a row has some 400.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What sums are kept apart by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct By {
    /// The day of UTC.
    pub day: bool,
    /// The key's name.
    pub key: bool,
    /// The model as its node knows it.
    pub model: bool,
}

/// Which rows: those of a day and later, and of a day and earlier, as `2026-11-28`.
#[derive(Debug, Clone, Default)]
pub struct Days {
    /// The first.
    pub since: Option<String>,
    /// The last.
    pub until: Option<String>,
}

/// What belongs together.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Group {
    /// The day, where sums are by day; the same holds for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// The key; empty for requests without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The model; empty for requests without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Requests.
    pub requests: u64,
    /// Of those, with a status from 400 on.
    pub failed: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Of those, found in caches, as far as nodes say so.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Tokens of prompts and answers that no node reported: counted by events, or estimated.
    pub unreported_tokens: u64,
}

/// All sums.
#[derive(Debug, Default)]
pub struct Sums {
    /// By group, in order.
    pub groups: BTreeMap<Group, Sum>,
    /// Lines that are no rows: cut off by a kill, or of another program.
    pub unreadable: u64,
}

impl Sums {
    /// Adds the rows of one file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn add(&mut self, file: impl BufRead, by: By, days: &Days) -> io::Result<()> {
        let mut file = file;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read =
                io::Read::take(&mut file, LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            match Written::read(&line) {
                Some(row) => self.add_row(&row, by, days),
                None => self.unreadable += u64::from(!line.trim_ascii().is_empty()),
            }
        }
    }

    fn add_row(&mut self, row: &Written<'_>, by: By, days: &Days) {
        let day = row.time.get(..DAY).unwrap_or(&row.time);
        let is_in = |limit: &Option<String>, out: fn(&str, &str) -> bool| {
            limit.as_deref().is_none_or(|limit| !out(day, limit))
        };
        if !is_in(&days.since, |day, since| day < since)
            || !is_in(&days.until, |day, until| day > until)
        {
            return;
        }
        let name = |wanted: bool, name: &Option<Cow<'_, str>>| {
            wanted.then(|| name.as_deref().unwrap_or_default().to_owned())
        };
        let group = Group {
            day: by.day.then(|| day.to_owned()),
            key: name(by.key, &row.key),
            model: name(by.model, &row.model),
        };
        self.groups.entry(group).or_default().add(&Sum::of(row));
    }

    /// All groups together.
    pub fn total(&self) -> Sum {
        self.groups.values().fold(Sum::default(), |mut total, sum| {
            total.add(sum);
            total
        })
    }
}

/// `2026-11-28`, in letters.
const DAY: usize = 10;

impl Sum {
    fn of(row: &Written<'_>) -> Self {
        let tokens = row.prompt_tokens.saturating_add(row.completion_tokens);
        let reported = row.usage_source == Source::Reported.as_str();
        Self {
            requests: 1,
            failed: u64::from(row.status >= 400),
            prompt_tokens: row.prompt_tokens,
            cached_tokens: row.cached_tokens.unwrap_or(0),
            completion_tokens: row.completion_tokens,
            unreported_tokens: if reported { 0 } else { tokens },
        }
    }

    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.requests, other.requests),
            (&mut self.failed, other.failed),
            (&mut self.prompt_tokens, other.prompt_tokens),
            (&mut self.cached_tokens, other.cached_tokens),
            (&mut self.completion_tokens, other.completion_tokens),
            (&mut self.unreported_tokens, other.unreported_tokens),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::Row;
    use super::*;
    use crate::wire::ids::RequestId;
    use crate::wire::usage::spent::Spent;

    fn row(key: &str, day: u64, spent: (u64, u64, Source)) -> Vec<u8> {
        let (prompt, answer, source) = spent;
        let row = Row {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400 + 40_000),
            id: RequestId::of(None),
            key: Some(key.into()),
            model: Some("llama \"3\"".into()),
            asked_model: None,
            upstream: "u".into(),
            path: "/v1/chat/completions".into(),
            status: 200,
            stream: true,
            spent: Spent { prompt, cached: Some(1), answer, source },
            duration: Duration::from_millis(5),
            client_left: false,
        };
        let mut line = Vec::new();
        row.write(&mut line);
        line
    }

    fn sums(file: &[u8], by: By, days: &Days) -> Sums {
        let mut sums = Sums::default();
        sums.add(file, by, days).unwrap();
        sums
    }

    #[test]
    fn rows_are_added_by_what_is_asked_for_and_what_is_no_row_is_counted() {
        let file = [
            row("a", 0, (5, 7, Source::Reported)),
            b"{\"time\":\"1970-01-01T1\n".to_vec(),
            row("b", 0, (1, 2, Source::Counted)),
            row("a", 1, (10, 20, Source::Estimated)),
            b"\n".to_vec(),
        ]
        .concat();
        let found = sums(&file, By { key: true, ..By::default() }, &Days::default());
        assert_eq!(found.unreadable, 1);
        let of = |key: &str| {
            let group = Group { key: Some(key.into()), ..Group::default() };
            let sum = found.groups[&group];
            (sum.requests, sum.prompt_tokens, sum.completion_tokens, sum.unreported_tokens)
        };
        assert_eq!((of("a"), of("b")), ((2, 15, 27, 30), (1, 1, 2, 3)));
        assert_eq!(found.total().cached_tokens, 3);
        let by = By { day: true, key: true, model: true };
        assert_eq!(sums(&file, by, &Days::default()).groups.len(), 3);
        let days = Days { since: Some("1970-01-02".into()), until: Some("1970-01-02".into()) };
        let found = sums(&file, by, &days);
        let (group, sum) = found.groups.first_key_value().unwrap();
        assert_eq!((found.groups.len(), sum.requests), (1, 1));
        assert_eq!(group.day.as_deref(), Some("1970-01-02"));
        assert_eq!(group.model.as_deref(), Some("llama \"3\""));
    }
}
