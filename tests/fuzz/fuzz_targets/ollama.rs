//! Whatever a client asks, and a node of Ollama's says in whatever pieces: what is told is JSON, and does not hang on where it was cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use sluice::wire::ollama::{Call, Shape, request};

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(text).is_ok()
}

fn through(shape: &Shape, pieces: &[&[u8]]) -> Vec<u8> {
    let mut answer = shape.begin("1", 200, 0);
    let mut told: Vec<u8> = pieces.iter().flat_map(|piece| answer.push(piece)).collect();
    told.extend(answer.finish());
    told
}

fuzz_target!(|input: (&[u8], usize)| {
    let (bytes, cut) = input;
    let (before, after) = bytes.split_at(cut.min(bytes.len()));
    for call in [Call::Chat, Call::Completion, Call::Embedding] {
        if let Ok(asked) = request(call, bytes, &[]) {
            assert!(is_json(&asked.body));
        }
        for body in [
            r#"{"messages":[{"role":"user"}],"prompt":"p","input":"i","stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"messages":[{"role":"user"}],"prompt":"p","input":"i"}"#,
        ] {
            let shape = request(call, body.as_bytes(), &[]).expect("a request").answer;
            let whole = through(&shape, &[bytes]);
            assert_eq!(whole, through(&shape, &[before, after]));
            match shape.begin("1", 200, 0).content_type() {
                "application/json" => assert!(is_json(&whole)),
                _ => {
                    assert!(!whole.contains(&b'\r'), "a line end of another kind");
                    for event in whole.split_inclusive(|byte| *byte == b'\n').step_by(2) {
                        let data = event.strip_prefix(b"data: ").expect("an event");
                        assert!(data == b"[DONE]\n" || is_json(data));
                    }
                }
            }
        }
    }
});
