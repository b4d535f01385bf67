//! What was said so far, as pairs of a message and its answer; what of it goes into the next request; its file.

use serde::{Deserialize, Serialize};

/// Bytes of a text for each of its tokens, where nobody has counted them: English has about four.
const BYTES_PER_TOKEN: i64 = 4;

/// A conversation. A message without an answer is no part of it.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// What the model is told before everything else.
    pub(super) system: Option<String>,
    pairs: Vec<Pair>,
    measured: Option<Measured>,
}

/// A message and its answer.
#[derive(Debug)]
struct Pair {
    message: String,
    answer: String,
}

impl Pair {
    fn bytes(&self) -> usize {
        self.message.len() + self.answer.len()
    }
}

/// A prompt whose tokens the server has told.
#[derive(Debug, Clone, Copy)]
struct Measured {
    bytes: i64,
    tokens: i64,
}

/// One entry of `messages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    role: Role,
    content: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A conversation in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    messages: Vec<Entry>,
}

impl Conversation {
    /// Nothing is said yet.
    pub(super) fn new(system: Option<String>) -> Self {
        Self { system, ..Self::default() }
    }

    /// `messages` of a request: all but the `oldest` pairs, then `message`.
    pub(super) fn messages(&self, oldest: usize, message: &str) -> Vec<Entry> {
        let mut entries = self.entries(oldest);
        if let Some(system) = &self.system {
            entries.insert(0, entry(Role::System, system));
        }
        entries.push(entry(Role::User, message));
        entries
    }

    /// How many of the oldest pairs must go so that a prompt that ends with `message` has `tokens_max` at most, as far as
    /// can be told: from what the server said of the last prompt, and from the bytes that came and went since.
    pub(super) fn too_many(&self, message: &str, tokens_max: u64) -> usize {
        let tokens_max = i64::try_from(tokens_max).unwrap_or(i64::MAX);
        let always = self.system.as_ref().map_or(0, String::len) + message.len();
        let mut bytes = always + self.pairs.iter().map(Pair::bytes).sum::<usize>();
        for (oldest, pair) in self.pairs.iter().enumerate() {
            if self.tokens(bytes) <= tokens_max {
                return oldest;
            }
            bytes -= pair.bytes();
        }
        self.pairs.len()
    }

    fn tokens(&self, bytes: usize) -> i64 {
        let measured = self.measured.unwrap_or(Measured { bytes: 0, tokens: 0 });
        measured.tokens + (signed(bytes) - measured.bytes) / BYTES_PER_TOKEN
    }

    /// `prompt` had so many tokens.
    pub(super) fn measure(&mut self, prompt: &[Entry], tokens: u64) {
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        let bytes = prompt.iter().map(|entry| entry.content.len()).sum();
        self.measured = Some(Measured { bytes: signed(bytes), tokens });
    }

    /// Takes the `oldest` pairs out.
    pub(super) fn trim(&mut self, oldest: usize) {
        self.pairs.drain(..oldest);
    }

    /// Adds a message and its answer.
    pub(super) fn push(&mut self, message: String, answer: String) {
        self.pairs.push(Pair { message, answer });
    }

    /// Forgets everything but the system prompt.
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
        self.measured = None;
    }

    /// Pairs.
    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Role and text of each entry.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.entries(0).into_iter().map(|entry| (entry.role.as_str(), entry.content))
    }

    fn entries(&self, oldest: usize) -> Vec<Entry> {
        let both =
            |pair: &Pair| [entry(Role::User, &pair.message), entry(Role::Assistant, &pair.answer)];
        self.pairs.iter().skip(oldest).flat_map(both).collect()
    }

    /// As it goes into a file.
    pub(super) fn saved(&self, model: &str) -> Saved {
        let system = self.system.clone();
        Saved { model: Some(model.to_owned()), system, messages: self.entries(0) }
    }

    /// As it comes from a file; the model, if one is named, is the caller's to take.
    ///
    /// # Errors
    /// Messages and answers do not take turns.
    pub(super) fn load(saved: Saved) -> Result<Self, &'static str> {
        let mut conversation = Self::new(saved.system);
        let mut entries = saved.messages.into_iter();
        while let Some(message) = entries.next() {
            match (message.role, entries.next()) {
                (Role::User, Some(answer)) if answer.role == Role::Assistant => {
                    conversation.push(message.content, answer.content);
                }
                _ => return Err("`messages` must be of `user` and `assistant` in turn"),
            }
        }
        Ok(conversation)
    }
}

fn entry(role: Role, content: &str) -> Entry {
    Entry { role, content: content.to_owned() }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_pairs(count: usize) -> Conversation {
        let mut conversation = Conversation::new(Some("be brief".into()));
        (0..count).for_each(|_| conversation.push("q".repeat(40), "a".repeat(40)));
        conversation
    }

    #[test]
    fn the_system_prompt_stays_and_the_oldest_pairs_go() {
        let mut conversation = Conversation::new(Some("s".into()));
        conversation.push("1".into(), "one".into());
        conversation.push("2".into(), "two".into());
        let sent = serde_json::to_value(conversation.messages(1, "3")).unwrap();
        assert_eq!(
            sent,
            json!([
                {"role": "system", "content": "s"},
                {"role": "user", "content": "2"},
                {"role": "assistant", "content": "two"},
                {"role": "user", "content": "3"},
            ])
        );
    }

    #[test]
    fn without_a_count_a_token_is_four_bytes() {
        // 8 bytes, 2 pairs of 80, 40: 52 tokens.
        let message = "m".repeat(40);
        let conversation = of_pairs(2);
        assert_eq!(conversation.too_many(&message, 52), 0);
        assert_eq!(conversation.too_many(&message, 51), 1);
        assert_eq!(conversation.too_many(&message, 31), 2);
        // What cannot be helped is the server's to judge.
        assert_eq!(conversation.too_many(&message, 1), 2);
    }

    #[test]
    fn what_the_server_counted_is_the_begin_of_the_next_estimate() {
        let mut conversation = of_pairs(1);
        let prompt = conversation.messages(0, "q");
        conversation.measure(&prompt, 500);
        conversation.push("q".into(), "a".repeat(400));
        // 500, and 404 bytes more.
        assert_eq!(conversation.too_many("next", 601), 0);
        assert_eq!(conversation.too_many("next", 600), 1);
    }

    #[test]
    fn a_file_gives_back_what_went_into_it() {
        let conversation = of_pairs(2);
        let text = serde_json::to_string(&conversation.saved("m")).unwrap();
        let back = Conversation::load(serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(back.messages(0, "x"), conversation.messages(0, "x"));
        let lone = json!({"messages": [{"role": "user", "content": "x"}]});
        Conversation::load(serde_json::from_value(lone).unwrap()).unwrap_err();
    }
}
