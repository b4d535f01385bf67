//! Who counts the tokens of a prompt: this process, by the model's own tokenizer; else a node that does; else nobody, and they are
//! estimated.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::session::Session;
use super::tokens::{Counter, Kept, Uncountable};
use super::window::{Fit, Search, TooLong};
use super::{Conversation, Message};
use crate::config::{Credential, Kind};
use crate::names::ModelName;
use crate::upstream::Upstream;
use crate::upstream::client::{Client, Question, Unanswered};
use crate::wire::usage::estimated;

/// Prompts that are counted at once: each keeps a core busy, and the others are for answers.
const AT_ONCE: usize = 2;

/// The longest that a node counts: 128 K tokens take vLLM half a second.
const NODE_MAX: Duration = Duration::from_secs(10);

/// Nodes that are asked to count: if one hangs another does, and all may hang.
const NODES_MAX: usize = 2;

/// Counts prompts.
pub struct Counting {
    local: Option<Arc<Counter>>,
    places: Arc<Semaphore>,
}

/// A conversation before its next answer.
pub struct Prompt<'p> {
    /// What was said.
    pub session: &'p Session,
    /// What is asked.
    pub question: &'p Arc<str>,
    /// What else its node is told that changes the prompt.
    pub extra: &'p Map<String, Value>,
    /// Who is asked.
    pub model: Option<&'p ModelName>,
    /// What a node is shown instead of its upstream's key.
    pub key: Option<&'p Credential>,
}

/// How much of a conversation its node is shown.
pub struct Fitted {
    /// Questions with their answers that are left out, the oldest.
    pub dropped: usize,
    /// Tokens of the prompt, where they are not estimated.
    pub counted: Option<u64>,
    /// What its session remembers of the count.
    pub kept: Kept,
}

/// Why a prompt is not counted, or does not fit.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It does not fit even without all that was said before.
    TooLong(TooLong),
    /// The model's template, or the node, does not take it: why.
    Refused(String),
    /// A fault of the gateway's own.
    Failed,
}

impl Counting {
    /// By this tokenizer, where it is known.
    pub fn new(local: Option<Counter>) -> Self {
        Self { local: local.map(Arc::new), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// How much of `prompt` fits `limit` tokens. Nodes of `upstream` are asked where they must be.
    ///
    /// # Errors
    /// [`Unfit`].
    pub async fn fit(
        &self,
        prompt: &Prompt<'_>,
        limit: u64,
        (upstream, client): (&Upstream, &Client),
    ) -> Result<Fitted, Unfit> {
        if let Some(counter) = &self.local {
            match self.fit_here(counter, prompt, limit).await {
                Err(Uncountable::Unknown(why)) => {
                    log::debug!("a prompt is left to the node: {why}")
                }
                Err(Uncountable::Refused(why)) => return Err(Unfit::Refused(why)),
                Ok(fitted) => return fitted,
            }
        }
        let mut counts = upstream.kind == Kind::Vllm;
        let mut search = Search::new(prompt.session.pairs(), limit);
        loop {
            let messages = prompt.session.messages(search.next(), prompt.question);
            let body = asked(&messages, prompt);
            let tokens = match counts {
                true => at_node((upstream, client), prompt.key, body.into()).await?,
                false => Some(estimated(body.as_bytes())),
            };
            let Some(tokens) = tokens else {
                // Whoever may answer in their place can do without.
                (counts, search) = (false, Search::new(prompt.session.pairs(), limit));
                continue;
            };
            if let Some(found) = search.tell(tokens) {
                let Fit { dropped, tokens } = found.map_err(Unfit::TooLong)?;
                let counted = counts.then_some(tokens);
                return Ok(Fitted { dropped, counted, kept: Kept::default() });
            }
        }
    }

    /// Counts in this process, off the threads that answer requests: a long prompt takes milliseconds.
    async fn fit_here(
        &self,
        counter: &Arc<Counter>,
        prompt: &Prompt<'_>,
        limit: u64,
    ) -> Result<Result<Fitted, Unfit>, Uncountable> {
        let Ok(place) = self.places.clone().acquire_owned().await else {
            return Ok(Err(Unfit::Failed));
        };
        let (counter, session) = (counter.clone(), prompt.session.clone());
        let (question, extra) = (prompt.question.clone(), prompt.extra.clone());
        let counted = tokio::task::spawn_blocking(move || {
            let _place = place;
            let mut kept = session.kept.clone();
            let mut search = Search::new(session.pairs(), limit);
            loop {
                let messages = session.messages(search.next(), &question);
                let conversation = Conversation { messages: &messages, extra: &extra };
                let tokens = counter.count(&conversation, &mut kept)?;
                if let Some(found) = search.tell(tokens) {
                    let fitted =
                        |Fit { dropped, tokens }| Fitted { dropped, counted: Some(tokens), kept };
                    return Ok(found.map(fitted).map_err(Unfit::TooLong));
                }
            }
        });
        counted.await.unwrap_or(Ok(Err(Unfit::Failed)))
    }
}

/// What `/tokenize` of vLLM is asked (`TokenizeChatRequest`).
fn asked(messages: &[Message], prompt: &Prompt<'_>) -> String {
    const KNOWN: [&str; 5] = [
        "tools",
        "chat_template",
        "chat_template_kwargs",
        "add_special_tokens",
        "mm_processor_kwargs",
    ];
    let mut body = Map::new();
    let known = KNOWN.iter().filter_map(|name| Some((*name, prompt.extra.get(*name)?)));
    body.extend(known.map(|(name, value)| (name.to_owned(), value.clone())));
    body.insert("messages".to_owned(), json!(messages));
    if let Some(model) = prompt.model {
        body.insert("model".to_owned(), model.as_str().into());
    }
    Value::from(body).to_string()
}

#[derive(Deserialize)]
struct Counted {
    count: u64,
}

/// What a refusal says (`ErrorResponse` of vLLM).
#[derive(Deserialize)]
struct Refused {
    error: Why,
}

#[derive(Deserialize)]
struct Why {
    message: String,
}

/// Counted by the first node that does; none where no node does at the moment.
async fn at_node(
    (upstream, client): (&Upstream, &Client),
    key: Option<&Credential>,
    body: Bytes,
) -> Result<Option<u64>, Unfit> {
    let members = upstream.found_members().await;
    let now = Instant::now();
    let there = members.iter().filter(|member| member.node.health.standing(now).takes_work());
    for member in there.take(NODES_MAX) {
        let path = member.node.path_for("/tokenize");
        let question = Question {
            method: Method::POST,
            body: Some(body.clone()),
            key,
            ..Question::get(&path)
        };
        let answer = match client.ask(upstream, &member.node, &question, NODE_MAX).await {
            Err(Unanswered::TooLarge) => {
                return Err(Unfit::Refused("The prompt is too long.".into()));
            }
            Err(_) => continue,
            Ok(answer) => answer,
        };
        if let Ok(Counted { count }) = serde_json::from_slice(&answer.body) {
            return Ok(Some(count));
        }
        if answer.status.is_client_error()
            && !matches!(answer.status.as_u16(), 401 | 403)
            && let Ok(Refused { error }) = serde_json::from_slice(&answer.body)
        {
            return Err(Unfit::Refused(error.message));
        }
    }
    Ok(None)
}
