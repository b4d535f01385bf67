//! `options` of a request: how long an answer is and where it stops, and in which shape the model is loaded.

use serde_json::{Map, Value};

use super::go::quote;
use super::refusal::Refusal;

/// What Ollama keeps of the beginning of a prompt that is too long.
const NUM_KEEP: i64 = 4;

/// The smallest context that Ollama makes.
const NUM_CTX_MIN: i64 = 4;

/// Ollama's own default.
const NUM_BATCH: i64 = 512;

/// Options that are whole numbers.
const INTEGERS: [&str; 11] = [
    "num_keep",
    "seed",
    "num_predict",
    "top_k",
    "repeat_last_n",
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "draft_num_predict",
];

/// Options that are numbers.
const FLOATS: [&str; 7] = [
    "top_p",
    "min_p",
    "typical_p",
    "temperature",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
];

/// What holds for one request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Options {
    /// Tokens of the answer at most; less than none: as many as it likes.
    pub(super) num_predict: i64,
    /// Tokens that a prompt which is too long keeps of its beginning; less than none: all.
    pub(super) num_keep: i64,
    /// Texts that end an answer.
    pub(super) stop: Vec<String>,
    /// How the model is loaded for it.
    pub(super) shape: Shape,
}

/// How a model is loaded; in another shape it is loaded anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// Tokens of its context.
    pub(super) num_ctx: usize,
    num_batch: i64,
    /// Less than none: as it was.
    num_gpu: i64,
    main_gpu: Option<i64>,
    use_mmap: Option<bool>,
    num_thread: i64,
    draft_num_predict: i64,
    shift: bool,
}

impl Options {
    /// What `given` says, for a model whose context is `context_max` long.
    ///
    /// # Errors
    /// One has another type. Ollama finds it so late that it blames itself: 500.
    pub(super) fn read(
        given: &Map<String, Value>,
        context_max: usize,
        shift: bool,
    ) -> Result<Self, Refusal> {
        for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
            check(name, value).map_err(Refusal::internal)?;
        }
        // As Go turns a float into an integer: what is behind the point is cut off.
        let whole = |name: &str| given.get(name).and_then(Value::as_f64).map(|n| n as i64);
        let stop = given.get("stop").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let stop = stop.iter().filter_map(Value::as_str).filter(|stop| !stop.is_empty());
        let num_ctx = whole("num_ctx").map(|tokens| tokens.max(NUM_CTX_MIN));
        let num_ctx = num_ctx.and_then(|tokens| usize::try_from(tokens).ok());
        Ok(Self {
            num_predict: whole("num_predict").unwrap_or(-1),
            num_keep: whole("num_keep").unwrap_or(NUM_KEEP),
            stop: stop.map(str::to_owned).collect(),
            shape: Shape {
                num_ctx: num_ctx.unwrap_or(context_max).min(context_max),
                num_batch: whole("num_batch").unwrap_or(NUM_BATCH),
                num_gpu: whole("num_gpu").unwrap_or(-1).max(-1),
                main_gpu: whole("main_gpu"),
                use_mmap: given.get("use_mmap").and_then(Value::as_bool),
                num_thread: whole("num_thread").unwrap_or(0),
                draft_num_predict: whole("draft_num_predict").unwrap_or(0),
                shift,
            },
        })
    }
}

impl Shape {
    /// Whether a model of this shape will do for a request that wants `wanted`.
    pub(super) fn serves(&self, wanted: &Self) -> bool {
        let num_gpu = if wanted.num_gpu < 0 { self.num_gpu } else { wanted.num_gpu };
        *self == Self { num_gpu, ..wanted.clone() }
    }
}

/// Whether an option has its type. One that Ollama does not know may have any.
fn check(name: &str, value: &Value) -> Result<(), String> {
    let wanted = match name {
        _ if INTEGERS.contains(&name) => ("integer", value.is_number()),
        _ if FLOATS.contains(&name) => ("float32", value.is_number()),
        "use_mmap" => ("boolean", value.is_boolean()),
        "stop" => ("array", value.is_array()),
        _ => return Ok(()),
    };
    let name = quote(name);
    match (wanted, value.as_array()) {
        ((kind, false), _) => Err(format!("option {name} must be of type {kind}")),
        (_, Some(items)) if !items.iter().all(Value::is_string) => {
            Err(format!("option {name} must be of an array of strings"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(options: Value) -> Result<Options, Refusal> {
        Options::read(options.as_object().unwrap(), 8192, true)
    }

    #[test]
    fn another_type_is_told() {
        for (options, says) in [
            (json!({"num_predict": "12"}), r#"option "num_predict" must be of type integer"#),
            (json!({"temperature": true}), r#"option "temperature" must be of type float32"#),
            (json!({"use_mmap": 1}), r#"option "use_mmap" must be of type boolean"#),
            (json!({"stop": "a"}), r#"option "stop" must be of type array"#),
            (json!({"stop": ["a", 1]}), r#"option "stop" must be of an array of strings"#),
        ] {
            assert_eq!(read(options), Err(Refusal::internal(says.to_owned())));
        }
        let other = json!({"num_predict": 3.9, "stop": ["a", ""], "seed": null, "mirostat": "on"});
        let other = read(other).unwrap();
        assert_eq!((other.num_predict, other.stop), (3, vec!["a".to_owned()]));
    }

    #[test]
    fn only_another_shape_loads_anew() {
        let shape = |options| read(options).unwrap().shape;
        let usual = shape(json!({}));
        for same in [json!({"num_ctx": 8192}), json!({"num_ctx": 99999}), json!({"temperature": 1})]
        {
            assert!(usual.serves(&shape(same)));
        }
        for other in [
            json!({"num_ctx": 4096}),
            json!({"num_gpu": 1}),
            json!({"main_gpu": 0}),
            json!({"use_mmap": false}),
            json!({"num_thread": 4}),
            json!({"num_batch": 256}),
        ] {
            assert!(!usual.serves(&shape(other.clone())), "{other}");
        }
        assert!(shape(json!({"num_gpu": 9})).serves(&usual));
        assert_eq!(shape(json!({"num_ctx": 1})).num_ctx, 4);
    }
}
