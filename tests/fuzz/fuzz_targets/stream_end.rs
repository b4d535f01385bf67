//! What passes of a stream, and what is thought of its end, does not hang on how it was cut.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluice::wire::stream_end::StreamEnd;

/// What passes, whether it died, and whether it ended well.
fn through(path: &str, stream: &[u8], piece_bytes: usize) -> (Vec<u8>, bool, bool) {
    let mut end = StreamEnd::of_path(path).expect("a path that streams");
    let mut passed = Vec::new();
    for piece in stream.chunks(piece_bytes) {
        let next = end.push(Bytes::copy_from_slice(piece));
        passed.extend_from_slice(&next.bytes);
        if next.died {
            return (passed, true, false);
        }
    }
    let rest = end.finish();
    passed.extend_from_slice(&rest.bytes);
    (passed, rest.died, !rest.died && end.is_well())
}

fuzz_target!(|input: &[u8]| {
    let [first, stream @ ..] = input else { return };
    let paths = ["/v1/chat/completions", "/v1/messages", "/v1/responses"];
    let path = paths[usize::from(*first) % paths.len()];
    let whole = through(path, stream, stream.len().max(1));
    let cut = through(path, stream, usize::from(*first) % 13 + 1);
    assert_eq!((cut.1, cut.2), (whole.1, whole.2));
    assert!(stream.starts_with(&cut.0) && cut.0.starts_with(&whole.0));
});
