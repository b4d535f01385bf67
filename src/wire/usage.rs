//! What an answer says of its prompt: how many tokens it has, and how many of them the node had in its cache.

use memchr::memmem;
use serde::Deserialize;

/// The usage of one request, as far as it is about the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptUsage {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Of those, found in the cache; none where the node does not say (vLLM without `--enable-prompt-tokens-details`).
    pub cached: Option<u64>,
}

/// As chats and completions have it, and as responses do.
#[derive(Deserialize)]
struct Written {
    #[serde(alias = "input_tokens")]
    prompt_tokens: u64,
    #[serde(alias = "input_tokens_details")]
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

/// The last usage in a piece of an answer, be it of JSON or of events. One that is cut in two is not found.
pub fn of_prompt(piece: &[u8]) -> Option<PromptUsage> {
    // In a text the quotes would have a `\\` before them.
    const NAME: &[u8] = b"\"usage\"";
    let behind = &piece[memmem::rfind(piece, NAME)? + NAME.len()..];
    let value = behind.trim_ascii_start().strip_prefix(b":")?;
    let mut values = serde_json::Deserializer::from_slice(value).into_iter::<Written>();
    let written = values.next()?.ok()?;
    let cached = written.prompt_tokens_details.and_then(|details| details.cached_tokens);
    Some(PromptUsage { prompt: written.prompt_tokens, cached })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Option<(u64, Option<u64>)> {
        of_prompt(text.as_bytes()).map(|usage| (usage.prompt, usage.cached))
    }

    #[test]
    fn it_is_found_in_every_form() {
        let chat = r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9}"}}],"usage":{"prompt_tokens":7,"total_tokens":8,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":4}},"prompt_logprobs":null}"#;
        assert_eq!(of(chat), Some((7, Some(4))));
        let event = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"prompt_tokens_details\":null}}\n\ndata: [DONE]\n\n";
        assert_eq!(of(event), Some((7, None)));
        let response = "{\"usage\" : { \"input_tokens\": 5, \"input_tokens_details\": {\"cached_tokens\": 0}}}";
        assert_eq!(of(response), Some((5, Some(0))));
    }

    #[test]
    fn what_is_none_is_none() {
        for text in [
            "",
            "usage",
            "\"usage\"",
            "\"usage\":",
            "\"usage\":null",
            "\"usage\":{}",
            "\"usage\":{\"prompt_tokens\":-1}",
            "\"usage\":{\"prompt_tokens\":7",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(before in prop::collection::vec(any::<u8>(), 0..40), after in prop::collection::vec(any::<u8>(), 0..40)) {
            let piece = [before, b"\"usage\":".to_vec(), after].concat();
            let _told = of_prompt(&piece);
        }
    }
}
