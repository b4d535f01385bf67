//! The nodes: where they are, what they serve, which of them gets a request, how we ask them something ourselves.

pub mod addresses;
pub mod balance;
pub mod breaker;
pub mod cache_use;
pub mod client;
pub mod connection;
mod estimate;
pub mod health;
pub mod idle;
pub mod load;
pub mod member;
pub mod models;
pub mod node;
pub mod pace;
pub mod prefix;
pub mod probes;
pub mod queue;
pub mod refresh;
pub mod resolve;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use http::{HeaderName, Method};

use crate::config::defaults::NODES_MAX;
use crate::config::{
    Balance, Credential, HealthConfig, Kind, NodeTls, NodeUrl, Nodes, Timeouts, UpstreamConfig,
};
use crate::metrics::{Metrics, UpstreamMetrics};
use crate::names::{NodeId, UpstreamName};
use crate::wire::ollama::Call;
use balance::{NoNode, Rules, Turn, Wish};
use health::Standing;
use load::Place;
use member::Member;
use models::ModelList;
use node::{Node, Registry};
use queue::Queue;

/// Where Ollama lists its models.
const OLLAMA_MODELS: &str = "/api/tags";

/// Nodes that serve the same thing.
pub struct Upstream {
    /// Unique in a snapshot.
    pub name: UpstreamName,
    /// What may be assumed of its nodes.
    pub kind: Kind,
    /// What makes them the right ones, where TLS is spoken to them.
    pub tls: NodeTls,
    /// What we present to them.
    pub credential: Option<Credential>,
    /// Which of them gets a request.
    pub balance: Balance,
    /// Requests that may wait for a place.
    pub max_queue: usize,
    /// Those that do.
    pub queue: Arc<Queue>,
    /// The header that names a session, for those that are chosen by it.
    pub session_header: HeaderName,
    /// How they are probed, where they are.
    pub health: Option<HealthConfig>,
    /// How long to wait for them.
    pub timeouts: Timeouts,
    /// How long an idle connection to one is kept, at most.
    pub keepalive_idle: Duration,
    /// HTTP/2 is spoken to `https` nodes that offer it.
    pub http2: bool,
    /// Tries in all, at least 1.
    pub attempts: usize,
    /// Options of Ollama's that load a model anew, and that clients may set nevertheless.
    pub load_options: Vec<String>,
    /// What they serve.
    pub models: ModelList,
    /// Its series.
    pub metrics: UpstreamMetrics,
    /// The URL whose name stands for them, where they are not listed.
    name_of_nodes: Option<NodeUrl>,
    registry: Arc<Registry>,
    members: ArcSwap<Vec<Arc<Member>>>,
    turn: Turn,
    /// Where its nodes list their models, where that is not at `/v1/models` below their base.
    models_path: Option<String>,
    /// The last answer refused our key.
    key_refused: AtomicBool,
}

impl Upstream {
    /// Builds it. Nothing is asked of any node yet. `models_path` where their models are listed elsewhere than at
    /// `/v1/models` below their base.
    pub fn new(
        config: &UpstreamConfig,
        models_path: Option<String>,
        registry: &Arc<Registry>,
        metrics: &Metrics,
    ) -> Self {
        let (listed, name_of_nodes) = match &config.nodes {
            Nodes::Listed(urls) => (urls.as_slice(), None),
            Nodes::Dns(url) => (&[][..], Some(url.clone())),
        };
        let member = |url: &NodeUrl| Arc::new(Member::new(registry.node(url, None)));
        Self {
            name: config.name.clone(),
            kind: config.kind,
            tls: config.tls.clone(),
            credential: config.credential.clone(),
            balance: config.balance,
            max_queue: config.max_queue,
            queue: registry.queue(config.name.as_str(), config.max_in_flight),
            session_header: config.session_header.clone(),
            health: config.health.clone(),
            timeouts: config.timeouts,
            keepalive_idle: config.keepalive_idle,
            http2: config.http2,
            attempts: config.attempts,
            load_options: config.load_options.clone(),
            models: ModelList::new(config.kind, config.models.clone()),
            metrics: metrics.of_upstream(config.name.as_str()),
            name_of_nodes,
            registry: registry.clone(),
            members: ArcSwap::from_pointee(listed.iter().map(member).collect()),
            turn: Turn::default(),
            models_path,
            key_refused: AtomicBool::new(false),
        }
    }

    /// Takes over the nodes that `other`, of the same name of nodes before a reload, has found: a resolver that is away
    /// just now must not take them with it.
    pub fn inherit(&self, other: &Self) {
        if self.name_of_nodes.is_some() && self.name_of_nodes == other.name_of_nodes {
            // What they list is asked for anew: it belongs to a key, which may be another now.
            let member = |member: &Arc<Member>| Arc::new(Member::new(member.node.clone()));
            self.members.store(Arc::new(other.members().iter().map(member).collect()));
        }
    }

    /// Its nodes of this moment. None before their name was looked up.
    pub fn members(&self) -> Guard<Arc<Vec<Arc<Member>>>> {
        self.members.load()
    }

    /// Its nodes; their name is looked up where that was not done yet and works.
    pub async fn found_members(&self) -> Arc<Vec<Arc<Member>>> {
        if self.members.load().is_empty() {
            let _not_found = self.look_up().await;
        }
        self.members.load_full()
    }

    /// The same for whoever waits for their name no longer than `limit`.
    pub async fn found_members_within(&self, limit: Duration) -> Arc<Vec<Arc<Member>>> {
        let _too_late = tokio::time::timeout(limit, self.found_members()).await;
        self.members.load_full()
    }

    /// Looks up the name of the nodes, and the names of single nodes in use. Who is new gets work from the next request
    /// on; who is gone finishes what it has.
    ///
    /// # Errors
    /// A lookup failed or found nothing; the nodes stay as they are.
    pub async fn look_up(&self) -> io::Result<()> {
        let Some(url) = &self.name_of_nodes else {
            let members = self.members.load_full();
            let mut looked_up = Ok(());
            for member in members.iter().filter(|member| member.node.addresses.are_followed()) {
                looked_up = looked_up.and(member.node.addresses.look_up().await);
            }
            return looked_up;
        };
        let mut found = addresses::look_up(self.registry.resolver(), &url.host, url.port).await?;
        found.truncate(NODES_MAX);
        let before = self.members.load_full();
        let member = |address| {
            let node = self.registry.node(url, Some(address));
            let known = before.iter().find(|member| Arc::ptr_eq(&member.node, &node));
            known.cloned().unwrap_or_else(|| Arc::new(Member::new(node)))
        };
        let members: Vec<Arc<Member>> = found.into_iter().map(member).collect();
        let same = |(one, other): (&Arc<Member>, &Arc<Member>)| Arc::ptr_eq(one, other);
        if members.len() != before.len() || !members.iter().zip(before.iter()).all(same) {
            log::info!("upstream `{}` has {} nodes now", self.name, members.len());
            self.members.store(Arc::new(members));
        }
        Ok(())
    }

    /// Takes a place at the node that is best for a request.
    ///
    /// # Errors
    /// [`NoNode`].
    pub fn pick(&self, wish: &Wish<'_>) -> Result<Place, NoNode> {
        self.pick_at(wish, Instant::now())
    }

    /// The same, at a moment.
    ///
    /// # Errors
    /// [`NoNode`].
    pub fn pick_at(&self, wish: &Wish<'_>, now: Instant) -> Result<Place, NoNode> {
        let members = self.members.load();
        let model = wish.model.filter(|model| self.tells_apart(&members, model));
        let rules = Rules { policy: self.balance, most: self.queue.limit() };
        self.turn.pick(&members, rules, &Wish { model, ..*wish }, now)
    }

    /// Places at those of its nodes that may get a request for `model`, or at `only` that one.
    pub fn places(&self, model: Option<&str>, only: Option<&NodeId>, now: Instant) -> usize {
        let most = usize::try_from(self.queue.limit().unwrap_or(u32::MAX)).unwrap_or(usize::MAX);
        let members = self.members.load();
        let model = model.filter(|model| only.is_none() && self.tells_apart(&members, model));
        let may = |member: &&Arc<Member>| {
            only.is_none_or(|only| member.node.id == *only)
                && model.is_none_or(|model| member.may_serve(model))
                && member.node.health.standing(now).takes_work()
        };
        members.iter().filter(may).count().saturating_mul(most)
    }

    /// True where some node has `model` and may get work, or may be tried again: without a look at those that were ejected.
    pub fn is_up_for(&self, model: Option<&str>, now: Instant) -> bool {
        let members = self.members.load();
        let model = model.filter(|model| self.tells_apart(&members, model));
        let up = |member: &Arc<Member>| {
            model.is_none_or(|model| member.may_serve(model))
                && matches!(member.node.health.standing(now), Standing::Up(_) | Standing::Trial)
        };
        members.iter().any(up)
    }

    /// True where its nodes may serve different models: there are several, and what they have in common is not configured.
    /// Of generic ones nothing is assumed, not even that they have lists.
    pub fn may_differ(&self) -> bool {
        let several = self.members.load().len() > 1;
        several && self.kind != Kind::Generic && !self.models.is_configured()
    }

    /// True where it matters which node gets a request for `model`: some are known to serve it. Where none is, the node
    /// judges the model.
    fn tells_apart(&self, members: &[Arc<Member>], model: &str) -> bool {
        members.len() > 1
            && !self.models.is_configured()
            && members.iter().any(|member| member.serves(model))
    }

    /// What a request is to its nodes, where they are spoken to in Ollama's own API.
    pub fn call(&self, method: &Method, path: &str) -> Option<Call> {
        let native = self.kind == Kind::Ollama && *method == Method::POST;
        native.then(|| Call::of_path(path))?
    }

    /// Where `node` lists its models.
    pub fn models_path_of(&self, node: &Node) -> Cow<'_, str> {
        match &self.models_path {
            Some(path) => Cow::Borrowed(path),
            None if self.kind == Kind::Ollama => Cow::Borrowed(OLLAMA_MODELS),
            None => Cow::Owned(node.path_for("/v1/models")),
        }
    }

    /// The name that `node`'s certificate must have, where TLS is spoken to it.
    pub fn server_name_of<'a>(&'a self, node: &'a Node) -> &'a str {
        self.tls.server_name.as_ref().unwrap_or(&node.url.host)
    }

    /// The URL whose name stands for them, where they are not listed.
    pub fn name_of_nodes(&self) -> Option<&NodeUrl> {
        self.name_of_nodes.as_ref()
    }

    /// Where its nodes are, for people: the name that stands for them, or the first of them.
    pub fn place(&self) -> String {
        let first = || self.members.load().first().map(|member| member.node.id.to_string());
        self.name_of_nodes.as_ref().map(node::shown).or_else(first).unwrap_or_default()
    }

    /// Takes note whether a node refused our key; true where that is news.
    pub fn key_refused(&self, yes: bool) -> bool {
        self.key_refused.load(Ordering::Relaxed) != yes
            && self.key_refused.swap(yes, Ordering::Relaxed) != yes
    }
}
