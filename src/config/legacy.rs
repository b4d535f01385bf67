//! The environment of the services that Sluice replaces: keys and upstreams without a file.

use std::collections::HashSet;

use http::Method;
use http::header::AUTHORIZATION;

use super::environment::Environment;
use super::keys::{Keys, Places, sha256};
use super::report::{At, Fault, Report};
use super::routes::{Line, Routes, address_and_path};
use super::tokens_json;
use super::upstreams::{Upstreams, url, with_defaults};
use super::{
    Credential, Declared, KeyConfig, KeyLimits, Kind, NodeUrl, Nodes, Target, presets, values,
};
use crate::names::{KeyName, UpstreamName};

/// Variables that bring upstreams.
const UPSTREAM_VARIABLES: [&str; 3] = ["LLM_SERVER_URL", "VLLM_BASE_URL", "OLLAMA_BASE_URL"];
/// The key of upstreams that no file names.
pub(super) const NODE_KEY: &str = "VLLM_API_KEY";
/// The name of the upstream of `--backend`.
const BACKEND: &str = "backend";

/// Adds the keys of the environment.
pub(super) fn keys(environment: &Environment, keys: &mut Keys, report: &mut Report) {
    for (variable, name) in
        [("PROXY_SECRET_KEY", "proxy-secret-key"), ("INTERNAL_API_KEY", "internal-api-key")]
    {
        if let Some(text) = environment.get(variable) {
            add_key(keys, variable, (name, text, true), report);
        }
    }
    let list = environment.get("ALLOWED_API_KEYS").unwrap_or_default();
    let allowed = list.split(',').map(str::trim).filter(|key| !key.is_empty());
    for (number, text) in (1..).zip(allowed) {
        let name = format!("allowed-{number}");
        add_key(keys, "ALLOWED_API_KEYS", (&name, text, false), report);
    }
    tokens_json::keys(environment, keys, report);
}

fn add_key(
    keys: &mut Keys,
    variable: &'static str,
    (name, text, admin): (&str, &str, bool),
    report: &mut Report,
) {
    let at = At::Root.key(variable);
    let Some(text) = report.take_secret(&at, values::key(text)) else { return };
    let key = KeyConfig {
        name: KeyName::from(name),
        sha256: sha256(text),
        models: None,
        inference: true,
        admin,
        expires: None,
        limits: KeyLimits::default(),
        declared: Declared::Variable(variable),
    };
    keys.add(key, &Places { name: at, secret: at }, report);
}

/// Warns of upstreams that count only where no file has any.
pub(super) fn unused(environment: &Environment, warnings: &mut Vec<String>) {
    let set = UPSTREAM_VARIABLES.iter().filter(|name| environment.get(name).is_some());
    let warning = |name| format!("{name} is not used: `routes.yaml` says where requests go");
    warnings.extend(set.map(warning));
}

/// Adds the upstream of `--backend`, with the preset of vLLM.
pub(super) fn backend(
    text: &str,
    environment: &Environment,
    routes: &mut Routes<'_>,
    reports: (&mut Report, &mut Report),
) -> Vec<String> {
    let (command_line, of_environment) = reports;
    let at = At::Root.key("--backend");
    let credential = vllm_key(environment, of_environment);
    let node = |text: &str| url(text, &at, NodeUrl::parse(text), &mut *command_line);
    let nodes: Vec<Option<NodeUrl>> = text.split(',').map(str::trim).map(node).collect();
    if let Some(mut nodes) = nodes.into_iter().collect::<Option<Vec<NodeUrl>>>() {
        let mut seen = HashSet::new();
        nodes.retain(|node| seen.insert(node.clone()));
        routes.declare(Declared::Flag("--backend"));
        add_nodes((BACKEND, Kind::Vllm), nodes, credential, routes);
    }
    let unused = UPSTREAM_VARIABLES.iter().filter(|name| environment.get(name).is_some());
    unused.map(|name| format!("{name} is not used: `--backend` says where requests go")).collect()
}

/// Adds the upstreams of the environment; false where it names none.
pub(super) fn upstreams(
    environment: &Environment,
    routes: &mut Routes<'_>,
    report: &mut Report,
) -> bool {
    let mut any = false;
    if let Some(text) = environment.get("LLM_SERVER_URL") {
        any = true;
        let at = At::Root.key("LLM_SERVER_URL");
        if let Some((node, path)) = url(text, &at, server_url(text), report) {
            routes.declare(Declared::Variable("LLM_SERVER_URL"));
            let upstream = routes.implied(node);
            let target = Target::Path(path.as_str().to_owned());
            let line = Line { path, methods: vec![(0, Method::POST)], forward_headers: Vec::new() };
            routes.add(line, upstream, target, (&at, report));
        }
    }
    if let Some(text) = environment.get("VLLM_BASE_URL") {
        any = true;
        let at = At::Root.key("VLLM_BASE_URL");
        let credential = vllm_key(environment, report);
        if let Some(node) = url(text, &at, NodeUrl::parse(text), report) {
            routes.declare(Declared::Variable("VLLM_BASE_URL"));
            add_nodes(("vllm", Kind::Vllm), vec![node], credential, routes);
        }
    }
    if let Some(text) = environment.get("OLLAMA_BASE_URL") {
        any = true;
        let at = At::Root.key("OLLAMA_BASE_URL");
        if let Some(node) = url(text, &at, NodeUrl::parse(text), report) {
            routes.declare(Declared::Variable("OLLAMA_BASE_URL"));
            add_nodes(("ollama", Kind::Ollama), vec![node], None, routes);
        }
    }
    any
}

/// The node of `LLM_SERVER_URL`, and the path that is both asked for here and there.
fn server_url(text: &str) -> Result<(NodeUrl, super::paths::RoutePath), Fault> {
    let (node, path) = address_and_path(text)?;
    if path.as_str() == "/" {
        return Err(Fault::with_hint(
            "the URL needs a path",
            "write it with `/v1/completions`, or set VLLM_BASE_URL for all of a node's paths",
        ));
    }
    Ok((node, super::paths::RoutePath::parse(path.as_str())?))
}

fn vllm_key(environment: &Environment, report: &mut Report) -> Option<Credential> {
    let key = environment.get(NODE_KEY)?;
    let credential = values::credential(AUTHORIZATION, "Bearer ", key);
    report.take_secret(&At::Root.key(NODE_KEY), credential)
}

/// An upstream with the preset of vLLM.
fn add_nodes(
    (name, kind): (&str, Kind),
    nodes: Vec<NodeUrl>,
    credential: Option<Credential>,
    routes: &mut Routes<'_>,
) {
    let upstream = with_defaults(UpstreamName::from(name), kind, Nodes::Listed(nodes));
    let index = routes.add_upstream(super::UpstreamConfig { credential, ..upstream });
    routes.add_preset(presets::vllm(), index, &[]);
}

/// The upstream that `DEFAULT_BACKEND` names.
pub(super) fn default_upstream(
    environment: &Environment,
    upstreams: &Upstreams,
    report: &mut Report,
) -> Option<usize> {
    let name = environment.get("DEFAULT_BACKEND")?;
    report.take(&At::Root.key("DEFAULT_BACKEND"), name, upstreams.named(name)).flatten()
}
