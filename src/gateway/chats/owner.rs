//! Whose a session is: who has a key of the gateway's, or of the node's; and whether they still have it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::Method;
use uuid::Uuid;

use super::{Gateway, RequestContext};
use crate::access::keys::{Key, Presented};
use crate::access::permission;
use crate::chat::id::SessionId;
use crate::chat::session::Owner;
use crate::chat::sessions::Sessions;
use crate::config::Credential;
use crate::names::ModelName;
use crate::refusal::Refusal;
use crate::routing::choice::NoSuchModel;
use crate::upstream::Upstream;
use crate::upstream::client::{Client, Question};
use crate::wire::paths::CHAT;

/// Nodes that are asked: if one hangs another is, and all may hang.
const NODES_MAX: usize = 2;

/// The longest that a node is asked whether it takes a key.
const NODE_MAX: Duration = Duration::from_secs(5);

impl Gateway {
    /// The upstream that answers questions of sessions.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn home(
        &self,
        ctx: &RequestContext,
        sessions: &Sessions,
    ) -> Result<Arc<Upstream>, Refusal> {
        let candidates = ctx.snapshot.table.candidates(&Method::POST, CHAT)?;
        let model = sessions.model.as_ref().map(ModelName::as_str);
        let chosen = ctx.snapshot.choices.choose(candidates, model, &self.client).await;
        let chosen = chosen.map_err(|NoSuchModel| match &sessions.model {
            Some(model) => Refusal::ModelNotFound(model.clone()),
            None => Refusal::RouteNotFound,
        });
        Ok(chosen?.route.upstream.clone())
    }

    /// Whose a session is that a key of the gateway's begins, and the key.
    ///
    /// # Errors
    /// The key may not infer.
    pub(super) fn owner_by_key(
        &self,
        ctx: &mut RequestContext,
        key: &str,
    ) -> Result<Option<(Owner, Arc<Key>)>, Refusal> {
        let known = ctx.snapshot.keys.find(Presented::in_body(key), SystemTime::now()).cloned();
        let Some(known) = known else { return Ok(None) };
        let owner = Owner::Key(known.name.as_str().into());
        ctx.key = Some(known.clone());
        permission::demand_scope(&known, CHAT)?;
        Ok(Some((owner, known)))
    }

    /// Whose a session is that a key of the nodes' begins; nobody's where it opens nothing.
    ///
    /// # Errors
    /// Nobody could be asked about it.
    pub(super) async fn owner_by_nodes(
        &self,
        ctx: &mut RequestContext,
        sessions: &Sessions,
        (id, key): (&SessionId, &str),
    ) -> Result<Option<Owner>, Refusal> {
        if key.is_empty() {
            return Ok(None);
        }
        let upstream = self.home(ctx, sessions).await?;
        let owner = match &upstream.credential {
            Some(credential) => {
                let mark = id.mark(key);
                mark.is(&id.mark(&credential.key)).then_some(Owner::Upstream(mark))
            }
            None if ctx.snapshot.keys.is_empty() => match Credential::bearer(key) {
                Some(credential) if is_taken(&upstream, &self.client, &credential).await? => {
                    let key = id.seal(key).map_err(|_| Refusal::Internal)?;
                    Some(Owner::Node { upstream: upstream.name.as_str().into(), key })
                }
                _ => None,
            },
            None => None,
        };
        if owner.is_some() {
            ctx.key = Some(ctx.snapshot.keys.of_node.clone());
        }
        Ok(owner)
    }

    /// The key by which a session goes on.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`]: it is none any more.
    pub(super) async fn owner(
        &self,
        ctx: &RequestContext,
        sessions: &Sessions,
        (id, owner): (&SessionId, &Owner),
    ) -> Result<Arc<Key>, Refusal> {
        let snapshot = &ctx.snapshot;
        let key = match owner {
            Owner::Key(name) => {
                snapshot.keys.named(name).filter(|key| key.holds(SystemTime::now())).cloned()
            }
            Owner::Upstream(mark) => {
                let upstream = self.home(ctx, sessions).await?;
                let key = upstream.credential.as_ref().map(|credential| id.mark(&credential.key));
                key.filter(|key| key.is(mark)).map(|_| snapshot.keys.of_node.clone())
            }
            // The node is asked with it, and says so; no other gets it.
            Owner::Node { upstream, .. } => {
                let home = self.home(ctx, sessions).await?;
                let same = home.name.as_str() == &**upstream && home.credential.is_none();
                (same && snapshot.keys.is_empty()).then(|| snapshot.keys.of_node.clone())
            }
        };
        key.ok_or(Refusal::UnknownKey { status: self.limits.invalid_key_status })
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
    let there = members.iter().filter(|member| member.node.health.standing(now).takes_work());
    for member in there.take(NODES_MAX) {
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
