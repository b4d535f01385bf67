//! What refusals look like in the document: written from the refusals themselves.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::names::ModelName;
use crate::refusal::{Dialect, Exceeded, Limit, Refusal};
use crate::wire::{head, paths, query};

/// Every status of a refusal, and what it means.
const STATUSES: [(u16, &str); 12] = [
    (400, "The request is malformed; or the node finds it so, in its own words."),
    (401, "No key, or one that is not valid. Of an unknown key a setting makes a 403."),
    (403, "The key may not use this model, or this endpoint."),
    (404, "There is no such model, response or session; or the node finds so, in its own words."),
    (408, "The request's body did not arrive in time."),
    (413, "The request's body is too large."),
    (415, "The request's body is compressed."),
    (429, "A limit is reached: of the key, of the session, or of wrong keys from one address."),
    (500, "The gateway, or the node, has failed."),
    (502, "The node cannot be reached, broke off, or refused the gateway's own key."),
    (503, "No node takes work, or all of them have enough; or the gateway is about to stop."),
    (504, "The node did not answer in time."),
];

/// Statuses that come from nodes as well.
const OF_NODES: [u16; 3] = [400, 404, 500];

/// The id in examples.
const REQUEST_ID: &str = "0199d5a1c2f47d3e8b6a5f4e3d2c1b0a";

/// What the key of an example may ask for.
const REQUESTS_MAX: u32 = 600;

/// The limit of a body in an example: the default.
const BODY_BYTES: usize = 100 << 20;

/// `components.responses`: by status, and of [`Dialect::Anthropic`] by `anthropic.` and the status.
pub(super) fn responses() -> Value {
    let dialects = [Dialect::OpenAi, Dialect::Anthropic];
    let all = dialects.into_iter().flat_map(|dialect| {
        let response =
            move |(status, means)| (name(status, dialect), response(status, means, dialect));
        STATUSES.into_iter().map(response)
    });
    Value::Object(all.collect())
}

/// How a request to a node may be refused on a path of this dialect: statuses, and references to what they look like.
pub(super) fn of_nodes(dialect: Dialect) -> impl Iterator<Item = (String, Value)> {
    STATUSES.into_iter().map(move |(status, _)| {
        let place = format!("#/components/responses/{}", name(status, dialect));
        (status.to_string(), json!({ "$ref": place }))
    })
}

fn name(status: u16, dialect: Dialect) -> String {
    match dialect {
        Dialect::OpenAi => status.to_string(),
        Dialect::Anthropic => format!("anthropic.{status}"),
    }
}

fn response(status: u16, means: &str, dialect: Dialect) -> Value {
    let mut examples = Map::new();
    let mut headers = Map::new();
    for refusal in examples_of_refusals().into_iter().filter(|one| one.status() == status) {
        let body: Value =
            serde_json::from_str(&refusal.body(dialect, REQUEST_ID)).unwrap_or_default();
        examples.insert(refusal.code().to_owned(), json!({ "value": body }));
        for name in names_of_headers(&refusal) {
            headers
                .insert(name.to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }));
        }
    }
    let schema = |name| json!({ "$ref": format!("#/components/schemas/{name}") });
    let own = match dialect {
        Dialect::OpenAi => schema("Error"),
        Dialect::Anthropic => schema("AnthropicError"),
    };
    let schema = match OF_NODES.contains(&status) {
        true => json!({ "anyOf": [own, schema("NodeError")] }),
        false => own,
    };
    json!({
        "description": means,
        "headers": headers,
        "content": { "application/json": { "schema": schema, "examples": examples } },
    })
}

fn names_of_headers(refusal: &Refusal) -> impl Iterator<Item = &'static str> {
    let named = [
        ("WWW-Authenticate", refusal.challenges()),
        ("Retry-After", refusal.retry_after_seconds().is_some()),
        ("retry-after-ms", refusal.retry_after_millis().is_some()),
        ("x-should-retry", refusal.forbids_retry()),
    ];
    named.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name)
}

/// One of each code.
fn examples_of_refusals() -> Vec<Refusal> {
    let model = || ModelName::from("llama-3.1-8b");
    let exceeded = |limit, wait| {
        let (allowed, used, requested) = (REQUESTS_MAX, u64::from(REQUESTS_MAX), 1);
        Refusal::Exceeded(Exceeded { limit, allowed, used, requested, wait })
    };
    let malformed = [
        query::seconds("soon").err(),
        paths::refuse_ambiguous(&Method::GET, b"/v1//models").err().map(Refusal::from),
        head::read(b"{").err().map(|why| Refusal::malformed("invalid_json", why.to_string())),
    ];
    let others = [
        Refusal::UnknownKey { status: StatusCode::UNAUTHORIZED },
        Refusal::ModelNotAllowed(model()),
        Refusal::ScopeNotAllowed("admin"),
        Refusal::ModelNotFound(model()),
        Refusal::ResponseNotFound { id: "resp_1".to_owned(), previous: false },
        Refusal::SessionNotFound,
        Refusal::ClientTooSlow,
        Refusal::BodyTooLarge { limit: BODY_BYTES },
        Refusal::EncodedBody,
        exceeded(Limit::RequestsPerMinute, Duration::from_secs(7)),
        exceeded(Limit::RequestsPerDay, Duration::from_secs(3_600)),
        Refusal::SessionBusy,
        Refusal::TooManyAttempts { wait: Duration::from_secs(30) },
        Refusal::Internal,
        Refusal::UpstreamUnreachable,
        Refusal::UpstreamError("The node broke off its answer."),
        Refusal::UpstreamAuthFailed,
        Refusal::NoHealthyNode { wait: None },
        Refusal::Busy { wait: Duration::from_secs(2) },
        Refusal::Draining,
        Refusal::LimitsUnavailable,
        Refusal::UpstreamTimeout,
    ];
    malformed.into_iter().flatten().chain(others).collect()
}
