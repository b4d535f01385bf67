//! An error that is told inside of a stream: the node's, or of what its client asked for.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Nodes,
    Clients,
}

/// What an error event says, in the dialects of OpenAI and Anthropic.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    error: Option<What>,
    #[serde(default)]
    code: Option<Code>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum What {
    Object {
        #[serde(default)]
        code: Option<Code>,
        #[serde(default, rename = "type")]
        kind: Option<String>,
    },
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Code {
    Number(f64),
    Text(String),
    Other(IgnoredAny),
}

impl Code {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            Self::Other(_) => None,
        }
    }
}

/// Names of what a client did wrong: Anthropic's, OpenAI's, vLLM's.
const CLIENTS_FAULTS: [&str; 10] = [
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "billing_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "BadRequestError",
    "Bad Request",
    "NotFoundError",
];

/// Whose fault the error in `data` is; none where it is none. `named`: its event says that it is one.
pub(super) fn of_error(data: &[u8], named: bool) -> Option<Fault> {
    let Ok(told) = serde_json::from_slice::<Told>(data) else {
        return named.then_some(Fault::Nodes);
    };
    let (code, kind) = match told.error {
        Some(What::Object { code, kind }) => (code, kind),
        Some(What::Other(_)) => (None, None),
        None if named => (told.code, None),
        None => return None,
    };
    let kind_is_clients = kind.is_some_and(|kind| CLIENTS_FAULTS.contains(&kind.as_str()));
    Some(match code.and_then(|code| code.number()) {
        Some(code) if (400.0..500.0).contains(&code) => Fault::Clients,
        Some(_) => Fault::Nodes,
        None if kind_is_clients => Fault::Clients,
        None => Fault::Nodes,
    })
}
