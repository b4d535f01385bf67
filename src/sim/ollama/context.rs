//! A prompt and the context that it must fit into.

use serde_json::Value;

use super::options::Options;
use super::refusal::Refusal;
use crate::sim::conversation::Conversation;
use crate::sim::prompt::{SYSTEM, TOOL, Turn, conversation};
use crate::sim::tokens;

/// Messages of one role in a row are one, as in most templates; but for the answers of tools.
pub(super) fn joined(turns: Vec<Turn>) -> Vec<Turn> {
    let mut joined: Vec<Turn> = Vec::with_capacity(turns.len());
    for (role, text) in turns {
        match joined.last_mut() {
            Some((last, before)) if *last == role && role != TOOL => {
                *before = format!("{before}\n\n{text}");
            }
            _ => joined.push((role, text)),
        }
    }
    joined
}

/// The prompt of a chat. Where it is too long, the oldest messages are left out: not those of the system, nor the last.
pub(super) fn chat(tools: &[Value], turns: &[Turn], num_ctx: usize) -> Vec<u32> {
    let offered = Value::from(tools);
    let ids = conversation(Some(&offered), turns).ids();
    if ids.len() <= num_ctx {
        return ids;
    }
    let mut over = ids.len() - num_ctx;
    let mut kept = Vec::with_capacity(turns.len());
    for (place, turn) in turns.iter().enumerate() {
        if over > 0 && turn.0 != SYSTEM && place + 1 < turns.len() {
            over = over.saturating_sub(length(turn));
        } else {
            kept.push(turn.clone());
        }
    }
    conversation(Some(&offered), &kept).ids()
}

/// Tokens of one message.
fn length((role, text): &Turn) -> usize {
    let mut alone = Conversation::default();
    alone.say(role, text.clone());
    alone.tokens(false).count()
}

/// A prompt that leaves room for an answer. Where it is still too long, its middle is left out.
///
/// # Errors
/// It is too long, and `no_truncate`.
pub(super) fn fitted(
    ids: Vec<u32>,
    options: &Options,
    no_truncate: bool,
) -> Result<Vec<u32>, Refusal> {
    let num_ctx = options.shape.num_ctx;
    if ids.len() < num_ctx {
        return Ok(ids);
    }
    if no_truncate {
        let tokens = ids.len();
        return Err(Refusal::bad(format!(
            r#"{{"error":{{"code":400,"message":"request ({tokens} tokens) exceeds the available context size ({num_ctx} tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":{tokens},"n_ctx":{num_ctx}}}}}"#
        )));
    }
    let keep = usize::try_from(options.num_keep).unwrap_or(ids.len()).min(num_ctx - 1);
    // Half of what is not kept is room for the answer.
    let limit = num_ctx - ((num_ctx - keep) / 2).max(1);
    let (first, rest) = ids.split_at(keep);
    Ok([first, &rest[rest.len() - (limit - keep)..]].concat())
}

/// The token ids of a text.
pub(super) fn ids(text: &str) -> Vec<u32> {
    tokens::ids(tokens::split(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn turn(role: &str, text: &str) -> Turn {
        (role.to_owned(), text.to_owned())
    }

    fn options(num_ctx: usize) -> Options {
        let given = json!({"num_ctx": num_ctx});
        Options::read(given.as_object().unwrap(), 8192, true).unwrap()
    }

    #[test]
    fn the_oldest_messages_are_left_out() {
        let old = "one two three four five six seven";
        let turns = [turn("system", "rules"), turn("user", old), turn("user", "now")];
        let all = chat(&[], &turns, 100);
        let short = chat(&[], &turns, all.len() - 1);
        assert_eq!(short, chat(&[], &[turns[0].clone(), turns[2].clone()], 100));
        assert_eq!(chat(&[], &turns, 4), short, "the last message stays, whatever it is");
    }

    #[test]
    fn the_middle_of_a_long_prompt_is_left_out() {
        let ids: Vec<u32> = (0..100).collect();
        assert_eq!(fitted(ids.clone(), &options(101), false), Ok(ids.clone()));
        let cut = fitted(ids.clone(), &options(20), false).unwrap();
        assert_eq!(
            cut,
            [&ids[..4], &ids[92..]].concat(),
            "20 less half of the 16 behind the first 4"
        );
        assert!(fitted(ids, &options(100), true).is_err());
        assert_eq!(fitted((0..9).collect(), &options(4), false).map(|cut| cut.len()), Ok(3));
    }

    #[test]
    fn messages_of_one_role_are_one() {
        let turns =
            vec![turn("user", "a"), turn("user", "b"), turn("tool", "1"), turn("tool", "2")];
        assert_eq!(joined(turns), [turn("user", "a\n\nb"), turn("tool", "1"), turn("tool", "2")]);
    }
}
