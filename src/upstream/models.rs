//! What an upstream serves: told by the configuration, or learnt from its nodes' `/v1/models` when somebody needs it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Upstream;
use super::client::{Client, Question};
use super::member::Member;
use crate::config::{Credential, Kind};
use crate::names::ModelName;
use crate::wire::ollama;

/// How long a list is as good as new (SPEC 5.2).
pub const FRESH: Duration = Duration::from_secs(5);

/// How long a list may be shown while a newer one is fetched behind the answer; an older one is waited for.
pub(super) const SHOWN_WHILE_REFRESHED: Duration = Duration::from_secs(60);

/// Longest wait for a node's list, connecting included.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

/// One model as its node describes it.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its id.
    pub name: ModelName,
    /// The node's whole object, byte for byte.
    pub object: Box<RawValue>,
}

impl Model {
    /// Tokens of prompt and answer that it takes together, where its node tells (`max_model_len` of vLLM).
    pub fn context(&self) -> Option<u64> {
        serde_json::from_str::<Described>(self.object.get()).ok()?.max_model_len
    }
}

#[derive(Deserialize)]
struct Described {
    max_model_len: Option<u64>,
}

/// What came of asking a node for its list.
#[derive(Debug)]
pub struct Asked {
    /// When the answer was there.
    pub at: Instant,
    /// The list, or why there is none.
    pub models: Result<Vec<Model>, String>,
}

/// Names of models, as nodes of one kind call them.
#[derive(Debug, Clone)]
pub(super) struct Names {
    set: HashSet<ModelName>,
    /// `llama3` means `llama3:latest`.
    tagged: bool,
}

impl Names {
    /// As nodes of `kind` call them.
    pub(super) fn new(kind: Kind, names: impl IntoIterator<Item = ModelName>) -> Self {
        Self { set: names.into_iter().collect(), tagged: kind == Kind::Ollama }
    }

    /// True where `model` is one of them.
    pub(super) fn contains(&self, model: &str) -> bool {
        self.set.contains(model) || (self.tagged && self.set.contains(&*ollama::full_name(model)))
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ModelName> {
        self.set.iter()
    }
}

/// What an upstream is known to serve.
pub struct ModelList {
    kind: Kind,
    configured: Option<Names>,
    /// Every id that any of its nodes has ever listed: what was once known stays known while the upstream exists.
    known: ArcSwapOption<Names>,
}

impl ModelList {
    /// A list that is `configured`, or else to be learnt of nodes of `kind`.
    pub fn new(kind: Kind, configured: Option<Vec<ModelName>>) -> Self {
        Self {
            kind,
            configured: configured.map(|models| Names::new(kind, models)),
            known: ArcSwapOption::empty(),
        }
    }

    /// True where it is known what the upstream serves.
    pub fn is_known(&self) -> bool {
        self.configured.is_some() || self.known.load().is_some()
    }

    /// What the configuration says that the upstream serves, where it does.
    pub fn configured(&self) -> Option<Vec<ModelName>> {
        self.configured.as_ref().map(|names| names.iter().cloned().collect())
    }

    /// True where the configuration says what the upstream serves.
    pub fn is_configured(&self) -> bool {
        self.configured.is_some()
    }

    /// How many models it is known to serve; none where that is not known.
    pub fn count(&self) -> Option<usize> {
        let learnt = || self.known.load().as_deref().map(|names| names.set.len());
        self.configured.as_ref().map(|names| names.set.len()).or_else(learnt)
    }

    /// True where the upstream is known to serve `model`.
    pub fn serves(&self, model: &str) -> bool {
        match &self.configured {
            Some(configured) => configured.contains(model),
            None => self.known.load().as_deref().is_some_and(|known| known.contains(model)),
        }
    }

    /// True where the configuration says which models there are, and this is none of them.
    pub fn excludes(&self, model: &str) -> bool {
        self.configured.is_some() && !self.serves(model)
    }

    fn remember(&self, models: &[Model]) {
        let nothing = || Names::new(self.kind, []);
        let mut known = self.known.load().as_deref().cloned().unwrap_or_else(nothing);
        for model in models {
            if known.set.len() < MODELS_MAX {
                known.set.insert(model.name.clone());
            }
        }
        self.known.store(Some(Arc::new(known)));
    }
}

impl Upstream {
    /// True where asking the nodes might tell something new.
    pub fn may_learn(&self, now: Instant) -> bool {
        !self.models.is_configured() && self.members().iter().any(|member| !member.is_fresh(now))
    }

    /// Asks every node for its models, all at the same time, but those that were asked within [`FRESH`] and those that get no
    /// work: nobody is to wait for a node that is known to be away.
    pub async fn learn_models(&self, client: &Client) {
        let members = self.found_members().await;
        let now = Instant::now();
        let there = members.iter().filter(|member| member.node.health.standing(now).takes_work());
        join_all(there.map(|member| self.learn_of(member, client))).await;
    }

    /// Asks one node for its models, unless it was asked within [`FRESH`]. Callers at the same time share one question.
    pub async fn learn_of(&self, member: &Member, client: &Client) -> Option<Arc<Asked>> {
        let _asking = member.asking.lock().await;
        if member.is_fresh(Instant::now()) {
            return member.last();
        }
        let path = self.models_path_of(&member.node);
        let answer = client.get(self, &member.node, &path, LIST_TIMEOUT).await;
        let models = match answer {
            Ok(answer) if answer.status.is_success() => self.listed(&answer.body),
            Ok(answer) => Err(format!("answered {}", answer.status.as_u16())),
            Err(why) => Err(why.to_string()),
        };
        if let Ok(models) = &models {
            self.models.remember(models);
        }
        Some(member.note(self.kind, Asked { at: Instant::now(), models }))
    }

    /// What its nodes tell of `model`, or of the first that they list: asked where nobody has asked lately, with `key` in the place of
    /// the upstream's.
    pub async fn described(
        &self,
        model: Option<&ModelName>,
        (client, key): (&Client, Option<&Credential>),
    ) -> Option<Model> {
        let members = self.found_members().await;
        let now = Instant::now();
        let wanted = |one: &&Model| match model {
            Some(model) => one.name == *model,
            None => !self.models.excludes(one.name.as_str()),
        };
        if let Some(key) = key {
            let member = members.iter().find(|one| one.node.health.standing(now).takes_work())?;
            let path = self.models_path_of(&member.node);
            let question = Question { key: Some(key), ..Question::get(&path) };
            let answer = client.ask(self, &member.node, &question, LIST_TIMEOUT).await.ok()?;
            return self.listed(&answer.body).ok()?.iter().find(wanted).cloned();
        }
        if !members.iter().any(|member| member.shown(now).is_some()) {
            self.learn_models(client).await;
        }
        let of_member = |member: &Arc<Member>| {
            let known = member.known()?;
            known.models.as_ref().ok()?.iter().find(wanted).cloned()
        };
        members.iter().find_map(of_member)
    }

    /// Reads what a node of this upstream says where its models are listed.
    ///
    /// # Errors
    /// It is no list.
    pub fn listed(&self, body: &[u8]) -> Result<Vec<Model>, String> {
        match self.kind {
            Kind::Ollama => parse(&ollama::models(body)?),
            Kind::Vllm | Kind::OpenAi | Kind::Generic => parse(body),
        }
    }
}

/// Models of one node that are remembered: a node with more LoRA adapters is not in use anywhere.
const MODELS_MAX: usize = 10_000;

#[derive(Deserialize)]
struct RawList {
    data: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct RawModel {
    id: String,
}

/// Reads `{"data":[{"id":…}]}`; entries without an id are left out.
fn parse(body: &[u8]) -> Result<Vec<Model>, String> {
    let list: RawList =
        serde_json::from_slice(body).map_err(|_| "answered no list of models".to_owned())?;
    let model = |object: Box<RawValue>| {
        let id = serde_json::from_str::<RawModel>(object.get()).ok()?.id;
        Some(Model { name: id.into(), object })
    };
    Ok(list.data.into_iter().take(MODELS_MAX).filter_map(model).collect())
}
