//! vLLM 0.32: which path is answered by which module.

mod audio;
mod chat;
mod completions;
mod conversation;
mod cors;
mod generate;
mod info;
mod instance;
mod invocations;
mod logprobs;
mod messages;
mod metrics;
mod openai;
mod operating;
mod pooling;
mod prompt;
mod refusal;
mod request;
mod responses;
mod said;
mod sampling;
mod schema;
mod tokenize;
mod tools;
mod turns;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

pub(super) use self::refusal::{Refusal, Shape};
pub(super) use self::responses::Store;
use crate::sim::call::Call;
use crate::sim::reply::{self, Reply};

/// Paths that begin so need a key; all others are open, as in vLLM 0.32.
const GUARDED: [&str; 4] = ["/v1", "/v2", "/inference", "/cohere"];

/// What a path is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Chat,
    Completions,
    Responses,
    Response,
    ResponseCancel,
    Messages,
    CountTokens,
    Transcriptions,
    Translations,
    Embeddings,
    Pooling,
    Classify,
    Score,
    Rerank,
    Generate,
    Invocations,
    Tokenize,
    Detokenize,
    Pause,
    Resume,
    IsPaused,
    ScaleElasticEp,
    IsScalingElasticEp,
    Models,
    Alive,
    Ping,
    Version,
    Load,
    Metrics,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completions,
            "/v1/responses" => Self::Responses,
            "/v1/messages" => Self::Messages,
            "/v1/messages/count_tokens" => Self::CountTokens,
            "/v1/audio/transcriptions" => Self::Transcriptions,
            "/v1/audio/translations" => Self::Translations,
            "/v1/embeddings" => Self::Embeddings,
            "/pooling" => Self::Pooling,
            "/classify" => Self::Classify,
            "/score" | "/v1/score" => Self::Score,
            "/rerank" | "/v1/rerank" | "/v2/rerank" => Self::Rerank,
            "/inference/v1/generate" => Self::Generate,
            "/invocations" => Self::Invocations,
            "/tokenize" => Self::Tokenize,
            "/detokenize" => Self::Detokenize,
            "/pause" => Self::Pause,
            "/resume" => Self::Resume,
            "/is_paused" => Self::IsPaused,
            "/scale_elastic_ep" => Self::ScaleElasticEp,
            "/is_scaling_elastic_ep" => Self::IsScalingElasticEp,
            "/v1/models" => Self::Models,
            "/health" => Self::Alive,
            "/ping" => Self::Ping,
            "/version" => Self::Version,
            "/load" => Self::Load,
            "/metrics" => Self::Metrics,
            _ => match response(path)? {
                (_, true) => Self::ResponseCancel,
                (_, false) => Self::Response,
            },
        })
    }

    /// Its methods.
    fn methods(self) -> &'static [Method] {
        match self {
            Self::Response
            | Self::Models
            | Self::Alive
            | Self::Version
            | Self::Load
            | Self::Metrics
            | Self::IsPaused => &[Method::GET],
            Self::Ping => &[Method::GET, Method::POST],
            _ => &[Method::POST],
        }
    }
}

/// Answers one request. The order of the checks is vLLM's: the key, the path, the method, the body.
pub(super) async fn answer(call: &Call) -> Reply {
    let path = call.head.uri.path();
    if !has_key(&call.head, &call.node.api_keys) {
        return Refusal::Unauthorized.reply(Shape::OpenAi);
    }
    if let Some(reply) = cors::preflight(&call.head) {
        return reply;
    }
    let Some(endpoint) = Endpoint::of(path) else {
        return Refusal::UnknownPath.reply(Shape::OpenAi);
    };
    let methods = endpoint.methods();
    if !methods.contains(&call.head.method) {
        // Of several methods vLLM's router names the first alone.
        return Refusal::Method(&methods[0]).reply(Shape::OpenAi);
    }
    let reply = match endpoint {
        Endpoint::Chat => chat::answer(call).await,
        Endpoint::Completions => completions::answer(call).await,
        Endpoint::Responses => responses::create(call).await,
        Endpoint::Response => responses::retrieve(call, response_id(path)),
        Endpoint::ResponseCancel => responses::cancel(call, response_id(path)),
        Endpoint::Messages => messages::create(call).await,
        Endpoint::CountTokens => messages::count_tokens(call),
        Endpoint::Transcriptions => audio::answer(call, audio::Task::Transcribe).await,
        Endpoint::Translations => audio::answer(call, audio::Task::Translate).await,
        Endpoint::Embeddings => pooling::embeddings(call).await,
        Endpoint::Pooling => pooling::pooling(call).await,
        Endpoint::Classify => pooling::classify(call).await,
        Endpoint::Score => pooling::score(call).await,
        Endpoint::Rerank => pooling::rerank(call).await,
        Endpoint::Generate => generate::answer(call).await,
        Endpoint::Invocations => invocations::answer(call).await,
        Endpoint::Tokenize => tokenize::tokenize(call),
        Endpoint::Detokenize => tokenize::detokenize(call),
        Endpoint::Pause => operating::pause(call),
        Endpoint::Resume => Ok(operating::resume(call)),
        Endpoint::IsPaused => Ok(operating::is_paused(call)),
        Endpoint::ScaleElasticEp => operating::scale(call),
        Endpoint::IsScalingElasticEp => Ok(operating::is_scaling()),
        Endpoint::Models => Ok(info::models(call)),
        Endpoint::Alive | Endpoint::Ping => Ok(reply::empty(StatusCode::OK)),
        Endpoint::Version => Ok(info::version()),
        Endpoint::Load => Ok(info::load(&call.node)),
        Endpoint::Metrics => Ok(metrics::metrics(call)),
    };
    let shape = match endpoint {
        Endpoint::Messages | Endpoint::CountTokens => Shape::Anthropic,
        _ => Shape::OpenAi,
    };
    reply.unwrap_or_else(|refusal| refusal.reply(shape))
}

/// The id of a response in its path, and whether the path is that of its end.
fn response(path: &str) -> Option<(&str, bool)> {
    let id = path.strip_prefix("/v1/responses/")?;
    let (id, cancel) = id.strip_suffix("/cancel").map_or((id, false), |id| (id, true));
    (!id.is_empty() && !id.contains('/')).then_some((id, cancel))
}

fn response_id(path: &str) -> &str {
    response(path).map_or("", |(id, _)| id)
}

/// Whether the request may pass. `x-api-key` is no key, and a preflight needs none, as in vLLM 0.32.
fn has_key(head: &Parts, keys: &[String]) -> bool {
    let guarded = GUARDED.iter().any(|prefix| head.uri.path().starts_with(prefix));
    if keys.is_empty() || !guarded || head.method == Method::OPTIONS {
        return true;
    }
    let value = head.headers.get(AUTHORIZATION).map(HeaderValue::to_str);
    let Some(Ok(Some((scheme, key)))) = value.map(|value| value.map(|text| text.split_once(' ')))
    else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer") && keys.iter().any(|known| known == key)
}
