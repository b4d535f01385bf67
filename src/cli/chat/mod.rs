//! `sluice chat`: a chat in the terminal, or one answer for a script.

mod conversation;
mod events;
mod line;
mod meter;
mod screen;
mod server;
mod session;
mod settings;
mod told;
mod words;

use std::io::{self, IsTerminal, Read};

use tokio::runtime::Runtime;

use self::conversation::Conversation;
use self::line::{Lines, Typed, unquoted};
use self::meter::Meter;
use self::screen::{Screen, printable};
use self::server::Server;
use self::session::{Cut, Session};
use self::settings::{Flags, Settings};
use self::told::Failure;
use self::words::Next;
use super::{Failed, complain, runtime};
use crate::config::Environment;

/// Longest message from a pipe, in bytes: far over any context.
const PIPED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One thread beside the terminal's: it waits for the server, and for Ctrl-C.
const THREADS: usize = 1;

/// A chat with a server, and how it is held.
#[derive(clap::Args)]
pub(super) struct Chat {
    /// Send this one message, print the answer, and end; what is piped in follows it
    #[arg(short, long, value_name = "TEXT")]
    quick: Option<String>,
    /// Tell speed and tokens of each answer; without a terminal on standard error
    #[arg(long)]
    stats: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(chat: Chat) -> Result<(), Failed> {
    let environment = Environment::of_process();
    let settings = Settings::resolve(chat.flags, &environment).map_err(Failed::Usage)?;
    let question = question(chat.quick)?;
    let screen = Screen::new(&environment, settings.thinking);
    let runtime = runtime(THREADS)?;
    let held = hold(settings, screen, &runtime, question, chat.stats);
    // A name server that does not answer would be waited for.
    runtime.shutdown_background();
    held
}

fn hold(
    settings: Settings,
    screen: Screen,
    runtime: &Runtime,
    question: Option<String>,
    stats: bool,
) -> Result<(), Failed> {
    let _on_it = runtime.enter();
    let url = settings.url.parse().map_err(Failed::Usage)?;
    let server = Server::new(url, settings.key.as_deref()).map_err(Failed::Usage)?;
    let model = match settings.model {
        Some(model) => model,
        None => runtime.block_on(first_model(&server)).map_err(failed)?,
    };
    let mut session = Session {
        server,
        model,
        conversation: Conversation::new(settings.system_prompt),
        parameters: settings.parameters,
        max_context_tokens: settings.max_context_tokens,
        screen,
        footer: settings.footer || stats,
    };
    match question {
        Some(question) => once(&mut session, runtime, &question, stats),
        None => talk(&mut session, runtime, settings.history, stats),
    }
}

/// The one message of a chat that is not held at a terminal: what `-q` says, then what is piped in.
fn question(quick: Option<String>) -> Result<Option<String>, Failed> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(quick);
    }
    let mut piped = String::new();
    let read = stdin.take(PIPED_BYTES_MAX + 1).read_to_string(&mut piped);
    read.map_err(|error| Failed::Runtime(format!("standard input: {error}")))?;
    if piped.len() as u64 > PIPED_BYTES_MAX {
        return Err(Failed::Runtime("standard input is too large for a message".to_owned()));
    }
    let parts = [quick.as_deref().unwrap_or_default(), &piped].map(str::trim);
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    match parts.is_empty() {
        true => Err(Failed::Usage("nothing is asked: pipe a message in, or give -q".to_owned())),
        false => Ok(Some(parts.join("\n\n"))),
    }
}

async fn first_model(server: &Server) -> Result<String, Failure> {
    let none = || Failure::Told(format!("{} lists no model", server.url));
    server.models().await?.into_iter().next().ok_or_else(none)
}

/// A failure in one line that no server can draw with.
fn failed(failure: Failure) -> Failed {
    Failed::Runtime(printable(&failure.into_words()).replace('\n', " "))
}

/// One answer, and nothing else on standard output.
fn once(
    session: &mut Session,
    runtime: &Runtime,
    question: &str,
    stats: bool,
) -> Result<(), Failed> {
    match runtime.block_on(session.ask(question)) {
        Ok(meter) => {
            if stats {
                complain(&meter.footer());
            }
            if meter.stopped { Err(Failed::Interrupted) } else { Ok(()) }
        }
        // As with any filter before `head`.
        Err(Cut::Closed) => Ok(()),
        Err(Cut::Failed(failure)) => Err(failed(failure)),
    }
}

/// Line by line, until Ctrl-D or `/bye`.
fn talk(
    session: &mut Session,
    runtime: &Runtime,
    history: Option<std::path::PathBuf>,
    stats: bool,
) -> Result<(), Failed> {
    let no_terminal = |error| Failed::Runtime(format!("the terminal: {error}"));
    let mut lines = Lines::new(history).map_err(no_terminal)?;
    if session.screen.terminal {
        let (model, url) = (&session.model, &session.server.url);
        session.screen.aside(&format!("{model} at {url}. /? for help, Ctrl-D to leave."));
    }
    loop {
        let text = match lines.next().map_err(no_terminal)? {
            Typed::Text(text) => text,
            Typed::Interrupt => {
                session.screen.aside("Ctrl-D or /bye leaves.");
                continue;
            }
            Typed::End => return Ok(()),
        };
        if text.trim_start().starts_with('/') {
            match words::obey(session, &text) {
                Ok(Next::Line) => {}
                Ok(Next::Leave) => return Ok(()),
                Err(why) => complain(&printable(&why)),
            }
        } else if !unquoted(&text).trim().is_empty() {
            match runtime.block_on(session.ask(&unquoted(&text))) {
                Ok(meter) => tell(session, &meter, stats),
                Err(Cut::Closed) => return Ok(()),
                Err(Cut::Failed(failure)) => complain(&printable(&failure.into_words())),
            }
        }
    }
}

/// What comes below an answer: the footer, where it is wanted, and on a terminal some room.
fn tell(session: &Session, meter: &Meter, stats: bool) {
    let footer = meter.footer();
    if session.screen.terminal {
        if session.footer && !footer.is_empty() {
            session.screen.aside(&footer);
        }
        session.screen.page("");
    } else if stats {
        complain(&footer);
    }
}
