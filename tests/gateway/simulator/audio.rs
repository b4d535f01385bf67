//! Uploads of sound. The node of the samples has no model that hears: names, types and order of fields are those of vLLM
//! 0.32's `speech_to_text/*/protocol.py`, refusals what its routers answer.

use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::support::{Node, timeless};

const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";
const TRANSLATIONS: &str = "/v1/audio/translations";

/// A WAV of 8,000 samples a second, 2 bytes each.
fn wave(bytes: u32) -> Vec<u8> {
    let mut file =
        b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data"
            .to_vec();
    file.extend(bytes.to_le_bytes());
    file.extend((0..bytes).map(|place| (place / 7) as u8));
    file
}

fn sound(file: Vec<u8>) -> Form {
    Form::new().part("file", Part::bytes(file).file_name("a.wav").mime_str("audio/wav").unwrap())
}

async fn upload(node: &Node, path: &str, form: Form) -> reqwest::Response {
    let request = node.client.post(node.url(path)).header("x-request-id", "ID");
    request.multipart(form).send().await.unwrap()
}

async fn told(node: &Node, path: &str, form: Form) -> String {
    timeless(&upload(node, path, form).await.text().await.unwrap())
}

#[tokio::test]
async fn a_transcription_tells_its_text_and_its_seconds() {
    let node = Node::start().await;
    let form = || sound(wave(24_000)).text("model", "sim-llama").text("max_completion_tokens", "7");
    for format in ["json", "text"] {
        let reply = upload(&node, TRANSCRIPTIONS, form().text("response_format", format)).await;
        assert_eq!(reply.headers()["content-type"], "application/json");
        assert_eq!(
            reply.text().await.unwrap(),
            r#"{"text":"You said: 2 seconds of wav","usage":{"type":"duration","seconds":2}}"#
        );
    }
    assert_eq!(told(&node, TRANSLATIONS, form()).await, r#"{"text":"You said: 2 seconds of wav"}"#);
    assert_eq!(node.sim.counts().finished, 3);
    let heard = async |file| told(&node, TRANSCRIPTIONS, sound(file)).await;
    let mut other = wave(24_000);
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(heard(wave(24_000)).await, heard(wave(24_000)).await);
    assert_ne!(heard(wave(24_000)).await, heard(other).await);
}

#[tokio::test]
async fn a_verbose_transcription_has_segments() {
    let node = Node::start().await;
    for path in [TRANSCRIPTIONS, TRANSLATIONS] {
        let form = sound(wave(24_000)).text("response_format", "verbose_json");
        let form = form.text("language", "de").text("max_completion_tokens", "1");
        let told = told(&node, path, form.text("temperature", "0.5")).await;
        let answer: Value = told.parse().unwrap();
        let ids = &answer["segments"][0]["tokens"];
        assert_eq!(
            told,
            format!(
                r#"{{"duration":1.5,"language":"de","text":"You","segments":[{{"id":0,"avg_logprob":0.0,"compression_ratio":1.0,"end":1.5,"no_speech_prob":null,"seek":0,"start":0.0,"temperature":0.5,"text":"You","tokens":{ids}}}],"words":null}}"#
            )
        );
    }
}

#[tokio::test]
async fn a_transcription_is_streamed_word_for_word() {
    let node = Node::start().await;
    for (path, object, id) in [
        (TRANSCRIPTIONS, "transcription.chunk", "transcribe-ID"),
        (TRANSLATIONS, "translation.chunk", "translate-ID"),
    ] {
        let form = || sound(wave(24_000)).text("stream", "true").text("max_completion_tokens", "2");
        let head = format!(
            r#"data: {{"id":"{id}","object":"{object}","created":0,"model":"sim-llama","choices":["#
        );
        let first = r#"{"delta":{"content":"You"}}]"#;
        let second =
            r#"{"delta":{"content":" said"},"finish_reason":"length","stop_reason":null}]"#;
        let reply = upload(&node, path, form()).await;
        assert_eq!(reply.headers()["content-type"], "text/event-stream; charset=utf-8");
        let plain = format!("{head}{first}}}\n\n{head}{second}}}\n\ndata: [DONE]\n\n");
        assert_eq!(timeless(&reply.text().await.unwrap()), plain);

        let form = form().text("stream_include_usage", "true");
        let form = form.text("stream_continuous_usage_stats", "true");
        let usage = |prompt: u64, answer: u64| {
            format!(
                r#","usage":{{"prompt_tokens":{prompt},"total_tokens":{},"completion_tokens":{answer}}}}}"#,
                prompt + answer
            )
        };
        // Four marks tell Whisper what to do, and it looks at the sound every 10 ms.
        let (one, two) = (usage(154, 1), usage(154, 2));
        let counted = format!(
            "{head}{first}{one}\n\n{head}{second}{two}\n\n{head}]{two}\n\ndata: [DONE]\n\n"
        );
        assert_eq!(told(&node, path, form).await, counted);
    }
}

#[tokio::test]
async fn an_upload_of_30_mb_is_heard_to_its_end() {
    let node = Node::start().await;
    for path in [TRANSCRIPTIONS, TRANSLATIONS] {
        let form = sound(wave(30 << 20)).text("response_format", "verbose_json");
        let answer: Value = told(&node, path, form).await.parse().unwrap();
        assert_eq!(answer["duration"], 1966.08);
    }
}

#[tokio::test]
async fn what_cannot_be_heard_is_told_in_vllms_words() {
    let node = Node::start().await;
    let any = || sound(wave(16));
    for (status, form, wanted) in [
        (
            400,
            Form::new().text("model", "sim-llama"),
            r#"{"error":{"message":"1 validation error:\n  {'type': 'missing', 'loc': 'body.file', 'msg': 'Field required', 'input': '<dict of 14 items>'}","type":"Bad Request","param":"body.file","code":400}}"#,
        ),
        (
            422,
            Form::new().text("file", "no file"),
            r#"{"error":{"message":"Expected 'file' to be a file-like object, not 'str'.","type":"Unprocessable Entity","param":null,"code":422}}"#,
        ),
        (
            400,
            any().text("response_format", "srt"),
            r#"{"error":{"message":"Currently only support response_format: `text`, `json`, `verbose_json` or `diarized_json`","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            400,
            any().text("response_format", "xml"),
            r#"{"error":{"message":"2 validation errors:\n  {'type': 'literal_error', 'loc': 'body.response_format', 'msg': \"Input should be 'json', 'text', 'srt', 'verbose_json' or 'vtt'\", 'input': 'xml', 'ctx': {'expected': \"'json', 'text', 'srt', 'verbose_json' or 'vtt'\"}}\n  {'type': 'literal_error', 'loc': 'body.response_format', 'msg': \"Input should be 'diarized_json'\", 'input': 'xml', 'ctx': {'expected': \"'diarized_json'\"}}","type":"Bad Request","param":"body.response_format","code":400}}"#,
        ),
        (
            400,
            any().text("response_format", "verbose_json").text("stream", "1"),
            r#"{"error":{"message":"verbose_json format doesn't support streaming case","type":"BadRequestError","param":null,"code":400}}"#,
        ),
        (
            400,
            any()
                .text("timestamp_granularities[]", "word")
                .text("timestamp_granularities[]", "letter"),
            r#"{"error":{"message":"1 validation error:\n  {'type': 'literal_error', 'loc': 'body.1', 'msg': \"Input should be 'word' or 'segment'\", 'input': 'letter', 'ctx': {'expected': \"'word' or 'segment'\"}}","type":"Bad Request","param":"body.1","code":400}}"#,
        ),
        (
            400,
            any().text("stream_include_usage", "true"),
            r#"{"error":{"message":"Stream options can only be defined when `stream=True`. (parameter=stream_include_usage)","type":"BadRequestError","param":"stream_include_usage","code":400}}"#,
        ),
        (
            404,
            any().text("model", "nope"),
            r#"{"error":{"message":"The model `nope` does not exist. Valid aliases: sim-llama.","type":"NotFoundError","param":"model","code":404}}"#,
        ),
        (
            400,
            sound(b"just a text".to_vec()),
            r#"{"error":{"message":"Invalid or corrupted audio data. Ensure the input is a valid audio or video file (e.g. a complete WAV, MP3, or MP4).","type":"BadRequestError","param":null,"code":400}}"#,
        ),
    ] {
        let reply = upload(&node, TRANSCRIPTIONS, form).await;
        assert_eq!(
            (reply.status().as_u16(), reply.text().await.unwrap()),
            (status, wanted.to_owned())
        );
    }
    let language = told(&node, TRANSLATIONS, any().text("language", "xx")).await;
    assert!(
        language.contains("Unsupported language: 'xx'.  Must be one of ['af', 'ar', "),
        "{language}"
    );
}

#[tokio::test]
async fn a_body_that_is_no_form_is_refused() {
    let node = Node::start().await;
    for (content_type, body, wanted) in [
        ("multipart/form-data; boundary=X", "junk", r#"{"detail":"Invalid multipart data."}"#),
        ("multipart/form-data", "junk", r#"{"detail":"Missing boundary in multipart."}"#),
        (
            "application/json",
            "{}",
            r#"{"error":{"message":"1 validation error:\n  {'type': 'missing', 'loc': 'body.file', 'msg': 'Field required', 'input': '<dict of 12 items>'}","type":"Bad Request","param":"body.file","code":400}}"#,
        ),
    ] {
        let request = node.client.post(node.url(TRANSLATIONS)).body(body);
        let reply = request.header("content-type", content_type).send().await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), reply.text().await.unwrap()),
            (400, wanted.to_owned())
        );
    }
}
