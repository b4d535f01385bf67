//! Request paths: which are ambiguous, which infer, which operate a node.

use http::Method;

use crate::refusal::Refusal;

/// Why a request target is refused: two programs on its way might read it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous(pub &'static str);

impl From<Ambiguous> for Refusal {
    fn from(Ambiguous(what): Ambiguous) -> Self {
        Self::malformed("invalid_target", what)
    }
}

/// The only path below which an id may carry encoded or plain slashes, where it is read: it is answered in this process.
const MODEL_BY_ID: &str = "/v1/models/";

/// Refuses a raw path that a node, or a proxy on the way to it, might read as another one (SPEC 4).
///
/// # Errors
/// [`Ambiguous`] with what was found.
pub fn refuse_ambiguous(method: &Method, path: &[u8]) -> Result<(), Ambiguous> {
    if is_plain(path) { Ok(()) } else { find_ambiguity(method, path) }
}

/// True for nearly every path: letters, digits and lone slashes. One look, where the rest takes seven.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    let plain = |byte: &u8| {
        let lone = *byte != b'/' || before != b'/';
        before = *byte;
        lone && (byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_'))
    };
    path.first() == Some(&b'/') && path.iter().all(plain)
}

fn find_ambiguity(method: &Method, path: &[u8]) -> Result<(), Ambiguous> {
    if path.first() != Some(&b'/') {
        return Err(Ambiguous("the path does not begin with `/`"));
    }
    if path.iter().any(|byte| *byte < 0x20 || *byte >= 0x7f) {
        return Err(Ambiguous("the path holds a control or non-ASCII character"));
    }
    if path.contains(&b'\\') {
        return Err(Ambiguous("the path holds a backslash"));
    }
    if path.contains(&b';') {
        return Err(Ambiguous("the path holds `;`"));
    }
    if path.windows(2).any(|pair| pair == b"//") {
        return Err(Ambiguous("the path holds `//`"));
    }
    let dots = |segment: &[u8]| segment == b"." || segment == b"..";
    if path.split(|byte| *byte == b'/').any(dots) {
        return Err(Ambiguous("the path holds a dot segment"));
    }
    let answered_here = *method == Method::GET && path.starts_with(MODEL_BY_ID.as_bytes());
    if path.contains(&b'%') && !answered_here {
        return Err(Ambiguous("the path holds `%`"));
    }
    Ok(())
}

/// Paths that the gateway answers itself, to GET alone.
pub const ANSWERED_HERE: [&str; 15] = [
    "/",
    "/docs",
    "/docs/init.js",
    "/docs/redoc-init.js",
    "/docs/redoc.standalone.js",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
    "/health",
    AUTHZ,
    "/livez",
    "/openapi.json",
    "/readyz",
    "/redoc",
    "/v1/llm/models",
    "/v1/models",
];

/// What a proxy before the gateway asks about each request (SPEC 5.4).
pub const AUTHZ: &str = "/internal/authz";

/// True for paths that the gateway answers itself.
pub fn answered_here(path: &str) -> bool {
    ANSWERED_HERE.contains(&path) || path.starts_with(MODEL_BY_ID)
}

/// Of those, the ones that need no key.
const OPEN: [&str; 6] = ["/", "/docs", "/livez", "/openapi.json", "/readyz", "/redoc"];

/// True for paths that the gateway answers to everybody.
pub fn open(path: &str) -> bool {
    OPEN.contains(&path) || path.starts_with("/docs/")
}

/// What is in the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// JSON, whatever Content-Type says: vLLM reads it so.
    Json,
    /// A multipart form: an upload of audio.
    Form,
    /// Not known: read as JSON where it is JSON, passed on where it is not.
    Opaque,
}

/// POST endpoints of vLLM 0.32 whose JSON body may name a model, outside `/v1`.
const JSON_OUTSIDE_V1: [&str; 9] = [
    "/tokenize",
    "/detokenize",
    "/inference/v1/generate",
    "/invocations",
    "/classify",
    "/score",
    "/rerank",
    "/v2/rerank",
    "/pooling",
];

/// POST endpoints of vLLM 0.32 below `/v1` with a JSON body.
const JSON_IN_V1: [&str; 8] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/rerank",
    "/v1/responses",
    "/v1/score",
];

/// Endpoints with a multipart form. Others below `/v1/audio` take JSON, `/v1/audio/speech` of OpenAI among them.
const FORMS: [&str; 2] = ["/v1/audio/transcriptions", "/v1/audio/translations"];

/// What the body of a request on `path` is.
pub fn body_kind(path: &str) -> BodyKind {
    if JSON_IN_V1.contains(&path) || JSON_OUTSIDE_V1.contains(&path) {
        BodyKind::Json
    } else if FORMS.contains(&path) {
        BodyKind::Form
    } else {
        BodyKind::Opaque
    }
}

/// True where a request uses a model: a key that is limited to models must name one there.
pub fn infers(path: &str) -> bool {
    path.starts_with("/v1/") || JSON_OUTSIDE_V1.contains(&path)
}

/// Where chats are asked for.
pub const CHAT: &str = "/v1/chat/completions";

/// True where a stream is one of chunks with choices, which tell of usage on demand.
pub fn streams_choices(path: &str) -> bool {
    matches!(path, CHAT | "/v1/completions")
}

/// Below it stand the ids of the responses that a POST to it made.
const RESPONSES: &str = "/v1/responses/";

/// True where a POST makes a response that can be asked for later.
pub fn makes_response(path: &str) -> bool {
    RESPONSES.strip_suffix('/') == Some(path)
}

/// The id of a response in `path`, where the path of its route, `pattern`, has a parameter in that place.
pub fn response_id<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let by_id = pattern.strip_prefix(RESPONSES)?.starts_with('{');
    path.strip_prefix(RESPONSES).filter(|_| by_id)?.split('/').next()
}

/// Endpoints that act on a node rather than ask its model (SPEC 5.3).
const OPERATING: [&str; 7] = [
    "/pause",
    "/resume",
    "/is_paused",
    "/metrics",
    "/load",
    "/scale_elastic_ep",
    "/is_scaling_elastic_ep",
];

/// True where a request needs the `admin` scope and is never sent twice.
pub fn operates(path: &str) -> bool {
    OPERATING.contains(&path)
}

/// True for methods that carry nothing to be passed on by a gateway.
pub fn refused_method(method: &Method) -> bool {
    *method == Method::CONNECT || *method == Method::TRACE
}

/// What a caller is told who wants another protocol, or a method of [`refused_method`].
pub fn upgrade_refused() -> Refusal {
    Refusal::malformed("upgrade_refused", "Upgrades, CONNECT and TRACE are not served.")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_two_programs_may_read_differently_is_refused() {
        for path in [
            "",
            "v1",
            "/v1//x",
            "/../x",
            "/v1/.",
            "/v1/..",
            "/a;b",
            "/a\\b",
            "/a\0",
            "/%2e%2e/x",
            "/v1/chat%2fcompletions",
            "/é",
            "/v1/models/../x",
            "/v1/models/a\\b",
        ] {
            assert!(refuse_ambiguous(&Method::GET, path.as_bytes()).is_err(), "{path}");
        }
        for path in ["/", "/v1/chat/completions", "/v1/models/org%2Fmodel", "/a.b/..c", "/v1/"] {
            assert_eq!(refuse_ambiguous(&Method::GET, path.as_bytes()), Ok(()), "{path}");
        }
        assert!(refuse_ambiguous(&Method::DELETE, b"/v1/models/a%2Fb").is_err());
    }

    proptest! {
        #[test]
        fn a_plain_path_has_no_ambiguity(path in "/[a-z0-9_/.%;-]{0,12}") {
            let found = find_ambiguity(&Method::POST, path.as_bytes());
            prop_assert!(!is_plain(path.as_bytes()) || found.is_ok());
            prop_assert_eq!(refuse_ambiguous(&Method::POST, path.as_bytes()), found);
        }
    }

    #[test]
    fn a_response_is_named_where_its_route_has_a_parameter() {
        let pattern = "/v1/responses/{response_id}";
        assert_eq!(response_id(pattern, "/v1/responses/resp_1"), Some("resp_1"));
        let pattern = "/v1/responses/{id}/cancel";
        assert_eq!(response_id(pattern, "/v1/responses/resp_1/cancel"), Some("resp_1"));
        assert_eq!(response_id("/v1/responses/compact", "/v1/responses/compact"), None);
        assert_eq!(response_id("/v1/{x}", "/v1/responses"), None);
        assert_eq!(
            (makes_response("/v1/responses"), makes_response("/v1/responses/")),
            (true, false)
        );
    }
}
