//! The route table: short form, long form and presets.

use std::collections::HashSet;

use http::{HeaderName, Method};
use serde_yaml::Value;

use super::address::Address;
use super::paths::RoutePath;
use super::presets::{self, Preset};
use super::raw::RawRoute;
use super::report::{At, Fault, Report};
use super::typed::{Entry, texts, typed};
use super::upstreams::{Parts, Upstreams, credential, url};
use super::{Declared, NodeUrl, RouteConfig, Target, UpstreamConfig, defaults, values};

/// Paths that the gateway answers before it looks for a route.
const OWN_PATHS: [&str; 8] = [
    "/",
    "/docs",
    "/internal/authz",
    "/livez",
    "/openapi.json",
    "/readyz",
    "/redoc",
    "/v1/llm/models",
];

/// Headers in which callers show their keys.
const CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "x-internal-auth", "x-proxy-secret"];

/// The table while it is built.
pub(super) struct Routes<'u> {
    pub(super) list: Vec<RouteConfig>,
    pub(super) warnings: Vec<String>,
    upstreams: &'u mut Upstreams,
    /// What the routes that are added come from.
    declared: Declared,
    /// Shape of the path, method, upstream, and whether it is from a preset.
    seen: HashSet<(String, Method, usize, bool)>,
}

impl<'u> Routes<'u> {
    /// An empty table over `upstreams`.
    pub(super) fn new(upstreams: &'u mut Upstreams) -> Self {
        Self {
            list: Vec::new(),
            warnings: Vec::new(),
            upstreams,
            declared: Declared::Entry(0),
            seen: HashSet::new(),
        }
    }

    /// From now on routes come from `declared`.
    pub(super) fn declare(&mut self, declared: Declared) {
        self.declared = declared;
    }

    /// Adds an upstream that no file names.
    pub(super) fn add_upstream(&mut self, upstream: UpstreamConfig) -> usize {
        self.upstreams.add(UpstreamConfig { declared: self.declared, ..upstream })
    }

    /// The upstream of a node that is asked without a key.
    pub(super) fn implied(&mut self, node: NodeUrl) -> usize {
        self.upstreams.implied(node, None, self.declared)
    }

    /// Reads `routes` of a file.
    pub(super) fn read(&mut self, list: Vec<Value>, report: &mut Report) {
        let at = At::Root.key("routes");
        if list.is_empty() {
            report.problem(&at, "there is no route").hint("add at least one");
        }
        for (index, mut value) in list.into_iter().enumerate() {
            let at = at.index(index);
            self.declared = Declared::Entry(index);
            if let Some(entry) = typed::<RawRoute>(&mut value, &at, report) {
                self.entry(entry, &at, report);
            }
            if self.list.len() > defaults::ROUTES_MAX {
                report.problem(&at, format!("there are more than {} routes", defaults::ROUTES_MAX));
                return;
            }
        }
    }

    fn entry(&mut self, entry: Entry<RawRoute>, at: &At<'_>, report: &mut Report) {
        let raw = &entry.fields;
        match (&raw.preset, &raw.upstream, &raw.upstream_url) {
            (_, Some(_), Some(_)) => {
                let draft = report.problem(at, "`upstream` and `upstream_url` exclude each other");
                draft.hint("keep one of them");
            }
            (Some(_), _, _) => self.preset_entry(entry, at, report),
            (None, Some(_), None) => self.long(entry, at, report),
            (None, None, Some(_)) => self.short(entry, at, report),
            (None, None, None) => {
                let told = ["upstream", "preset"].iter().any(|field| entry.told(field));
                if !told {
                    let hint = "write the node's URL, or `upstream` with a name of `upstreams`";
                    entry.missing("upstream_url", at, hint, report);
                }
                // What else is wrong with it is told at once.
                path_and_methods(entry, at, report);
            }
        }
    }

    /// `preset: vllm`.
    fn preset_entry(&mut self, entry: Entry<RawRoute>, at: &At<'_>, report: &mut Report) {
        let raw = &entry.fields;
        let foreign = [
            ("path", raw.path.is_some()),
            ("methods", raw.methods.is_some()),
            ("upstream_url", raw.upstream_url.is_some()),
        ];
        for (field, _) in foreign.iter().filter(|(_, present)| *present) {
            let draft = report.problem(&at.key(field), "a preset brings its own paths and methods");
            draft.hint("write a route of its own for other paths");
        }
        self.refuse_keys(raw, at, report);
        let name = raw.preset.as_deref().unwrap_or_default();
        let preset = report.take(&at.key("preset"), name, presets::preset(name));
        let upstream = match &raw.upstream {
            Some(name) => self.upstream(name, at, report),
            None => {
                entry.missing("upstream", at, "name one of `upstreams`", report);
                None
            }
        };
        let headers = forward_headers(entry.fields.forward_headers, at, report);
        let (Some(preset), Some(upstream)) = (preset, upstream) else { return };
        if !self.add_preset(preset, upstream, &headers) {
            let draft = report.problem(at, "this preset stands here twice for the same upstream");
            draft.hint("remove one of the two");
        }
    }

    /// Adds every route of `preset`; false when that was done before for this upstream.
    pub(super) fn add_preset(
        &mut self,
        preset: Preset,
        upstream: usize,
        headers: &[HeaderName],
    ) -> bool {
        for (path, methods) in preset {
            for method in *methods {
                if !self.seen.insert(((*path).to_owned(), method.clone(), upstream, true)) {
                    return false;
                }
            }
            self.list.push(RouteConfig {
                path: (*path).to_owned(),
                methods: methods.to_vec(),
                upstream,
                target: Target::Node,
                preset: true,
                forward_headers: headers.to_vec(),
                declared: self.declared,
            });
        }
        true
    }

    /// `{ path, methods, upstream }`.
    fn long(&mut self, entry: Entry<RawRoute>, at: &At<'_>, report: &mut Report) {
        self.refuse_keys(&entry.fields, at, report);
        let name = entry.fields.upstream.clone().unwrap_or_default();
        let upstream = self.upstream(&name, at, report);
        let Some(line) = path_and_methods(entry, at, report) else { return };
        if let Some(upstream) = upstream {
            self.add(line, upstream, Target::Node, (at, report));
        }
    }

    /// `{ path, methods, upstream_url, upstream_key… }`.
    fn short(&mut self, entry: Entry<RawRoute>, at: &At<'_>, report: &mut Report) {
        let raw = &entry.fields;
        let text = raw.upstream_url.clone().unwrap_or_default();
        let url_at = at.key("upstream_url");
        let target = url(&text, &url_at, address_and_path(&text), report);
        let parts = Parts {
            key: raw.upstream_key.as_deref(),
            header: raw.upstream_key_header.as_deref(),
            prefix: raw.upstream_key_prefix.as_deref(),
        };
        let fields = ["upstream_key", "upstream_key_header", "upstream_key_prefix"];
        let credential = credential(parts, fields, at, report);
        let line = path_and_methods(entry, at, report);
        let (Some((node, target)), Some(line)) = (target, line) else { return };
        if let Some(name) = target.parameter_not_in(&line.path) {
            let draft =
                report.problem(&url_at, "this repeats a parameter that `path` does not have");
            draft.quote(name).hint("use the same `{name}` in both");
            return;
        }
        let upstream = self.upstreams.implied(node, credential, self.declared);
        self.add(line, upstream, Target::Path(target.as_str().to_owned()), (at, report));
    }

    /// Keys belong to upstreams where there are any.
    fn refuse_keys(&self, raw: &RawRoute, at: &At<'_>, report: &mut Report) {
        let fields = [
            ("upstream_key", raw.upstream_key.is_some()),
            ("upstream_key_header", raw.upstream_key_header.is_some()),
            ("upstream_key_prefix", raw.upstream_key_prefix.is_some()),
        ];
        for (field, _) in fields.iter().filter(|(_, present)| *present) {
            let draft = report.problem(&at.key(field), "this goes with `upstream_url` only");
            draft.hint("set `key`, `key_header` and `key_prefix` of the upstream");
        }
    }

    fn upstream(&self, name: &str, at: &At<'_>, report: &mut Report) -> Option<usize> {
        let at = at.key("upstream");
        // Looking for the nearest name is dear, and nobody would see it.
        if report.full() && !self.upstreams.knows(name) {
            report.problem(&at, "there is no such upstream");
            return None;
        }
        report.take(&at, name, self.upstreams.named(name)).flatten()
    }

    /// Adds a route unless it stands there already.
    pub(super) fn add(
        &mut self,
        line: Line,
        upstream: usize,
        target: Target,
        (at, report): (&At<'_>, &mut Report),
    ) {
        for (index, method) in &line.methods {
            let key = (line.path.shape(), method.clone(), upstream, false);
            if !self.seen.insert(key) {
                let at = at.key("methods");
                let draft = report.problem(
                    &at.index(*index),
                    "the same path, method and upstream stand here twice",
                );
                draft.hint("remove one of the two");
            }
        }
        if OWN_PATHS.contains(&line.path.as_str()) {
            let path = line.path.as_str();
            self.warnings.push(format!("the route `{path}` is never used: the gateway answers it"));
        }
        self.list.push(RouteConfig {
            path: line.path.as_str().to_owned(),
            methods: line.methods.into_iter().map(|(_, method)| method).collect(),
            upstream,
            target,
            preset: false,
            forward_headers: line.forward_headers,
            declared: self.declared,
        });
    }
}

/// What every explicit route has.
pub(super) struct Line {
    pub(super) path: RoutePath,
    /// With their places in the list as written.
    pub(super) methods: Vec<(usize, Method)>,
    pub(super) forward_headers: Vec<HeaderName>,
}

/// Where `upstream_url` leads: the node, and the path that it is asked for.
pub(super) fn address_and_path(text: &str) -> Result<(NodeUrl, RoutePath), Fault> {
    let Address { node, path } = Address::parse(text)?;
    let path = if path.is_empty() { "/" } else { path };
    Ok((node, RoutePath::parse_target(path)?))
}

fn path_and_methods(entry: Entry<RawRoute>, at: &At<'_>, report: &mut Report) -> Option<Line> {
    if entry.fields.path.is_none() {
        entry.missing("path", at, "write `path: /v1/chat/completions`", report);
    }
    if entry.fields.methods.is_none() {
        entry.missing("methods", at, "write `methods: [POST]`", report);
    }
    let raw = entry.fields;
    let path =
        raw.path.and_then(|text| report.take(&at.key("path"), &text, RoutePath::parse(&text)));
    let methods_at = at.key("methods");
    let methods = raw.methods.map(|list| {
        if list.is_empty() {
            report.problem(&methods_at, "at least one method is needed");
        }
        let mut methods = Vec::new();
        for (index, text) in texts(list, &methods_at, report) {
            let method = report.take(&methods_at.index(index), &text, values::method(&text));
            methods.extend(method.map(|method| (index, method)));
        }
        methods
    });
    let forward_headers = forward_headers(raw.forward_headers, at, report);
    Some(Line { path: path?, methods: methods?, forward_headers })
}

fn forward_headers(list: Option<Vec<Value>>, at: &At<'_>, report: &mut Report) -> Vec<HeaderName> {
    let at = at.key("forward_headers");
    let mut names = Vec::new();
    for (index, text) in texts(list.unwrap_or_default(), &at, report) {
        let header =
            values::header(&text).and_then(|name| match CREDENTIALS.contains(&name.as_str()) {
                true => Err("what callers show to the gateway ends here".into()),
                false => Ok(name),
            });
        names.extend(report.take(&at.index(index), &text, header));
    }
    names
}
