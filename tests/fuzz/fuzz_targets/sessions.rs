//! Whatever a client of a session asks, and its node answers in whatever pieces: what is heard does not hang on where it was cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::wire::chats::{Init, Listener, Question, Whole, read};

fuzz_target!(|input: (&[u8], usize)| {
    let (bytes, cut) = input;
    let (before, after) = bytes.split_at(cut.min(bytes.len()));
    let _key = read::<Init>(bytes).is_ok();
    if let Ok(mut question) = read::<Question>(bytes) {
        let _extra = question.take_extra().is_ok();
    }
    let (mut whole, mut cut) = (Listener::default(), Listener::default());
    whole.push(bytes);
    cut.push(before);
    cut.push(after);
    assert_eq!(whole.said(), cut.said());
    let (mut whole, mut cut) = (Whole::default(), Whole::default());
    assert!(whole.push(bytes) && cut.push(before) && cut.push(after));
    assert_eq!(whole.reply(), cut.reply());
});
