//! `sluice check --online`: what each node says, one line each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use http::StatusCode;

use super::super::loaded::Loaded;
use super::super::{Failed, complain, say};
use crate::config::{Kind, UpstreamConfig, nearest};
use crate::upstream::Upstream;
use crate::upstream::client::{Answer, Client, Unanswered};
use crate::upstream::member::Member;
use crate::upstream::node::Node;

/// Longest wait for each answer: a node that needs longer for its list is in trouble.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nodes asked at the same time: as many connections, at most.
const AT_ONCE: usize = 64;

/// Models named in a line: a node with a hundred adapters must not fill the screen.
const NAMED_MAX: usize = 8;

/// Asks every node and tells what it says.
///
/// # Errors
/// [`Failed::Runtime`] where one fails.
pub(super) async fn ask_all(loaded: &Loaded) -> Result<(), Failed> {
    let client = loaded.client();
    let upstreams = loaded.config.upstreams.iter().zip(&loaded.snapshot.upstreams);
    let found: Vec<_> = upstreams.map(|(config, upstream)| each_of(config, upstream)).collect();
    let found: Vec<Vec<One<'_>>> =
        futures_util::stream::iter(found).buffered(AT_ONCE).collect().await;
    let asked: Vec<_> = found.into_iter().flatten().map(|one| ask(one, &client)).collect();
    let states = futures_util::stream::iter(asked).buffered(AT_ONCE);
    let states: Vec<State> = states.collect().await;
    let width = |text: fn(&State) -> &str| states.iter().map(|one| text(one).len()).max();
    let names = width(|state| &state.name).unwrap_or_default();
    let places = width(|state| &state.place).unwrap_or_default();
    for State { name, place, said, warnings } in &states {
        let said = match said {
            Ok(well) => format!("ok      {well}"),
            Err(wrong) => format!("FAILED  {wrong}"),
        };
        say(&format!("{name:names$}  {place:places$}  {said}"));
        warnings.iter().for_each(|warning| complain(&format!("warning: {name}: {warning}")));
    }
    match states.iter().filter(|state| state.said.is_err()).count() {
        0 => Ok(()),
        failed => Err(Failed::Runtime(format!("{failed} of {} nodes failed", states.len()))),
    }
}

/// What came of asking one node.
struct State {
    name: String,
    place: String,
    said: Result<String, String>,
    warnings: Vec<String>,
}

/// A node of an upstream; none where the name of its nodes has no address.
struct One<'c> {
    config: &'c UpstreamConfig,
    upstream: &'c Upstream,
    node: Option<Arc<Node>>,
}

/// The nodes of an upstream: those that are listed, or each address of a name.
async fn each_of<'c>(config: &'c UpstreamConfig, upstream: &'c Upstream) -> Vec<One<'c>> {
    let members = upstream.found_members().await;
    if members.is_empty() {
        return vec![One { config, upstream, node: None }];
    }
    let one = |member: &Arc<Member>| One { config, upstream, node: Some(member.node.clone()) };
    members.iter().map(one).collect()
}

async fn ask(One { config, upstream, node }: One<'_>, client: &Client) -> State {
    let name = upstream.name.to_string();
    let Some(node) = node else {
        let said = Err(format!("{}; can it be found from here?", Unanswered::NoAddress));
        return State { name, place: upstream.place(), said, warnings: Vec::new() };
    };
    let started = Instant::now();
    let (place, path) = (node.id.to_string(), upstream.models_path_of(&node));
    let list = client.get(upstream, &node, &path, PATIENCE);
    let probed = config.health.as_ref().map(|health| node.path_for(&health.path));
    // The list is asked for anyway.
    let probed = probed.filter(|probed| *probed != *path);
    let health = async {
        let path = probed?;
        let answer = client.get(upstream, &node, &path, PATIENCE).await;
        Some((path, answer))
    };
    let (list, health) = tokio::join!(list, health);
    let took = started.elapsed().as_millis();
    let mut warnings = Vec::new();
    let said = listed((upstream, &node, &path), list).and_then(|models| {
        if let Some((path, answer)) = health {
            healthy(upstream.kind, &path, answer)?;
        }
        let Some(models) = models else {
            return Ok(format!("{took} ms, lists no models"));
        };
        warnings.extend(missing(config, &place, &models));
        Ok(format!("{took} ms, lists {}", named(&models)))
    });
    State { name, place, said, warnings }
}

/// The models that a node lists; none where nothing says that it must have a list.
fn listed(
    (upstream, node, path): (&Upstream, &Node, &str),
    answer: Result<Answer, Unanswered>,
) -> Result<Option<Vec<String>>, String> {
    let answer = answer.map_err(|why| match why {
        Unanswered::NotCertified => format!(
            "{why}; is it for `{}`, by an authority of `tls.ca_file` or of the setting `ca_file`?",
            upstream.server_name_of(node)
        ),
        _ => format!("{why}; is it running, and can it be reached from here?"),
    })?;
    let status = answer.status;
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let what = match upstream.credential {
                Some(_) => {
                    "it does not take our key; is it the one that the node was started with?"
                }
                None => "it wants a key; set `key` of the upstream, or `upstream_key` of the route",
            };
            Err(format!("{} on {path}: {what}", status.as_u16()))
        }
        _ if status.is_success() => match upstream.listed(&answer.body) {
            Ok(models) => Ok(Some(models.iter().map(|model| model.name.to_string()).collect())),
            Err(_) if upstream.kind == Kind::Generic => Ok(None),
            Err(why) => Err(format!("{path}: {why}; is this the URL of its API?")),
        },
        // Nothing may be assumed of such a node, but that it is not broken.
        _ if upstream.kind == Kind::Generic && !status.is_server_error() => Ok(None),
        _ => Err(format!("{} on {path}; is this the URL of its API?", status.as_u16())),
    }
}

/// Whether the node answers where it is probed.
fn healthy(kind: Kind, path: &str, answer: Result<Answer, Unanswered>) -> Result<(), String> {
    let status = answer.map_err(|why| format!("{path}: {why}"))?.status;
    if status.is_success() {
        return Ok(());
    }
    let what = match kind {
        Kind::Vllm => "its engine is not ready, or dead",
        Kind::OpenAi | Kind::Ollama | Kind::Generic => {
            "it counts as dead, as this is where it is probed"
        }
    };
    Err(format!("{} on {path}: {what}", status.as_u16()))
}

/// What is configured and not listed: requests for it would come back with the node's own 404.
fn missing(config: &UpstreamConfig, place: &str, listed: &[String]) -> Vec<String> {
    let configured = config.models.iter().flatten().map(|model| model.as_str());
    let missing = configured.filter(|model| !listed.iter().any(|known| known == model));
    let warning = |model: &str| {
        let hint = match nearest(model, listed.iter().map(String::as_str)) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("it lists {}", named(listed)),
        };
        format!("the model `{model}` is configured, and {place} does not list it; {hint}")
    };
    missing.map(warning).collect()
}

fn named(models: &[String]) -> String {
    let shown: Vec<String> = models.iter().take(NAMED_MAX).map(|one| format!("`{one}`")).collect();
    match models.len() {
        0 => "no models".to_owned(),
        all if all > NAMED_MAX => format!("{} and {} more", shown.join(", "), all - NAMED_MAX),
        _ => shown.join(", "),
    }
}
