//! What a request must pass before a node is asked, in the order of the contract (SPEC 4): cheap checks first, and who
//! has no key learns nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, Method, header};
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::Gateway;
use super::body::{self, Progress};
use super::context::{Forward, RequestContext};
use super::reply::{REQUEST_ID, Stop};
use crate::access::keys::{self, Key};
use crate::answers::{info, models};
use crate::names::ModelName;
use crate::refusal::{Dialect, Refusal};
use crate::routing::choice::Chosen;
use crate::routing::table::{Found, Route};
use crate::wire::head::Unreadable;
use crate::wire::ids::{self, TraceParent};
use crate::wire::paths::{self, BodyKind};
use crate::wire::{form, head, query};

/// A request's own timeout, in seconds.
pub(super) const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout-seconds");

/// The scope of the operating endpoints.
const ADMIN: &str = "admin";

/// The scope of everything else.
const INFERENCE: &str = "inference";

impl Gateway {
    /// The table of contents.
    pub(super) async fn admit(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<(), Stop> {
        identify(session, ctx);
        refuse_ambiguous(session)?;
        self.answer_other_origins(session, ctx)?;
        let path = session.req_header().uri.path().to_owned();
        self.answer_open(session, ctx, &path).await?;
        let key = self.authenticate(session, ctx)?;
        self.answer_in_process(session, ctx, (&path, &key)).await?;
        let snapshot = ctx.snapshot.clone();
        let candidates = match snapshot.table.find(&session.req_header().method, &path) {
            Found::Routes(candidates) => candidates,
            Found::OtherMethods(allow) => {
                return Err(Refusal::MethodNotAllowed { allow: allow.to_owned().into() }.into());
            }
            // A GET of theirs was answered above.
            Found::Nothing if paths::answered_here(&path) => {
                return Err(Refusal::MethodNotAllowed { allow: "GET".into() }.into());
            }
            Found::Nothing => return Err(Refusal::RouteNotFound.into()),
        };
        demand_scope(&key, &path)?;
        let (timeout, query) = self.timeout(session)?;
        self.read_body(session, ctx).await?;
        let named = read_named(session, ctx, (&path, &key)).await?;
        let chosen = self.choose(ctx, candidates, &key).await?;
        let target = target(&chosen.route, &path, query.as_deref());
        let timeout = timeout.unwrap_or(chosen.route.upstream.timeouts.first_byte);
        let mut forward = Forward::new(&chosen, target, timeout);
        forward.repeatable = !paths::operates(&path);
        forward.rename = rename(&chosen, named)?;
        ctx.forward = Some(forward);
        self.retries.request(ctx.started);
        Ok(())
    }

    /// Preflights; and what every answer to a page of another origin carries.
    fn answer_other_origins(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
    ) -> Result<(), Stop> {
        let request = session.req_header();
        ctx.cors = self.cors.headers_for(&request.headers);
        match self.cors.preflight(&request.method, &request.headers) {
            Some(answer) => Err(Stop::Answer(answer)),
            None => Ok(()),
        }
    }

    /// What needs no key.
    async fn answer_open(
        &self,
        session: &Session,
        ctx: &RequestContext,
        path: &str,
    ) -> Result<(), Stop> {
        let request = session.req_header();
        if request.method != Method::GET {
            return Ok(());
        }
        let answer = match path {
            "/" => info::about(),
            "/livez" => info::live(),
            "/readyz" => {
                let presented = keys::presented(&request.headers).ok().flatten();
                let key = presented.and_then(|key| ctx.snapshot.keys.find(key, SystemTime::now()));
                let details = key.is_some_and(|key| key.admin) || ctx.snapshot.keys.is_empty();
                info::ready(self.drain.is_draining(), details.then_some(ctx.snapshot.generation))
            }
            "/health" if !ctx.snapshot.keys.is_empty() => {
                match keys::presented(&request.headers).map_err(twice)? {
                    Some(_) => return Ok(()),
                    None => ctx.snapshot.health.report(&self.client).await.short(),
                }
            }
            _ => return Ok(()),
        };
        Err(Stop::Answer(answer))
    }

    /// Who asks. Before a byte of the body is read.
    fn authenticate(&self, session: &Session, ctx: &mut RequestContext) -> Result<Arc<Key>, Stop> {
        let presented = keys::presented(&session.req_header().headers).map_err(twice)?;
        let snapshot = &ctx.snapshot;
        let key = match presented {
            _ if snapshot.keys.is_empty() => Arc::new(Key::anyone()),
            None => return Err(Refusal::NoKey.into()),
            Some(presented) => match snapshot.keys.find(presented, SystemTime::now()) {
                Some(key) => key.clone(),
                None => {
                    ctx.unknown_key = Some(self.fingerprints.of(presented));
                    let status = self.limits.invalid_key_status;
                    return Err(Refusal::UnknownKey { status }.into());
                }
            },
        };
        ctx.key = Some(key.clone());
        Ok(key)
    }

    /// What the gateway answers itself to those with a key (SPEC 5.2).
    async fn answer_in_process(
        &self,
        session: &Session,
        ctx: &RequestContext,
        (path, key): (&str, &Key),
    ) -> Result<(), Stop> {
        if session.req_header().method != Method::GET {
            return Ok(());
        }
        let upstreams = &ctx.snapshot.upstreams;
        let answer = match path {
            "/health" => ctx.snapshot.health.report(&self.client).await.whole(),
            "/v1/models" | "/v1/llm/models" => {
                models::ask(upstreams, &self.client, &self.refresher).await.list(key)?
            }
            _ => match path.strip_prefix("/v1/models/") {
                None => return Ok(()),
                Some(id) => {
                    let broken = Refusal::malformed("invalid_target", "The model's id is broken.");
                    let id = models::id_of(id).ok_or(broken)?;
                    models::ask(upstreams, &self.client, &self.refresher).await.one(&id, key)?
                }
            },
        };
        Err(Stop::Answer(answer))
    }

    /// The request's own timeout, if it has one, and the query without it.
    fn timeout(&self, session: &Session) -> Result<(Option<Duration>, Option<String>), Stop> {
        let request = session.req_header();
        let invalid = |message: &'static str| Refusal::malformed("invalid_timeout", message);
        let query = query::take_timeout(request.uri.query())
            .map_err(|query::TwoTimeouts| invalid("The parameter `timeout` is there twice."))?;
        let mut headers = request.headers.get_all(TIMEOUT).iter();
        let header = headers.next();
        if headers.next().is_some() {
            return Err(invalid("The header `X-Timeout-Seconds` is there twice.").into());
        }
        // Both are checked, also where the header wins: a typing error must not pass for a wish.
        let seconds = |text: &str| {
            parse_seconds(text).ok_or(invalid("A timeout must be a positive number of seconds."))
        };
        let of_query = query.timeout.map(seconds).transpose()?;
        let of_header =
            header.map(|value| seconds(value.to_str().unwrap_or_default())).transpose()?;
        let timeout = of_header.or(of_query).map(|wish| wish.min(self.limits.max_timeout));
        Ok((timeout, query.rest.map(std::borrow::Cow::into_owned)))
    }

    async fn read_body(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<(), Stop> {
        let limit = self.limits.max_body_bytes;
        let share = self.held.share();
        ctx.body = body::read(session, limit, share, &mut ctx.body_progress).await?;
        debug_assert!(ctx.body_progress == Progress::Whole);
        Ok(())
    }

    /// Which upstream, and whether the key may use the model there.
    async fn choose(
        &self,
        ctx: &RequestContext,
        candidates: &[Arc<Route>],
        key: &Key,
    ) -> Result<Chosen, Stop> {
        let asked = ctx.model.as_ref().map(ModelName::as_str);
        let choices = &ctx.snapshot.choices;
        let chosen = choices.choose(candidates, asked, &self.client).await;
        let Some(asked) = asked else {
            return chosen.map_err(|_| Refusal::RouteNotFound.into());
        };
        let alias = choices.aliases.get(asked);
        let final_name = match &chosen {
            Ok(Chosen { renamed: Some(name), .. }) => name.as_str(),
            _ => alias.map_or(asked, ModelName::as_str),
        };
        // An alias is the operator's own word: a key may be given it. What a prefix leaves is the caller's.
        if !key.allows(final_name) && !(alias.is_some() && key.allows(asked)) {
            return Err(Refusal::ModelNotAllowed(asked.into()).into());
        }
        chosen.map_err(|_| Refusal::ModelNotFound(asked.into()).into())
    }
}

/// Names the request, and the dialect in which its errors are told.
fn identify(session: &Session, ctx: &mut RequestContext) {
    let request = session.req_header();
    ctx.id = ids::request_id(request.headers.get(REQUEST_ID).map(|value| value.as_bytes()));
    let parent = request.headers.get("traceparent");
    ctx.trace = parent.and_then(|value| TraceParent::parse(value.as_bytes()));
    ctx.dialect = Dialect::of(request.uri.path());
}

/// What two programs on the request's way might read differently.
fn refuse_ambiguous(session: &Session) -> Result<(), Stop> {
    let request = session.req_header();
    let refuse = |code, what: &'static str| Err(Refusal::malformed(code, what).into());
    if !request.raw_path_is_utf8() {
        return refuse("invalid_target", "The path is not ASCII.");
    }
    if let Err(paths::Ambiguous(what)) =
        paths::refuse_ambiguous(&request.method, request.uri.path().as_bytes())
    {
        return refuse("invalid_target", what);
    }
    if paths::refused_method(&request.method) || request.headers.contains_key(header::UPGRADE) {
        return refuse("upgrade_refused", "Upgrades, CONNECT and TRACE are not served.");
    }
    let count = |name| request.headers.get_all(name).iter().count();
    if count(header::HOST) + usize::from(request.uri.authority().is_some()) == 0
        || count(header::HOST) > 1
    {
        return refuse("invalid_host", "There must be one Host.");
    }
    if count(header::CONTENT_LENGTH) > 1 || count(header::TRANSFER_ENCODING) > 1 || is_list(request)
    {
        return refuse("invalid_framing", "The body's length is told twice.");
    }
    let encoding = request.headers.get(header::TRANSFER_ENCODING);
    if encoding.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return refuse(
            "invalid_framing",
            "The only transfer encoding that is served is `chunked`.",
        );
    }
    if sent_two_framings(session) {
        return refuse("invalid_framing", "The body has a length and is chunked.");
    }
    Ok(())
}

/// Pingora takes `13, 13` for one length.
fn is_list(request: &RequestHeader) -> bool {
    let length = request.headers.get(header::CONTENT_LENGTH);
    length.is_some_and(|value| value.as_bytes().contains(&b','))
}

/// Pingora takes `Content-Length` away where `Transfer-Encoding` is there too: what was sent shows in the raw head.
fn sent_two_framings(session: &Session) -> bool {
    if !session.req_header().headers.contains_key(header::TRANSFER_ENCODING) {
        return false;
    }
    let Some(http1) = session.as_http1() else { return false };
    let head = http1.get_headers_raw_bytes();
    head.split(|byte| *byte == b'\n').any(|line| {
        line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:"))
    })
}

fn twice(keys::Twice(name): keys::Twice) -> Refusal {
    let message = format!("The header `{name}` is there twice.");
    Refusal::malformed("duplicate_credential", message)
}

fn demand_scope(key: &Key, path: &str) -> Result<(), Refusal> {
    match paths::operates(path) {
        true if !key.admin => Err(Refusal::ScopeNotAllowed(ADMIN)),
        false if !key.inference => Err(Refusal::ScopeNotAllowed(INFERENCE)),
        _ => Ok(()),
    }
}

/// A positive, finite number of seconds; `0.5` and `1e3` are numbers.
fn parse_seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    (!wait.is_zero()).then_some(wait)
}

/// Where the model's name stands in the body, and how a new one is written there.
enum Named {
    Json(std::ops::Range<usize>),
    Form(std::ops::Range<usize>),
}

/// Reads the model's name out of the body.
async fn read_named(
    session: &Session,
    ctx: &mut RequestContext,
    (path, key): (&str, &Key),
) -> Result<Option<Named>, Stop> {
    let body = ctx.body.as_ref().map(|held| held.bytes.clone()).unwrap_or_default();
    let kind = paths::body_kind(path);
    let has_body = session.req_header().method == Method::POST || !body.is_empty();
    let mut named = None;
    if kind == BodyKind::Form {
        let mut types = session.req_header().headers.get_all(header::CONTENT_TYPE).iter();
        let content_type = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
        if types.next().is_some() {
            return Err(form_refusal(form::Unreadable::Malformed).into());
        }
        let head = form::read(content_type, &body).await.map_err(form_refusal)?;
        ctx.model = head.model.map(ModelName::from);
        named = head.model_at.map(Named::Form);
    } else if has_body {
        match head::read(&body) {
            Ok(head) => {
                ctx.model = head.model.as_deref().map(ModelName::from);
                ctx.stream = head.stream;
                named = head.model_at.map(Named::Json);
            }
            Err(Unreadable::Malformed(_)) if kind == BodyKind::Opaque => {}
            Err(why) => return Err(json_refusal(&why).into()),
        }
    }
    if key.is_limited() && ctx.model.is_none() && (paths::infers(path) || !body.is_empty()) {
        return Err(Refusal::Malformed {
            code: "model_required",
            message: "This API key is limited to models: the request must name one.".into(),
            param: Some("model"),
        }
        .into());
    }
    Ok(named)
}

fn json_refusal(why: &Unreadable) -> Refusal {
    let code = match why {
        Unreadable::Duplicate(_) => "duplicate_field",
        _ => "invalid_json",
    };
    let param = matches!(why, Unreadable::ModelNotText).then_some("model");
    Refusal::Malformed { code, message: why.to_string().into(), param }
}

fn form_refusal(why: form::Unreadable) -> Refusal {
    match why {
        form::Unreadable::Malformed => {
            Refusal::malformed("invalid_form", "The request body is no multipart form.")
        }
        form::Unreadable::Duplicate => {
            Refusal::malformed("duplicate_field", "The field `model` is in the form twice.")
        }
    }
}

/// Path and query as the node sees them.
fn target(route: &Route, path: &str, query: Option<&str>) -> String {
    let path = route.target_path(path);
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    }
}

/// The new name of the model, as it is written into the body.
fn rename(
    chosen: &Chosen,
    named: Option<Named>,
) -> Result<Option<(std::ops::Range<usize>, Vec<u8>)>, Refusal> {
    let (Some(name), Some(named)) = (&chosen.renamed, named) else { return Ok(None) };
    Ok(Some(match named {
        Named::Form(at) => (at, name.as_str().as_bytes().to_vec()),
        Named::Json(at) => {
            let text = serde_json::to_vec(name.as_str()).map_err(|_| Refusal::Internal)?;
            (at, text)
        }
    }))
}
