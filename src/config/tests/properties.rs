//! Properties: whatever the text, an answer and no panic.

use proptest::prelude::*;

use super::super::address::Address;
use super::super::expand::expanded;
use super::super::keys::pattern;
use super::super::paths::RoutePath;
use super::*;

/// Text that is often nearly a route table.
fn nearly_yaml() -> impl Strategy<Value = String> {
    let words = prop_oneof![
        Just("routes:".to_owned()),
        Just("upstreams:".to_owned()),
        Just("aliases:".to_owned()),
        Just("keys:".to_owned()),
        Just("fallbacks: {a: [b, &x".to_owned()),
        Just("u: {nodes: ['http://h', http://g], health:".to_owned()),
        Just("dns: http://h".to_owned()),
        Just("off".to_owned()),
        Just("path: /a/{b}".to_owned()),
        Just("methods: [GET, &x".to_owned()),
        Just("*x".to_owned()),
        Just("<<: *x".to_owned()),
        Just("upstream_url: http://h/${A:-b}".to_owned()),
        Just("  - ".to_owned()),
        Just("\n".to_owned()),
        Just("\n  ".to_owned()),
        Just("\n    ".to_owned()),
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("]".to_owned()),
        Just(": ".to_owned()),
        Just("? ".to_owned()),
        Just("!t ".to_owned()),
        "\\PC{0,4}",
    ];
    proptest::collection::vec(words, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_text_makes_parse_panic(routes in nearly_yaml(), keys in nearly_yaml(), any in ".*") {
        for routes in [&routes, &any] {
            let _ = parse_all(Some(routes), Some(&keys), &nothing());
        }
    }

    #[test]
    fn a_route_table_with_a_mangled_byte_is_read_or_refused(at in 0usize..200, with in any::<char>()) {
        let text = "routes:\n  - path: /a\n    methods: [GET]\n    upstream_url: http://h:1/a\n    upstream_key: k\n";
        let mangled: String =
            text.chars().enumerate().map(|(i, c)| if i == at { with } else { c }).collect();
        let _ = parse_all(Some(&mangled), None, &nothing());
    }

    #[test]
    fn text_without_a_dollar_sign_stays_as_it_is(text in "[^$]*") {
        prop_assert_eq!(expanded(&text, &nothing()), Ok(text));
    }

    #[test]
    fn doubling_dollar_signs_undoes_expansion(text in ".*") {
        prop_assert_eq!(expanded(&text.replace('$', "$$"), &nothing()), Ok(text));
    }

    #[test]
    fn what_a_variable_holds_is_not_expanded_again(value in ".+") {
        let environment = env(&[("A", &value)]);
        prop_assert_eq!(expanded("<${A}>", &environment), Ok(format!("<{value}>")));
    }

    #[test]
    fn expanding_never_panics(text in "[${}A:?\\-é ]*") {
        let _ = expanded(&text, &env(&[("A", "a")]));
    }

    #[test]
    fn a_path_that_is_taken_is_unambiguous(text in "[/a.{}%;?#\\\\ é_]*") {
        if let Ok(path) = RoutePath::parse(&text) {
            prop_assert!(text.starts_with('/') && !text.contains("//"));
            prop_assert!(!text.contains(['%', ';', '?', '#', '\\', ' ', 'é']));
            prop_assert!(!text.split('/').any(|segment| segment == "." || segment == ".."));
            prop_assert_eq!(path.as_str(), &text);
        }
    }

    #[test]
    fn an_address_that_is_taken_reads_the_same_again(text in "https?://[a-c.:\\[\\]0-9@/]{0,20}") {
        if let Ok(Address { node, .. }) = Address::parse(&text) {
            let again = node.to_string();
            prop_assert_eq!(Address::parse(&again).unwrap().node, node);
        }
    }

    #[test]
    fn a_pattern_that_is_taken_is_unchanged(text in ".*") {
        if let Ok(taken) = pattern(&text) {
            prop_assert_eq!(taken, text);
        }
    }
}
