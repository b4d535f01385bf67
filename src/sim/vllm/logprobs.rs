//! How likely tokens were, as the APIs tell it. The model of the simulator is made up, and so are the numbers: the same
//! token is always as likely.

use std::fmt::Write;
use std::ops::Range;

use serde_json::Value;

use super::said::Said;
use crate::sim::text::quoted;
use crate::sim::tokens;

/// The token that was made at `place`, or the one so many places after it, and how likely that was instead.
pub(super) fn likely(said: &Said, place: usize, rank: usize) -> (&str, f64) {
    let name = said.made_name((place + rank) % said.length.tokens);
    (name, logprob(name, rank))
}

/// Less the farther it is.
fn logprob(name: &str, rank: usize) -> f64 {
    let sum: usize = name.bytes().map(usize::from).sum();
    -((1 + sum % 64) as f64 / 128.0 + rank as f64)
}

/// Appends `logprobs` of a chat's choice: each of the tokens at `places`, with `top` that could have stood there.
pub(super) fn write_chat(said: &Said, places: Range<usize>, top: usize, out: &mut impl Write) {
    // Memory grows as needed, so writing cannot fail; the same holds for every `write!` here.
    let _ = out.write_str(r#"{"content":["#);
    for place in places.clone() {
        let comma = if place == places.start { "" } else { "," };
        let one = |rank| {
            let (name, logprob) = likely(said, place, rank);
            let (name, bytes) = (quoted(name), Value::from(name.as_bytes()));
            format!(r#""token":{name},"logprob":{logprob:?},"bytes":{bytes}"#)
        };
        let top: Vec<String> = (0..top).map(|rank| format!("{{{}}}", one(rank))).collect();
        let _ = write!(out, r#"{comma}{{{},"top_logprobs":[{}]}}"#, one(0), top.join(","));
    }
    let _ = out.write_str("]}");
}

/// `logprobs` of a completion's choice, grown token by token.
#[derive(Default)]
pub(super) struct Columns {
    offsets: Vec<usize>,
    logprobs: Vec<Option<f64>>,
    tokens: Vec<String>,
    /// Each an object as JSON, or null.
    tops: Vec<String>,
}

impl Columns {
    /// The prompt's tokens, where they are echoed; nothing is known of the first.
    pub(super) fn of_prompt(tokens: &[String], top: usize) -> Self {
        let (mut columns, mut offset) = (Self::default(), 0);
        for (place, token) in tokens.iter().enumerate() {
            let known = (place > 0).then(|| nth_and_after(tokens, place, top));
            columns.push((offset, token), known.as_deref());
            offset += token.chars().count();
        }
        columns
    }

    /// Adds the tokens of an answer at `places`, whose text begins at `offset`; returns where it ends.
    pub(super) fn add(
        &mut self,
        said: &Said,
        places: Range<usize>,
        (top, mut offset): (usize, usize),
    ) -> usize {
        for place in places {
            let known: Vec<_> = (0..top.max(1)).map(|rank| likely(said, place, rank)).collect();
            let name = known[0].0;
            self.push((offset, name), Some(&known));
            offset += name.chars().count();
        }
        offset
    }

    fn push(&mut self, (offset, token): (usize, &str), known: Option<&[(&str, f64)]>) {
        self.offsets.push(offset);
        self.tokens.push(token.to_owned());
        self.logprobs.push(known.map(|known| known[0].1));
        let top = known.map(|known| {
            // One name, one field: the likeliest token of it.
            let fields = known.iter().enumerate().filter_map(|(rank, (name, logprob))| {
                let first = !known[..rank].iter().any(|(before, _)| before == name);
                first.then(|| format!("{}:{logprob:?}", quoted(name)))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        });
        self.tops.push(top.unwrap_or_else(|| "null".to_owned()));
    }

    /// As JSON.
    pub(super) fn render(self) -> String {
        let Self { offsets, logprobs, tokens, tops } = self;
        let (offsets, logprobs) = (Value::from(offsets), Value::from(logprobs));
        format!(
            r#"{{"text_offset":{offsets},"token_logprobs":{logprobs},"tokens":{},"top_logprobs":[{}]}}"#,
            Value::from(tokens),
            tops.join(",")
        )
    }
}

/// `prompt_logprobs`: nothing of the first token; of each other itself and those that could have stood there.
pub(super) fn of_prompt(tokens: &[String], top: usize) -> String {
    let entries = (0..tokens.len()).map(|place| {
        if place == 0 {
            return "null".to_owned();
        }
        let known = nth_and_after(tokens, place, top);
        let fields = known.iter().enumerate().map(|(rank, (name, logprob))| {
            format!(
                r#""{}":{{"logprob":{logprob:?},"rank":{},"decoded_token":{}}}"#,
                tokens::id(name),
                rank + 1,
                quoted(name)
            )
        });
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    });
    format!("[{}]", entries.collect::<Vec<_>>().join(","))
}

/// The token at `place` of a prompt, and those after it, as many as shall be told of, but at least itself.
fn nth_and_after(tokens: &[String], place: usize, top: usize) -> Vec<(&str, f64)> {
    let nth = |rank: usize| tokens[(place + rank) % tokens.len()].as_str();
    (0..top.max(1)).map(|rank| (nth(rank), logprob(nth(rank), rank))).collect()
}
