//! A simulated Ollama node: its own API and the one like OpenAI's that it answers through it, as the source of August 2026
//! has them (commit fb307609).
//!
//! A request goes through these modules: `host` lets it in, `body` reads it as Go reads JSON into its structs, `chat`,
//! `generate` or `v1` make of it what was `asked`, `names` finds the model, `loaded` has it in memory or loads it, `run`
//! hands it to the engine, and the `answer` is written by `native` or by `v1`. No head is sent before the first line, so
//! whatever goes wrong until then has a status.
//!
//! # Where it differs from Ollama
//!
//! - It has no `/v1/responses`, `/v1/messages`, `/v1/audio/transcriptions`, and nothing that changes what is installed:
//!   no `/api/pull`, `/api/push`, `/api/create`, `/api/copy`, `/api/blobs`, `/api/delete`, `/api/me`, `/api/experimental`.
//! - What a model can do is in its name: `embed`, `minilm` or `bge-` makes vectors and nothing else; `gemma`, `phi` or
//!   `llava` calls no tools; `think`, `r1`, `qwen3` or `gpt-oss` thinks, unless told not to; none fills gaps (`suffix`).
//!   Every model takes images, each a mark in the prompt, and makes vectors.
//! - Calls of tools come in a line of their own, before the last. A model of `hf.co/` has them in its last line, as
//!   Ollama does wherever it uses the template that came with the model.
//! - What a model is, its size and its digest are made up, and so are probabilities. A call has none.
//! - `--max-queue` bounds whoever waits. Ollama's `OLLAMA_MAX_QUEUE` bounds those alone whose model is to be loaded: those
//!   who wait for a slot of one that is loaded are never refused. `--num-parallel` is for all models together.
//! - A model that is loaded anew in another shape leaves those alone that are being answered; Ollama waits for them. As
//!   many models as there are fit into memory.
//! - An engine that was killed stays dead, and its process ends, as with vLLM. Ollama would start another one.
//! - `prompt_eval_duration` begins when the model is loaded, and so includes the wait for a slot.
//! - An answer does not go on beyond the context, whatever `shift` says, and never repeats itself until it is broken off.
//! - A prompt that is too long is cut as a text of tokens; images in it do not hinder that.
//! - Names of fields must have the case that they are documented in. Of several mistakes another may be told first, and of
//!   a body that is no JSON only where it ceases to be.
//! - `template` and `_debug_render_only` are not looked at.
//! - `Origin` is not looked at, and `/api/chat/` is no other name of `/api/chat`. A name with `-cloud` is one as any other.
//! - HTTP/2 is spoken without TLS.
//! - Addresses of the machine itself are no `Host` on loopback, unless they are private.

mod answer;
mod asked;
mod body;
mod chat;
mod clock;
mod context;
mod duration;
mod embed;
mod generate;
mod go;
mod host;
mod info;
mod loaded;
mod logprobs;
mod names;
mod native;
mod options;
mod refusal;
mod run;
mod v1;

use std::borrow::Cow;

use http::header::{ALLOW, SERVER, VARY};
use http::{HeaderValue, Method, StatusCode};

pub(super) use self::loaded::Loaded;
use self::refusal::{Refusal, Shape, Stop};
use self::run::typed;
use crate::sim::call::Call;
use crate::sim::reply::{self, Broken, Reply};

/// What Gin calls text.
const TEXT: &str = "text/plain";

/// What a path is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint<'a> {
    Root,
    Version,
    Tags,
    Ps,
    Show,
    Chat,
    Generate,
    Embed,
    Embeddings,
    V1Chat,
    V1Completions,
    V1Embeddings,
    V1Models,
    V1Model(&'a str),
}

impl<'a> Endpoint<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/" => Self::Root,
            "/api/version" => Self::Version,
            "/api/tags" => Self::Tags,
            "/api/ps" => Self::Ps,
            "/api/show" => Self::Show,
            "/api/chat" => Self::Chat,
            "/api/generate" => Self::Generate,
            "/api/embed" => Self::Embed,
            "/api/embeddings" => Self::Embeddings,
            "/v1/chat/completions" => Self::V1Chat,
            "/v1/completions" => Self::V1Completions,
            "/v1/embeddings" => Self::V1Embeddings,
            "/v1/models" => Self::V1Models,
            _ => {
                let id = path.strip_prefix("/v1/models/")?;
                return (!id.is_empty() && !id.contains('/')).then_some(Self::V1Model(id));
            }
        })
    }

    /// Its methods, in Gin's order.
    fn methods(self) -> &'static [Method] {
        match self {
            Self::Root | Self::Version | Self::Tags => &[Method::HEAD, Method::GET],
            Self::Ps | Self::V1Models | Self::V1Model(_) => &[Method::GET],
            Self::Show
            | Self::Chat
            | Self::Generate
            | Self::Embed
            | Self::Embeddings
            | Self::V1Chat
            | Self::V1Completions
            | Self::V1Embeddings => &[Method::POST],
        }
    }
}

/// Answers one request.
///
/// # Errors
/// The connection is to end before the first line of an answer.
pub(super) async fn answer(call: &Call) -> Result<Reply, Broken> {
    if !host::is_allowed(&call.head, &call.node) {
        return Ok(reply::empty(StatusCode::FORBIDDEN));
    }
    if call.head.method == Method::OPTIONS && call.node.addr.ip().is_loopback() {
        return Ok(reply::empty(StatusCode::NO_CONTENT));
    }
    let path = decoded(call.head.uri.path());
    let Some(endpoint) = Endpoint::of(&path) else {
        return Ok(text(StatusCode::NOT_FOUND, "404 page not found"));
    };
    let methods = endpoint.methods();
    if !methods.contains(&call.head.method) {
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed");
        let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        reply.headers_mut().extend(HeaderValue::from_str(&allowed).map(|of| (ALLOW, of)));
        return Ok(reply);
    }
    let answered = match endpoint {
        Endpoint::Root => Ok(info::running()),
        Endpoint::Version => Ok(info::version()),
        Endpoint::Tags => Ok(info::tags(call)),
        Endpoint::Ps => Ok(info::ps(call)),
        Endpoint::Show => info::show(call).map_err(Stop::from),
        Endpoint::Chat => chat::answer(call).await,
        Endpoint::Generate => generate::answer(call).await,
        Endpoint::Embed => embed::embed(call).await.map_err(Stop::from),
        Endpoint::Embeddings => embed::embeddings(call).await.map_err(Stop::from),
        Endpoint::V1Chat => return v1::chat(call).await,
        Endpoint::V1Completions => return v1::completions(call).await,
        Endpoint::V1Embeddings => return v1::embeddings(call).await,
        Endpoint::V1Models => Ok(v1::list(call)),
        Endpoint::V1Model(id) => Ok(v1::retrieve(call, id)),
    };
    match answered {
        Ok(reply) => Ok(reply),
        Err(Stop::Refuse(refusal)) => Ok(refusal.reply(Shape::Native)),
        Err(Stop::Break) => Err(Broken),
    }
}

/// An error that no handler has found, in the shape of its path.
pub(super) fn error(path: &str, status: StatusCode, says: String) -> Reply {
    let shape = if path.starts_with("/v1/") { Shape::Before } else { Shape::Native };
    Refusal::new(status, says).reply(shape)
}

/// Whether Ollama could have a model of this name.
pub(super) fn is_name(name: &str) -> bool {
    names::Name::parse(name).is_some()
}

/// A head as Go writes it: it does not say who serves.
pub(super) fn head(mut reply: Reply) -> Reply {
    reply.headers_mut().remove(SERVER);
    reply.headers_mut().remove(VARY);
    reply
}

/// A path without escapes.
fn decoded(path: &str) -> Cow<'_, str> {
    let Some((first, rest)) = path.split_once('%') else { return path.into() };
    let mut bytes = first.as_bytes().to_vec();
    for part in rest.split('%') {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(part.as_bytes().get(2..).unwrap_or_default());
            }
            None => {
                bytes.push(b'%');
                bytes.extend(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

fn text(status: StatusCode, says: &'static str) -> Reply {
    typed(reply::json(status, says), TEXT)
}
