//! What a request asks of the sampler: how many choices, where they stop, and what is told of their tokens.

use serde_json::Value;

use super::refusal::Refusal;
use super::request::{integer, is_on, number};
use super::said::Stops;

/// Choices of one request at most: far more than anyone shows, few enough to be counted. vLLM has no bound.
const CHOICES_MAX: usize = 128;

/// Tokens told of in the place of one at most: vLLM's `--max-logprobs`.
const LOGPROBS_MAX: i64 = 20;

/// Likelihoods in one answer: some seconds of work that nothing else of the node waits for, a hundred megabytes. vLLM has
/// no bound.
const LIKELIHOODS_MAX: usize = 200_000;

/// What a request asks of the sampler.
pub(super) struct Sampling {
    /// Answers to each prompt.
    pub(super) choices: usize,
    /// What ends an answer.
    pub(super) stops: Stops,
    /// What is told beside the text.
    pub(super) told: Told,
}

/// What is told of tokens beside their text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// How likely each token of the answer was, and so many that could have stood there.
    pub(super) logprobs: Option<usize>,
    /// The same of the prompt.
    pub(super) prompt_logprobs: Option<usize>,
    /// The ids of all tokens.
    pub(super) ids: bool,
}

impl Told {
    /// Refuses to tell more of so many tokens than anyone reads.
    ///
    /// # Errors
    /// It would be.
    pub(super) fn check(&self, tokens: usize) -> Result<(), Refusal> {
        let each = self.logprobs.map_or(0, |top| top + 1);
        match each.saturating_mul(tokens) {
            0..=LIKELIHOODS_MAX => Ok(()),
            all => Err(plain(format!(
                "The simulator tells of at most {LIKELIHOODS_MAX} likelihoods in one answer, not of {all}."
            ))),
        }
    }
}

impl Sampling {
    /// Reads `body`, of which `logprobs` is known: how likely the answer's tokens were means one thing in a chat and another
    /// elsewhere.
    ///
    /// # Errors
    /// No sampler can do that, told in vLLM's order.
    pub(super) fn of(body: &Value, logprobs: Option<i64>) -> Result<Self, Refusal> {
        let choices = choices(body)?;
        check(body)?;
        let prompt_logprobs = integer(body, "prompt_logprobs")?;
        let told = Told {
            logprobs: logprobs.map(|count| likely("sample", "logprobs", count)).transpose()?,
            prompt_logprobs: prompt_logprobs
                .map(|count| likely("prompt", "prompt_logprobs", count))
                .transpose()?,
            ids: is_on(body, "return_token_ids"),
        };
        let stops = stops(body)?;
        if choices > 1 && number(body, "temperature") == Some(0.0) {
            return Err(plain(format!("n must be 1 when using greedy sampling, got {choices}.")));
        }
        if choices > CHOICES_MAX {
            return Err(plain(format!("n must be at most {CHOICES_MAX}, got {choices}.")));
        }
        Ok(Self { choices, stops, told })
    }
}

/// The field `stop` of a body: a text or several.
///
/// # Errors
/// One is empty.
pub(super) fn stops(body: &Value) -> Result<Stops, Refusal> {
    let texts = match body.get("stop") {
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(stops)) => {
            stops.iter().filter_map(|stop| Some(stop.as_str()?.to_owned())).collect()
        }
        _ => Vec::new(),
    };
    stops_of(texts, is_on(body, "include_stop_str_in_output"))
}

/// These texts, the one that ends an answer `shown` or not.
///
/// # Errors
/// One is empty.
pub(super) fn stops_of(texts: Vec<String>, shown: bool) -> Result<Stops, Refusal> {
    if texts.iter().any(String::is_empty) {
        return Err(plain("stop cannot contain an empty string.".to_owned()));
    }
    Ok(Stops { texts, shown })
}

/// The number of choices asked for.
fn choices(body: &Value) -> Result<usize, Refusal> {
    let n = integer(body, "n")?.unwrap_or(1);
    match usize::try_from(n) {
        Ok(choices @ 1..) => Ok(choices),
        _ => Err(plain(format!("n must be at least 1, got {n}."))),
    }
}

/// Refuses what no sampler can do.
///
/// # Errors
/// A number is out of its bounds.
pub(super) fn check(body: &Value) -> Result<(), Refusal> {
    let number = |name: &str| number(body, name);
    for name in ["presence_penalty", "frequency_penalty"] {
        if let Some(penalty) = number(name).filter(|penalty| !(-2.0..=2.0).contains(penalty)) {
            return Err(plain(format!("{name} must be in [-2, 2], got {penalty:?}.")));
        }
    }
    if let Some(temperature) = number("temperature").filter(|temperature| *temperature < 0.0) {
        let says = format!(
            "temperature must be non-negative, got {temperature:?}. (parameter=temperature, value={temperature:?})"
        );
        return Err(Refusal::value("temperature", says));
    }
    if let Some(top_p) = number("top_p").filter(|top_p| *top_p <= 0.0 || *top_p > 1.0) {
        let says =
            format!("top_p must be in (0, 1], got {top_p:?}. (parameter=top_p, value={top_p:?})");
        return Err(Refusal::value("top_p", says));
    }
    Ok(())
}

/// The number of tokens that shall be told of in the place of each; -1 for as many as may be.
fn likely(of: &str, name: &'static str, count: i64) -> Result<usize, Refusal> {
    if count > LOGPROBS_MAX {
        let says = format!(
            "Requested {of} logprobs of {count}, which is greater than max allowed: {LOGPROBS_MAX} \
             (parameter={name}, value={count})"
        );
        return Err(Refusal::value(name, says));
    }
    match usize::try_from(count) {
        Ok(count) => Ok(count),
        Err(_) if count == -1 => Ok(LOGPROBS_MAX as usize),
        Err(_) => {
            let says = format!(
                "`{name}` must be a positive value or -1. (parameter={name}, value={count})"
            );
            Err(Refusal::value(name, says))
        }
    }
}

fn plain(says: String) -> Refusal {
    Refusal::Value { says, param: None }
}
