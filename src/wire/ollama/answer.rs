//! Answers: from Ollama's own API to OpenAI's, in whatever pieces they come.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::events::{Writer, put_error};
use super::line::Line;
use super::{Call, Shape, embeddings, error};
use crate::wire::lines::Lines;

/// Longest line of a stream, in bytes: a tool call comes whole, and may hold a file.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest answer in one piece, in bytes: a thousand vectors of 4,096 numbers are some 50 MB.
const WHOLE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// So much of an error is read, in bytes: more than any that Ollama makes.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// What is said of a line, or an answer, that is over its limit.
const TOO_LONG: &str = "The node's answer is too long to be translated.";

/// One answer on its way.
pub struct Answer {
    shape: Shape,
    status: u16,
    writer: Writer,
    lines: Lines<LINE_BYTES_MAX>,
    /// The begin of an answer in one piece.
    held: Vec<u8>,
    out: BytesMut,
    /// All was told that is to be told.
    over: bool,
    /// The last of it is that there is no answer.
    failed: bool,
}

impl Answer {
    pub(super) fn new(shape: &Shape, id: &str, status: u16, created: u64) -> Self {
        Self {
            shape: shape.clone(),
            status,
            writer: Writer::new(shape, id, created),
            lines: Lines::default(),
            held: Vec::new(),
            out: BytesMut::new(),
            over: false,
            failed: false,
        }
    }

    /// It is told of when it is whole.
    pub fn is_whole(&self) -> bool {
        !self.is_stream()
    }

    /// True where an answer in one piece was none, whatever its status says.
    pub fn is_none(&self) -> bool {
        self.failed && !self.is_stream()
    }

    /// What the client is told that it gets.
    pub fn content_type(&self) -> &'static str {
        if self.is_stream() { "text/event-stream; charset=utf-8" } else { "application/json" }
    }

    /// The next piece: of a stream, every line that is whole with it, as events; else nothing before [`Self::finish`].
    pub fn push(&mut self, piece: &[u8]) -> Bytes {
        if self.over {
            return Bytes::new();
        }
        if self.is_stream() {
            self.lines(piece);
        } else {
            self.hold(piece);
        }
        self.out.split().freeze()
    }

    /// The end of the node's answer: what was still to be told. A stream without a last line that is `done` ends without a
    /// good end.
    pub fn finish(&mut self) -> Bytes {
        if !std::mem::replace(&mut self.over, true) {
            let held = std::mem::take(&mut self.held);
            if !self.is_ok() {
                self.out.extend_from_slice(error::of_answer(self.status, &held).as_bytes());
            } else if self.shape.stream {
                let line = self.lines.finish();
                self.line(&line);
            } else {
                self.whole(&held);
            }
        }
        self.out.split().freeze()
    }

    fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Also where the node answered in one piece, as it does if it has only loaded the model: that is one line.
    fn is_stream(&self) -> bool {
        self.shape.stream && self.is_ok()
    }

    /// Tells of each line that ends in `piece`, up to the last that is to be told.
    fn lines(&mut self, piece: &[u8]) {
        let mut lines = std::mem::take(&mut self.lines);
        let fits = lines.push(piece, |line| {
            if !self.over {
                self.line(line);
            }
        });
        if self.over {
            return;
        }
        if fits {
            self.lines = lines;
        } else {
            self.fail(TOO_LONG);
        }
    }

    /// Tells of one line.
    fn line(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        // Parts of it pass as they stand, and this would end a line of an event.
        if memchr(b'\r', line).is_some() {
            return self.fail("The node's answer has a line end inside of a line.");
        }
        match serde_json::from_slice::<Line<'_>>(line) {
            Ok(Line { error: Some(error), .. }) => self.fail_with(&error::of_node(error)),
            Ok(line) => {
                self.writer.line(&line, &mut self.out);
                self.over = line.done;
            }
            Err(error) => self.fail(&unreadable(&error)),
        }
    }

    /// Keeps a piece of what is read as a whole. Of an error the begin will do.
    fn hold(&mut self, piece: &[u8]) {
        let max = if self.is_ok() { WHOLE_BYTES_MAX } else { ERROR_BYTES_MAX };
        let room = max - self.held.len();
        if piece.len() > room && self.is_ok() {
            self.fail(TOO_LONG);
        } else {
            self.held.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }

    /// Tells of an answer in one piece.
    fn whole(&mut self, body: &[u8]) {
        if self.shape.call == Call::Embedding {
            let Shape { model, base64, .. } = &self.shape;
            if let Err(error) = embeddings::put(body, model, *base64, &mut self.out) {
                self.out.clear();
                self.fail(&unreadable(&error));
            }
            return;
        }
        match serde_json::from_slice::<Line<'_>>(body) {
            Ok(Line { error: Some(error), .. }) => self.fail_with(&error::of_node(error)),
            Ok(line) if line.done => self.writer.whole(&line, &mut self.out),
            Ok(_) => self.fail("The node's answer has no end."),
            Err(error) => self.fail(&unreadable(&error)),
        }
    }

    fn fail(&mut self, message: &str) {
        self.fail_with(&error::of_fault(message));
    }

    /// Tells of an error, the last that is told.
    fn fail_with(&mut self, error: &str) {
        (self.over, self.failed) = (true, true);
        self.held = Vec::new();
        if self.is_stream() {
            put_error(error, &mut self.out);
        } else {
            self.out.extend_from_slice(error.as_bytes());
        }
    }
}

fn unreadable(error: &serde_json::Error) -> String {
    format!("The node's answer is not what Ollama answers: {error}.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::request;
    use super::*;
    use crate::wire::stream_end::StreamEnd;
    use crate::wire::usage::Tally;
    use crate::wire::usage::ask::Hidden;
    use crate::wire::usage::chunks::Chunks;

    const THOUGHT: &str = r#"{"model":"qwen3:8b","created_at":"2026-11-20T18:00:00.123456789Z","message":{"role":"assistant","content":"","thinking":"Надо"},"done":false}"#;
    const WORD: &str = r#"{"model":"qwen3:8b","created_at":"2026-11-20T18:00:00.2Z","message":{"role":"assistant","content":"При\u003cb\u003e\n"},"done":false}"#;
    const CALL: &str = r#"{"model":"qwen3:8b","created_at":"2026-11-20T18:00:00.3Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_ab12","function":{"index":0,"name":"get_weather","arguments":{"city":"Москва"}}}]},"done":false}"#;
    const LAST: &str = r#"{"model":"qwen3:8b","created_at":"2026-11-20T18:00:00.9Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":900000000,"load_duration":1000000,"prompt_eval_count":26,"prompt_eval_duration":100000000,"eval_count":12,"eval_duration":700000000}"#;
    const DEATH: &str =
        r#"{"error":"an error was encountered while running the model: unexpected EOF"}"#;
    const DONE: &str = "data: [DONE]\n\n";

    /// The answer to a request with these fields beside those that it must have.
    fn begin(call: Call, fields: Value, status: u16) -> Answer {
        let mut body = json!({"model": "asked", "messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "input": "Hi"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let asked = request(call, body.to_string().as_bytes(), &[]).unwrap();
        asked.answer.begin("1", status, 1_795_197_600)
    }

    fn all(mut answer: Answer, pieces: &[&[u8]]) -> String {
        let mut out: Vec<u8> = Vec::new();
        pieces.iter().for_each(|piece| out.extend(answer.push(piece)));
        out.extend(answer.finish());
        String::from_utf8(out).unwrap()
    }

    fn lines(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// What a stream of these lines becomes.
    fn streamed(call: Call, told: &[&str]) -> String {
        all(begin(call, json!({"stream": true}), 200), &[lines(told).as_bytes()])
    }

    /// A chunk of a chat, of these choices.
    fn chunk(choices: &str) -> String {
        format!(
            r#"data: {{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795197600,"model":"qwen3:8b","system_fingerprint":"fp_ollama","choices":[{choices}]}}"#
        ) + "\n\n"
    }

    fn delta(delta: &str) -> String {
        chunk(&format!(r#"{{"index":0,"delta":{{{delta}}},"finish_reason":null}}"#))
    }

    fn finish(reason: &str) -> String {
        chunk(&format!(r#"{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}"#)) + DONE
    }

    fn whole(call: Call, fields: Value, body: &str) -> Value {
        serde_json::from_str(&all(begin(call, fields, 200), &[body.as_bytes()])).unwrap()
    }

    #[test]
    fn each_line_has_its_twin() {
        let role = r#""role":"assistant","#;
        let thought = r#""content":"","reasoning":"Надо""#;
        let word = r#""content":"При\u003cb\u003e\n""#;
        let call = r#""content":"","tool_calls":[{"index":0,"id":"call_ab12","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Москва\"}"}}]"#;
        assert_eq!(
            streamed(Call::Chat, &[THOUGHT, WORD, CALL, LAST]),
            delta(&format!("{role}{thought}"))
                + &delta(word)
                + &delta(call)
                + &finish("tool_calls")
        );
        assert_eq!(
            streamed(Call::Chat, &[WORD, LAST]),
            delta(&format!("{role}{word}")) + &finish("stop")
        );
    }

    #[test]
    fn a_line_with_a_thought_and_a_word_is_two_chunks() {
        let both = r#"{"model":"qwen3:8b","message":{"content":"b","thinking":"a"},"logprobs":[{"token":"b","logprob":-1}]}"#;
        let second = r#"{"index":0,"delta":{"content":"b"},"logprobs":{"content":[{"token":"b","logprob":-1}]},"finish_reason":null}"#;
        assert_eq!(
            streamed(Call::Chat, &[both]),
            delta(r#""role":"assistant","content":"","reasoning":"a""#) + &chunk(second)
        );
    }

    #[test]
    fn the_last_line_may_say_all_or_nothing() {
        let last = LAST.replace(r#""content":"""#, r#""content":"all""#);
        let said = delta(r#""role":"assistant","content":"all""#);
        assert_eq!(streamed(Call::Chat, &[&last]), said + &finish("stop"));
        // What was only loaded is no stream: one object, without the end of a line.
        let loaded = LAST.replace(r#""stop""#, r#""load""#);
        let role =
            r#"{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}"#;
        let stream = begin(Call::Chat, json!({"stream": true}), 200);
        assert_eq!(all(stream, &[loaded.as_bytes()]), chunk(role) + DONE);
        let length = LAST.replace(r#""stop""#, r#""length""#);
        assert!(streamed(Call::Chat, &[CALL, &length]).contains(r#""finish_reason":"length""#));
    }

    #[test]
    fn calls_are_counted_through_and_named_where_the_node_does_not() {
        let calls = r#"{"message":{"content":"","tool_calls":[{"function":{"name":"f"}},{"function":{"name":"g","arguments":{}}}]},"done":false}"#;
        let stream = streamed(Call::Chat, &[CALL, calls]);
        let (_, second) = stream.split_once("\n\n").unwrap();
        let wanted = r#""tool_calls":[{"index":1,"id":"call_1_1","type":"function","function":{"name":"f","arguments":"{}"}},{"index":2,"id":"call_1_2","type":"function","function":{"name":"g","arguments":"{}"}}]"#;
        assert!(second.contains(wanted), "{second}");
    }

    #[test]
    fn usage_is_told_to_those_who_asked_and_can_be_hidden_from_others() {
        let asks = json!({"stream": true, "stream_options": {"include_usage": true}});
        let told = lines(&[WORD, LAST]);
        let asked = all(begin(Call::Chat, asks, 200), &[told.as_bytes()]);
        let events: Vec<Value> = asked
            .split("\n\n")
            .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok())
            .collect();
        let usage = json!({"prompt_tokens": 26, "completion_tokens": 12, "total_tokens": 38});
        let usages: Vec<_> = events.iter().map(|event| event.get("usage")).collect();
        assert_eq!(usages, [Some(&json!(null)), Some(&json!(null)), Some(&usage)]);
        assert_eq!(events[2]["choices"], json!([]));
        let (mut chunks, mut tally) = (Chunks::new(Hidden::All), Tally::default());
        let hidden = chunks.push(asked.into(), &mut tally);
        assert_eq!(hidden, streamed(Call::Chat, &[WORD, LAST]));
        assert_eq!(tally.usage().total(), Some(38));
    }

    #[test]
    fn a_completion_has_text() {
        let token = r#"{"model":"m","response":"Жы","logprobs":[{"token":"Жы","logprob":-0.5,"bytes":[1],"top_logprobs":[{"token":"Жы","logprob":-0.5},{"token":"\"","logprob":-2}]}],"done":false}"#;
        let next = r#"{"model":"m","response":".","thinking":"Hm","logprobs":[{"token":".","logprob":-1}],"done":false}"#;
        let last = r#"{"model":"m","response":"","done":true,"done_reason":"length","context":[1,2],"eval_count":2}"#;
        let chunk = |choice: &str| {
            format!(
                r#"data: {{"id":"cmpl-1","object":"text_completion","created":1795197600,"model":"m","system_fingerprint":"fp_ollama","choices":[{{"index":0,{choice}}}]}}"#
            ) + "\n\n"
        };
        let wanted = [
            chunk(
                r#""text":"Жы","logprobs":{"tokens":["Жы"],"token_logprobs":[-0.5],"text_offset":[0],"top_logprobs":[{"Жы":-0.5,"\"":-2}]},"finish_reason":null"#,
            ),
            chunk(
                r#""text":".","reasoning":"Hm","logprobs":{"tokens":["."],"token_logprobs":[-1],"text_offset":[2],"top_logprobs":[{}]},"finish_reason":null"#,
            ),
            chunk(r#""text":"","logprobs":null,"finish_reason":"length""#),
            DONE.to_owned(),
        ];
        assert_eq!(streamed(Call::Completion, &[token, next, last]), wanted.concat());
    }

    #[test]
    fn an_answer_in_one_piece_is_one_object() {
        let body = r#"{"model":"m","message":{"role":"assistant","content":"a","thinking":"b","tool_calls":[{"id":"c","function":{"name":"f","arguments":{"x":1}}}]},"done":true,"done_reason":"stop","logprobs":[],"prompt_eval_count":3}"#;
        let message = json!({
            "role": "assistant", "content": "a", "reasoning": "b",
            "tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}],
        });
        let wanted = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_795_197_600, "model": "m", "system_fingerprint": "fp_ollama",
            "choices": [{"index": 0, "message": message, "logprobs": {"content": []}, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3},
        });
        assert_eq!(whole(Call::Chat, json!({}), body), wanted);
        let body = r#"{"response":"a","done":true,"done_reason":"unload"}"#;
        let text = whole(Call::Completion, json!({}), body);
        assert_eq!((&text["object"], &text["model"]), (&json!("text_completion"), &json!("asked")));
        let choice = json!({"index": 0, "text": "a", "logprobs": null, "finish_reason": "stop"});
        assert_eq!(text["choices"], json!([choice]));
        let vectors = whole(Call::Embedding, json!({}), r#"{"embeddings":[[1]]}"#);
        assert_eq!(
            (&vectors["data"][0]["embedding"], &vectors["model"]),
            (&json!([1]), &json!("asked"))
        );
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        for (call, body) in [
            (Call::Chat, DEATH),
            (Call::Chat, r#"{"message":{"content":"a"},"done":false}"#),
            (Call::Chat, "Ollama is running"),
            (Call::Completion, ""),
            (Call::Embedding, r#"{"embeddings":[{}]}"#),
        ] {
            let error = whole(call, json!({"encoding_format": "base64"}), body);
            assert_eq!(error["error"]["code"], json!(500), "{error}");
        }
        let error =
            all(begin(Call::Chat, json!({"stream": true}), 404), &[b"{\"error\":", b"\"no\"}"]);
        assert_eq!(
            error,
            r#"{"error":{"message":"no","type":"not_found_error","param":null,"code":"model_not_found"}}"#
        );
    }

    #[test]
    fn what_the_client_is_told_that_it_gets_is_what_it_gets() {
        let of = |fields, status| begin(Call::Chat, fields, status).content_type();
        assert_eq!(of(json!({"stream": true}), 200), "text/event-stream; charset=utf-8");
        assert_eq!(of(json!({"stream": true}), 503), "application/json");
        assert_eq!(of(json!({}), 200), "application/json");
    }

    #[test]
    fn an_error_in_a_stream_is_a_death_and_the_last_that_is_told() {
        let long = format!(r#"{{"error":"{}"}}"#, r"\u0001".repeat(1 << 16));
        for broken in [
            DEATH,
            "<html>",
            "{\"logprobs\":[\r]}",
            "{\"done\":7}",
            "[]",
            r#"{"error":{"code":400}}"#,
            &long,
        ] {
            let stream = streamed(Call::Chat, &[WORD, broken, LAST]);
            let (word, event) = stream.split_once("\n\n").unwrap();
            assert!(word.contains("При") && !event.contains("[DONE]"), "{stream}");
            let error: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(error["error"]["code"], json!(500));
            let mut end = StreamEnd::of_path("/v1/chat/completions").unwrap();
            assert!(end.push(stream.clone().into()).died, "{stream}");
        }
    }

    #[test]
    fn a_stream_ends_well_only_with_its_last_line() {
        for (told, is_well) in [(&[WORD, LAST][..], true), (&[WORD], false), (&[], false)] {
            let stream = streamed(Call::Chat, told);
            let mut end = StreamEnd::of_path("/v1/chat/completions").unwrap();
            assert!(!end.push(stream.into()).died);
            assert!(!end.finish().died);
            assert_eq!(end.is_well(), is_well);
        }
        let after = streamed(Call::Chat, &[WORD, LAST, WORD, "x"]);
        assert_eq!(after, streamed(Call::Chat, &[WORD, LAST]));
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let mut stream = begin(Call::Chat, json!({"stream": true}), 200);
        let piece = vec![b' '; LINE_BYTES_MAX];
        assert!(stream.push(&piece).is_empty());
        assert!(stream.push(b" ").starts_with(b"data: {\"error\""));
        assert!(stream.finish().is_empty());
        let mut whole = begin(Call::Embedding, json!({}), 200);
        for _ in 0..WHOLE_BYTES_MAX / LINE_BYTES_MAX {
            assert!(whole.push(&piece).is_empty());
        }
        assert!(whole.push(b" ").starts_with(b"{\"error\""));
        let mut error = begin(Call::Chat, json!({}), 500);
        assert!(error.push(&piece).is_empty());
        assert!(error.held.len() == ERROR_BYTES_MAX && !error.finish().is_empty());
    }

    #[test]
    fn no_line_waits_for_another() {
        let mut stream = begin(Call::Chat, json!({"stream": true}), 200);
        assert!(stream.push(&WORD.as_bytes()[..40]).is_empty());
        let rest = format!("{}\n{}", &WORD[40..], &WORD[..3]);
        assert!(stream.push(rest.as_bytes()).ends_with(b"\n\n"));
        assert!(stream.push(&lines(&[&WORD[3..]]).into_bytes()).ends_with(b"\n\n"));
    }

    proptest! {
        #[test]
        fn any_cut_tells_the_same(places in prop::collection::vec(0_usize..5, 0..6), cuts in prop::collection::vec(0_usize..2_000, 0..8)) {
            let told: Vec<_> = places.iter().map(|place| [THOUGHT, WORD, CALL, LAST, DEATH][*place]).collect();
            let told = lines(&told);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(told.len())).collect();
            cuts.extend([0, told.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &told.as_bytes()[cut[0]..cut[1]]).collect();
            let stream = || begin(Call::Chat, json!({"stream": true}), 200);
            prop_assert_eq!(all(stream(), &pieces), all(stream(), &[told.as_bytes()]));
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..60), status in 100_u16..600, stream in any::<bool>()) {
            for call in [Call::Chat, Call::Completion, Call::Embedding] {
                let mut answer = begin(call, json!({"stream": stream}), status);
                let _told = (answer.push(&body), answer.finish());
            }
        }
    }
}
