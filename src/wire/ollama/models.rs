//! The models of a node.

use std::borrow::Cow;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

/// What stands between a model's name and its version.
const TAG: char = ':';

/// What `/api/tags` answers.
#[derive(Deserialize)]
struct Tags<'a> {
    #[serde(borrow)]
    models: Option<Vec<Tagged<'a>>>,
}

#[derive(Deserialize)]
struct Tagged<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    modified_at: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'a str,
}

/// The answer to `GET /api/tags` as OpenAI's list.
///
/// # Errors
/// It is no such answer; what is wrong with it.
pub fn models(tags: &[u8]) -> Result<Vec<u8>, String> {
    let tags: Tags<'_> = serde_json::from_slice(tags).map_err(|error| error.to_string())?;
    let tagged = tags.models.unwrap_or_default();
    let data = tagged.iter().map(Tagged::model).collect();
    serde_json::to_vec(&List { object: "list", data }).map_err(|error| error.to_string())
}

/// The name under which a node lists `model`: without a tag, the latest is meant.
pub fn full_name(model: &str) -> Cow<'_, str> {
    let last = model.rsplit('/').next().unwrap_or(model);
    if last.contains(TAG) { model.into() } else { format!("{model}{TAG}latest").into() }
}

impl Tagged<'_> {
    fn model(&self) -> Model<'_> {
        let modified =
            self.modified_at.as_deref().and_then(|at| DateTime::parse_from_rfc3339(at).ok());
        let created = modified.map_or(0, |at| at.timestamp());
        // `host/owner/name:tag`, of which Ollama leaves out what is its own.
        let owned_by = self.name.rsplit('/').nth(1).unwrap_or("library");
        Model { id: &self.name, object: "model", created, owned_by }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_a_node_has_is_a_list_of_openai() {
        let tags = r#"{"models":[{"name":"qwen3:8b","model":"qwen3:8b","modified_at":"2026-11-20T21:00:00.5+03:00","size":1,"details":{"family":"qwen3"}},{"name":"hf.co/team/model:q4","modified_at":"0001-01-01T00:00:00Z"},{"name":"team/own:latest"}]}"#;
        let list: Value = serde_json::from_slice(&models(tags.as_bytes()).unwrap()).unwrap();
        let model = |id: &str, created: i64, owner: &str| json!({"id": id, "object": "model", "created": created, "owned_by": owner});
        let data = [
            model("qwen3:8b", 1_795_197_600, "library"),
            model("hf.co/team/model:q4", -62_135_596_800, "team"),
            model("team/own:latest", 0, "team"),
        ];
        assert_eq!(list, json!({"object": "list", "data": data}));
        let none = br#"{"object":"list","data":[]}"#;
        assert_eq!(models(br#"{"models":null}"#).unwrap(), none);
        assert!(models(b"Ollama is running").is_err());
    }

    #[test]
    fn a_name_without_a_tag_means_the_latest() {
        assert_eq!(full_name("qwen3"), "qwen3:latest");
        assert_eq!(full_name("qwen3:8b"), "qwen3:8b");
        assert_eq!(full_name("localhost:5000/team/own"), "localhost:5000/team/own:latest");
    }
}
