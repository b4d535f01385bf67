//! A path that passes holds nothing that two programs read differently; a query loses its timeout and nothing else.

#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use sluice::wire::{paths, query};

fuzz_target!(|target: &[u8]| {
    if paths::refuse_ambiguous(&Method::POST, target).is_ok() {
        assert!(target.starts_with(b"/") && !target.contains(&b'%') && !target.contains(&0));
        assert!(!target.windows(2).any(|pair| pair == b"//"));
        assert!(!target.split(|byte| *byte == b'/').any(|part| part == b".." || part == b"."));
    }
    if let Ok(text) = std::str::from_utf8(target)
        && let Ok(taken) = query::take_timeout(Some(text))
    {
        let rest = taken.rest.as_deref().unwrap_or_default();
        assert!(!rest.split('&').any(|pair| pair.starts_with("timeout=")));
    }
});
