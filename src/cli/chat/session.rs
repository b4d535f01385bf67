//! One chat: a message goes out with what was said before, its answer is shown as it comes.

use std::io;
use std::num::NonZeroU64;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::conversation::{Conversation, Entry};
use super::meter::Meter;
use super::screen::Screen;
use super::server::{Answer, Server};
use super::settings::Parameters;
use super::told::Failure;
use crate::chat::window::Search;

/// Everything that a chat is about.
pub(super) struct Session {
    pub(super) server: Server,
    pub(super) model: String,
    pub(super) conversation: Conversation,
    pub(super) parameters: Parameters,
    pub(super) max_context_tokens: Option<NonZeroU64>,
    pub(super) screen: Screen,
    /// The footer is shown.
    pub(super) footer: bool,
}

/// Why an answer is not whole.
#[derive(Debug)]
pub(super) enum Cut {
    /// Nobody reads standard output any more.
    Closed,
    /// The server does not answer, or not to the end.
    Failed(Failure),
}

impl From<Failure> for Cut {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Cut {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

impl Session {
    /// Sends `message` and shows its answer. Both become part of the conversation, also where Ctrl-C cut the answer; what
    /// failed, and what was stopped before its first word, leaves the conversation as it was.
    ///
    /// # Errors
    /// There is no whole answer, and nobody stopped it.
    pub(super) async fn ask(&mut self, message: &str) -> Result<Meter, Cut> {
        // From now on Ctrl-C ends answers, not the process.
        let handler = signal(SignalKind::interrupt());
        let mut interrupt = handler.map_err(|error| Failure::Told(error.to_string()))?;
        let (mut meter, mut said) = (Meter::start(Instant::now()), String::new());
        // What is dropped here takes its connection with it: the node is freed at once.
        let ended = tokio::select! {
            ended = self.answer(message, &mut meter, &mut said) => ended,
            _ = interrupt.recv() => {
                meter.stopped = true;
                Ok(())
            }
        };
        let shown = self.screen.end();
        ended?;
        shown?;
        if !said.is_empty() {
            self.conversation.trim(meter.trimmed);
            self.conversation.push(message.to_owned(), said);
        }
        Ok(meter)
    }

    async fn answer(
        &mut self,
        message: &str,
        meter: &mut Meter,
        said: &mut String,
    ) -> Result<(), Cut> {
        let (prompt, mut answer) = self.begin(message, meter).await?;
        loop {
            let event = answer.next().await?;
            meter.note(&event, Instant::now());
            if event.done {
                break;
            }
            self.screen.thought(&event.thought)?;
            self.screen.text(&event.text)?;
            said.push_str(&event.text);
        }
        if let Some(usage) = meter.usage {
            self.conversation.measure(&prompt, usage.prompt_tokens);
        }
        Ok(())
    }

    /// The prompt that the server takes, and the begin of its answer. The first that it takes is answered already: nobody asks
    /// whether a longer one would have done.
    async fn begin(
        &self,
        message: &str,
        meter: &mut Meter,
    ) -> Result<(Vec<Entry>, Answer), Failure> {
        let limit = self.max_context_tokens.map(NonZeroU64::get);
        let least = limit.map_or(0, |limit| self.conversation.too_many(message, limit));
        // Only whether it fits is known, so a prompt that does not has one token where none may be.
        let mut search = Search::new(self.conversation.len() - least, 0);
        loop {
            let oldest = least + search.next();
            let prompt = self.conversation.messages(oldest, message);
            match self.server.chat(&self.request(&prompt)).await {
                Err(Failure::TooLong(_)) if search.tell(1).is_none() => {}
                Err(Failure::NoModel(why)) => return Err(self.models_instead(why).await),
                begun => {
                    let answer = begun?;
                    meter.trimmed = oldest;
                    return Ok((prompt, answer));
                }
            }
        }
    }

    fn request(&self, prompt: &[Entry]) -> Value {
        let mut request = json!(self.parameters);
        request["model"] = json!(self.model);
        request["messages"] = json!(prompt);
        request["stream"] = json!(true);
        request["stream_options"] = json!({ "include_usage": true });
        request
    }

    /// `why`, and what can be asked for instead.
    async fn models_instead(&self, why: String) -> Failure {
        let models = self.server.models().await.unwrap_or_default();
        Failure::Told(match models.is_empty() {
            true => why,
            false => format!("{why} (there are: {})", models.join(", ")),
        })
    }
}
