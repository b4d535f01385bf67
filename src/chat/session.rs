//! One conversation: who may go on with it, how it begins, what was said in it.

use std::mem::size_of;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{Mark, Sealed};
use super::tokens::Kept;
use super::{Message, Role};

/// A question and its answer.
const PAIR: usize = 2;

/// What the allocator takes for a text beside its bytes: the counts of its handles, and what it rounds up by.
const TEXT_BYTES: usize = 32;

/// A conversation.
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    /// Who began it.
    pub owner: Owner,
    /// What it begins with; empty for nothing.
    pub system: Arc<str>,
    /// Questions and answers in turn.
    pub said: Vec<Message>,
    /// What is remembered of its last count.
    pub kept: Kept,
}

/// Whose a session is.
#[derive(Clone, Serialize, Deserialize)]
pub enum Owner {
    /// A key of the gateway's, by its name.
    Key(Box<str>),
    /// Who knew the key of the node's upstream.
    Upstream(Mark),
    /// Who knew a key that nodes of this upstream take; it goes up to them with their requests.
    Node {
        /// By its name.
        upstream: Box<str>,
        /// For who knows the session's id.
        key: Sealed,
    },
}

impl Session {
    /// Nothing was said yet.
    pub fn new(owner: Owner, system: Arc<str>) -> Self {
        Self { owner, system, said: Vec::new(), kept: Kept::default() }
    }

    /// Questions with their answers.
    pub fn pairs(&self) -> usize {
        self.said.len() / PAIR
    }

    /// What a model is shown: how it begins, what was said without the oldest `dropped` pairs, and `question`.
    pub fn messages(&self, dropped: usize, question: &Arc<str>) -> Vec<Message> {
        let system = Some(&self.system).filter(|system| !system.is_empty());
        let system = system.map(|text| Message { role: Role::System, text: text.clone() });
        let said = self.said.iter().skip(dropped * PAIR).cloned();
        let question = Message { role: Role::User, text: question.clone() };
        system.into_iter().chain(said).chain([question]).collect()
    }

    /// Goes on: the oldest `dropped` pairs are forgotten.
    pub fn go_on(&mut self, dropped: usize, question: Arc<str>, answer: Arc<str>) {
        self.said.drain(..(dropped * PAIR).min(self.said.len()));
        self.said.push(Message { role: Role::User, text: question });
        self.said.push(Message { role: Role::Assistant, text: answer });
    }

    /// About what it takes in memory, in bytes.
    pub fn bytes(&self) -> usize {
        let texts = self.said.iter().map(|message| &message.text).chain([&self.system]);
        let texts: usize = texts.map(|text| text.len() + TEXT_BYTES).sum();
        size_of::<Self>() + self.said.capacity() * size_of::<Message>() + texts + self.kept.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_goes_on_from_what_is_not_forgotten() {
        let mut session = Session::new(Owner::Key("team".into()), "s".into());
        for (question, answer) in [("q1", "a1"), ("q2", "a2")] {
            session.go_on(0, question.into(), answer.into());
        }
        let texts = |session: &Session, dropped| {
            let messages = session.messages(dropped, &"q3".into());
            messages.iter().map(|message| message.text.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(texts(&session, 0), "s q1 a1 q2 a2 q3");
        assert_eq!(texts(&session, 1), "s q2 a2 q3");
        assert_eq!(texts(&session, 2), "s q3");
        session.system = "".into();
        assert_eq!(texts(&session, 2), "q3");
        let before = session.bytes();
        session.go_on(1, "q3".into(), "a long answer".into());
        assert_eq!(
            (texts(&session, 0).as_str(), session.pairs()),
            ("q2 a2 q3 a long answer q3", 2)
        );
        assert!(session.bytes() > before);
    }
}
