//! A model's folder as transformers reads it: the tokenizer with its added tokens, the templates, the special tokens' texts.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::{AddedToken, PostProcessorWrapper, Tokenizer};

use super::template::Template;
use super::tokens::Unusable;
use super::words::Words;

/// Tokens with a name of their own, which templates may write.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What a counter is made of.
pub(super) struct Model {
    pub(super) tokenizer: Tokenizer,
    /// A quicker way to the same counts, for most models.
    pub(super) words: Option<Words>,
    pub(super) template: Template,
    /// Where the model has another one for prompts with tools.
    pub(super) with_tools: Option<Template>,
}

/// Reads it.
pub(super) fn read(folder: &Path) -> Result<Model, Unusable> {
    let bytes = needed(folder, "tokenizer.json")?;
    let mut tokenizer =
        Tokenizer::from_bytes(&bytes).map_err(|error| bad("tokenizer.json", error))?;
    let config = config(folder)?;
    if config.get("split_special_tokens").and_then(Value::as_bool) == Some(true) {
        return Err(bad("tokenizer_config.json", "`split_special_tokens` is not supported"));
    }
    // A node cuts no prompt short, fills none up and adds nothing round it.
    tokenizer.with_padding(None).with_post_processor(None::<PostProcessorWrapper>);
    tokenizer.with_truncation(None).map_err(|error| bad("tokenizer.json", error))?;
    let added = tokens_to_add(&config, &tokenizer)?;
    tokenizer.add_tokens(added).map_err(|error| bad("tokenizer_config.json", error))?;
    let special: Vec<(String, String)> = NAMED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), text_of(config.get(*name)?)?.to_owned())))
        .collect();
    let templates = templates(folder, &config)?;
    let compile = |source: &String| {
        Template::new(source, special.clone()).map_err(|error| bad("the chat template", error))
    };
    let with_tools = templates.with_tools.as_ref().map(compile).transpose()?;
    let template = compile(&templates.plain)?;
    Ok(Model { words: Words::of(&tokenizer, &bytes), tokenizer, template, with_tools })
}

/// `tokenizer_config.json`; where that lists no added tokens, `special_tokens_map.json` stands above it.
fn config(folder: &Path) -> Result<Map<String, Value>, Unusable> {
    let mut config = json(folder, "tokenizer_config.json")?.unwrap_or_default();
    if !config.contains_key("added_tokens_decoder") {
        config.extend(json(folder, "special_tokens_map.json")?.unwrap_or_default());
    }
    Ok(config)
}

/// Those of the configuration that the tokenizer has not, or has with other properties.
fn tokens_to_add(
    config: &Map<String, Value>,
    tokenizer: &Tokenizer,
) -> Result<Vec<AddedToken>, Unusable> {
    let mut known: Vec<AddedToken> = tokenizer.get_added_tokens_decoder().into_values().collect();
    let mut add = Vec::new();
    if let Some(Value::Object(tokens)) = config.get("added_tokens_decoder") {
        let read = |token| Listed::deserialize(token).map(Listed::token);
        let mut listed = tokens
            .iter()
            .map(|(id, token)| Ok((id.parse::<u32>().unwrap_or(u32::MAX), read(token)?)))
            .collect::<Result<Vec<_>, serde_json::Error>>()
            .map_err(|error| bad("tokenizer_config.json", error))?;
        listed.sort_by_key(|(id, _)| *id);
        add.extend(
            listed.into_iter().map(|(_, token)| token).filter(|token| !known.contains(token)),
        );
    }
    known.extend(add.iter().cloned());
    let extra = ["extra_special_tokens", "additional_special_tokens"].iter();
    let extra = extra.filter_map(|name| config.get(*name)?.as_array()).flatten();
    for token in NAMED.iter().filter_map(|name| config.get(*name)).chain(extra) {
        if let Some(text) = text_of(token)
            && known.iter().all(|known| known.content != text)
        {
            let token = AddedToken::from(text, true);
            known.push(token.clone());
            add.push(token);
        }
    }
    Ok(add)
}

/// An added token as `tokenizer_config.json` has it.
#[derive(Deserialize)]
struct Listed {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Listed {
    fn token(self) -> AddedToken {
        AddedToken {
            normalized: self.normalized.unwrap_or(!self.special),
            content: self.content,
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            special: self.special,
        }
    }
}

/// A token is its text, or an object with it.
fn text_of(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

struct Sources {
    plain: String,
    with_tools: Option<String>,
}

/// A template in a file of its own stands above one in a configuration, a processor's above the tokenizer's for prompts
/// without tools, and one named `tool_use` above others for those with.
fn templates(folder: &Path, config: &Map<String, Value>) -> Result<Sources, Unusable> {
    let named = |wanted: &str| match config.get("chat_template") {
        Some(Value::String(source)) if wanted == "default" => Some(source.clone()),
        Some(Value::Array(list)) => {
            let found = list.iter().find(|template| template.get("name") == Some(&wanted.into()));
            Some(found?.get("template")?.as_str()?.to_owned())
        }
        _ => None,
    };
    if folder.join("additional_chat_templates").is_dir() {
        return Err(bad("additional_chat_templates", "not supported"));
    }
    if let Some(source) = text(folder, "chat_template.jinja")? {
        return Ok(Sources { plain: source, with_tools: None });
    }
    let processors = json(folder, "chat_template.json")?;
    let processors = processors.as_ref().and_then(|json| json.get("chat_template")?.as_str());
    let (default, with_tools) = (named("default"), named("tool_use"));
    match (processors, default) {
        (Some(plain), default) => {
            Ok(Sources { plain: plain.to_owned(), with_tools: with_tools.or(default) })
        }
        (None, Some(plain)) => Ok(Sources { plain, with_tools }),
        (None, None) => Err(Unusable::NoTemplate),
    }
}

fn json(folder: &Path, name: &'static str) -> Result<Option<Map<String, Value>>, Unusable> {
    let text = text(folder, name)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| bad(name, error))).transpose()
}

/// None where there is no such file.
fn text(folder: &Path, name: &'static str) -> Result<Option<String>, Unusable> {
    match fs::read_to_string(folder.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(bad(name, error)),
    }
}

fn needed(folder: &Path, name: &'static str) -> Result<Vec<u8>, Unusable> {
    fs::read(folder.join(name)).map_err(|error| bad(name, error))
}

fn bad(file: &'static str, why: impl ToString) -> Unusable {
    Unusable::Unreadable { file, why: why.to_string() }
}
