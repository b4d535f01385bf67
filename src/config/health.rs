//! How nodes are probed: what their kind allows, and what a file says.

use super::defaults::{
    HEALTH_INTERVAL, HEALTH_TIMEOUT, HEALTHY_AFTER, PROBES_MAX, UNHEALTHY_AFTER,
};
use super::paths::RoutePath;
use super::raw::{RawHealth, RawProbe, RawUpstream, Whole};
use super::report::{At, Fault, Report};
use super::typed::Entry;
use super::{HealthConfig, Kind, values};

/// How nodes of that kind are probed where nothing is said.
pub(super) fn of_kind(kind: Kind) -> Option<HealthConfig> {
    usual_path(kind).map(|path| HealthConfig {
        path: path.to_owned(),
        interval: HEALTH_INTERVAL,
        timeout: HEALTH_TIMEOUT,
        unhealthy_after: UNHEALTHY_AFTER,
        healthy_after: HEALTHY_AFTER,
    })
}

/// What every node of that kind answers while it is well.
fn usual_path(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Vllm => Some("/health"),
        Kind::OpenAi => Some("/v1/models"),
        Kind::Ollama => Some("/api/version"),
        Kind::Generic => None,
    }
}

/// Reads `health` of an upstream, whose `kind` may be unknown; what is wrong is in the report.
pub(super) fn read(
    entry: &mut Entry<RawUpstream>,
    kind: Option<Kind>,
    at: &At<'_>,
    report: &mut Report,
) -> Option<HealthConfig> {
    let told = entry.told("health");
    let raw = match entry.fields.health.take() {
        Some(RawHealth::Off) => return None,
        Some(RawHealth::Probe(raw)) => raw,
        None => return kind.and_then(of_kind),
    };
    let at = at.key("health");
    if raw.path.is_none() && kind == Some(Kind::Generic) && !told {
        let draft = report.problem(&at, "`path` is missing: nothing is assumed of a generic node");
        draft.hint("name a path that it answers while it is well: `path: /health`");
    }
    probe(raw, kind.and_then(usual_path), &at, report)
}

fn probe(
    raw: RawProbe,
    usual: Option<&str>,
    at: &At<'_>,
    report: &mut Report,
) -> Option<HealthConfig> {
    let path = match raw.path {
        Some(text) => report.take(&at.key("path"), &text, path(&text)),
        None => usual.map(str::to_owned),
    };
    let mut wait = |field: &str, text: Option<String>| {
        text.and_then(|text| report.take(&at.key(field), &text, values::wait(&text)))
    };
    let interval = wait("interval", raw.interval).unwrap_or(HEALTH_INTERVAL);
    let timeout = wait("timeout", raw.timeout).unwrap_or(HEALTH_TIMEOUT);
    let mut count = |field: &str, whole: Option<Whole>| {
        let Whole(number) = whole?;
        let count = values::within(number, 1..=PROBES_MAX);
        let count = report.take(&at.key(field), &number.to_string(), count)?;
        u32::try_from(count).ok()
    };
    let unhealthy_after = count("unhealthy_after", raw.unhealthy_after).unwrap_or(UNHEALTHY_AFTER);
    let healthy_after = count("healthy_after", raw.healthy_after).unwrap_or(HEALTHY_AFTER);
    // Last, so that what is wrong with the others is told as well.
    Some(HealthConfig { path: path?, interval, timeout, unhealthy_after, healthy_after })
}

/// A path that can be asked for as it stands.
fn path(text: &str) -> Result<String, Fault> {
    let path = RoutePath::parse_target(text)?;
    match path.as_str().contains('{') {
        true => Err("the path of a probe has no parameters".into()),
        false => Ok(path.as_str().to_owned()),
    }
}
