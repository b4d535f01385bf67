//! An answer of `/v1/responses` as events, each with its number (sample `responses_stream.http`).

use std::fmt::Write;
use std::sync::Arc;

use bytes::BytesMut;

use super::shape::Response;
use super::store::Store;
use crate::sim::engine::{Finish, Flight};
use crate::sim::events::{Pause, Script, Step};
use crate::sim::text::quoted;
use crate::sim::vllm::prompt::Turn;

/// The answer as events.
pub(super) struct ResponseScript {
    response: Response,
    /// Where the answer is kept, if it is.
    keep: Option<Keep>,
    streamed: bool,
    /// What comes next.
    next: Next,
    /// Its number.
    number: usize,
}

/// What comes next: the answer, its item, the content of this, and the ends of all three.
#[derive(Clone, Copy)]
enum Next {
    Created,
    InProgress,
    ItemAdded,
    PartAdded,
    Delta(usize),
    ContentDone,
    PartDone,
    ItemDone,
    Completed,
    Nothing,
}

/// Where an answer is kept, and what is kept with it.
pub(super) struct Keep {
    pub(super) store: Arc<Store>,
    pub(super) id: String,
    /// What was said before it.
    pub(super) turns: Vec<Turn>,
}

impl Keep {
    /// Keeps a complete answer. Calls are left out of what the next answer goes on from, as vLLM does.
    pub(super) fn keep(&self, response: &Response, shown: String) {
        let text = (!response.said.is_call()).then(|| response.said.plain());
        let said = text.map(|text| ("assistant".to_owned(), text));
        self.store.keep(&self.id, shown.into(), &self.turns, said);
    }
}

impl ResponseScript {
    /// All events of `response`; `streamed` if somebody reads them.
    pub(super) fn new(response: Response, keep: Option<Keep>, streamed: bool) -> Self {
        Self { response, keep, streamed, next: Next::Created, number: 0 }
    }

    /// Writes an event; its fields come in the order of their names, `fields` before the number and `rest` after it.
    fn write(&self, name: &str, (fields, rest): (&str, &str), out: &mut BytesMut) {
        let number = self.number;
        // Memory grows as needed, so writing cannot fail.
        let _ = write!(
            out,
            "event: response.{name}\ndata: {{{fields},\"sequence_number\":{number}{rest}}}\n\n"
        );
    }

    fn write_plain(&self, name: &str, fields: &str, out: &mut BytesMut) {
        self.write(name, (fields, &format!(r#","type":"response.{name}""#)), out);
    }

    fn write_item(&self, name: &str, item: &str, out: &mut BytesMut) {
        self.write_plain(name, &format!(r#""item":{item},"output_index":0"#), out);
    }

    fn write_response(&self, name: &str, response: &str, out: &mut BytesMut) {
        self.write_plain(name, &format!(r#""response":{response}"#), out);
    }

    fn write_item_added(&self, out: &mut BytesMut) -> Next {
        let response = &self.response;
        match response.said.tool() {
            Some(tool) => {
                self.write_item("output_item.added", &response.call(tool, "", "in_progress"), out);
                self.delta_or_done(0)
            }
            None => {
                self.write_item("output_item.added", &response.open_message(), out);
                Next::PartAdded
            }
        }
    }

    fn write_part_added(&self, out: &mut BytesMut) -> Next {
        let item = &self.response.ids.message;
        let fields = format!(
            r#""content_index":0,"item_id":"{item}","output_index":0,"part":{{"annotations":[],"text":"","type":"output_text","logprobs":[]}}"#
        );
        self.write_plain("content_part.added", &fields, out);
        self.delta_or_done(0)
    }

    fn delta_or_done(&self, place: usize) -> Next {
        if place < self.response.said.deltas() { Next::Delta(place) } else { Next::ContentDone }
    }

    fn write_delta(&self, place: usize, out: &mut BytesMut) -> Next {
        let (response, said) = (&self.response, &self.response.said);
        let delta = said.delta(place);
        if said.is_call() {
            let item = &response.ids.call;
            let fields = format!(r#""delta":"{delta}","item_id":"{item}","output_index":0"#);
            self.write_plain("function_call_arguments.delta", &fields, out);
        } else {
            let item = &response.ids.message;
            let logprobs = match response.logprobs {
                Some(_) => response.logprob(place, false),
                None => String::new(),
            };
            let fields = format!(
                r#""content_index":0,"delta":"{delta}","item_id":"{item}","logprobs":[{logprobs}],"output_index":0"#
            );
            self.write_plain("output_text.delta", &fields, out);
        }
        self.delta_or_done(place + 1)
    }

    fn write_content_done(&self, out: &mut BytesMut) -> Next {
        let (response, said) = (&self.response, &self.response.said);
        let shown = said.shown();
        if let Some(tool) = said.tool() {
            let item = &response.ids.call;
            let fields = format!(r#""arguments":"{shown}","item_id":"{item}","output_index":0"#);
            let rest = format!(
                r#","type":"response.function_call_arguments.done","name":{}"#,
                quoted(tool)
            );
            self.write("function_call_arguments.done", (&fields, &rest), out);
            return Next::ItemDone;
        }
        let item = &response.ids.message;
        let fields =
            format!(r#""content_index":0,"item_id":"{item}","logprobs":[],"output_index":0"#);
        let rest = format!(r#","text":"{shown}","type":"response.output_text.done""#);
        self.write("output_text.done", (&fields, &rest), out);
        Next::PartDone
    }

    fn write_part_done(&self, out: &mut BytesMut) -> Next {
        let (item, part) =
            (&self.response.ids.message, self.response.part(&self.response.said.shown()));
        let fields =
            format!(r#""content_index":0,"item_id":"{item}","output_index":0,"part":{part}"#);
        self.write_plain("content_part.done", &fields, out);
        Next::ItemDone
    }

    fn write_item_done(&self, out: &mut BytesMut) -> Next {
        let (response, shown) = (&self.response, self.response.said.shown());
        let item = match response.said.tool() {
            Some(tool) => response.call(tool, &shown, "completed"),
            None => response.message(&shown),
        };
        self.write_item("output_item.done", &item, out);
        Next::Completed
    }

    fn write_completed(&self, flight: &Flight, out: &mut BytesMut) -> Next {
        let closed = self.response.closed(flight, self.streamed);
        self.write_response("completed", &closed, out);
        if let Some(keep) = &self.keep {
            keep.keep(&self.response, closed);
        }
        Next::Nothing
    }

    /// What comes after the answer has begun: an item, if there is anything to show.
    fn item_or_completed(&self) -> Next {
        let said = &self.response.said;
        let shows = said.tool().is_some() || (!said.is_call() && said.deltas() > 0);
        if shows { Next::ItemAdded } else { Next::Completed }
    }

    /// When the event that comes next is sent, and the tokens in it: those that are not shown go with the first event
    /// after the answer has begun, and with the last.
    fn step(&self) -> Step {
        let said = &self.response.said;
        let first = matches!(self.item_or_completed(), Next::Completed);
        match self.next {
            Next::ItemAdded => Step { pause: Pause::FirstToken, tokens: said.before() },
            Next::Delta(0) if said.before() == 0 => Step { pause: Pause::None, tokens: 1 },
            Next::Delta(_) => Step { pause: Pause::Token, tokens: 1 },
            Next::Completed if first => {
                Step { pause: Pause::FirstToken, tokens: said.length.tokens }
            }
            Next::Completed => Step { pause: Pause::None, tokens: said.after() },
            _ => Step { pause: Pause::None, tokens: 0 },
        }
    }
}

impl Script for ResponseScript {
    fn next(&mut self, flight: &Flight, out: &mut BytesMut) -> Option<Step> {
        let step = self.step();
        self.next = match self.next {
            Next::Created => {
                self.write_response("created", &self.response.open("in_progress"), out);
                Next::InProgress
            }
            Next::InProgress => {
                self.write_response("in_progress", &self.response.open("in_progress"), out);
                self.item_or_completed()
            }
            Next::ItemAdded => self.write_item_added(out),
            Next::PartAdded => self.write_part_added(out),
            Next::Delta(place) => self.write_delta(place, out),
            Next::ContentDone => self.write_content_done(out),
            Next::PartDone => self.write_part_done(out),
            Next::ItemDone => self.write_item_done(out),
            Next::Completed => self.write_completed(flight, out),
            Next::Nothing => return None,
        };
        self.number += 1;
        Some(step)
    }

    fn finish(&self) -> Finish {
        self.response.said.length.finish
    }

    /// Nothing: vLLM 0.32 lets go of the connection instead.
    fn last_words(&self) -> &'static [&'static str] {
        &[]
    }
}
