//! Keys of files and environment.

use std::time::{Duration, SystemTime};

use super::super::keys::sha256;
use super::*;

fn keys(text: &str) -> Vec<KeyConfig> {
    parse_all(Some(ROUTES), Some(text), &nothing()).unwrap().keys
}

#[test]
fn a_key_has_a_name_scopes_patterns_and_an_end() {
    let found = keys(
        "\
keys:
  - { name: a, key: k1 }
  - name: b
    key_sha256: BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD
    models: ['llama-*']
    scopes: [admin]
    expires: 1970-01-02T01:00:00+01:00
",
    );
    assert_eq!(found[0].sha256, sha256("k1"));
    assert!(found[0].inference && !found[0].admin);
    assert_eq!((&found[0].models, found[0].expires), (&None, None));
    assert_eq!(found[1].sha256, sha256("abc"));
    assert!(!found[1].inference && found[1].admin);
    assert_eq!(found[1].models.as_deref(), Some(&["llama-*".to_owned()][..]));
    assert_eq!(found[1].expires, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)));
    assert!(keys("keys: []").is_empty());
}

#[test]
fn the_same_name_or_key_twice_is_told_with_both_names() {
    assert_lines(
        &bad_keys(
            "keys:\n  - { name: a, key: same }\n  - { name: a, key: k }\n  - { name: c, key: same }\n",
        ),
        &[
            "keys.yaml:3:13: keys[1].name: another key has this name; names are unique over files and environment",
            "keys.yaml:4:21: keys[2].key: the keys `a` and `c` are the same key; give each its own",
        ],
    );
    let environment = env(&[("PROXY_SECRET_KEY", "same"), ("ALLOWED_API_KEYS", "x, same")]);
    let keys = "keys: [{ name: allowed-1, key: other }]";
    assert_lines(
        &lines(parse_all(Some(ROUTES), Some(keys), &environment).unwrap_err()),
        &[
            "environment: ALLOWED_API_KEYS: another key has this name; names are unique over files and environment",
        ],
    );
    let found = lines(parse_all(Some(ROUTES), None, &environment).unwrap_err());
    assert!(found[0].contains("`proxy-secret-key` and `allowed-2` are the same key"), "{found:?}");
}

#[test]
fn entries_that_are_wrong_are_refused() {
    let zeros = "0".repeat(64);
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for entry in [
        "name: a",
        "key: k",
        "name: a, key: ''",
        "name: a, key: 7",
        "name: a, key: 'a b'",
        "name: a, key: ключ",
        "name: a, key: k, key_file: f",
        "name: a, key_file: absent",
        "name: a, key_sha256: abc",
        &format!("name: a, key_sha256: {empty}"),
        &format!("name: a, key_sha256: '{}'", zeros.replacen('0', "g", 1)),
        "name: '', key: k",
        "name: a b, key: k",
        "name: a, key: k, models: []",
        "name: a, key: k, models: ['']",
        "name: a, key: k, scopes: []",
        "name: a, key: k, scopes: [root]",
        "name: a, key: k, expires: 2027-01-01",
        "name: a, key: k, limits: { rpm: 0 }",
        "name: a, key: k, limits: { rpm: 1000000001 }",
        "name: a, key: k, limits: { rpm: often }",
        "name: a, key: k, limits: { rpn: 1 }",
        "name: a, key: k, limits: { day: solar }",
        "name: a, key: k, limits: 7",
    ] {
        let found = bad_keys(&format!("keys: [{{ {entry} }}]"));
        assert_eq!(found.len(), 1, "{entry}: {found:?}");
    }
}

#[test]
fn a_key_file_loses_one_line_end_and_is_watched_even_when_it_is_bad() {
    for (content, good) in
        [("k", true), ("k\n", true), ("k\r\n", true), ("k\n\n", false), ("", false), ("\n", false)]
    {
        let read = |_: &Path| Ok(content.as_bytes().to_vec());
        let texts = Texts { routes: Some(ROUTES), keys: Some("keys: [{ name: a, key_file: f }]") };
        let found = parse(texts, &nothing(), None, &read);
        assert_eq!(found.is_ok(), good, "{content:?}");
        if let Ok(config) = found {
            assert_eq!(config.keys[0].sha256, sha256("k"));
            assert_eq!(config.watched, [PathBuf::from("f")]);
        }
    }
}

#[test]
fn keys_of_the_environment_have_names_and_scopes() {
    let environment = env(&[
        ("PROXY_SECRET_KEY", "a"),
        ("INTERNAL_API_KEY", "b"),
        ("ALLOWED_API_KEYS", " c ,, d,"),
    ]);
    let found = parse_all(Some(ROUTES), None, &environment).unwrap().keys;
    let names: Vec<&str> = found.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["proxy-secret-key", "internal-api-key", "allowed-1", "allowed-2"]);
    assert_eq!(found.iter().filter(|key| key.admin).count(), 2);
    assert_eq!(found[3].sha256, sha256("d"));
}
