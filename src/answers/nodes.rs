//! What operates nodes, where there are several (SPEC 5.3): every node is asked, and the answer says what each said.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Answer;
use super::models::PARTIAL;
use crate::refusal::Refusal;
use crate::routing::table::Route;
use crate::upstream::client::{Client, Question, Unanswered};
use crate::upstream::member::Member;
use crate::upstream::node::Node;
use crate::wire::exposition;

/// Which node a sample is of, in expositions of several.
const NODE_LABEL: &str = "sluice_node";

/// Prometheus' text format, as vLLM names it.
const EXPOSITION: HeaderValue =
    HeaderValue::from_static("text/plain; version=1.0.0; charset=utf-8");

/// A request for all nodes of a route.
pub struct Order<'o> {
    /// Where they are.
    pub route: &'o Route,
    /// How they are asked.
    pub method: &'o Method,
    /// What was asked for.
    pub asked: &'o PathAndQuery,
    /// With it.
    pub body: Option<Bytes>,
    /// Longest wait for each.
    pub limit: Duration,
}

/// What a node said.
#[derive(Serialize)]
struct Said {
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// An answer, or why there is none.
type Heard = Result<(StatusCode, Bytes), String>;

impl Order<'_> {
    /// Asks all of `members` at the same time: 200 where each took it, else 502; either way with what each said.
    ///
    /// # Errors
    /// [`Refusal::UpstreamUnreachable`] where none answered a question for metrics.
    pub async fn answer(
        &self,
        members: &[Arc<Member>],
        client: &Client,
    ) -> Result<Answer, Refusal> {
        let heard = join_all(members.iter().map(|member| self.ask(&member.node, client))).await;
        let heard = members.iter().map(|member| member.node.id.to_string()).zip(heard);
        match self.asked.path() {
            "/metrics" => joined(heard),
            _ => Ok(listed(heard)),
        }
    }

    async fn ask(&self, node: &Node, client: &Client) -> Heard {
        let upstream = &self.route.upstream;
        let path = self.route.target(self.asked, node).map_err(|why| why.message().into_owned())?;
        let question = Question {
            method: self.method.clone(),
            path: path.as_str(),
            body: self.body.clone(),
            // What acts on a node cannot be sent on a connection that may be closed, as it must not be sent twice.
            again: *self.method == Method::GET,
            key: None,
        };
        let answer = client.ask(upstream, node, &question, self.limit).await;
        node.schedule.hurry();
        let answer = answer.map_err(|why: Unanswered| why.to_string())?;
        let key = upstream.credential.as_ref();
        if key.is_some_and(|key| key.is_told_by(&answer.body)) {
            return Err("its answer holds the key that it was asked with".to_owned());
        }
        Ok((answer.status, answer.body))
    }
}

fn listed(heard: impl Iterator<Item = (String, Heard)>) -> Answer {
    let mut well = true;
    let said: Vec<Said> = heard
        .map(|(node, heard)| {
            well &= heard.as_ref().is_ok_and(|(status, _)| status.is_success());
            match heard {
                Ok((status, body)) => {
                    Said { node, status: Some(status.as_u16()), body: value_of(&body), error: None }
                }
                Err(why) => Said { node, status: None, body: None, error: Some(why) },
            }
        })
        .collect();
    let status = if well { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
    // Texts and JSON that was read always have a JSON form.
    let body = serde_json::to_vec(&serde_json::json!({ "nodes": said })).unwrap_or_default();
    Answer::json(status, body)
}

/// A body as JSON: what it is, or the text of it; none for nothing.
fn value_of(body: &[u8]) -> Option<Box<RawValue>> {
    if body.is_empty() {
        return None;
    }
    let text = || serde_json::value::to_raw_value(&String::from_utf8_lossy(body)).ok();
    serde_json::from_slice(body).ok().or_else(text)
}

fn joined(heard: impl Iterator<Item = (String, Heard)>) -> Result<Answer, Refusal> {
    let (mut texts, mut missing) = (Vec::new(), Vec::new());
    for (node, heard) in heard {
        match heard {
            Ok((status, body)) if status.is_success() => {
                texts.push((node, String::from_utf8_lossy(&body).into_owned()));
            }
            _ => missing.push(node),
        }
    }
    if texts.is_empty() {
        return Err(Refusal::UpstreamUnreachable);
    }
    let text = exposition::joined(NODE_LABEL, &texts);
    let mut answer = Answer::json(StatusCode::OK, text);
    answer.headers.push((header::CONTENT_TYPE, EXPOSITION));
    if !missing.is_empty()
        && let Ok(missing) = HeaderValue::from_str(&missing.join(", "))
    {
        answer.headers.push((PARTIAL, missing));
    }
    Ok(answer)
}
