//! Keys that open the gateway, of the file and of the environment: one set.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use chrono::DateTime;
use ring::digest::{SHA256, digest};
use serde_yaml::Value;

use super::defaults::{LIMIT_MAX, MODEL_BYTES_MAX};
use super::named_files::NamedFiles;
use super::raw::{RawKey, RawLimits, Whole};
use super::report::{At, Fault, Report};
use super::typed::{Entry, texts, typed};
use super::{Day, Declared, KeyConfig, KeyLimits, values};
use crate::names::KeyName;

/// What else a name may hold: it goes into logs, metrics and a header.
pub(super) const NAME_CHARACTERS: &str = "._-@+/:";

/// The keys so far.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) list: Vec<KeyConfig>,
    names: HashSet<KeyName>,
    /// Whose a key is.
    owners: HashMap<[u8; 32], KeyName>,
}

/// What a key may do.
#[derive(Clone, Copy)]
enum Scope {
    Inference,
    Admin,
}

/// Where the parts of a key stand.
pub(super) struct Places<'a> {
    pub(super) name: At<'a>,
    pub(super) secret: At<'a>,
}

impl Keys {
    /// Reads `keys` of a file.
    pub(super) fn read(
        &mut self,
        list: Vec<Value>,
        files: &mut NamedFiles<'_>,
        report: &mut Report,
    ) {
        let at = At::Root.key("keys");
        for (index, mut value) in list.into_iter().enumerate() {
            let at = at.index(index);
            let Some(entry) = typed::<RawKey>(&mut value, &at, report) else { continue };
            let secret = secret(&entry, &at, files, report);
            let field = secret.map_or("key", |(field, _)| field);
            let places = Places { name: at.key("name"), secret: at.key(field) };
            let known = (Declared::Entry(index), secret.map(|(_, hash)| hash));
            if let Some(key) = key(entry, known, &at, report) {
                self.add(key, &places, report);
            }
        }
    }

    /// Adds a key, unless its name or the key itself is taken: then who has it is recorded.
    pub(super) fn add(&mut self, key: KeyConfig, places: &Places<'_>, report: &mut Report) {
        if !self.names.insert(key.name.clone()) {
            let draft = report.problem(&places.name, "another key has this name");
            draft.quote(key.name.as_str()).hint("names are unique over files and environment");
        }
        if let Some(owner) = self.owners.insert(key.sha256, key.name.clone()) {
            let message = format!("the keys {owner:?} and {:?} are the same key", key.name);
            report.problem(&places.secret, message).hint("give each its own");
        }
        self.list.push(key);
    }
}

/// Refuses what no caller could present as a key.
///
/// # Errors
/// What is wrong with it, free of its text.
pub fn check_key(text: &str) -> Result<(), String> {
    values::key(text).map(drop).map_err(|fault| fault.message.into_owned())
}

/// SHA-256 of a key, as it is kept and compared.
pub(super) fn sha256(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    hash
}

/// The hash of an entry's key, and the field it comes from.
fn secret(
    entry: &Entry<RawKey>,
    at: &At<'_>,
    files: &mut NamedFiles<'_>,
    report: &mut Report,
) -> Option<(&'static str, [u8; 32])> {
    let raw = &entry.fields;
    let given = [raw.key.is_some(), raw.key_file.is_some(), raw.key_sha256.is_some()];
    if given.iter().filter(|given| **given).count() > 1 {
        let draft = report.problem(at, "`key`, `key_file` and `key_sha256` exclude each other");
        draft.hint("keep one of them");
        return None;
    }
    let (field, hash) = if let Some(key) = &raw.key {
        ("key", values::key(key).map(sha256))
    } else if let Some(path) = &raw.key_file {
        let hash = files.key(path).and_then(|key| values::key(&key).map(sha256));
        ("key_file", hash)
    } else if let Some(text) = &raw.key_sha256 {
        ("key_sha256", hash_of(text))
    } else {
        if !["key_file", "key_sha256"].iter().any(|field| entry.told(field)) {
            entry.missing("key", at, "write `key`, `key_file` or `key_sha256`", report);
        }
        return None;
    };
    report.take_secret(&at.key(field), hash).map(|hash| (field, hash))
}

fn hash_of(text: &str) -> Result<[u8; 32], Fault> {
    let wrong = || Fault::with_hint("this must be 64 hexadecimal digits", "see `sluice keys hash`");
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut hash = [0; 32];
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())?;
    }
    // It would let in whoever sends an empty credential.
    if hash == sha256("") {
        return Err("this is the hash of an empty key".into());
    }
    Ok(hash)
}

/// Checks what is left of an entry.
fn key(
    entry: Entry<RawKey>,
    (declared, hash): (Declared, Option<[u8; 32]>),
    at: &At<'_>,
    report: &mut Report,
) -> Option<KeyConfig> {
    if entry.fields.name.is_none() {
        entry.missing("name", at, "logs and metrics call the key by it", report);
    }
    let raw = entry.fields;
    let name = raw.name.and_then(|text| {
        let name = values::name(&text, NAME_CHARACTERS).map(KeyName::from);
        report.take(&at.key("name"), &text, name)
    });
    let models = raw.models.map(|list| patterns(list, &at.key("models"), report));
    let (inference, admin) = match raw.scopes {
        Some(list) => scopes(list, &at.key("scopes"), report),
        None => (true, false),
    };
    let expires = raw.expires.map(|text| report.take(&at.key("expires"), &text, expiry(&text)));
    let limits = raw.limits.map(|raw| limits(&raw, &at.key("limits"), report));
    Some(KeyConfig {
        name: name?,
        sha256: hash?,
        models,
        inference,
        admin,
        expires: expires.flatten(),
        limits: limits.unwrap_or_default(),
        declared,
    })
}

fn limits(raw: &RawLimits, at: &At<'_>, report: &mut Report) -> KeyLimits {
    let mut limit = |field: &str, whole: Option<Whole>| {
        let Whole(number) = whole?;
        report.take(&at.key(field), &number.to_string(), limit(number))
    };
    KeyLimits {
        rpm: limit("rpm", raw.rpm),
        rpd: limit("rpd", raw.rpd),
        tpm: limit("tpm", raw.tpm),
        tpd: limit("tpd", raw.tpd),
        concurrent: limit("concurrent", raw.concurrent),
        day: raw
            .day
            .as_ref()
            .and_then(|text| day(text, &at.key("day"), report))
            .unwrap_or_default(),
    }
}

fn day(text: &str, at: &At<'_>, report: &mut Report) -> Option<Day> {
    report.take(at, text, values::one_of(text, &[("rolling", Day::Rolling), ("utc", Day::Utc)]))
}

/// A limit that can be reached and kept.
pub(super) fn limit(number: u64) -> Result<u32, Fault> {
    let number = values::within(number, 1..=LIMIT_MAX)?;
    u32::try_from(number).map_err(|_| Fault::from("this is too much"))
}

fn patterns(list: Vec<Value>, at: &At<'_>, report: &mut Report) -> Vec<String> {
    if list.is_empty() {
        let draft = report.problem(at, "a key without any model is of no use");
        draft.hint("leave it out to allow every model");
    }
    let texts = texts(list, at, report).into_iter();
    texts.filter_map(|(index, text)| report.take(&at.index(index), &text, pattern(&text))).collect()
}

/// A pattern of models' names, `*` for any text.
pub(super) fn pattern(text: &str) -> Result<String, Fault> {
    if text.is_empty() || text.len() > MODEL_BYTES_MAX {
        return Err(format!("a pattern is 1 to {MODEL_BYTES_MAX} bytes long").into());
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err("a pattern has no control characters, and no spaces at its ends".into());
    }
    Ok(text.to_owned())
}

fn scopes(list: Vec<Value>, at: &At<'_>, report: &mut Report) -> (bool, bool) {
    if list.is_empty() {
        report.problem(at, "a key without any scope is of no use").hint("leave it out to infer");
    }
    let (mut inference, mut admin) = (false, false);
    let words = [("inference", Scope::Inference), ("admin", Scope::Admin)];
    for (index, text) in texts(list, at, report) {
        match report.take(&at.index(index), &text, values::one_of(&text, &words)) {
            Some(Scope::Inference) => inference = true,
            Some(Scope::Admin) => admin = true,
            None => {}
        }
    }
    (inference, admin)
}

fn expiry(text: &str) -> Result<SystemTime, Fault> {
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| {
        Fault::with_hint("this is no point in time", "write it as 2027-01-01T00:00:00Z")
    })?;
    Ok(time.into())
}
