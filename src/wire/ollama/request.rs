//! Requests: from OpenAI's API to Ollama's own.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Fields, Object, is_text, refused, switch, wrong};
use super::messages::{self, Message};
use super::{Asked, Call, Shape, keep_alive, options, tools};
use crate::refusal::Refusal;

/// What the body may become longer by, in bytes, before it needs memory of its own: names of fields, and defaults.
const ADDED_BYTES: usize = 256;

/// The end of a sentence on several of what Ollama does once.
const SEVERAL: &str = "Send a request for each.";

/// Translates `body`. What loads a model anew, lets go of it or keeps it for ever is taken only where `load_options` names it.
///
/// # Errors
/// A field has no twin and changes the answer, cannot be read, or may not be set: 400.
pub fn request(call: Call, body: &[u8], load_options: &[String]) -> Result<Asked, Refusal> {
    let fields = Fields::read(body)?;
    refuse_unsupported(&fields)?;
    let stream = call != Call::Embedding && fields.flag("stream")?;
    let mut native = Object::with_capacity(body.len() + ADDED_BYTES);
    native.pass("model", &fields);
    match call {
        Call::Chat => chat(&fields, &mut native)?,
        Call::Completion => completion(&fields, &mut native)?,
        Call::Embedding => embedding(&fields, &mut native)?,
    }
    if call != Call::Embedding {
        // Ollama's own API streams unless it is told not to.
        native.put("stream", &stream);
        think(&fields, &mut native)?;
        format(&fields, &mut native)?;
    }
    let options = options::of(call, &fields, load_options)?;
    if !options.is_empty() {
        native.put("options", &options);
    }
    keep_alive::check(&fields, load_options)?;
    native.pass("keep_alive", &fields);
    let usage = stream && include_usage(&fields)?;
    let base64 = call == Call::Embedding && base64(&fields)?;
    let model = fields.get("model").filter(|model| is_text(model)).map_or("\"\"", RawValue::get);
    let answer = Shape { call, stream, usage, base64, model: model.into() };
    Ok(Asked { body: native.close(), answer })
}

fn chat(fields: &Fields<'_>, native: &mut Object) -> Result<(), Refusal> {
    let messages: Vec<Message<'_>> = fields.read_as("messages")?.unwrap_or_default();
    if messages.is_empty() {
        // Ollama would load the model, or let go of it, and say nothing.
        return Err(wrong("messages", "at least one message is needed"));
    }
    native.put("messages", &messages::turns(messages)?);
    let tools = tools::offered(fields)?;
    if !tools.is_empty() {
        native.put("tools", &tools);
    }
    if fields.flag("logprobs")? {
        native.put("logprobs", &true);
        native.pass("top_logprobs", fields);
    }
    Ok(())
}

fn completion(fields: &Fields<'_>, native: &mut Object) -> Result<(), Refusal> {
    let prompt = prompt(fields)?;
    if prompt.get() == "\"\"" {
        // As without messages: Ollama would only load the model, or let go of it.
        return Err(wrong("prompt", "it is empty"));
    }
    native.put("prompt", prompt);
    for name in ["suffix", "system", "template", "raw"] {
        native.pass(name, fields);
    }
    // The number of others beside each token; with none of them, its own probability is told.
    if let Some(others) = fields.number("logprobs")? {
        native.put("logprobs", &true);
        native.put("top_logprobs", others);
    }
    Ok(())
}

/// The one text that a completion goes on from, as it stands.
fn prompt<'a>(fields: &Fields<'a>) -> Result<&'a RawValue, Refusal> {
    let Some(value) = fields.get("prompt") else {
        return Err(wrong("prompt", "it is missing"));
    };
    if is_text(value) {
        return Ok(value);
    }
    match texts(fields, "prompt")?.as_slice() {
        [one] => Ok(*one),
        [] => Err(wrong("prompt", "the list is empty")),
        _ => {
            let message = format!("This model completes one prompt at a time. {SEVERAL}");
            Err(refused("unsupported_parameter", "prompt", message))
        }
    }
}

fn embedding(fields: &Fields<'_>, native: &mut Object) -> Result<(), Refusal> {
    let Some(input) = fields.get("input") else {
        return Err(wrong("input", "it is missing"));
    };
    if !is_text(input) && texts(fields, "input")?.is_empty() {
        return Err(wrong("input", "the list is empty"));
    }
    native.put("input", input);
    native.pass("dimensions", fields);
    native.pass("truncate", fields);
    Ok(())
}

/// A list of texts: of token ids Ollama knows nothing.
fn texts<'a>(fields: &Fields<'a>, name: &'static str) -> Result<Vec<&'a RawValue>, Refusal> {
    let items: Vec<&RawValue> = fields.read_as(name)?.unwrap_or_default();
    if items.iter().all(|item| is_text(item)) {
        return Ok(items);
    }
    let message = format!("`{name}` must be text: this model takes no token ids.");
    Err(refused("unsupported_parameter", name, message))
}

/// How much the model is to think. Levels that Ollama does not have are the nearest that it has.
fn think(fields: &Fields<'_>, native: &mut Object) -> Result<(), Refusal> {
    #[derive(Deserialize)]
    struct Reasoning<'a> {
        #[serde(borrow)]
        effort: Option<Cow<'a, str>>,
    }
    let reasoning: Option<Reasoning<'_>> = fields.read_as("reasoning")?;
    let effort = match reasoning.and_then(|reasoning| reasoning.effort) {
        Some(effort) => Some(effort),
        None => fields.read_as("reasoning_effort")?,
    };
    let level = match effort.as_deref() {
        None => {
            native.pass("think", fields);
            return Ok(());
        }
        Some("none") => {
            native.put("think", &false);
            return Ok(());
        }
        Some("minimal" | "low") => "low",
        Some("medium") => "medium",
        Some("high") => "high",
        Some("xhigh" | "ultra" | "max") => "max",
        Some(_) => {
            let why = "it is `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `ultra` or `max`";
            return Err(wrong("reasoning_effort", why));
        }
    };
    native.put("think", &level);
    Ok(())
}

/// The form of the answer: JSON, or JSON of a schema.
fn format(fields: &Fields<'_>, native: &mut Object) -> Result<(), Refusal> {
    #[derive(Deserialize)]
    struct Format<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        json_schema: Option<Schema<'a>>,
    }
    #[derive(Deserialize)]
    struct Schema<'a> {
        #[serde(borrow)]
        schema: Option<&'a RawValue>,
    }
    const NAME: &str = "response_format";
    let Some(Format { kind, json_schema }) = fields.read_as(NAME)? else {
        native.pass("format", fields);
        return Ok(());
    };
    match (kind.as_ref(), json_schema.and_then(|of| of.schema)) {
        ("text", _) => {}
        ("json_object", _) => native.put("format", &"json"),
        ("json_schema", Some(schema)) => native.put("format", schema),
        ("json_schema", None) => return Err(wrong(NAME, "`json_schema.schema` is missing")),
        _ => return Err(wrong(NAME, "its type is `text`, `json_object` or `json_schema`")),
    }
    Ok(())
}

/// Whether a stream is to tell of usage.
fn include_usage(fields: &Fields<'_>) -> Result<bool, Refusal> {
    #[derive(Deserialize)]
    struct Options<'a> {
        #[serde(borrow)]
        include_usage: Option<&'a RawValue>,
    }
    const NAME: &str = "stream_options";
    let options: Option<Options<'_>> = fields.read_as(NAME)?;
    options.and_then(|options| options.include_usage).map_or(Ok(false), |value| switch(value, NAME))
}

/// Whether vectors are wanted in base64.
fn base64(fields: &Fields<'_>) -> Result<bool, Refusal> {
    const NAME: &str = "encoding_format";
    match fields.read_as::<Cow<'_, str>>(NAME)?.as_deref() {
        None | Some("float") => Ok(false),
        Some("base64") => Ok(true),
        Some(_) => Err(wrong(NAME, "it is `float` or `base64`")),
    }
}

/// What changes the answer, and has no twin.
fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), Refusal> {
    let refuse = |name, what: &str, instead: &str| {
        let message = format!("This model {what}. {instead}");
        Err(refused("unsupported_parameter", name, message))
    };
    for name in ["n", "best_of"] {
        if fields.number(name)?.is_some_and(|count| count.get() != "1") {
            return refuse(name, "gives one answer at a time", SEVERAL);
        }
    }
    if fields.flag("echo")? {
        return refuse("echo", "does not repeat its prompt", "Leave `echo` out.");
    }
    if fields.get("functions").is_some() {
        return refuse("functions", "is offered tools", "Use `tools` instead.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn asked(call: Call, body: &Value) -> Result<(Value, Shape), Refusal> {
        let body = body.to_string();
        let Asked { body, answer } = request(call, body.as_bytes(), &["num_ctx".to_owned()])?;
        Ok((serde_json::from_slice(&body).unwrap(), answer))
    }

    /// What a chat with these fields becomes, but for what every chat has.
    fn chat(fields: Value) -> Value {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (mut body, _) = asked(Call::Chat, &body).unwrap();
        let native = body.as_object_mut().unwrap();
        native.retain(|name, _| name != "model" && name != "messages");
        native.retain(|name, value| name != "stream" || value != false);
        native.retain(|name, value| {
            name != "options" || *value != json!({"temperature": 1.0, "top_p": 1.0})
        });
        body
    }

    /// The messages that these become.
    fn turns(messages: Value) -> Value {
        asked(Call::Chat, &json!({"messages": messages})).unwrap().0["messages"].clone()
    }

    /// Code and field of the refusal.
    fn refused(call: Call, fields: Value) -> (&'static str, &'static str) {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "input": "Hi"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        match asked(call, &body) {
            Err(Refusal::Malformed { code, param: Some(param), .. }) => (code, param),
            other => panic!("{fields}: {other:?}"),
        }
    }

    #[test]
    fn a_chat_says_all_that_it_said_and_that_it_wants_no_stream() {
        let (native, shape) = asked(
            Call::Chat,
            &json!({
                "model": "qwen3:8b", "stream": true, "stream_options": {"include_usage": 1},
                "messages": [{"role": "developer", "content": "Кратко"}, {"role": "user", "content": "Hi\n"}],
                "temperature": 0.2, "top_p": 0.9, "seed": 7, "stop": "\n\n", "max_tokens": 9, "max_completion_tokens": 64,
                "frequency_penalty": 0.5, "presence_penalty": -0.5, "top_k": 5, "min_p": 0.1, "typical_p": 0.2,
                "repetition_penalty": 1.1, "repeat_last_n": 8, "user": "u", "logit_bias": {"1": 2}, "store": false,
                "metadata": {}, "parallel_tool_calls": true, "n": 1, "logprobs": true, "top_logprobs": 2,
                "keep_alive": "10m", "reasoning_effort": "minimal", "response_format": {"type": "json_object"},
            }),
        )
        .unwrap();
        let wanted = json!({
            "stream": true, "model": "qwen3:8b",
            "messages": [{"role": "system", "content": "Кратко"}, {"role": "user", "content": "Hi\n"}],
            "logprobs": true, "top_logprobs": 2, "think": "low", "format": "json", "keep_alive": "10m",
            "options": {
                "temperature": 0.2, "top_p": 0.9, "seed": 7, "stop": ["\n\n"], "num_predict": 64,
                "frequency_penalty": 0.5, "presence_penalty": -0.5, "top_k": 5, "min_p": 0.1, "typical_p": 0.2,
                "repeat_penalty": 1.1, "repeat_last_n": 8,
            },
        });
        assert_eq!(native, wanted);
        assert!(shape.stream && shape.usage);
        let (least, shape) =
            asked(Call::Chat, &json!({"messages": [{"role": "user", "content": "Hi"}]})).unwrap();
        let wanted = json!({
            "stream": false, "messages": [{"role": "user", "content": "Hi"}],
            "options": {"temperature": 1.0, "top_p": 1.0},
        });
        assert_eq!((least, shape.stream, shape.usage), (wanted, false, false));
    }

    #[test]
    fn a_switch_is_read_as_vllm_reads_it() {
        assert_eq!(chat(json!({"stream": "yes"})), json!({"stream": true}));
        assert_eq!(chat(json!({"stream": null, "logprobs": 0})), json!({}));
        assert_eq!(refused(Call::Chat, json!({"stream": "x"})), ("invalid_parameter", "stream"));
    }

    #[test]
    fn what_openai_has_a_field_for_counts_before_the_option() {
        let options = |fields| chat(fields)["options"].clone();
        let both = json!({"options": {"temperature": 0.1, "seed": 1, "num_ctx": 8192, "num_keep": null}, "seed": 2});
        let wanted = json!({"temperature": 0.1, "top_p": 1.0, "seed": 2, "num_ctx": 8192});
        assert_eq!(options(both), wanted);
        assert_eq!(options(json!({"stop": ["a", "b"]}))["stop"], json!(["a", "b"]));
        for fields in [json!({"options": {"num_gpu": 1}}), json!({"options": {"NUM_CTX": 1}})] {
            assert_eq!(refused(Call::Chat, fields.clone()), ("option_not_allowed", "options"));
            assert_eq!(refused(Call::Embedding, fields), ("option_not_allowed", "options"));
        }
    }

    #[test]
    fn no_escape_hides_a_name() {
        for odd in [r#""options":{"num\u005fbatch":1}"#, r#""keep\u005falive":0"#] {
            let body = format!(r#"{{"input":"Hi",{odd}}}"#);
            let refusal = request(Call::Embedding, body.as_bytes(), &[]).unwrap_err();
            assert_eq!(refusal.code(), "option_not_allowed", "{odd}");
        }
    }

    #[test]
    fn thinking_has_the_levels_of_ollama() {
        for (fields, think) in [
            (json!({"reasoning_effort": "none"}), json!(false)),
            (json!({"reasoning_effort": "xhigh"}), json!("max")),
            (json!({"reasoning": {"effort": "high"}, "reasoning_effort": "low"}), json!("high")),
            (json!({"reasoning": {"summary": "auto"}, "think": true}), json!(true)),
            (json!({"think": "medium", "reasoning_effort": "low"}), json!("low")),
        ] {
            assert_eq!(chat(fields)["think"], think);
        }
        let odd = refused(Call::Chat, json!({"reasoning_effort": "much"}));
        assert_eq!(odd, ("invalid_parameter", "reasoning_effort"));
    }

    #[test]
    fn a_schema_is_the_format() {
        let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
        let format = |format: Value| chat(json!({"response_format": format}))["format"].clone();
        let named = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
        assert_eq!(format(named), schema);
        assert_eq!(chat(json!({"response_format": {"type": "text"}, "format": "json"})), json!({}));
        assert_eq!(chat(json!({"format": schema})), json!({"format": schema}));
        for odd in [json!({"type": "json_schema"}), json!({"type": "xml"}), json!("json")] {
            let odd = refused(Call::Chat, json!({"response_format": odd}));
            assert_eq!(odd, ("invalid_parameter", "response_format"));
        }
    }

    #[test]
    fn a_choice_of_tools_is_made_by_what_is_offered() {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"z": 1, "a": 2}}});
        let tools = json!([tool("one"), tool("two")]);
        let offered = |choice: Value| chat(json!({"tools": tools, "tool_choice": choice}));
        for all in [json!(null), json!("auto"), json!("required")] {
            assert_eq!(offered(all), json!({"tools": tools}));
        }
        assert_eq!(offered(json!("none")), json!({}));
        let named = json!({"type": "function", "function": {"name": "two"}});
        assert_eq!(offered(named), json!({"tools": [tool("two")]}));
        for odd in [json!("any"), json!({"function": {"name": "three"}}), json!(7)] {
            let odd = refused(Call::Chat, json!({"tools": tools, "tool_choice": odd}));
            assert_eq!(odd, ("invalid_parameter", "tool_choice"));
        }
    }

    #[test]
    fn a_message_stays_one_message() {
        let messages = json!([
            {"role": "user", "content": [
                {"type": "text", "text": "Что"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
                {"type": "text", "text": "на \"фото\"?"},
                {"type": "image_url", "image_url": "data:;base64,REVG"},
            ]},
            {"role": "assistant", "content": null, "reasoning": "Hm", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Москва\"}"}},
                {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "call_2", "content": "12:00"},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "+3"}]},
            {"role": "function", "name": "old", "content": "7"},
            {"role": "user", "name": "Ann", "content": ""},
        ]);
        let wanted = json!([
            {"role": "user", "content": "Что\nна \"фото\"?", "images": ["QUJD", "REVG"]},
            {"role": "assistant", "content": "", "thinking": "Hm", "tool_calls": [
                {"id": "call_1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Москва"}}},
                {"id": "call_2", "function": {"index": 1, "name": "time", "arguments": {}}},
            ]},
            {"role": "tool", "content": "12:00", "tool_name": "time", "tool_call_id": "call_2"},
            {"role": "tool", "content": "+3", "tool_name": "weather", "tool_call_id": "call_1"},
            {"role": "tool", "content": "7", "tool_name": "old"},
            {"role": "user", "content": ""},
        ]);
        assert_eq!(turns(messages), wanted);
    }

    #[test]
    fn a_text_passes_as_it_stands() {
        let body =
            r#"{"messages":[{"role":"user","content":"\u003cb\u003e \ud83d"}],"model":"a\/b"}"#;
        let native = request(Call::Chat, body.as_bytes(), &[]).unwrap().body;
        let native = String::from_utf8(native).unwrap();
        assert!(native.contains(r#""content":"\u003cb\u003e \ud83d""#), "{native}");
        assert!(native.contains(r#""model":"a\/b""#), "{native}");
    }

    #[test]
    fn what_no_message_can_say_is_refused() {
        let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
        for content in [
            part(json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})),
            part(json!({"type": "image_url", "image_url": {"url": "data:image/png,abc"}})),
            part(json!({"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}})),
            part(json!({"type": "file", "file": {}})),
        ] {
            assert_eq!(refused(Call::Chat, content), ("unsupported_content", "messages"));
        }
        let called = json!({"function": {"name": "f", "arguments": "[1]"}});
        for messages in [
            json!([]),
            json!("Hi"),
            json!([{"content": "Hi"}]),
            json!([{"role": "user", "content": 7}]),
            json!([{"role": "assistant", "tool_calls": [called]}]),
        ] {
            let odd = refused(Call::Chat, json!({"messages": messages}));
            assert_eq!(odd, ("invalid_parameter", "messages"));
        }
    }

    #[test]
    fn a_completion_goes_on_from_one_text() {
        let (native, shape) = asked(
            Call::Completion,
            &json!({"model": "m", "prompt": ["Once"], "suffix": "end", "raw": true, "system": "s", "template": "t", "logprobs": 0, "max_tokens": 5}),
        )
        .unwrap();
        let wanted = json!({
            "stream": false, "model": "m", "prompt": "Once", "suffix": "end", "raw": true, "system": "s", "template": "t",
            "logprobs": true, "top_logprobs": 0,
            "options": {"num_predict": 5, "temperature": 1.0, "top_p": 1.0},
        });
        assert_eq!((native, shape.call), (wanted, Call::Completion));
        for (fields, odd) in [
            (json!({"prompt": ["a", "b"]}), ("unsupported_parameter", "prompt")),
            (json!({"prompt": [1, 2]}), ("unsupported_parameter", "prompt")),
            (json!({"prompt": [[1, 2]]}), ("unsupported_parameter", "prompt")),
            (json!({"prompt": []}), ("invalid_parameter", "prompt")),
            (json!({"prompt": ""}), ("invalid_parameter", "prompt")),
            (json!({"prompt": [""], "suffix": "end"}), ("invalid_parameter", "prompt")),
            (json!({"prompt": null}), ("invalid_parameter", "prompt")),
            (json!({"n": 2}), ("unsupported_parameter", "n")),
            (json!({"best_of": 2}), ("unsupported_parameter", "best_of")),
            (json!({"echo": true}), ("unsupported_parameter", "echo")),
            (json!({"functions": []}), ("unsupported_parameter", "functions")),
            (json!({"max_tokens": "5"}), ("invalid_parameter", "max_tokens")),
            (json!({"stop": 5}), ("invalid_parameter", "stop")),
            (json!({"stop": [5]}), ("invalid_parameter", "stop")),
        ] {
            assert_eq!(refused(Call::Completion, fields), odd);
        }
    }

    #[test]
    fn texts_become_vectors_with_nothing_of_sampling() {
        for input in [json!("a"), json!(["a", "b"])] {
            let body = json!({"model": "m", "input": input, "encoding_format": "base64", "dimensions": 8, "user": "u", "keep_alive": "5m"});
            let (native, shape) = asked(Call::Embedding, &body).unwrap();
            let wanted = json!({"model": "m", "input": input, "dimensions": 8, "keep_alive": "5m"});
            assert_eq!((native, shape.base64), (wanted, true));
        }
        for (fields, odd) in [
            (json!({"input": [1, 2]}), ("unsupported_parameter", "input")),
            (json!({"input": []}), ("invalid_parameter", "input")),
            (json!({"input": {}}), ("invalid_parameter", "input")),
            (json!({"encoding_format": "int8"}), ("invalid_parameter", "encoding_format")),
            (json!({"keep_alive": 0}), ("option_not_allowed", "keep_alive")),
        ] {
            assert_eq!(refused(Call::Embedding, fields), odd);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..60)) {
            for call in [Call::Chat, Call::Completion, Call::Embedding] {
                let _ = request(call, &body, &[]);
            }
        }

        #[test]
        fn whatever_is_taken_becomes_json(name in "messages|prompt|input|stop|tools|options|think|content", value in "[\\[\\]{}\":,a-c0-9 ]{0,12}") {
            let body = format!(r#"{{"messages":[{{"role":"user"}}],"prompt":"a","input":"a","{name}":{value}}}"#);
            for call in [Call::Chat, Call::Completion, Call::Embedding] {
                if let Ok(asked) = request(call, body.as_bytes(), &[]) {
                    prop_assert!(serde_json::from_slice::<Value>(&asked.body).is_ok(), "{}", body);
                }
            }
        }
    }
}
