//! A text field of a JSON object that passes by in arbitrary pieces: found on the way, without holding the object.
//!
//! A scanner of our own: no JSON parser stops in the middle of a text and goes on with the next piece. It judges nothing
//! but what stands on its way to the field; who reads the object judges the rest.

use memchr::memchr2;

/// What is known after a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing yet: the next piece may tell.
    On,
    /// The field's text, of visible ASCII.
    Found(String),
    /// It is not there, or no text that can be used.
    Over,
}

/// A search for one field.
pub struct FieldSearch {
    path: &'static [&'static str],
    bytes_max: usize,
    /// Objects on the path that are open.
    level: usize,
    state: State,
    text: Vec<u8>,
}

#[derive(Clone, Copy)]
enum State {
    /// Before the object.
    Start,
    /// Between two fields of an object on the path.
    Field,
    /// In a field's name, of which so many bytes are those of the path; none where it is another name.
    Name(Option<usize>),
    /// After a backslash in a name: no name on the path needs one.
    NameEscape,
    /// After a name.
    Colon { on_path: bool },
    /// Before a value.
    Value { on_path: bool },
    /// In the text that is looked for.
    Wanted,
    /// In a value that is not wanted, below so many brackets.
    Skip(usize),
    /// In a string in it.
    Text(usize),
    /// After a backslash in that.
    TextEscape(usize),
    /// After the object, or what is none.
    End,
}

impl FieldSearch {
    /// For the field at the end of `path`, a name for each level, whose text has 1 to `bytes_max` bytes.
    pub fn new(path: &'static [&'static str], bytes_max: usize) -> Self {
        Self { path, bytes_max, level: 0, state: State::Start, text: Vec::new() }
    }

    /// Looks at the next piece. After another answer than [`Look::On`] every piece is [`Look::Over`].
    pub fn push(&mut self, mut piece: &[u8]) -> Look {
        while let Some((&byte, rest)) = piece.split_first() {
            if let State::Text(depth) = self.state {
                let Some(end) = memchr2(b'"', b'\\', piece) else { break };
                let escape = piece[end] == b'\\';
                self.state = if escape { State::TextEscape(depth) } else { below(depth) };
                piece = &piece[end + 1..];
                continue;
            }
            if matches!(self.state, State::Wanted) && byte == b'"' && !self.text.is_empty() {
                self.state = State::End;
                return Look::Found(self.text.iter().copied().map(char::from).collect());
            }
            self.state = self.after(byte);
            if matches!(self.state, State::End) {
                return Look::Over;
            }
            piece = rest;
        }
        Look::On
    }

    /// The state after `byte`.
    fn after(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (
                State::Start | State::Field | State::Colon { .. } | State::Value { .. },
                b' ' | b'\t' | b'\r' | b'\n',
            ) => self.state,
            (State::Start, b'{') => self.open(),
            (State::Field, b',') => State::Field,
            (State::Field, b'"') => State::Name(Some(0)),
            (State::Field | State::Skip(0), b'}') => self.close(),
            (State::Name(matched), b'"') => {
                let name = self.path.get(self.level - 1);
                State::Colon { on_path: matched == name.map(|name| name.len()) }
            }
            (State::Name(_), b'\\') => State::NameEscape,
            (State::Name(matched), byte) => {
                let name = self.path.get(self.level - 1).map_or(&b""[..], |name| name.as_bytes());
                State::Name(matched.filter(|at| name.get(*at) == Some(&byte)).map(|at| at + 1))
            }
            (State::NameEscape, _) => State::Name(None),
            (State::Colon { on_path }, b':') => State::Value { on_path },
            (State::Value { on_path: true }, b'{') if self.level < self.path.len() => self.open(),
            (State::Value { on_path: true }, b'"') if self.level == self.path.len() => {
                State::Wanted
            }
            (State::Value { .. }, b'{' | b'[') => State::Skip(1),
            (State::Value { .. }, b'"') => State::Text(0),
            (State::Value { .. }, _) => State::Skip(0),
            (State::Wanted, byte) if self.takes(byte) => State::Wanted,
            (State::Skip(0), b',') => State::Field,
            (State::Skip(depth), b'{' | b'[') => State::Skip(depth + 1),
            (State::Skip(depth @ 1..), b'}' | b']') => below(depth - 1),
            (State::Skip(depth @ 1..), b'"') => State::Text(depth),
            (State::Skip(depth), _) => State::Skip(depth),
            (State::TextEscape(depth), _) => State::Text(depth),
            _ => State::End,
        }
    }

    fn open(&mut self) -> State {
        self.level += 1;
        State::Field
    }

    fn close(&mut self) -> State {
        self.level -= 1;
        if self.level == 0 { State::End } else { State::Field }
    }

    /// True, and taken, where `byte` may stand in the text, which has room for it.
    fn takes(&mut self, byte: u8) -> bool {
        let fits =
            byte.is_ascii_graphic() && !b"\"\\".contains(&byte) && self.text.len() < self.bytes_max;
        if fits {
            self.text.push(byte);
        }
        fits
    }
}

/// The state after a value, or a string, below so many brackets.
fn below(depth: usize) -> State {
    if depth == 0 { State::Field } else { State::Skip(depth) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const PATH: &[&str] = &["a", "id"];

    /// What is found in `text`, cut at `cut`.
    fn found(text: &[u8], cut: usize) -> Option<String> {
        let mut search = FieldSearch::new(PATH, 8);
        let (one, two) = text.split_at(cut.min(text.len()));
        match (search.push(one), search.push(two)) {
            (Look::Found(id), Look::Over | Look::On) | (Look::On, Look::Found(id)) => Some(id),
            _ => None,
        }
    }

    #[test]
    fn the_field_is_found_however_the_text_is_cut_and_only_on_its_path() {
        for (text, id) in [
            (r#"{"a":{"id":"x"}}"#, Some("x")),
            (r#" { "b" : -1.5e3 , "id" : "no" , "a" : { "ids" : [1] , "id" : "x y" } }"#, None),
            (
                r#"{"b":[{"a":{"id":"no"}}],"c":"\"a\":{","a":{"i":1,"id":"12345678"}}"#,
                Some("12345678"),
            ),
            (r#"{"a":1,"a":{"\u0069d":"no","b":null}, "a":{"id":"x"}}"#, Some("x")),
            (r#"{"a":{"id":"123456789"}}"#, None),
            (r#"{"a":{"id":""}}"#, None),
            (r#"{"a":{"id":"x\n"}}"#, None),
            (r#"{"a":{"id":7}}"#, None),
            (r#"{"a":{"b":{"id":"no"}}}"#, None),
            (r#"{"id":"no"}"#, None),
            (r#"[{"a":{"id":"no"}}]"#, None),
            ("{\"a\":{\"id\":\"\u{e9}\"}}", None),
            ("", None),
        ] {
            for cut in 0..=text.len() {
                assert_eq!(found(text.as_bytes(), cut).as_deref(), id, "{text} {cut}");
            }
        }
    }

    /// Any JSON, some of it with names on the path.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~é\n\\\\\"]{0,9}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("(a|id|[b-d\"{]{0,3})", inner, 0..4)
                    .prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_whole_parser(whole in value(), pretty in any::<bool>(), cut in 0..200_usize) {
            let text = if pretty {
                serde_json::to_string_pretty(&whole).unwrap()
            } else {
                whole.to_string()
            };
            let id = whole.get("a").and_then(|a| a.get("id")).and_then(Value::as_str);
            let usable = |id: &&str| {
                (1..=8).contains(&id.len())
                    && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
            };
            let wanted = id.filter(usable).map(str::to_owned);
            prop_assert_eq!(found(text.as_bytes(), cut), wanted);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 0..64_usize) {
            found(&bytes, cut);
        }
    }
}
