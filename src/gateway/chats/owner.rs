//! Whose a session is: who has a key of the gateway's, or of the node's; and whether they still have it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::Method;
use uuid::Uuid;

use super::{Gateway, RequestContext};
use crate::access::keys::{Key, Presented};
use crate::access::permission;
use crate::chat::id::SessionId;
use crate::chat::session::{KeyHash, Owner};
use crate::chat::sessions::Sessions;
use crate::config::Credential;
use crate::names::ModelName;
use crate::refusal::Refusal;
use crate::routing::choice::{Chosen, NoSuchModel};
use crate::upstream::Upstream;
use crate::upstream::client::{Client, Question};
use crate::wire::paths::CHAT;

/// The longest that a node is asked whether it takes a key.
const NODE_MAX: Duration = Duration::from_secs(5);

impl Gateway {
    /// Where questions of sessions go.
    ///
    /// # Errors
    /// Nowhere.
    pub(super) async fn home(
        &self,
        ctx: &RequestContext,
        sessions: &Sessions,
    ) -> Result<Chosen, Refusal> {
        let candidates = ctx.snapshot.table.candidates(&Method::POST, CHAT)?;
        let model = sessions.model.as_ref().map(ModelName::as_str);
        let chosen = ctx.snapshot.choices.choose(candidates, model, &self.client).await;
        chosen.map_err(|NoSuchModel| match &sessions.model {
            Some(model) => Refusal::ModelNotFound(model.clone()),
            None => Refusal::RouteNotFound,
        })
    }

    /// Whose a session is that `key` begins; nobody's where it opens nothing.
    ///
    /// # Errors
    /// The key may not infer; nobody could be asked about it.
    pub(super) async fn owner_by(
        &self,
        ctx: &mut RequestContext,
        sessions: &Sessions,
        (id, key): (&SessionId, &str),
    ) -> Result<Option<Owner>, Refusal> {
        if key.is_empty() {
            return Ok(None);
        }
        let known = ctx.snapshot.keys.find(Presented::in_body(key), SystemTime::now()).cloned();
        if let Some(known) = known {
            let owner = Owner::key(&known.name);
            ctx.key = Some(known.clone());
            permission::demand_scope(&known, CHAT)?;
            return Ok(Some(owner));
        }
        let upstream = self.home(ctx, sessions).await?.route.upstream.clone();
        let owner = match &upstream.credential {
            Some(credential) => {
                let hash = KeyHash::of(key);
                hash.is(&KeyHash::of(&credential.key)).then_some(Owner::Upstream(hash))
            }
            None if ctx.snapshot.keys.is_empty() => match Credential::bearer(key) {
                Some(credential) if is_taken(&upstream, &self.client, &credential).await? => {
                    Some(Owner::Node(id.seal(key).map_err(|_| Refusal::Internal)?))
                }
                _ => None,
            },
            None => None,
        };
        if owner.is_some() {
            ctx.key = Some(Arc::new(Key::of_node()));
        }
        Ok(owner)
    }

    /// The key by which a session of `owner` goes on.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`]: it is none any more.
    pub(super) async fn owner(
        &self,
        ctx: &RequestContext,
        sessions: &Sessions,
        owner: &Owner,
    ) -> Result<Arc<Key>, Refusal> {
        let none_any_more = Refusal::UnknownKey { status: self.limits.invalid_key_status };
        match owner {
            Owner::Key(name) => {
                let key = ctx.snapshot.keys.named(name).filter(|key| key.holds(SystemTime::now()));
                key.cloned().ok_or(none_any_more)
            }
            Owner::Upstream(hash) => {
                let upstream = self.home(ctx, sessions).await?.route.upstream.clone();
                let key =
                    upstream.credential.as_ref().map(|credential| KeyHash::of(&credential.key));
                let same = key.is_some_and(|key| key.is(hash));
                if same { Ok(Arc::new(Key::of_node())) } else { Err(none_any_more) }
            }
            // The node is asked with it, and says so.
            Owner::Node(_) if ctx.snapshot.keys.is_empty() => Ok(Arc::new(Key::of_node())),
            Owner::Node(_) => Err(none_any_more),
        }
    }
}

/// Whether a node takes this key, and not just any.
async fn is_taken(
    upstream: &Upstream,
    client: &Client,
    credential: &Credential,
) -> Result<bool, Refusal> {
    let random = Uuid::new_v4().simple().to_string();
    let random = Credential::bearer(&random).ok_or(Refusal::Internal)?;
    let members = upstream.found_members().await;
    let now = Instant::now();
    for member in members.iter().filter(|member| member.node.health.standing(now).takes_work()) {
        let path = upstream.models_path_of(&member.node);
        let question = |key| Question { key: Some(key), ..Question::get(&path) };
        let (given, other) = (question(credential), question(&random));
        let (given, other) = tokio::join!(
            client.ask(upstream, &member.node, &given, NODE_MAX),
            client.ask(upstream, &member.node, &other, NODE_MAX),
        );
        if let (Ok(given), Ok(other)) = (given, other) {
            let refuses = matches!(other.status.as_u16(), 401 | 403);
            return Ok(given.status.is_success() && refuses);
        }
    }
    Err(Refusal::UpstreamUnreachable)
}
