//! What a chat is told before it begins: flags, variables, and a file of JSON; where its files are.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Environment, nearest};

/// Where `sluice serve` and `sluice demo` listen.
const URL: &str = "http://127.0.0.1:8080/v1";

/// Where the key is looked for, the first first.
const KEY_VARIABLES: [&str; 2] = ["SLUICE_API_KEY", "OPENAI_API_KEY"];

/// The file, every field of it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    url: Option<String>,
    model: Option<String>,
    system_prompt: Option<String>,
    api_key: Option<String>,
    api_key_env: Option<String>,
    max_context_tokens: Option<NonZeroU64>,
    parameters: Parameters,
    footer: Option<bool>,
    thinking: Option<bool>,
    history: Option<bool>,
}

/// Fields of a request that a model's answer depends on, as they go into it. The server judges them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Parameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
}

impl Parameters {
    /// Their names.
    pub(super) const NAMES: [&str; 5] = ["temperature", "top_p", "max_tokens", "seed", "stop"];

    /// Takes one as it is typed; several texts for `stop` are separated by spaces.
    ///
    /// # Errors
    /// It has another name, or is no such value.
    pub(super) fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let number = |kind: &str| format!("{name} is {kind}, not `{text}`");
        let finite = || {
            let value = text.parse().ok().filter(|value: &f64| value.is_finite());
            value.ok_or_else(|| number("a number"))
        };
        match name {
            "temperature" => self.temperature = Some(finite()?),
            "top_p" => self.top_p = Some(finite()?),
            "max_tokens" => {
                self.max_tokens = Some(text.parse().map_err(|_| number("a whole number"))?);
            }
            "seed" => self.seed = Some(text.parse().map_err(|_| number("a whole number"))?),
            "stop" => self.stop = text.split_whitespace().map(str::to_owned).collect(),
            other => return Err(unknown("parameter", other, &Self::NAMES)),
        }
        Ok(())
    }
}

/// What the command line says of the same.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// Base URL of a server with an API like OpenAI's [default: http://127.0.0.1:8080/v1]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Model to talk to [default: the first that the server lists]
    #[arg(long, visible_alias = "model", value_name = "NAME")]
    model_name: Option<String>,
    /// What the model is told before everything else
    #[arg(long, value_name = "TEXT")]
    system_prompt: Option<String>,
    /// Key for the server; else SLUICE_API_KEY, OPENAI_API_KEY, the settings file
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Longest prompt, in tokens: older messages are left out before the server has to refuse
    #[arg(long, value_name = "TOKENS")]
    max_context_tokens: Option<NonZeroU64>,
    /// Neither read nor write the file of what was typed
    #[arg(long)]
    no_history: bool,
    /// File of settings, in JSON [default: ~/.config/sluice/chat.json, if it is there]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

/// What holds.
pub(super) struct Settings {
    pub(super) url: String,
    pub(super) model: Option<String>,
    pub(super) system_prompt: Option<String>,
    pub(super) key: Option<String>,
    pub(super) max_context_tokens: Option<NonZeroU64>,
    pub(super) parameters: Parameters,
    pub(super) footer: bool,
    pub(super) thinking: bool,
    /// The file of what was typed, if it is kept.
    pub(super) history: Option<PathBuf>,
}

impl Settings {
    /// A flag wins over a variable, a variable over the file.
    ///
    /// # Errors
    /// The file cannot be read, or says what cannot be.
    pub(super) fn resolve(flags: Flags, environment: &Environment) -> Result<Self, String> {
        let file = match &flags.settings {
            Some(path) => read(path)?,
            None => match folder(environment, "XDG_CONFIG_HOME", ".config") {
                Some(path) if path.join("chat.json").exists() => read(&path.join("chat.json"))?,
                _ => File::default(),
            },
        };
        let variable = KEY_VARIABLES.into_iter().find_map(|name| environment.get(name));
        let of_file = file.key(environment)?;
        let kept = !flags.no_history && file.history.unwrap_or(true);
        let state = || folder(environment, "XDG_STATE_HOME", ".local/state");
        Ok(Self {
            url: flags.url.or(file.url).unwrap_or_else(|| URL.to_owned()),
            model: flags.model_name.or(file.model),
            system_prompt: flags
                .system_prompt
                .or(file.system_prompt)
                .filter(|text| !text.is_empty()),
            key: flags.api_key.or_else(|| variable.map(str::to_owned)).or(of_file),
            max_context_tokens: flags.max_context_tokens.or(file.max_context_tokens),
            parameters: file.parameters,
            footer: file.footer.unwrap_or(true),
            thinking: file.thinking.unwrap_or(true),
            history: if kept { state().map(|path| path.join("chat_history")) } else { None },
        })
    }
}

impl File {
    fn key(&self, environment: &Environment) -> Result<Option<String>, String> {
        match (&self.api_key, &self.api_key_env) {
            (Some(_), Some(_)) => Err("of `api_key` and `api_key_env` one is enough".to_owned()),
            (Some(key), None) => Ok(Some(key.clone())),
            (None, Some(name)) => Ok(environment.get(name).map(str::to_owned)),
            (None, None) => Ok(None),
        }
    }
}

/// `sluice` in the folder that the XDG Base Directory Specification says.
fn folder(environment: &Environment, variable: &str, in_home: &str) -> Option<PathBuf> {
    let named = environment.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || Some(Path::new(environment.get("HOME")?).join(in_home));
    Some(named.or_else(home)?.join("sluice"))
}

fn read(path: &Path) -> Result<File, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    parse(&text).map_err(|error| format!("{shown}: {error}"))
}

/// A text of JSON as a file's value; a field that is not known is told with the one that was probably meant.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| {
        let told = error.to_string();
        // unknown field `modle`, expected one of `url`, `model`, …
        let words: Vec<&str> = told.split('`').skip(1).step_by(2).collect();
        match words.split_first() {
            Some((word, known)) if told.starts_with("unknown field") => {
                match nearest(word, known.iter().copied()) {
                    Some(meant) => format!("{told}: did you mean `{meant}`?"),
                    None => told,
                }
            }
            _ => told,
        }
    })
}

/// That there is no such thing, and which there are.
pub(super) fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(meant) => format!("no {what} `{word}`: did you mean `{meant}`?"),
        None => format!("no {what} `{word}`: there are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(settings: Option<PathBuf>) -> Flags {
        let (url, model_name, system_prompt, api_key) = (None, None, None, None);
        let (max_context_tokens, no_history) = (None, false);
        Flags { url, model_name, system_prompt, api_key, max_context_tokens, no_history, settings }
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chat.json");
        std::fs::write(&path, r#"{"url": "http://file", "model": "m", "api_key": "of-file"}"#)
            .unwrap();
        let resolve = |flags, variables: &[(&str, &str)]| {
            let environment = Environment::from_iter(variables.iter().copied());
            Settings::resolve(flags, &environment).unwrap()
        };
        let file = || flags(Some(path.clone()));
        let settings = resolve(file(), &[]);
        assert_eq!((&*settings.url, settings.key.as_deref()), ("http://file", Some("of-file")));
        let both = [("OPENAI_API_KEY", "openai"), ("SLUICE_API_KEY", "sluice")];
        assert_eq!(resolve(file(), &both[..1]).key.as_deref(), Some("openai"));
        assert_eq!(resolve(file(), &both).key.as_deref(), Some("sluice"));
        let named =
            Flags { api_key: Some("flag".into()), url: Some("http://flag".into()), ..file() };
        let settings = resolve(named, &both);
        assert_eq!((&*settings.url, settings.key.as_deref()), ("http://flag", Some("flag")));
        assert_eq!(resolve(flags(None), &[]).url, URL);
    }

    #[test]
    fn the_example_uses_every_field_but_the_key_itself() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/chat.json");
        let text = std::fs::read_to_string(path).unwrap();
        let file: File = parse(&text).unwrap();
        assert!(file.api_key.is_none());
        let (example, parameters) =
            (fields(&text), fields(&serde_json::to_string(&file.parameters).unwrap()));
        let refused = parse::<File>(r#"{"no": 1}"#).err().unwrap();
        let mut known: Vec<&str> = refused.split('`').skip(3).step_by(2).collect();
        known.retain(|name| *name != "api_key");
        known.sort_unstable();
        assert_eq!(example, known);
        let mut names = Parameters::NAMES;
        names.sort_unstable();
        assert_eq!(parameters, names);
    }

    fn fields(text: &str) -> Vec<String> {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn a_misspelt_field_is_told_with_what_was_meant() {
        let told = parse::<File>(r#"{"modle": "m"}"#).err().unwrap();
        assert!(told.ends_with("did you mean `model`?"), "{told}");
        let told = parse::<File>(r#"{"parameters": {"top-p": 1}}"#).err().unwrap();
        assert!(told.ends_with("did you mean `top_p`?"), "{told}");
    }

    #[test]
    fn parameters_are_taken_as_typed() {
        let mut parameters = Parameters::default();
        for (name, text) in [("temperature", "0.5"), ("seed", "-1"), ("stop", "a b")] {
            parameters.set(name, text).unwrap();
        }
        let sent = serde_json::to_string(&parameters).unwrap();
        assert_eq!(sent, r#"{"temperature":0.5,"seed":-1,"stop":["a","b"]}"#);
        assert_eq!(parameters.set("top_p", "nan").unwrap_err(), "top_p is a number, not `nan`");
        assert!(parameters.set("temprature", "1").unwrap_err().contains("`temperature`?"));
    }
}
