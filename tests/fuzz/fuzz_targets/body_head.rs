//! A body that the gateway reads is one that a whole JSON parser reads too, and both find the same model.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sluice::wire::head;

fuzz_target!(|body: &[u8]| {
    let Ok(read) = head::read(body) else { return };
    let Ok(text) = std::str::from_utf8(body) else { return };
    let Ok(Value::Object(whole)) = serde_json::from_str::<Value>(text) else {
        // What a tree cannot hold is skipped here, not read.
        return;
    };
    assert_eq!(read.model.as_deref(), whole.get("model").and_then(Value::as_str));
    if let Some(at) = read.asked.model_at {
        let name: String = serde_json::from_slice(&body[at]).expect("the range is the name");
        assert_eq!(Some(name.as_str()), read.model.as_deref());
    }
});
