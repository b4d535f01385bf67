//! The words that a chat obeys, as Ollama's: `/set`, `/show`, `/load`, `/save`, `/clear`, `/bye`, `/?`.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use super::conversation::{Conversation, Saved};
use super::line::unquoted;
use super::session::Session;
use super::settings::{parse, unknown};

/// The words, for hints.
const WORDS: [&str; 9] =
    ["/set", "/show", "/load", "/save", "/save!", "/clear", "/bye", "/help", "/?"];
const SETTABLE: [&str; 7] =
    ["parameter", "system", "model", "verbose", "quiet", "think", "nothink"];
const SHOWN: [&str; 4] = ["info", "system", "parameters", "history"];

const HELP: &str = "\
/set parameter NAME VALUE   temperature, top_p, max_tokens, seed, stop
/set system TEXT            what the model is told first; without TEXT: nothing
/set model NAME             talk to another model
/set verbose | quiet        show or hide the line below each answer
/set think | nothink        show or hide what the model thinks
/show info | system | parameters | history
/save FILE, /load FILE      the conversation, as JSON; /save! writes over a file
/clear                      forget the conversation
/bye                        leave (also Ctrl-D)

\"\"\"                         begin and end a message of several lines
Ctrl-C                      stop the answer";

/// Longest file that is loaded, in bytes: far over any context.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What comes after a word.
pub(super) enum Next {
    /// The next line.
    Line,
    /// The end of the chat.
    Leave,
}

/// Does what `line`, which begins with `/`, says.
///
/// # Errors
/// Why not, in words.
pub(super) fn obey(session: &mut Session, line: &str) -> Result<Next, String> {
    let (word, rest) = split(line);
    match word {
        "/set" => set(session, rest)?,
        "/show" => show(session, rest)?,
        "/load" => load(session, rest)?,
        "/save" => save(session, rest, false)?,
        "/save!" => save(session, rest, true)?,
        "/clear" => {
            session.conversation.clear();
            session.screen.aside("The conversation is forgotten.");
        }
        "/bye" | "/exit" => return Ok(Next::Leave),
        "/?" | "/help" => session.screen.page(HELP),
        other => return Err(format!("{} (/? lists them)", unknown("word", other, &WORDS))),
    }
    Ok(Next::Line)
}

/// The first word, and what follows it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

fn set(session: &mut Session, rest: &str) -> Result<(), String> {
    let (what, value) = split(rest);
    match what {
        "parameter" => {
            let (name, value) = split(value);
            if value.is_empty() {
                return Err("write /set parameter NAME VALUE".to_owned());
            }
            session.parameters.set(name, value)?;
        }
        "system" => {
            let text = unquoted(value);
            let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let text = inner.unwrap_or(&text).trim();
            session.conversation.system = (!text.is_empty()).then(|| text.to_owned());
        }
        "model" if value.is_empty() => return Err("write /set model NAME".to_owned()),
        "model" => session.model = value.to_owned(),
        "verbose" => session.footer = true,
        "quiet" => session.footer = false,
        "think" => session.screen.thoughts = true,
        "nothink" => session.screen.thoughts = false,
        other => return Err(unknown("setting", other, &SETTABLE)),
    }
    Ok(())
}

fn show(session: &Session, rest: &str) -> Result<(), String> {
    let conversation = &session.conversation;
    let page = match rest {
        "info" => format!(
            "server   {}\nmodel    {}\nkey      {}\npairs    {}{}",
            session.server.url,
            session.model,
            if session.server.has_key() { "set" } else { "none" },
            conversation.len(),
            session
                .max_context_tokens
                .map(|max| format!("\ncontext  {max} tokens"))
                .unwrap_or_default(),
        ),
        "system" => conversation.system.clone().unwrap_or_else(|| "none".to_owned()),
        "parameters" => {
            serde_json::to_string_pretty(&session.parameters).map_err(|error| error.to_string())?
        }
        "history" => {
            let lines = conversation.lines().map(|(role, text)| format!("{role}: {text}"));
            lines.collect::<Vec<_>>().join("\n")
        }
        other => return Err(unknown("/show", other, &SHOWN)),
    };
    session.screen.page(&page);
    Ok(())
}

fn load(session: &mut Session, rest: &str) -> Result<(), String> {
    let path = path(rest, "/load")?;
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let size = fs::metadata(&path).map_err(|error| told(&error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(told(&"this is too large for a conversation"));
    }
    let text = fs::read_to_string(&path).map_err(|error| told(&error))?;
    let saved: Saved = parse(&text).map_err(|error| told(&error))?;
    let model = saved.model.clone();
    session.conversation = Conversation::load(saved).map_err(|error| told(&error))?;
    session.model = model.unwrap_or_else(|| session.model.clone());
    let pairs = session.conversation.len();
    session.screen.aside(&format!("Loaded: pairs {pairs}, model {}.", session.model));
    Ok(())
}

fn save(session: &Session, rest: &str, over: bool) -> Result<(), String> {
    let path = path(rest, "/save")?;
    let saved = session.conversation.saved(&session.model);
    let text = serde_json::to_string_pretty(&saved).map_err(|error| error.to_string())?;
    let written = if over { write_over(&path, &text) } else { write_new(&path, &text) };
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists if !over => {
            format!("{rest} is there already: /save! writes over it")
        }
        _ => format!("{rest}: {error}"),
    })?;
    session.screen.aside(&format!("Saved to {}.", path.display()));
    Ok(())
}

/// Writes a file that is not there yet, for its owner alone. Where it cannot be whole there is none.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(fs::remove_file(path)))
}

/// The same in the place of a file that may be there: it stays as it is until the new one is whole.
fn write_over(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", process::id()));
    let beside = PathBuf::from(beside);
    write_new(&beside, text)?;
    fs::rename(&beside, path).inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// The file that is named, `~/` taken as shells do.
fn path(name: &str, word: &str) -> Result<PathBuf, String> {
    match (name.strip_prefix("~/"), std::env::home_dir()) {
        _ if name.is_empty() => Err(format!("write {word} FILE")),
        (Some(rest), Some(home)) => Ok(home.join(rest)),
        _ => Ok(PathBuf::from(name)),
    }
}
