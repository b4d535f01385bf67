//! `TOKENS_JSON`: the keys of a service that limited requests for each, `[{"token": …, "label": …, "rpm": …, "rpd": …}]`.

use serde::Deserialize;

use super::environment::Environment;
use super::keys::{Keys, NAME_CHARACTERS, Places, limit, sha256};
use super::report::{At, Report};
use super::{Declared, KeyConfig, KeyLimits, values};
use crate::names::KeyName;

const VARIABLE: &str = "TOKENS_JSON";

/// One of the list. `null` is as good as nothing; other fields meant nothing there, either.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    label: Option<String>,
    rpm: Option<u64>,
    rpd: Option<u64>,
}

/// Adds the keys of the variable.
pub(super) fn keys(environment: &Environment, keys: &mut Keys, report: &mut Report) {
    let at = At::Root.key(VARIABLE);
    let Some(text) = environment.get(VARIABLE) else { return };
    let tokens: Vec<Token> = match serde_json::from_str(text) {
        Ok(tokens) => tokens,
        Err(error) => {
            // Its text may hold a value, and with it a key.
            let (line, column) = (error.line(), error.column());
            let message = format!("this is no list of tokens (line {line}, column {column})");
            let draft = report.problem(&at, message);
            draft.hint(r#"write [{"token": "…", "label": "team-a", "rpm": 60, "rpd": 1000}]"#);
            return;
        }
    };
    for (index, token) in tokens.into_iter().enumerate() {
        if let Some(key) = key(token, index, &at.index(index), report) {
            let places = Places { name: at.index(index), secret: at.index(index) };
            keys.add(key, &places, report);
        }
    }
}

fn key(token: Token, index: usize, at: &At<'_>, report: &mut Report) -> Option<KeyConfig> {
    let Some(secret) = token.token else {
        report.problem(at, "`token` is missing").hint("it is the key itself");
        return None;
    };
    let hash = report.take_secret(&at.key("token"), values::key(&secret).map(sha256));
    let label = token.label.unwrap_or_else(|| format!("token-{}", index + 1));
    let name = values::name(&label, NAME_CHARACTERS).map(KeyName::from);
    let name = report.take(&at.key("label"), &label, name);
    let mut limit = |field: &str, number: Option<u64>| {
        let number = number?;
        report.take(&at.key(field), &number.to_string(), limit(number))
    };
    let (rpm, rpd) = (limit("rpm", token.rpm), limit("rpd", token.rpd));
    Some(KeyConfig {
        name: name?,
        sha256: hash?,
        models: None,
        inference: true,
        admin: false,
        expires: None,
        limits: KeyLimits { rpm, rpd, ..KeyLimits::default() },
        declared: Declared::Variable(VARIABLE),
    })
}
