//! A body in chunks ends where it ends however it was cut, and is as long as what stands in its chunks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::wire::chunked::{Broken, Chunked};

/// How many bytes belong to the body, and how many it has.
fn read(pieces: &[&[u8]]) -> Result<(usize, Option<u64>), Broken> {
    let (mut body, mut taken) = (Chunked::default(), 0);
    for piece in pieces {
        taken += body.push(piece)?;
    }
    Ok((taken, body.whole()))
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(&[bytes]);
    let (before, after) =
        bytes.split_at(bytes.first().map_or(0, |byte| usize::from(*byte)).min(bytes.len()));
    assert_eq!(whole, read(&[before, after]));
    assert_eq!(whole, read(&bytes.chunks(1).collect::<Vec<_>>()));
    if let Ok((taken, Some(length))) = whole {
        assert!(length < taken as u64);
        assert!(bytes[..taken].ends_with(b"\r\n") && bytes[0].is_ascii_hexdigit());
        assert_eq!(read(&[&bytes[..taken - 1]]), Ok((taken - 1, None)), "it has one end");
    }
});
