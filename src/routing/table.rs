//! The route table: immutable, built from the configuration, looked up by raw path and method.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, Method, Uri};
use matchit::Router;

use crate::config::{Config, Declared, RouteConfig, Target};
use crate::refusal::Refusal;
use crate::upstream::Upstream;
use crate::upstream::node::Node;
use crate::wire::paths;

/// Where requests of one path and method may go.
pub struct Route {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// Request headers that go up beside the ones on the list (SPEC 6).
    pub forward_headers: Vec<HeaderName>,
    /// The path as configured, for the log: bounded, unlike the path of a request.
    pub path: String,
    /// Where it comes from, for people.
    pub declared: Declared,
    /// From a preset.
    pub preset: bool,
    target: Target,
    /// Names of the path's parameters, in order.
    parameters: Vec<String>,
}

/// What a look-up finds.
pub enum Found<'t> {
    /// Candidates in file order, explicit routes before those of presets. At least one.
    Routes(&'t [Arc<Route>]),
    /// The path is there, with the methods of this `Allow` header.
    OtherMethods(&'t str),
    /// No such path.
    Nothing,
}

/// All routes.
#[derive(Default)]
pub struct RouteTable {
    paths: Router<usize>,
    entries: Vec<Entry>,
}

/// The routes of one path, parameters' names aside.
#[derive(Default)]
struct Entry {
    methods: Vec<(Method, Vec<Arc<Route>>)>,
    allow: String,
}

impl RouteTable {
    /// Builds the table; `upstreams` as in `config`.
    ///
    /// # Errors
    /// A path that the checks of the configuration let through and the router does not: its text.
    pub fn build(config: &Config, upstreams: &[Arc<Upstream>]) -> Result<Self, String> {
        let mut table = Self::default();
        let mut index: HashMap<String, usize> = HashMap::new();
        let explicit = config.routes.iter().filter(|route| !route.preset);
        let presets = config.routes.iter().filter(|route| route.preset);
        for config in explicit.chain(presets) {
            let shape = shape_of(&config.path);
            let entry = match index.get(&shape) {
                Some(entry) => *entry,
                None => {
                    let new = table.entries.len();
                    table.paths.insert(shape.clone(), new).map_err(|_| config.path.clone())?;
                    table.entries.push(Entry::default());
                    index.insert(shape, new);
                    new
                }
            };
            let Some(upstream) = upstreams.get(config.upstream) else { continue };
            table.entries[entry].add(config, upstream);
        }
        for entry in &mut table.entries {
            let methods: Vec<&str> =
                entry.methods.iter().map(|(method, _)| method.as_str()).collect();
            entry.allow = methods.join(", ");
        }
        Ok(table)
    }

    /// Where a request for the raw `path` may go.
    pub fn find(&self, method: &Method, path: &str) -> Found<'_> {
        let Ok(found) = self.paths.at(path) else { return Found::Nothing };
        let Some(entry) = self.entries.get(*found.value) else { return Found::Nothing };
        match entry.methods.iter().find(|(known, _)| known == method) {
            Some((_, routes)) => Found::Routes(routes),
            None => Found::OtherMethods(&entry.allow),
        }
    }

    /// The routes of this path and method: at least one.
    ///
    /// # Errors
    /// [`Refusal::RouteNotFound`], [`Refusal::MethodNotAllowed`].
    pub fn candidates(&self, method: &Method, path: &str) -> Result<&[Arc<Route>], Refusal> {
        match self.find(method, path) {
            Found::Routes(candidates) => Ok(candidates),
            Found::OtherMethods(allow) => {
                Err(Refusal::MethodNotAllowed { allow: allow.to_owned().into() })
            }
            // A GET of theirs was answered before.
            Found::Nothing if paths::answered_here(path) => {
                Err(Refusal::MethodNotAllowed { allow: "GET".into() })
            }
            Found::Nothing => Err(Refusal::RouteNotFound),
        }
    }

    /// Every path as configured, with its methods.
    pub fn paths(&self) -> impl Iterator<Item = (&str, Vec<&Method>)> {
        self.entries.iter().filter_map(|entry| {
            let (_, routes) = entry.methods.first()?;
            let methods = entry.methods.iter().map(|(method, _)| method);
            Some((routes.first()?.path.as_str(), methods.collect()))
        })
    }

    /// Every route of `GET path`: what the in-process answers of that path ask (SPEC 5.2).
    pub fn asked_at(&self, path: &str) -> &[Arc<Route>] {
        match self.find(&Method::GET, path) {
            Found::Routes(routes) => routes,
            _ => &[],
        }
    }
}

impl Entry {
    fn add(&mut self, config: &RouteConfig, upstream: &Arc<Upstream>) {
        let route = Arc::new(Route {
            upstream: upstream.clone(),
            forward_headers: config.forward_headers.clone(),
            path: config.path.clone(),
            declared: config.declared,
            preset: config.preset,
            target: config.target.clone(),
            parameters: parameters_of(&config.path).map(str::to_owned).collect(),
        });
        for method in &config.methods {
            let position = self.methods.iter().position(|(known, _)| known == method);
            let position = position.unwrap_or_else(|| {
                self.methods.push((method.clone(), Vec::new()));
                self.methods.len() - 1
            });
            let routes = &mut self.methods[position].1;
            // An explicit route came first and beats the preset's of the same upstream.
            if !(config.preset && routes.iter().any(|known| Arc::ptr_eq(&known.upstream, upstream)))
            {
                routes.push(route.clone());
            }
        }
    }
}

impl Route {
    /// Path and query as `node` sees them, where `asked` was asked for.
    ///
    /// # Errors
    /// `invalid_target`: they are no target of HTTP.
    pub fn target(&self, asked: &PathAndQuery, node: &Node) -> Result<PathAndQuery, Refusal> {
        match (self.target_path(asked.path(), node), asked.query()) {
            // As it came: one more handle on the same text.
            (Cow::Borrowed(_), _) => Ok(asked.clone()),
            (path, query) => target_of(&path, query),
        }
    }

    /// The path that `node` sees for the request's raw `path`.
    pub fn target_path<'p>(&self, path: &'p str, node: &Node) -> Cow<'p, str> {
        match &self.target {
            Target::Node if node.url.base.is_empty() => Cow::Borrowed(path),
            Target::Node => Cow::Owned(node.path_for(path)),
            Target::Path(target) if self.parameters.is_empty() => Cow::Owned(target.clone()),
            Target::Path(target) => Cow::Owned(self.filled(target, path)),
        }
    }

    /// The parameters of this route as they stand in a request's raw `path`.
    pub fn parameters_in<'p>(&'p self, path: &'p str) -> impl Iterator<Item = (&'p str, &'p str)> {
        let values = self.path.split('/').zip(path.split('/'));
        let values = values.filter(|(pattern, _)| is_parameter(pattern)).map(|(_, value)| value);
        self.parameters.iter().map(String::as_str).zip(values)
    }

    /// `target` with its parameters as they stand in `path`.
    fn filled(&self, target: &str, path: &str) -> String {
        let values: Vec<(&str, &str)> = self.parameters_in(path).collect();
        let fill = |segment: &'_ str| -> String {
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let value = values.iter().find(|(known, _)| Some(*known) == name);
            value.map_or(segment, |(_, value)| value).to_owned()
        };
        target.split('/').map(fill).collect::<Vec<_>>().join("/")
    }
}

/// What is asked for with `query` instead of its own.
///
/// # Errors
/// `invalid_target`: that is no target of HTTP.
pub fn with_query(uri: &Uri, query: Option<&str>) -> Result<PathAndQuery, Refusal> {
    if query == uri.query() {
        return Ok(uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    }
    target_of(uri.path(), query)
}

/// `path` with `query`, where there is one.
///
/// # Errors
/// `invalid_target`: that is no target of HTTP.
pub fn target_of(path: &str, query: Option<&str>) -> Result<PathAndQuery, Refusal> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(|_| {
        Refusal::malformed("invalid_target", "The request's target is not one of HTTP.")
    })
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}')
}

fn parameters_of(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter(|segment| is_parameter(segment))
        .map(|segment| &segment[1..segment.len() - 1])
}

/// `path` with its parameters numbered: two routes that differ in names only share an entry.
pub fn shape_of(path: &str) -> String {
    let mut number = 0;
    let segment = |segment: &str| {
        if is_parameter(segment) {
            number += 1;
            format!("{{p{number}}}")
        } else {
            segment.to_owned()
        }
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// Where each short-form upstream lists its models: the path of its own `GET /v1/models`, else the sibling of the first
/// path that names an endpoint of OpenAI's (`/v1/openai/chat/completions` for `/v1/chat/completions` →
/// `/v1/openai/models`).
pub fn models_paths(config: &Config) -> Vec<Option<String>> {
    let mut own = vec![None; config.upstreams.len()];
    let mut siblings = own.clone();
    for route in &config.routes {
        let Target::Path(target) = &route.target else { continue };
        let lists = route.path == "/v1/models" && route.methods.contains(&Method::GET);
        let base = || target.strip_suffix(route.path.strip_prefix("/v1")?);
        let (found, path) = if lists {
            (own.get_mut(route.upstream), Some(target.clone()))
        } else {
            (siblings.get_mut(route.upstream), base().map(|base| format!("{base}/models")))
        };
        if let Some(found @ None) = found {
            *found = path;
        }
    }
    own.into_iter().zip(siblings).map(|(own, sibling)| own.or(sibling)).collect()
}
