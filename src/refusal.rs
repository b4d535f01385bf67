//! Why a caller is turned away: one enum; status, code and body follow from it and from nothing else.

mod exceeded;

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

pub use exceeded::{Exceeded, Limit, in_words};

use crate::names::ModelName;

/// A request that the gateway answered itself, because it would not, or could not, have a node answer it (SPEC 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No credential at all.
    NoKey,
    /// A credential that opens nothing. `status` is 401, or 403 where a setting says so.
    UnknownKey {
        /// 401 or 403.
        status: StatusCode,
    },
    /// The key is limited to other models.
    ModelNotAllowed(ModelName),
    /// The key lacks the scope that this endpoint needs.
    ScopeNotAllowed(&'static str),
    /// No such path.
    RouteNotFound,
    /// Every candidate's list is known, and none has it.
    ModelNotFound(ModelName),
    /// No response of that id that this key made.
    ResponseNotFound {
        /// As asked, or its beginning.
        id: String,
        /// It was to be gone on from.
        previous: bool,
    },
    /// The node that keeps the response to be gone on from does not serve this model.
    ModelElsewhere(ModelName),
    /// The path exists, with other methods.
    MethodNotAllowed {
        /// For the `Allow` header.
        allow: Cow<'static, str>,
    },
    /// The request is malformed.
    Malformed {
        /// Stable word for programs.
        code: &'static str,
        /// What is wrong, for people.
        message: Cow<'static, str>,
        /// The field, where there is one.
        param: Option<&'static str>,
    },
    /// The head of the request is over its bounds.
    HeadTooLarge,
    /// Its target is.
    TargetTooLong,
    /// The client did not send its head in time.
    HeadTooSlow,
    /// The body is over its limit, in bytes.
    BodyTooLarge {
        /// `max_body_bytes`.
        limit: usize,
    },
    /// The body has a `Content-Encoding`.
    EncodedBody,
    /// The client did not send its body in time.
    ClientTooSlow,
    /// The key has asked for as much as it may.
    Exceeded(Exceeded),
    /// Nobody knows how much the key has asked for.
    LimitsUnavailable,
    /// No session of that id, or none any more.
    SessionNotFound,
    /// Too many requests of that session wait for one another, or one has waited for too long.
    SessionBusy,
    /// No session can be had: why.
    SessionsUnavailable(&'static str),
    /// Too many wrong keys came from there.
    TooManyAttempts {
        /// Until the next may be tried.
        wait: Duration,
    },
    /// All the memory for request bodies is taken.
    Overloaded,
    /// Every node has as much to do as it may, and waiting would take too long.
    Busy {
        /// How long it would.
        wait: Duration,
    },
    /// This process is about to stop.
    Draining,
    /// No node of the upstream may get work.
    NoHealthyNode {
        /// Until one may, where that is known.
        wait: Option<Duration>,
    },
    /// No connection to the node.
    UpstreamUnreachable,
    /// The node broke off, or answered what cannot be passed on.
    UpstreamError(&'static str),
    /// The node does not take the key that we present.
    UpstreamAuthFailed,
    /// The node was too slow.
    UpstreamTimeout,
    /// A fault of the gateway's own.
    Internal,
}

/// Whose error object a path's clients read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// `{"error":{…}}`.
    #[default]
    OpenAi,
    /// `{"type":"error","error":{…}}`: `/v1/messages` and below.
    Anthropic,
}

impl Dialect {
    /// The dialect of `path`.
    pub fn of(path: &str) -> Self {
        match path.strip_prefix("/v1/messages") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::Anthropic,
            _ => Self::OpenAi,
        }
    }
}

/// How long a caller should wait when the gateway cannot know better: one turn of a rolling update's probe.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Rounded up; at least the shortest wait that is told.
fn whole_seconds(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(RETRY_AFTER_SECONDS)
}

impl Refusal {
    /// A malformed request that has no field to blame.
    pub fn malformed(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed { code, message: message.into(), param: None }
    }

    /// The status line of the reply.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoKey => StatusCode::UNAUTHORIZED,
            Self::UnknownKey { status } => *status,
            Self::ModelNotAllowed(_) | Self::ScopeNotAllowed(_) => StatusCode::FORBIDDEN,
            Self::RouteNotFound
            | Self::ModelNotFound(_)
            | Self::ModelElsewhere(_)
            | Self::SessionNotFound
            | Self::ResponseNotFound { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooSlow | Self::ClientTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::EncodedBody => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Exceeded(_) | Self::SessionBusy | Self::TooManyAttempts { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::LimitsUnavailable
            | Self::SessionsUnavailable(_)
            | Self::Overloaded
            | Self::Busy { .. }
            | Self::Draining
            | Self::NoHealthyNode { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamUnreachable | Self::UpstreamError(_) | Self::UpstreamAuthFailed => {
                StatusCode::BAD_GATEWAY
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A stable word: `error.code`, and the label of the metric.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoKey | Self::UnknownKey { .. } => "invalid_api_key",
            Self::ModelNotAllowed(_) => "model_not_allowed",
            Self::ScopeNotAllowed(_) => "scope_not_allowed",
            Self::RouteNotFound => "route_not_found",
            Self::ModelNotFound(_) | Self::ModelElsewhere(_) => "model_not_found",
            Self::ResponseNotFound { previous: false, .. } => "response_not_found",
            Self::ResponseNotFound { previous: true, .. } => "previous_response_not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::Malformed { code, .. } => code,
            Self::BodyTooLarge { .. } => "request_too_large",
            Self::HeadTooLarge => "request_header_fields_too_large",
            Self::TargetTooLong => "uri_too_long",
            Self::HeadTooSlow | Self::ClientTooSlow => "request_timeout",
            Self::EncodedBody => "unsupported_content_encoding",
            Self::Exceeded(exceeded) => exceeded.code(),
            Self::LimitsUnavailable => "limits_unavailable",
            Self::SessionNotFound => "session_not_found",
            Self::SessionBusy => "session_busy",
            Self::SessionsUnavailable(_) => "sessions_unavailable",
            Self::TooManyAttempts { .. } => "too_many_attempts",
            Self::Overloaded | Self::Busy { .. } => "overloaded",
            Self::Draining => "draining",
            Self::NoHealthyNode { .. } => "no_healthy_node",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamError(_) => "upstream_error",
            Self::UpstreamAuthFailed => "upstream_auth_failed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Internal => "internal_error",
        }
    }

    /// The field that is wrong, as OpenAI's `param`.
    fn param(&self) -> Option<&'static str> {
        match self {
            Self::ModelNotAllowed(_) | Self::ModelNotFound(_) | Self::ModelElsewhere(_) => {
                Some("model")
            }
            Self::ResponseNotFound { previous: false, .. } => Some("response_id"),
            Self::ResponseNotFound { previous: true, .. } => Some("previous_response_id"),
            Self::SessionNotFound | Self::SessionBusy => Some("session_id"),
            Self::Malformed { param, .. } => *param,
            _ => None,
        }
    }

    /// For people.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::NoKey => "No API key was given. Send it as `Authorization: Bearer KEY`.".into(),
            Self::UnknownKey { .. } => "The API key is not valid.".into(),
            Self::ModelNotAllowed(model) => {
                format!("This API key may not use the model `{model}`.").into()
            }
            Self::ScopeNotAllowed(scope) => {
                format!("This endpoint needs an API key with the scope `{scope}`.").into()
            }
            Self::RouteNotFound => "There is no such endpoint.".into(),
            Self::ModelNotFound(model) => {
                format!("The model `{model}` does not exist here.").into()
            }
            // In the words of vLLM, and of OpenAI.
            Self::ResponseNotFound { id, previous: false } => {
                format!("Response with id '{id}' not found.").into()
            }
            Self::ResponseNotFound { id, previous: true } => {
                format!("Previous response with id '{id}' not found.").into()
            }
            Self::ModelElsewhere(model) => format!(
                "The node that keeps the previous response does not serve the model `{model}`."
            )
            .into(),
            Self::MethodNotAllowed { allow } => {
                format!("This endpoint takes another method: {allow}.").into()
            }
            Self::Malformed { message, .. } => message.clone(),
            Self::BodyTooLarge { limit } => {
                format!("The request body is over the limit of {limit} bytes (MAX_BODY_BYTES).")
                    .into()
            }
            Self::HeadTooLarge => {
                "The head of the request is over 32 KiB, or has more than 100 headers.".into()
            }
            Self::TargetTooLong => "The target of the request is over 8 KiB.".into(),
            Self::HeadTooSlow => "The head of the request did not arrive in time.".into(),
            Self::EncodedBody => "Send the request body without a Content-Encoding.".into(),
            Self::ClientTooSlow => "The request body did not arrive in time.".into(),
            Self::Exceeded(exceeded) => exceeded.message(),
            Self::LimitsUnavailable => {
                "The limits of this API key cannot be looked up at the moment. Try again shortly."
                    .into()
            }
            Self::SessionNotFound => "There is no such session, or it has expired.".into(),
            Self::SessionBusy => {
                "Other requests of this session come before this one. Try again later.".into()
            }
            Self::SessionsUnavailable(why) => (*why).into(),
            Self::TooManyAttempts { .. } => {
                "Too many wrong keys came from your address. Try again later.".into()
            }
            Self::Overloaded => "The gateway holds as much as it may. Try again shortly.".into(),
            Self::Busy { .. } => {
                "Every node has as much to do as it may. Try again shortly.".into()
            }
            Self::Draining => "This gateway is shutting down. Try again.".into(),
            Self::NoHealthyNode { .. } => {
                "No node that serves this works at the moment. Try again shortly.".into()
            }
            Self::UpstreamUnreachable => "The node cannot be reached.".into(),
            Self::UpstreamError(what) => (*what).into(),
            Self::UpstreamAuthFailed => {
                "The node refused the gateway's own key: its configuration is wrong.".into()
            }
            Self::UpstreamTimeout => "The node did not answer in time.".into(),
            Self::Internal => "The gateway failed.".into(),
        }
    }

    /// Seconds for `Retry-After`, where coming back helps.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::LimitsUnavailable
            | Self::SessionBusy
            | Self::SessionsUnavailable(_)
            | Self::Overloaded
            | Self::Draining => Some(RETRY_AFTER_SECONDS),
            Self::TooManyAttempts { wait } => Some(whole_seconds(*wait)),
            Self::NoHealthyNode { wait } => Some(whole_seconds(wait.unwrap_or_default())),
            Self::Busy { wait } => Some(whole_seconds(*wait)),
            Self::Exceeded(exceeded) => Some(whole_seconds(exceeded.wait)),
            _ => None,
        }
    }

    /// Milliseconds for `retry-after-ms`, which SDKs read before `Retry-After`.
    pub fn retry_after_millis(&self) -> Option<u64> {
        match self {
            Self::Exceeded(exceeded) => u64::try_from(exceeded.wait.as_millis()).ok(),
            _ => None,
        }
    }

    /// Where coming back helps tomorrow, or never, SDKs are told not to wait for it: some sleep as long as they are told.
    pub fn forbids_retry(&self) -> bool {
        matches!(self, Self::Exceeded(exceeded) if !exceeded.can_soon_be())
    }

    /// For `Allow`.
    pub fn allow(&self) -> Option<&str> {
        match self {
            Self::MethodNotAllowed { allow } => Some(allow),
            _ => None,
        }
    }

    /// True where the caller should be told how to authenticate.
    pub fn challenges(&self) -> bool {
        self.status() == StatusCode::UNAUTHORIZED
    }

    /// The error object in the caller's dialect.
    pub fn body(&self, dialect: Dialect, request_id: &str) -> String {
        // Text always has a JSON form.
        let json = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let message = json(&self.message());
        match dialect {
            Dialect::OpenAi => format!(
                r#"{{"error":{{"message":{message},"type":"{}","param":{},"code":"{}"}}}}"#,
                self.openai_type(),
                self.param().map_or_else(|| "null".to_owned(), json),
                self.code(),
            ),
            Dialect::Anthropic => format!(
                r#"{{"type":"error","error":{{"type":"{}","message":{message}}},"request_id":{}}}"#,
                self.anthropic_type(),
                json(request_id),
            ),
        }
    }

    /// One event that ends a stream which cannot be ended well. No `[DONE]` follows it.
    pub fn event(&self, dialect: Dialect, request_id: &str) -> String {
        let body = self.body(dialect, request_id);
        match dialect {
            Dialect::OpenAi => format!("data: {body}\n\n"),
            Dialect::Anthropic => format!("event: error\ndata: {body}\n\n"),
        }
    }

    fn openai_type(&self) -> &'static str {
        match self.status().as_u16() {
            _ if let Self::Exceeded(exceeded) = self => exceeded.openai_type(),
            403 if !matches!(self, Self::UnknownKey { .. }) => "permission_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }

    /// docs.anthropic.com, "Errors".
    fn anthropic_type(&self) -> &'static str {
        match self.status().as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            _ => "api_error",
        }
    }
}
