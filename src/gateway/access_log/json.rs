//! One JSON object after the other, written field by field: a line costs less than the request that it tells of.

use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use crate::wire::address::push_address;

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    /// What comes before the next field.
    before: &'static str,
}

impl<'o> Object<'o> {
    pub(super) fn open(out: &'o mut Vec<u8>) -> Self {
        Self { out, before: "{" }
    }

    pub(super) fn close(self) {
        self.out.extend_from_slice(if self.before == "{" { b"{}" } else { b"}" });
    }

    fn name(&mut self, name: &'static str) {
        for part in [self.before, "\"", name, "\":"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self.before = ",";
    }

    /// Any text.
    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if text.bytes().all(plain) {
            self.out.push(b'"');
            self.out.extend_from_slice(text.as_bytes());
            self.out.push(b'"');
        } else {
            // Memory grows as needed, so writing cannot fail; the same holds for every `write!` here.
            let _ = serde_json::to_writer(&mut *self.out, text);
        }
    }

    pub(super) fn text_if(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// What is known to need no escape.
    pub(super) fn plain(&mut self, name: &'static str, value: &impl Display) {
        self.name(name);
        let _ = write!(self.out, "\"{value}\"");
    }

    pub(super) fn switch(&mut self, name: &'static str, on: bool) {
        self.name(name);
        self.out.extend_from_slice(if on { b"true" } else { b"false" });
    }

    pub(super) fn number(&mut self, name: &'static str, number: u64) {
        self.name(name);
        push_number(self.out, number);
    }

    /// Milliseconds with three digits after the point.
    pub(super) fn millis(&mut self, name: &'static str, duration: Duration) {
        self.name(name);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        push_number(self.out, micros / 1_000);
        let rest = micros % 1_000;
        let digits = [rest / 100, rest / 10 % 10, rest % 10].map(|digit| b'0' + digit as u8);
        self.out.push(b'.');
        self.out.extend_from_slice(&digits);
    }

    pub(super) fn address(&mut self, name: &'static str, address: Option<SocketAddr>) {
        let Some(address) = address else { return };
        self.name(name);
        self.out.push(b'"');
        push_address(self.out, address);
        self.out.push(b'"');
    }
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn written(fields: impl FnOnce(&mut Object<'_>)) -> Value {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        fields(&mut object);
        object.close();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn an_object_has_the_fields_that_were_written() {
        let value = written(|object| {
            object.text_if("none", None);
            object.number("number", u64::MAX);
            object.millis("millis", Duration::from_micros(1_234_005));
            object.switch("switch", true);
            object.address("four", Some("127.0.0.1:8080".parse().unwrap()));
            object.address("six", Some("[::1]:80".parse().unwrap()));
            object.plain("plain", &"a");
        });
        let wanted = json!({"number": u64::MAX, "millis": 1234.005, "switch": true, "four": "127.0.0.1:8080",
            "six": "[::1]:80", "plain": "a"});
        assert_eq!(value, wanted);
        assert_eq!(written(|_| {}), json!({}));
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let value = written(|object| object.text("text", &text));
            prop_assert_eq!(value, json!({"text": text}));
        }
    }
}
