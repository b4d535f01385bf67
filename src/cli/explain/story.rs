//! The steps of a request, told one line each, in the order of `gateway/admit.rs`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::Method;

use super::super::loaded::Loaded;
use super::Explain;
use crate::access::keys::Key;
use crate::access::permission;
use crate::config::{Balance, Day, KeyLimits, NodeUrl, Places, nearest};
use crate::names::{ModelName, NodeId};
use crate::refusal::Refusal;
use crate::routing::choice::{Chosen, Why};
use crate::routing::operating::{Operated, operated};
use crate::routing::table::Route;
use crate::upstream::Upstream;
use crate::upstream::balance::{NoNode, Wish};
use crate::upstream::client::Client;
use crate::upstream::health::Told;
use crate::upstream::node::Node;
use crate::upstream::probes;
use crate::wire::{paths, query};

/// A request on its way.
pub(super) struct Story<'a> {
    request: &'a Explain,
    path: &'a str,
    query: Option<&'a str>,
    loaded: &'a Loaded,
    places: &'a Places<'a>,
    lines: Vec<String>,
}

impl<'a> Story<'a> {
    /// Nothing told yet.
    pub(super) fn new(request: &'a Explain, loaded: &'a Loaded, places: &'a Places<'a>) -> Self {
        let (path, query) = match request.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (request.path.as_str(), None),
        };
        Self { request, path, query, loaded, places, lines: Vec::new() }
    }

    /// What was told.
    pub(super) fn told(self) -> String {
        self.lines.join("\n")
    }

    fn line(&mut self, step: &str, text: impl AsRef<str>) {
        self.lines.push(format!("{step:10} {}", text.as_ref()));
    }

    /// The table of contents: what a request would come to, or what its client would be told.
    pub(super) async fn tell(&mut self, client: &Arc<Client>) -> Result<&'static str, Refusal> {
        const ANSWERED: &str = "answered by the gateway itself";
        let Explain { method, model, .. } = self.request;
        let path = self.path;
        paths::refuse_ambiguous(method, path.as_bytes())?;
        if paths::refused_method(method) {
            return Err(paths::upgrade_refused());
        }
        let own = *method == Method::GET && paths::answered_here(path);
        if own && paths::open(path) {
            self.line("key", "none is needed");
            return Ok(ANSWERED);
        }
        let key = self.key()?;
        if own {
            return Ok(ANSWERED);
        }
        let loaded = self.loaded;
        let snapshot = &loaded.snapshot;
        let candidates =
            snapshot.table.candidates(method, path).inspect_err(|_| self.no_route())?;
        candidates.iter().for_each(|route| self.route(route));
        permission::demand_scope(&key, path)?;
        self.line("scope", format!("`{}` is needed", permission::scope_of(path)));
        let (timeout, query) = self.timeout()?;
        let pattern = candidates.first().map_or("", |route| route.path.as_str());
        let stored = paths::response_id(pattern, path).is_some();
        permission::demand_model(&key, model.as_ref(), (path, stored, false))?;
        if stored {
            self.line(
                "response",
                "only the gateway that runs knows where it was made, and by whom",
            );
            return Ok("forwarded to the node that made the response, if this key did; else 404");
        }
        let asked = model.as_ref().map(ModelName::as_str);
        let chosen = snapshot.choices.choose(candidates, asked, client).await;
        self.models(candidates);
        let mut chosen = permission::permit(&key, asked, &snapshot.choices, chosen)?;
        self.chosen(&chosen);
        if paths::operates(path) {
            return self.operated(candidates, query.as_deref(), timeout).await;
        }
        let falls_back =
            chosen.model(asked).is_some_and(|m| snapshot.choices.fallbacks.contains_key(m));
        self.look_at_nodes(&chosen, falls_back, client).await;
        let fallbacks = snapshot.choices.fallbacks_of(candidates, (&chosen, asked), client).await;
        let fallbacks = permission::permit_fallbacks(&key, (&chosen, asked), fallbacks)?;
        if !chosen.is_up(asked)
            && let Some(fallback) = fallbacks.into_iter().find(|fallback| fallback.is_up(asked))
        {
            self.chosen(&fallback);
            self.look_at_nodes(&fallback, true, client).await;
            chosen = fallback;
        }
        let node = self.node(&chosen, None)?;
        self.forwarded((&chosen.route, &node), query.as_deref(), timeout);
        self.limits(&key);
        Ok("forwarded")
    }

    /// Who asks.
    fn key(&mut self) -> Result<Arc<Key>, Refusal> {
        let loaded = self.loaded;
        let keys = &loaded.snapshot.keys;
        if keys.is_empty() {
            self.line("key", "no key is configured: whoever is on this machine may do everything");
            return Ok(keys.anyone.clone());
        }
        let Some(name) = &self.request.key else {
            self.line("key", "not looked at: `--key NAME` tells what that key may do");
            return Ok(keys.anyone.clone());
        };
        let status = self.loaded.settings.invalid_key_status;
        let Some(key) = keys.named(name) else {
            let hint = match nearest(name, keys.names()) {
                Some(word) => format!("; did you mean `{word}`?"),
                None => String::new(),
            };
            self.line("key", format!("no key is called `{name}`{hint}"));
            return Err(Refusal::UnknownKey { status });
        };
        let place = self.loaded.config.keys.iter().find(|one| one.name == key.name);
        let place = place.map(|one| self.places.of_key(one.declared)).unwrap_or_default();
        if !key.holds(SystemTime::now()) {
            self.line("key", format!("`{name}`, {place}: expired"));
            return Err(Refusal::UnknownKey { status });
        }
        self.line("key", format!("`{name}`, {place}: {}", self.may(key)));
        Ok(key.clone())
    }

    /// How often `key` may ask.
    fn limits(&mut self, key: &Key) {
        let KeyLimits { rpm, rpd, tpm, tpd, concurrent, day } = key.limits;
        let a_day = match day {
            Day::Rolling => "in 24 hours",
            Day::Utc => "a day of UTC",
        };
        let limits = [
            (rpm, "requests a minute"),
            (rpd, &format!("requests {a_day}")),
            (tpm, "tokens a minute"),
            (tpd, &format!("tokens {a_day}")),
            (concurrent, "requests at a time"),
        ];
        let told = limits.map(|(limit, of)| limit.map(|limit| format!("{limit} {of}")));
        let told: Vec<String> = told.into_iter().flatten().collect();
        self.line("limits", if told.is_empty() { "none".to_owned() } else { told.join(", ") });
    }

    /// What `key` may do, in words.
    fn may(&self, key: &Key) -> String {
        let scopes = match (key.inference, key.admin) {
            (true, true) => "inference and admin",
            (true, false) => "inference",
            (false, _) => "admin",
        };
        let config = self.loaded.config.keys.iter().find(|one| one.name == key.name);
        match config.and_then(|config| config.models.as_ref()) {
            Some(patterns) => format!("{scopes}; models {}", patterns.join(", ")),
            None => format!("{scopes}; all models"),
        }
    }

    fn no_route(&mut self) {
        let routes = self.loaded.config.routes.iter();
        let own = paths::ANSWERED_HERE.into_iter();
        let known = own.chain(routes.map(|route| route.path.as_str()));
        let known = known.filter(|path| *path != self.path);
        if let Some(path) = nearest(self.path, known) {
            self.line("route", format!("the nearest path is `{path}`"));
        }
    }

    /// A route of the request's path and method.
    fn route(&mut self, route: &Route) {
        let preset = if route.preset { ", of a preset" } else { "" };
        let parameters: String = route
            .parameters_in(self.path)
            .map(|(name, value)| format!(", {name} = {value}"))
            .collect();
        self.line(
            "route",
            format!(
                "`{}`{parameters}: {}{preset}, to upstream `{}`",
                route.path,
                self.places.of_route(route.declared),
                route.upstream.name
            ),
        );
    }

    /// The request's own timeout, and the query without it.
    fn timeout(&self) -> Result<(Option<Duration>, Option<Cow<'a, str>>), Refusal> {
        let query = query::take_timeout(self.query)?;
        let timeout = query.timeout.map(query::seconds).transpose()?;
        let cap = self.loaded.settings.max_timeout;
        Ok((timeout.map(|wish| wish.min(cap)), query.rest))
    }

    /// What the model is called, and what is known of who serves it.
    fn models(&mut self, candidates: &[Arc<Route>]) {
        let Some(asked) = &self.request.model else {
            self.line("model", "the request names none");
            return;
        };
        let loaded = self.loaded;
        let model = match loaded.snapshot.choices.aliases.get(asked) {
            Some(model) => {
                self.line("model", format!("`{asked}` is an alias of `{model}`"));
                model
            }
            None => asked,
        };
        for route in candidates {
            let known = known(&route.upstream, model.as_str());
            self.line("model", format!("upstream `{}`: {known}", route.upstream.name));
        }
    }

    fn chosen(&mut self, chosen: &Chosen) {
        let name = &chosen.route.upstream.name;
        let why = match chosen.why {
            Why::NoModel => "the first route, as no model is named",
            Why::Serves => "the first that serves the model",
            Why::Prefix => "the model's name begins with the name of the upstream",
            Why::Only => "the only route: its node judges the model",
            Why::Default => "DEFAULT_BACKEND, as no upstream is known to serve the model",
            Why::Unknown => "the first whose models are not known",
            Why::Fallback => "a fallback: no node of the model works",
        };
        let config = self.loaded.config.upstreams.iter().find(|one| one.name == *name);
        let place = config.map(|one| self.places.of_upstream(one.declared, one.name.as_str()));
        self.line("upstream", format!("`{name}`, {}: {why}", place.unwrap_or_default()));
        if let Some(renamed) = &chosen.renamed {
            self.line("model", format!("the node is asked for `{renamed}`"));
        }
    }

    /// Asks the nodes of the chosen upstream how they are, where there is a choice, and tells it.
    async fn look_at_nodes(&mut self, chosen: &Chosen, always: bool, client: &Arc<Client>) {
        let upstream = &chosen.route.upstream;
        let members = upstream.found_members().await;
        if members.len() < 2 && upstream.name_of_nodes().is_none() && !always {
            return;
        }
        probes::once(upstream, client).await;
        let asked = self.request.model.as_ref();
        let model = chosen.renamed.as_ref().or(asked).map(ModelName::as_str);
        for member in members.iter() {
            let Told { state, reason: why, .. } = member.node.health.told(Instant::now());
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            let load = match member.node.load.gauges() {
                Some(gauges) => format!(", {} running, {} waiting", gauges.running, gauges.waiting),
                None => String::new(),
            };
            let other = match model {
                Some(model) if !member.may_serve(model) => ", does not list the model",
                _ => "",
            };
            self.line("candidate", format!("{}: {state}{why}{load}{other}", member.node.id));
        }
    }

    /// The nodes that are operated.
    async fn operated(
        &mut self,
        candidates: &[Arc<Route>],
        query: Option<&str>,
        timeout: Option<Duration>,
    ) -> Result<&'static str, Refusal> {
        let (which, rest) = operated(candidates, self.path, query).await?;
        let (route, only) = match (which, candidates.first()) {
            (Operated::Named(route, node), _) => (route, Some(node)),
            (Operated::Only, Some(route)) => (route.clone(), None),
            _ => {
                self.line("node", "all of them: it goes to each, unless `?node=` names one");
                return Ok("forwarded to all nodes");
            }
        };
        let chosen = Chosen { route, renamed: None, why: Why::NoModel };
        let node = self.node(&chosen, only.as_ref())?;
        self.forwarded((&chosen.route, &node), rest.as_deref(), timeout);
        self.line("limits", "none: what operates nodes is not counted");
        Ok("forwarded")
    }

    /// The node that a gateway with nothing to do would choose; `only` this one, if any.
    fn node(&mut self, chosen: &Chosen, only: Option<&NodeId>) -> Result<Arc<Node>, Refusal> {
        let asked = self.request.model.as_ref();
        let model = chosen.renamed.as_ref().or(asked).map(ModelName::as_str);
        let any_state = paths::operates(self.path);
        let wish = Wish { model, only, any_state, spare: false, ..Wish::ANY };
        let upstream = &chosen.route.upstream;
        let place = upstream.pick(&wish).map_err(|why| match why {
            NoNode::Away(wait) => Refusal::NoHealthyNode { wait },
            NoNode::Full => Refusal::Busy { wait: Duration::ZERO },
            NoNode::Unknown => Refusal::UpstreamUnreachable,
        })?;
        if upstream.members().len() > 1 && only.is_none() {
            let why = match upstream.balance {
                Balance::LeastLoad => "least_load: no other has less to do",
                Balance::RoundRobin => "round_robin: the next in turn",
                Balance::ConsistentHash => {
                    "consistent_hash: this one, of a request without session and key"
                }
                Balance::PrefixAware => {
                    "prefix_aware: no other has less to do; a prompt goes to a node that holds its beginning"
                }
            };
            self.line("balance", why);
        }
        Ok(place.node().clone())
    }

    /// The request as the node would see it, and how long it is waited for.
    fn forwarded(
        &mut self,
        (route, node): (&Route, &Node),
        query: Option<&str>,
        timeout: Option<Duration>,
    ) {
        let Upstream { timeouts, attempts, .. } = &*route.upstream;
        let root = NodeUrl { base: String::new(), ..node.url.clone() };
        let call = route.upstream.call(&self.request.method, self.path);
        let path = match call {
            Some(call) => node.path_for(call.path()).into(),
            None => route.target_path(self.path, node),
        };
        let query = query.filter(|_| call.is_none()).map(|query| format!("?{query}"));
        let query = query.unwrap_or_default();
        self.line("node", format!("{} {root}{path}{query}", self.request.method));
        let connect = humantime::format_duration(timeouts.connect);
        let first_byte = humantime::format_duration(timeout.unwrap_or(timeouts.first_byte));
        let whose = if timeout.is_some() { "as the request asks" } else { "as configured" };
        self.line(
            "timeout",
            format!("{connect} to connect, {first_byte} to the first byte, {whose}"),
        );
        match paths::operates(self.path) {
            true => self.line("attempts", "1: what operates a node is never sent twice"),
            false => self.line("attempts", format!("{attempts} in all, before the first byte")),
        }
    }
}

/// What is known of `upstream` and `model`.
fn known(upstream: &Upstream, model: &str) -> String {
    let models = &upstream.models;
    let members = upstream.members();
    let nodes = if members.len() > 1 { "nodes list" } else { "node lists" };
    let asked = members.iter().find_map(|member| member.last());
    let failed = asked.as_ref().and_then(|asked| asked.models.as_ref().err());
    let serves = if models.serves(model) { "this is one of them" } else { "this is none of them" };
    match (models.count(), failed) {
        (Some(count), _) if models.is_configured() => {
            format!("configured models: {count}, {serves}")
        }
        (Some(count), _) => format!("models that its {nodes}: {count}, {serves}"),
        (None, Some(why)) => format!("its models are not known: asked for them, the node: {why}"),
        (None, None) => "its models are not known, and its node is not asked".to_owned(),
    }
}
