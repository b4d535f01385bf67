//! Models that are asked in the place of others.

use super::*;

/// A table with these fallbacks on its third line, beside the alias `small`.
fn fallbacks(text: &str) -> String {
    format!("{ROUTES}\naliases: {{ small: llama }}\nfallbacks: {text}\n")
}

#[test]
fn a_model_may_fall_back_to_others_in_their_order() {
    let names = |models: &[&str]| models.iter().map(|name| ModelName::from(*name)).collect();
    for (text, expected) in [
        ("{}", vec![]),
        ("~", vec![]),
        ("{ big: [llama] }", vec![("big", names(&["llama"]))]),
        (
            "{ b: ['${M:-org/x}', a], x-a: [b], llama: [b] }",
            vec![("b", names(&["org/x", "a"])), ("x-a", names(&["b"])), ("llama", names(&["b"]))],
        ),
    ] {
        let expected: Vec<(ModelName, Vec<ModelName>)> =
            expected.into_iter().map(|(model, others)| (model.into(), others)).collect();
        assert_eq!(good(&fallbacks(text)).fallbacks, expected, "{text}");
    }
}

#[test]
fn fallbacks_that_lead_nowhere_are_refused() {
    let many: Vec<String> = (0..=defaults::FALLBACKS_MAX).map(|n| format!("m{n}")).collect();
    for (text, told) in [
        ("[a]", "3:1: fallbacks: this must be a map"),
        ("{ a: b }", "3:17: fallbacks.a: this must be a list; write `[model]`"),
        ("{ a: ~ }", "3:17: fallbacks.a: this must be a list; write `[model]`"),
        (
            "{ a: [] }",
            "3:14: fallbacks.a: at least one model is needed; leave it out where there is none",
        ),
        ("{ a: [b, c, b] }", "3:24: fallbacks.a[2]: this model stands here twice"),
        ("{ a: [b, a] }", "3:21: fallbacks.a[1]: a model cannot fall back to itself; remove it"),
        ("{ a: [7] }", "3:18: fallbacks.a[0]: this must be a text; put it in quotes"),
        ("{ a: [''] }", "3:18: fallbacks.a[0]: a model's name is 1 to 512 bytes long"),
        ("{ '': [b] }", "3:14: fallbacks: a model's name is 1 to 512 bytes long"),
        (
            "{ a: [b, small] }",
            "3:21: fallbacks.a[1]: a fallback must be a model, not an alias; name the model itself",
        ),
        (
            "{ small: [b] }",
            "3:14: fallbacks.small: a model has fallbacks, and this is an alias; write the model that the alias leads to",
        ),
        (
            &format!("{{ a: [{}] }}", many.join(", ")),
            "3:14: fallbacks.a: a model has at most 16 fallbacks",
        ),
    ] {
        assert_lines(&bad(&fallbacks(text)), &[&format!("routes.yaml:{told}")]);
    }
    assert_lines(
        &bad(&format!("{ROUTES}\nfalbacks: {{ a: [b] }}\n")),
        &["routes.yaml:2:1: falbacks: unknown field; did you mean `fallbacks`?"],
    );
}
