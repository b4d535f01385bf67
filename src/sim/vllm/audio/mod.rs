//! `POST /v1/audio/transcriptions` and `/v1/audio/translations`, as vLLM 0.32 answers them with a Whisper model.

mod form;
mod heard;
mod sound;

use self::form::Upload;
use self::heard::{AudioScript, Heard};
use self::sound::Sound;
use super::openai::StreamUsage;
use super::refusal::Refusal;
use super::schema::whole;
use crate::sim::call::{Call, Length};
use crate::sim::engine::{Finish, Job};
use crate::sim::reply::Reply;
use crate::sim::text::{Text, quoted};
use crate::sim::tokens;

/// Steps of sound in a second, each of them a token of the prompt: Whisper looks at it every 10 ms.
const STEPS_OF_A_SECOND: f64 = 100.0;

/// The language of a sound whose sender does not know it.
const LANGUAGE: &str = "en";

/// The languages of Whisper: those that it knows well, then the others.
const LANGUAGES: [&str; 2] = [
    "af ar hy az be bs bg ca zh hr cs da nl en et fi fr gl de el he hi hu is id it ja kn kk ko lv lt mk ms mr mi ne no \
     fa pl pt ro ru sr sk sl es sw sv tl ta th tr uk ur vi cy",
    "la ml te bn br eu mn sq pa si km sn yo so oc ka tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo mg as tt haw ln \
     ha ba jw su yue",
];

/// What is done with the words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// They are written down.
    Transcribe,
    /// They are written down in English.
    Translate,
}

/// Tells what it heard in an upload: how long it was, and a hash of its bytes.
///
/// # Errors
/// The request is refused.
pub(super) async fn answer(call: &Call, task: Task) -> Result<Reply, Refusal> {
    let upload = Upload::of(call, task).await?;
    let model = call.model(&upload.fields)?;
    let stream = upload.is_on("stream");
    let verbose = is_verbose(&upload, model.as_str(), stream)?;
    let language = upload.text("language").unwrap_or(LANGUAGE).to_owned();
    check_language(&language)?;
    let sound = Sound::in_file(&upload.file).ok_or_else(|| refused(
        "Invalid or corrupted audio data. Ensure the input is a valid audio or video file (e.g. a complete WAV, MP3, or MP4).",
    ))?;
    let Sound { container, seconds } = sound;
    let prompt = prompt(task, &language, &upload);
    let length = length(call, &upload, prompt.len())?;
    let said = format!("{} seconds of {container} {:016x}", seconds.ceil(), hash(&upload.file));
    let text = Text::answering(&said, length.tokens);
    let job = Job { prompt, answer: text.ids(length.tokens) };
    let flight = call.begin(&job);
    let heard = Heard {
        id: format!("{}-{}", task.name(), call.id()),
        prompt_tokens: job.prompt.len() + (seconds * STEPS_OF_A_SECOND).ceil() as usize,
        temperature: upload.text("temperature").and_then(|text| text.parse().ok()).unwrap_or(0.0),
        model: quoted(model.as_str()),
        task,
        language,
        seconds,
        text,
        length,
    };
    if stream {
        return Ok(call.stream(flight, AudioScript::new(heard, usage(&upload))));
    }
    let tokens = length.tokens;
    Ok(call.whole(flight, length, tokens, |_| heard.whole(verbose, &job.answer)).await?)
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::Transcribe => "transcribe",
            Self::Translate => "translate",
        }
    }

    /// `object` of an event.
    fn object(self) -> &'static str {
        match self {
            Self::Transcribe => "transcription.chunk",
            Self::Translate => "translation.chunk",
        }
    }
}

/// Whether more than the text is asked for.
///
/// # Errors
/// The format is one that vLLM knows by name alone.
fn is_verbose(upload: &Upload, model: &str, stream: bool) -> Result<bool, Refusal> {
    match upload.text("response_format") {
        Some("srt" | "vtt") => Err(refused(
            "Currently only support response_format: `text`, `json`, `verbose_json` or `diarized_json`",
        )),
        Some("diarized_json") => {
            Err(refused(format!("Currently do not support diarized_json for {model}")))
        }
        Some("verbose_json") if stream => {
            Err(refused("verbose_json format doesn't support streaming case"))
        }
        format => Ok(format == Some("verbose_json")),
    }
}

fn check_language(language: &str) -> Result<(), Refusal> {
    if LANGUAGES.iter().any(|codes| codes.split(' ').any(|code| code == language)) {
        return Ok(());
    }
    let codes: Vec<_> = LANGUAGES[0].split(' ').map(|code| format!("'{code}'")).collect();
    let codes = codes.join(", ");
    Err(refused(format!("Unsupported language: '{language}'.  Must be one of [{codes}].")))
}

/// The marks that tell Whisper what to do, after what the sender says of the sound.
fn prompt(task: Task, language: &str, upload: &Upload) -> Vec<u32> {
    let (language, task) = (format!("<|{language}|>"), format!("<|{}|>", task.name()));
    let marks = ["<|startoftranscript|>", &language, &task, "<|notimestamps|>"];
    let before =
        upload.text("prompt").map(|said| ["<|prev|>"].into_iter().chain(tokens::split(said)));
    tokens::ids(before.into_iter().flatten().chain(marks))
}

fn length(call: &Call, upload: &Upload, prompt: usize) -> Result<Length, Refusal> {
    call.length(None, prompt)?;
    let room = (call.node.max_model_len - prompt).max(1);
    let named = upload.fields.get("max_completion_tokens").and_then(whole);
    match named.map(usize::try_from) {
        None => Ok(call.own_length(room)),
        Some(Ok(tokens @ 1..)) => Ok(Length { tokens: tokens.min(room), finish: Finish::Length }),
        Some(_) => call.length(named, prompt),
    }
}

fn usage(upload: &Upload) -> StreamUsage {
    let (last, each) = ("stream_include_usage", "stream_continuous_usage_stats");
    match (upload.is_on(last), upload.is_on(each)) {
        (false, _) => StreamUsage::Never,
        (true, false) => StreamUsage::Last,
        (true, true) => StreamUsage::Each,
    }
}

fn refused(says: impl Into<String>) -> Refusal {
    Refusal::Value { says: says.into(), param: None }
}

/// FNV-1a over words of 8 bytes: whoever changes one byte changes the answer.
fn hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0100_0000_01b3);
    let (words, rest) = bytes.as_chunks();
    let hash =
        words.iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(mix(hash, bytes.len() as u64), |hash, byte| mix(hash, u64::from(*byte)))
}
