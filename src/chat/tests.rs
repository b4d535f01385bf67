//! Counts as vLLM tells them, and that no shortcut changes one.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::tokens::{Counter, Kept, Uncountable, Unusable};
use super::{Conversation, Message, Role};

/// A tokenizer of the shape of Qwen's, of 6,000 tokens.
fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat/model")
}

fn counter() -> Counter {
    Counter::load(&model()).unwrap()
}

fn said(role: Role, text: &str) -> Message {
    Message { role, text: text.into() }
}

fn count(counter: &Counter, messages: &[Message], kept: &mut Kept) -> Result<u64, Uncountable> {
    counter.count(&Conversation { messages, extra: &Map::new() }, kept)
}

/// Messages and the rest of a body.
fn parts(body: &Value) -> (Vec<Message>, Map<String, Value>) {
    let mut extra = body.as_object().unwrap().clone();
    (serde_json::from_value(extra.remove("messages").unwrap()).unwrap(), extra)
}

/// Recorded from `/tokenize` of vLLM 0.32 with the model in `tests/chat/model`: Russian, English, emoji, code, special tokens in
/// texts, tools, empty system prompts, and what the template refuses.
#[test]
fn two_hundred_conversations_have_the_tokens_that_vllm_told() {
    let text = fs::read_to_string(model().with_file_name("recorded.json")).unwrap();
    let recorded: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(recorded.len(), 200);
    let (counter, mut kept) = (counter(), Kept::default());
    for (asked, told) in recorded.iter().map(|each| (&each["asked"], &each["told"])) {
        let (messages, extra) = parts(asked);
        let conversation = Conversation { messages: &messages, extra: &extra };
        for kept in [&mut Kept::default(), &mut kept] {
            let counted = match counter.count(&conversation, kept) {
                Ok(count) => json!(count),
                Err(Uncountable::Refused(text)) => json!(text),
                Err(error) => panic!("{error}: {asked}"),
            };
            assert_eq!(&counted, told, "{asked}");
        }
    }
}

/// Folders of models of other shapes, with a template that writes `bos_token`.
fn others() -> Vec<TempDir> {
    let letters = "▁ abcdefghij<s>/|".chars().map(String::from);
    let words = ["<unk>", "ab", "▁a", "▁ab", "▁abc", "bc", "cd", "▁▁"].map(str::to_owned);
    let vocabulary: Map<String, Value> =
        words.into_iter().chain(letters).zip(0..).map(|(word, id)| (word, json!(id))).collect();
    let merges = ["▁ a", "b c", "▁a b", "▁ab c", "a b", "c d", "▁ ▁"];
    let model = json!({"type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": "<unk>",
        "fuse_unk": true, "byte_fallback": false});
    let scheme = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    let prepended = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    let plain = |text: &str, id: u32| {
        json!({"id": id, "content": text, "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
    };
    let greedy = |text: &str, id: u32, lstrip: bool, rstrip: bool| {
        let mut token = plain(text, id);
        (token["lstrip"], token["rstrip"]) = (lstrip.into(), rstrip.into());
        token
    };
    let alone = |text: &str, id: u32| {
        let mut token = plain(text, id);
        (token["single_word"], token["special"]) = (true.into(), false.into());
        token
    };
    let ends = || vec![plain("<s>", 50), plain("</s>", 51)];
    [
        (scheme("first"), Value::Null, ends()),
        (scheme("always"), Value::Null, ends()),
        (Value::Null, prepended, ends()),
        (scheme("first"), Value::Null, vec![greedy("<s>", 50, false, true), greedy("</s>", 51, true, false), alone("ab", 1), plain("cd", 6)]),
    ]
    .into_iter()
    .map(|(pre_tokenizer, normalizer, added)| {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = json!({"version": "1.0", "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "model": model});
        let template = "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[' + m.content + ']' }}\
            {% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}";
        let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": template});
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        folder
    })
    .collect()
}

/// What may stand in a message: words, blanks, and what tokenizers treat in their own way.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-j ]{0,12}",
        2 => "[а-яё ]{1,12}",
        1 => "\\PC{0,6}",
        1 => "[ \n\t]{1,4}",
        1 => "a{60,140}",
        1 => prop::sample::select(vec![
            "<s>", "</s>", " <s> ", "ab", " ab ", "cd", "<|im_end|>", "<|im_start|>user\n", "<think>", "<|im_", "e\u{301}",
            "\u{1100}\u{1161}", "don't 12345", "😀👩\u{200d}💻", "\r\n\n", "Ⅷ ﬁ",
        ]).prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// What happens to a conversation.
#[derive(Debug, Clone)]
enum Change {
    Say(String, String),
    DropOldest,
    Replace(usize, String),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (text(), text()).prop_map(|(asked, answered)| Change::Say(asked, answered)),
        1 => Just(Change::DropOldest),
        1 => (any::<usize>(), text()).prop_map(|(at, text)| Change::Replace(at, text)),
    ]
}

fn apply(change: Change, messages: &mut Vec<Message>) {
    match change {
        Change::Say(asked, answered) => {
            messages.push(said(Role::User, &asked));
            messages.push(said(Role::Assistant, &answered));
        }
        Change::DropOldest if messages.len() > 2 => drop(messages.drain(..2)),
        Change::DropOldest => {}
        Change::Replace(at, text) => {
            let at = at.checked_rem(messages.len());
            if let Some(message) = at.and_then(|at| messages.get_mut(at)) {
                message.text = text.into();
            }
        }
    }
}

#[test]
fn what_is_kept_and_where_a_prompt_is_cut_change_no_count() {
    let others = others();
    let mut counters = vec![counter()];
    counters.extend(others.iter().map(|folder| Counter::load(folder.path()).unwrap()));
    assert_eq!(counters.iter().filter(|counter| counter.words.is_some()).count(), 1);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let changes = prop::collection::vec(change(), 1..12);
    let checked = runner.run(&changes, |changes| {
        for counter in &counters {
            let (mut messages, mut kept) = (vec![said(Role::User, "?")], Kept::default());
            for change in changes.iter().cloned() {
                apply(change, &mut messages);
                let counted = count(counter, &messages, &mut kept).unwrap();
                let conversation = Conversation { messages: &messages, extra: &Map::new() };
                let prompt = counter.template.render(&conversation).unwrap();
                let whole = counter.tokenizer.encode_fast(prompt.as_str(), false).unwrap();
                prop_assert_eq!(counted, whole.len() as u64, "{}", prompt);
            }
        }
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn long_conversations_are_counted_by_several_threads() {
    let counter = counter();
    let messages: Vec<Message> = (0..200)
        .map(|at| {
            said([Role::User, Role::Assistant][at % 2], &format!("{at} слово word ").repeat(80))
        })
        .collect();
    let conversation = Conversation { messages: &messages, extra: &Map::new() };
    let prompt = counter.template.render(&conversation).unwrap();
    let whole = counter.tokenizer.encode_fast(prompt.as_str(), false).unwrap();
    assert_eq!(count(&counter, &messages, &mut Kept::default()), Ok(whole.len() as u64));
}

#[test]
fn what_a_session_keeps_is_small_and_survives_being_written() {
    let counter = counter();
    let long = "Сколько токенов в этом сообщении? ".repeat(8);
    let messages: Vec<Message> = (0..20)
        .map(|at| said([Role::User, Role::Assistant][at % 2], &format!("{at} {long}")))
        .collect();
    let mut kept = Kept::default();
    let counted = count(&counter, &messages, &mut kept).unwrap();
    let written = serde_json::to_string(&kept).unwrap();
    assert!(written.len() <= 1_024, "{} bytes", written.len());
    let mut read: Kept = serde_json::from_str(&written).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), written);
    assert_eq!(count(&counter, &messages, &mut read), Ok(counted));
    for damaged in ["\"\"", "\"AAAA\"", "\"!\"", "7"] {
        assert!(serde_json::from_str::<Kept>(damaged).is_err(), "{damaged}");
    }
}

#[test]
fn what_the_node_alone_knows_is_left_to_it() {
    let counter = counter();
    for extra in [
        json!({"chat_template": "{{ 1 }}"}),
        json!({"continue_final_message": true}),
        json!({"truncate_prompt_tokens": 5}),
        json!({"chat_template_kwargs": {"tokenize": true}}),
        json!({"chat_template_kwargs": []}),
        json!({"tools": []}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "else": 1}}]}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": 1e30}}}]}),
        json!({"documents": ["text"]}),
        json!({"reasoning_effort": 1}),
    ] {
        let (messages, extra) = (vec![said(Role::User, "?")], extra.as_object().unwrap());
        let counted =
            counter.count(&Conversation { messages: &messages, extra }, &mut Kept::default());
        assert!(matches!(counted, Err(Uncountable::Unknown(_))), "{extra:?}: {counted:?}");
    }
    let same = json!({"chat_template": null, "continue_final_message": false, "temperature": 1, "documents": []});
    let messages = vec![said(Role::User, "?")];
    let extra = same.as_object().unwrap();
    let counted = counter.count(&Conversation { messages: &messages, extra }, &mut Kept::default());
    assert_eq!(counted, count(&counter, &messages, &mut Kept::default()));
}

#[test]
fn effort_turns_thinking_on_and_off() {
    let counter = counter();
    let messages = vec![said(Role::User, "?")];
    let of = |extra: Value| {
        let extra = extra.as_object().unwrap();
        counter.count(&Conversation { messages: &messages, extra }, &mut Kept::default()).unwrap()
    };
    let off = of(json!({"chat_template_kwargs": {"enable_thinking": false}}));
    assert_eq!(of(json!({"reasoning_effort": "none"})), off);
    assert!(of(json!({"reasoning_effort": "high"})) < off);
    let said =
        json!({"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": false}});
    assert_eq!(of(said), off);
}

/// A folder with the tokenizer of [`model`] and this template.
fn folder_with(name: &str, text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(model().join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    fs::write(folder.path().join(name), text).unwrap();
    folder
}

#[test]
fn a_folder_tells_what_it_lacks() {
    let told = |folder: &Path| Counter::load(folder).err().expect("it cannot be used").to_string();
    let empty = tempfile::tempdir().unwrap();
    assert!(told(empty.path()).starts_with("tokenizer.json: "));
    let without = folder_with("tokenizer_config.json", "{}");
    assert!(matches!(Counter::load(without.path()).err(), Some(Unusable::NoTemplate)));
    let broken = folder_with("chat_template.jinja", "{% for %}");
    assert!(told(broken.path()).starts_with("the chat template: "));
    let list = json!({"chat_template": [{"name": "rag", "template": ""}]}).to_string();
    assert!(matches!(
        Counter::load(folder_with("tokenizer_config.json", &list).path()).err(),
        Some(Unusable::NoTemplate)
    ));
}

#[test]
fn a_template_that_does_not_end_is_given_up() {
    let source = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let counter = Counter::load(folder_with("chat_template.jinja", source).path()).unwrap();
    let counted = count(&counter, &[said(Role::User, "?")], &mut Kept::default());
    assert!(matches!(counted, Err(Uncountable::Unknown(_))), "{counted:?}");
}

#[test]
fn templates_stand_above_each_other_as_in_transformers() {
    let folder = folder_with("chat_template.jinja", "<think>");
    let config = json!({"chat_template": "<think><think>"}).to_string();
    fs::write(folder.path().join("tokenizer_config.json"), &config).unwrap();
    let tools = json!({"tools": [{"function": {"name": "f"}}]});
    let of = |extra: &Value| {
        let (counter, extra) = (Counter::load(folder.path()).unwrap(), extra.as_object().unwrap());
        counter.count(&Conversation { messages: &[], extra }, &mut Kept::default()).unwrap()
    };
    assert_eq!((of(&json!({})), of(&tools)), (1, 1));
    fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    assert_eq!((of(&json!({})), of(&tools)), (2, 2));
    let processors = json!({"chat_template": "<think><think><think>"}).to_string();
    fs::write(folder.path().join("chat_template.json"), processors).unwrap();
    assert_eq!((of(&json!({})), of(&tools)), (3, 2));
    let named = json!({"chat_template": [{"name": "default", "template": ""}, {"name": "tool_use", "template": "<think>"}]});
    fs::write(folder.path().join("tokenizer_config.json"), named.to_string()).unwrap();
    assert_eq!((of(&json!({})), of(&tools)), (3, 1));
}
