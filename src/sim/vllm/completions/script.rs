//! An answer of `/v1/completions` as events: the tokens of all choices in turn, usage, `[DONE]`.

use std::fmt::Write;
use std::ops::Range;

use bytes::{BufMut, BytesMut};
use serde_json::Value;

use super::answer::{Completion, Echo};
use crate::sim::engine::{Finish, Flight};
use crate::sim::events::{Pause, Script, Step};
use crate::sim::text::within_quotes;
use crate::sim::vllm::logprobs::Columns;
use crate::sim::vllm::openai::{FINGERPRINT, LAST_WORDS, StreamUsage, stop_reason};
use crate::sim::vllm::turns::{Turn, Turns};

/// The answer as events.
pub(super) struct CompletionScript {
    completion: Completion,
    usage: StreamUsage,
    turns: Turns,
    /// Letters of each choice that were told, where it is to be told how likely they were.
    offsets: Vec<usize>,
    /// Events after the last token.
    closing: usize,
}

impl CompletionScript {
    /// All events of `completion`.
    pub(super) fn new(completion: Completion, usage: StreamUsage) -> Self {
        let turns = completion.answer.turns();
        let offsets = vec![0; completion.answer.width()];
        Self { completion, usage, turns, offsets, closing: 0 }
    }

    fn write_tokens(&mut self, turn: Turn, out: &mut BytesMut) -> Step {
        let Turn { choice, places, opens } = turn;
        let Completion { answer, told, echo, .. } = &self.completion;
        let said = answer.said(choice);
        let first = places.start == 0;
        out.put_slice(self.completion.head.as_bytes());
        let _ = write!(out, r#"{{"index":{choice},"text":""#);
        if first && *echo != Echo::Never {
            out.put_slice(within_quotes(&self.completion.prompt(choice).text).as_bytes());
        }
        if *echo != Echo::Alone {
            places.clone().filter_map(|place| said.made_delta(place)).for_each(|delta| {
                out.put_slice(delta.as_bytes());
            });
        }
        out.put_slice(br#"","logprobs":"#);
        match told.logprobs {
            Some(top) => {
                let columns = self.columns(choice, &places, top);
                out.put_slice(columns.render().as_bytes());
            }
            None => out.put_slice(b"null"),
        }
        self.write_end(choice, &places, out);
        let pause = match first {
            true if opens && choice == 0 => Pause::FirstToken,
            false if opens => Pause::Token,
            _ => Pause::None,
        };
        Step { pause, tokens: places.len() }
    }

    /// What comes after the text and its likelihood.
    fn write_end(&self, choice: usize, places: &Range<usize>, out: &mut BytesMut) {
        let Completion { answer, told, echo, .. } = &self.completion;
        let said = answer.said(choice);
        let last = places.end == said.length.tokens;
        match last {
            true => {
                let (reason, stop) = (said.length.finish.reason(), stop_reason(said));
                let _ = write!(out, r#","finish_reason":"{reason}","stop_reason":{stop}"#);
            }
            false => out.put_slice(br#","finish_reason":null,"stop_reason":null"#),
        }
        // An echo brings the prompt's ids along, asked for or not.
        match places.start == 0 && (told.ids || *echo != Echo::Never) {
            true => {
                let _ = write!(
                    out,
                    r#","prompt_token_ids":{}"#,
                    self.completion.prompt_ids(choice)
                );
            }
            false => out.put_slice(br#","prompt_token_ids":null"#),
        }
        match told.ids {
            true => {
                let ids = places.clone().map(|place| said.made_id(place));
                let _ = write!(out, r#","token_ids":{}}}]"#, Value::from_iter(ids));
            }
            false => out.put_slice(br#","token_ids":null}]"#),
        }
        if self.usage == StreamUsage::Each {
            out.put_u8(b',');
            answer.write_usage(places.end, "", out);
        }
        if last && self.usage == StreamUsage::Never {
            let _ = write!(out, r#","system_fingerprint":"{FINGERPRINT}""#);
        }
        out.put_slice(b"}\n\n");
    }

    /// How likely the tokens at `places` were, after those of the prompt where this is echoed.
    fn columns(&mut self, choice: usize, places: &Range<usize>, top: usize) -> Columns {
        let Completion { answer, echo, .. } = &self.completion;
        let prompt = self.completion.prompt(choice);
        let offset = &mut self.offsets[choice];
        let mut columns = Columns::default();
        if places.start == 0 && *echo != Echo::Never {
            columns = Columns::of_prompt(&prompt.tokens, top);
            *offset = prompt.text.chars().count();
        }
        if *echo != Echo::Alone {
            *offset = columns.add(answer.said(choice), places.clone(), (top, *offset));
        }
        columns
    }
}

impl Script for CompletionScript {
    fn next(&mut self, flight: &Flight, out: &mut BytesMut) -> Option<Step> {
        if let Some(turn) = self.turns.next(|_, from| from + 1) {
            return Some(self.write_tokens(turn, out));
        }
        let Completion { answer, head, .. } = &self.completion;
        self.closing += 1;
        answer.close(self.closing - 1, (self.usage, flight), head, out)
    }

    fn finish(&self) -> Finish {
        self.completion.answer.longest().finish
    }

    fn last_words(&self) -> &'static [&'static str] {
        &LAST_WORDS
    }
}
