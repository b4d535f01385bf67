//! `sluice explain`: which way a request would take, and why. Every decision is made by the code that serves.

mod story;

use std::sync::Arc;

use http::Method;

use super::loaded::Loaded;
use super::{Boot, Failed, runtime, say};
use crate::config::Places;
use crate::names::ModelName;
use crate::wire::chats::Call;
use crate::wire::paths::CHAT;
use story::Story;

/// The request to be explained.
#[derive(clap::Args)]
pub(super) struct Explain {
    /// Its method: POST.
    #[arg(value_parser = method)]
    method: Method,
    /// Its path, and its query if it has one: /v1/chat/completions.
    path: String,
    /// The model that its body names.
    #[arg(long, value_name = "MODEL")]
    model: Option<ModelName>,
    /// The name of the key that it comes with. Without it nothing is said of what a key may do.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    #[command(flatten)]
    boot: Boot,
}

/// A method, in any case: nobody means the unknown method `post`.
fn method(text: &str) -> Result<Method, String> {
    let upper = text.to_ascii_uppercase();
    Method::from_bytes(upper.as_bytes()).map_err(|_| "this is no method of HTTP".to_owned())
}

pub(super) fn run(mut explain: Explain) -> Result<(), Failed> {
    let loaded = Loaded::of(&explain.boot)?;
    let settings = &loaded.settings;
    let of_session = settings.sessions && explain.method == Method::POST;
    match Call::of_path(&explain.path).filter(|_| of_session) {
        Some(Call::Chat) => {
            say(&format!("{:10} its question is asked as POST {CHAT}", "session"));
            explain.path = CHAT.to_owned();
            let model = settings.session_model.as_deref().map(ModelName::from);
            explain.model = explain.model.or(model);
        }
        Some(_) => {
            say(&format!(
                "{:10} its body says whose it is; the gateway answers it itself",
                "session"
            ));
            return Ok(());
        }
        None => {}
    }
    let places = Places::read(&loaded.source);
    let (told, end) = runtime(1)?.block_on(async {
        let client = Arc::new(loaded.client());
        let mut story = Story::new(&explain, &loaded, &places);
        let end = story.tell(&client).await;
        (story.told(), end)
    });
    say(&told);
    match end {
        Ok(end) => {
            say(&format!("{:10} {end}", "result"));
            Ok(())
        }
        Err(refusal) => {
            let (status, code) = (refusal.status().as_u16(), refusal.code());
            say(&format!("{:10} refused: {status} {code}: {}", "result", refusal.message()));
            Err(Failed::Told)
        }
    }
}
