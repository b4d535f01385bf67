//! Whatever a node writes, in whatever pieces: usage is found where a whole parser finds it, and nothing makes the reader stop.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sluice::wire::usage::Tally;

fuzz_target!(|input: (&[u8], usize)| {
    let (answer, cut) = input;
    let (before, after) = answer.split_at(cut.min(answer.len()));
    let mut tally = Tally::default();
    tally.push(before);
    tally.push(after);
    let Some(told) = tally.usage().of_prompt() else { return };
    let whole = serde_json::from_slice::<Value>(answer);
    // An event, or a usage that is no top-level field, is more than this can compare.
    if let Ok(Value::Object(whole)) = whole
        && whole.len() == 1
        && let Some(tokens) = whole.get("usage").and_then(|usage| usage.get("prompt_tokens"))
    {
        assert_eq!(tokens.as_u64(), Some(told.prompt));
    }
});
