//! Names of models: `qwen3` means `registry.ollama.ai/library/qwen3:latest`. And what a model can do, told by its name.

use http::StatusCode;

use super::go;
use super::refusal::Refusal;
use crate::names::ModelName;
use crate::sim::call::Call;
use crate::sim::engine;

const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";

/// Bytes of a host at most.
const HOST_BYTES_MAX: usize = 350;

/// Bytes of any other part at most.
const PART_BYTES_MAX: usize = 80;

/// A name with all its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    host: String,
    namespace: String,
    model: String,
    tag: String,
}

impl Name {
    /// The name that `text` means; none if it cannot be one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (rest, tag) = match (text.rfind(':'), text.rfind('/')) {
            (Some(colon), slash) if slash.is_none_or(|slash| slash < colon) => {
                (&text[..colon], &text[colon + 1..])
            }
            _ => (text, TAG),
        };
        let mut parts = rest.rsplitn(3, '/');
        let model = parts.next().unwrap_or_default();
        let namespace = parts.next().unwrap_or(NAMESPACE);
        let host = parts.next().map_or(HOST, |host| host.split_once("://").map_or(host, |of| of.1));
        let valid = is_part(host, "-_.:", HOST_BYTES_MAX)
            && is_part(namespace, "-_", PART_BYTES_MAX)
            && is_part(model, "-_.", PART_BYTES_MAX)
            && is_part(tag, "-_.", PART_BYTES_MAX);
        let [host, namespace, model, tag] = [host, namespace, model, tag].map(str::to_owned);
        valid.then_some(Self { host, namespace, model, tag })
    }

    /// All of it.
    pub(super) fn full(&self) -> String {
        let Self { host, namespace, model, tag } = self;
        format!("{host}/{namespace}/{model}:{tag}")
    }

    /// As lists show it: without what goes without saying, but for the tag.
    pub(super) fn shortest(&self) -> String {
        let Self { host, namespace, model, tag } = self;
        if !host.eq_ignore_ascii_case(HOST) {
            return self.full();
        }
        if !namespace.eq_ignore_ascii_case(NAMESPACE) {
            return format!("{namespace}/{model}:{tag}");
        }
        format!("{model}:{tag}")
    }

    /// Who made it, as `/v1/models` has it.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether both name the same model: no case is looked at.
    fn same(&self, other: &Self) -> bool {
        self.full().eq_ignore_ascii_case(&other.full())
    }
}

/// Whether a part of a name is one: a letter, a digit or `_`, then these marks too.
fn is_part(part: &str, marks: &str, bytes_max: usize) -> bool {
    let in_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    part.starts_with(in_word)
        && part.len() <= bytes_max
        && part.chars().all(|letter| in_word(letter) || marks.contains(letter))
}

/// A model that the node has.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// Its name.
    pub(super) name: Name,
    /// It answers, and does not only make vectors.
    pub(super) completes: bool,
    /// It calls tools.
    pub(super) tools: bool,
    /// It thinks before it answers.
    pub(super) thinks: bool,
    /// Its calls of tools come with the last line of a stream, not in a line before: so it is where Ollama uses the
    /// template that came with the model and not one of its own.
    pub(super) calls_last: bool,
}

impl Model {
    /// The model of this name; none if it cannot be one.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = Name::parse(name)?;
        let model = name.model.to_ascii_lowercase();
        let is_one_of = |words: &[&str]| words.iter().any(|word| model.contains(word));
        let completes = !is_one_of(&["embed", "minilm", "bge-"]);
        Some(Self {
            completes,
            tools: completes && !is_one_of(&["gemma", "phi", "llava"]),
            thinks: completes && is_one_of(&["think", "r1", "qwen3", "gpt-oss"]),
            calls_last: name.host.eq_ignore_ascii_case("hf.co"),
            name,
        })
    }

    /// Its `capabilities`, as JSON.
    pub(super) fn capabilities(&self) -> String {
        let can = [
            ("completion", self.completes),
            ("tools", self.tools),
            ("thinking", self.thinks),
            ("embedding", !self.completes),
        ];
        let can: Vec<_> =
            can.iter().filter(|(_, can)| *can).map(|(name, _)| format!("\"{name}\"")).collect();
        format!("[{}]", can.join(","))
    }

    /// Refuses a request for what it cannot do.
    pub(super) fn cannot(&self, what: &str) -> Refusal {
        Refusal::bad(format!("{} does not support {what}", self.name.full()))
    }
}

/// What is said of a model that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// By `/api/chat`.
    Chat,
    /// By `/api/generate`.
    Generate,
    /// By `/api/embed`.
    Embed,
    /// By `/api/embeddings`.
    Embeddings,
    /// By `/api/show`.
    Show,
}

/// The model that `asked` means.
///
/// # Errors
/// It is no name, or the node does not have it.
pub(super) fn find(call: &Call, asked: &str, missing: Missing) -> Result<Model, Refusal> {
    let asked = asked.trim();
    if asked.is_empty() {
        return Err(match missing {
            Missing::Generate | Missing::Embed => {
                Refusal::not_found("model '' not found".to_owned())
            }
            Missing::Chat | Missing::Embeddings | Missing::Show => {
                Refusal::bad("model is required")
            }
        });
    }
    let Some(name) = Name::parse(asked) else {
        return Err(Refusal::bad("invalid model name"));
    };
    let mut models = call.live.models.iter().map(ModelName::as_str).filter_map(Model::named);
    let Some(model) = models.find(|model| model.name.same(&name)) else {
        let says = match missing {
            Missing::Chat | Missing::Generate => format!("model '{asked}' not found"),
            Missing::Show => format!("model '{}' not found", name.shortest()),
            Missing::Embed | Missing::Embeddings => {
                format!("model {} not found, try pulling it first", go::quote(asked))
            }
        };
        return Err(Refusal::new(StatusCode::NOT_FOUND, says));
    };
    let _ = call.salt.set(engine::salt(&model.name.full(), None));
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_completed() {
        for (text, full, shortest) in [
            ("qwen3", "registry.ollama.ai/library/qwen3:latest", "qwen3:latest"),
            ("qwen3:8b", "registry.ollama.ai/library/qwen3:8b", "qwen3:8b"),
            ("me/own:v1", "registry.ollama.ai/me/own:v1", "me/own:v1"),
            ("hf.co/me/own:Q4", "hf.co/me/own:Q4", "hf.co/me/own:Q4"),
            (
                "localhost:5000/me/own",
                "localhost:5000/me/own:latest",
                "localhost:5000/me/own:latest",
            ),
        ] {
            let name = Name::parse(text).unwrap();
            assert_eq!((name.full().as_str(), name.shortest().as_str()), (full, shortest));
        }
        assert!(Name::parse("Qwen3").unwrap().same(&Name::parse("library/qwen3:latest").unwrap()));
    }

    #[test]
    fn what_is_no_name_is_none() {
        for text in ["", " ", "a b", "a:", ":b", "/a", "a//b", "-a", "a:b:c/d:e f", "m@sha256:0"] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_a_model_can_do_is_in_its_name() {
        let can = |name| Model::named(name).unwrap().capabilities();
        assert_eq!(can("sim-llama"), r#"["completion","tools"]"#);
        assert_eq!(can("qwen3:8b"), r#"["completion","tools","thinking"]"#);
        assert_eq!(can("gemma3"), r#"["completion"]"#);
        assert_eq!(can("nomic-embed-text"), r#"["embedding"]"#);
    }
}
