//! Whatever a node writes: usage is found where a whole parser finds it, and nothing makes the reader stop.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sluice::wire::usage;

fuzz_target!(|answer: &[u8]| {
    let Some(told) = usage::of_prompt(answer) else { return };
    let whole = serde_json::from_slice::<Value>(answer);
    // An event, or a usage that is no top-level field, is more than this can compare.
    if let Ok(Value::Object(whole)) = whole
        && whole.len() == 1
        && let Some(tokens) = whole.get("usage").and_then(|usage| usage.get("prompt_tokens"))
    {
        assert_eq!(tokens.as_u64(), Some(told.prompt));
    }
});
