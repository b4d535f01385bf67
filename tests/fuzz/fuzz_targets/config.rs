//! No text of the two files makes the reading of them panic, and no problem tells a key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::config::{Environment, Texts, parse};

fuzz_target!(|text: &str| {
    let (routes, keys) = text.split_once('\0').unwrap_or((text, "keys: []"));
    let environment: Environment = [("SECRET", "sk-secret-of-the-fuzzer")].into_iter().collect();
    let texts = Texts { routes: Some(routes), keys: Some(keys) };
    let no_files = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    if let Err(problems) = parse(texts, &environment, None, &no_files) {
        assert!(!problems.to_string().contains("sk-secret-of-the-fuzzer"));
    }
});
