//! The form of an upload, read as FastAPI reads it for vLLM 0.32.

use std::convert::Infallible;
use std::future::ready;

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use multer::Multipart;
use serde_json::{Map, Value, json};

use super::Task;
use crate::sim::call::Call;
use crate::sim::vllm::refusal::Refusal;
use crate::sim::vllm::schema::{Field, Kind, form_of, switch};

/// Fields of one form: Starlette's bound.
const FIELDS_MAX: usize = 1_000;

const FORMATS: &[&str] = &["json", "text", "srt", "verbose_json", "vtt"];

const TRANSCRIPTION: &[Field] = &[
    Field::needed("file", Kind::Any),
    Field::given("model", Kind::Text),
    Field::given("response_format", Kind::OneOf(&[FORMATS, &["diarized_json"]])),
    Field::given("timestamp_granularities[]", Kind::EachOneOf(&["word", "segment"])),
    Field::given("stream", Kind::Switch),
    Field::given("stream_include_usage", Kind::Switch),
    Field::given("stream_continuous_usage_stats", Kind::Switch),
    Field::given("temperature", Kind::Number),
    Field::given("max_completion_tokens", Kind::Whole(i64::MIN)),
];

const TRANSLATION: &[Field] = &[
    Field::needed("file", Kind::Any),
    Field::given("model", Kind::Text),
    Field::given("response_format", Kind::OneOf(&[FORMATS])),
    Field::given("temperature", Kind::Number),
    Field::given("stream", Kind::Switch),
    Field::given("stream_include_usage", Kind::Switch),
    Field::given("stream_continuous_usage_stats", Kind::Switch),
    Field::given("max_completion_tokens", Kind::Whole(i64::MIN)),
];

/// An upload with its fields.
pub(super) struct Upload {
    /// The sound.
    pub(super) file: Bytes,
    /// Every other field as text, and what was left out as vLLM has it then.
    pub(super) fields: Value,
}

impl Upload {
    /// The upload in the body of `call`.
    ///
    /// # Errors
    /// It is no form, or a field is missing or no good.
    pub(super) async fn of(call: &Call, task: Task) -> Result<Self, Refusal> {
        let (mut fields, mut file) = (left_out(task), None);
        for (name, content) in parts(call).await? {
            match content {
                Content::File(bytes) => drop(file.replace(bytes)),
                Content::Text(text) if name.ends_with("[]") => {
                    if let Some(list) = fields.entry(name).or_insert(json!([])).as_array_mut() {
                        list.push(text.into());
                    }
                }
                Content::Text(text) => drop(fields.insert(name, text.into())),
            }
        }
        let fields = Value::from(fields);
        check_options(&fields)?;
        let form = if task == Task::Transcribe { TRANSCRIPTION } else { TRANSLATION };
        match file {
            Some(file) => {
                form_of(&fields, &[&form[1..]])?;
                Ok(Self { file, fields })
            }
            None => Err(form_of(&fields, &[form]).err().unwrap_or(Refusal::NoBody)),
        }
    }

    /// A field's text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Whether a field is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.fields.get(name).and_then(switch).unwrap_or(false)
    }
}

enum Content {
    /// It came with a file's name.
    File(Bytes),
    Text(String),
}

/// Every part of the form; none where the body is no form at all.
async fn parts(call: &Call) -> Result<Vec<(String, Content)>, Refusal> {
    const BROKEN: Refusal = Refusal::Detail("Invalid multipart data.");
    let content_type = call.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    if !content_type.starts_with("multipart/form-data") || call.body.is_empty() {
        return Ok(Vec::new());
    }
    let boundary = multer::parse_boundary(content_type)
        .map_err(|_| Refusal::Detail("Missing boundary in multipart."))?;
    let whole = stream::once(ready(Ok::<_, Infallible>(call.body.clone())));
    let (mut form, mut parts) = (Multipart::new(whole, boundary), Vec::new());
    while let Some(field) = form.next_field().await.map_err(|_| BROKEN)? {
        if parts.len() == FIELDS_MAX {
            return Err(Refusal::Detail("Too many fields. Maximum number of fields is 1000."));
        }
        let name = field.name().unwrap_or_default().to_owned();
        let is_file = field.file_name().is_some();
        let bytes = field.bytes().await.map_err(|_| BROKEN)?;
        let content = match is_file {
            true if name == "file" => Content::File(bytes),
            _ => Content::Text(String::from_utf8_lossy(&bytes).into_owned()),
        };
        parts.push((name, content));
    }
    Ok(parts)
}

/// The fields that have a value also when nobody gave one.
fn left_out(task: Task) -> Map<String, Value> {
    let (off, zero) = (json!(false), json!(0.0));
    let fields = [
        ("prompt", json!("")),
        ("response_format", json!("json")),
        ("stream", off.clone()),
        ("stream_include_usage", off.clone()),
        ("stream_continuous_usage_stats", off.clone()),
        ("use_beam_search", off.clone()),
        ("n", json!(1)),
        ("length_penalty", json!(1.0)),
        ("include_stop_str_in_output", off),
        ("temperature", zero.clone()),
        ("frequency_penalty", zero.clone()),
        ("presence_penalty", zero),
    ];
    let granularities = ("timestamp_granularities[]", json!([]));
    let also = (task == Task::Transcribe).then_some(granularities);
    fields.into_iter().chain(also).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What vLLM looks at before anything else.
fn check_options(fields: &Value) -> Result<(), Refusal> {
    if fields.get("file").is_some() {
        return Err(Refusal::Other {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            kind: "Unprocessable Entity",
            says: "Expected 'file' to be a file-like object, not 'str'.".to_owned(),
            param: None,
        });
    }
    // Python takes any text for yes, `false` among them.
    let is_given = |name: &str| match &fields[name] {
        Value::String(text) => !text.is_empty(),
        other => other == &Value::Bool(true),
    };
    let mut options = ["stream_include_usage", "stream_continuous_usage_stats"].into_iter();
    match options.find(|name| is_given(name)) {
        Some(option) if !is_given("stream") => {
            let says = format!(
                "Stream options can only be defined when `stream=True`. (parameter={option})"
            );
            Err(Refusal::value(option, says))
        }
        _ => Ok(()),
    }
}
