//! Whatever a node streams, in whatever pieces: what passes does not depend on where it was cut, and without usage all of it does.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sluice::wire::usage::Tally;
use sluice::wire::usage::ask::Hidden;
use sluice::wire::usage::chunks::Chunks;

fn through(pieces: &[&[u8]]) -> Vec<u8> {
    let (mut chunks, mut tally) = (Chunks::new(Hidden::All), Tally::default());
    let mut passed = Vec::new();
    for piece in pieces {
        passed.extend_from_slice(&chunks.push(Bytes::copy_from_slice(piece), &mut tally));
    }
    passed.extend_from_slice(&chunks.finish(&mut tally));
    passed
}

/// A line that any reader reads alike. What is no JSON, or names a field twice, is read whole where it comes in pieces, and not
/// where it comes as one event: its usage may be cut out there and pass here.
fn is_plain(line: &[u8]) -> bool {
    let json = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii_start);
    let Some(json) = json.filter(|json| json.starts_with(b"{")) else { return true };
    let Ok(chunk) = serde_json::from_slice::<Value>(json) else { return false };
    let count = |name: &[u8]| json.windows(name.len()).filter(|window| *window == name).count();
    let is_choice = |choice: &Value| {
        choice.is_object() && (choice["index"].is_null() || choice["index"].is_u64())
    };
    let choices = &chunk["choices"];
    let names = [&b"\"usage\""[..], b"\"choices\"", b"\"error\"", b"\"index\""];
    names.into_iter().all(|name| count(name) < 2)
        && count(b"\\u") == 0
        && (choices.is_null() || choices.as_array().is_some_and(|all| all.iter().all(is_choice)))
}

fuzz_target!(|input: (&[u8], usize)| {
    let (stream, cut) = input;
    let (before, after) = stream.split_at(cut.min(stream.len()));
    let whole = through(&[stream]);
    let in_pieces = through(&[before, after]);
    if stream.split(|byte| matches!(byte, b'\r' | b'\n')).all(is_plain) {
        assert_eq!(whole, in_pieces);
    }
    let mut left = stream.iter();
    assert!(whole.iter().all(|byte| left.any(|other| other == byte)), "it is what came, with gaps");
    if !stream.windows(7).any(|window| window == b"\"usage\"") {
        assert_eq!(whole, stream);
    }
});
