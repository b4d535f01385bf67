//! Whatever a node streams, in whatever pieces: what passes does not depend on where it was cut, and without usage all of it does.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
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

fuzz_target!(|input: (&[u8], usize)| {
    let (stream, cut) = input;
    let (before, after) = stream.split_at(cut.min(stream.len()));
    let whole = through(&[stream]);
    assert_eq!(whole, through(&[before, after]));
    let mut left = stream.iter();
    assert!(whole.iter().all(|byte| left.any(|other| other == byte)), "it is what came, with gaps");
    if !stream.windows(7).any(|window| window == b"\"usage\"") {
        assert_eq!(whole, stream);
    }
});
