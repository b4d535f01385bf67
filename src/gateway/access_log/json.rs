//! One JSON object after the other, written field by field: a line costs less than the request that it tells of.

use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use crate::upstream::prefix::chain::Chain;
use crate::wire::address::{push_address, push_ip};

/// The name of a field as it stands in a line, with the comma before it.
macro_rules! field {
    ($name:literal) => {
        crate::gateway::access_log::json::Field(concat!(",\"", $name, "\":"))
    };
}
pub(super) use field;

/// What [`field!`] makes.
pub(super) struct Field(pub(super) &'static str);

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    /// Where the object begins.
    begin: usize,
}

impl<'o> Object<'o> {
    pub(super) fn open(out: &'o mut Vec<u8>) -> Self {
        Self { begin: out.len(), out }
    }

    pub(super) fn close(self) {
        match self.out.get_mut(self.begin) {
            // The comma before the first field.
            Some(first) => *first = b'{',
            None => self.out.push(b'{'),
        }
        self.out.push(b'}');
    }

    fn name(&mut self, Field(name): Field) {
        self.out.extend_from_slice(name.as_bytes());
    }

    /// Any text.
    pub(super) fn text(&mut self, name: Field, text: &str) {
        self.name(name);
        let escaped = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
        // To the end in any case: a loop without a way out is done 32 bytes at a time.
        if !text.bytes().fold(false, |any, byte| any | escaped(byte)) {
            self.out.push(b'"');
            self.out.extend_from_slice(text.as_bytes());
            self.out.push(b'"');
        } else {
            // Memory grows as needed, so writing cannot fail; the same holds for every `write!` here.
            let _ = serde_json::to_writer(&mut *self.out, text);
        }
    }

    pub(super) fn text_if(&mut self, name: Field, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// What is known to need no escape.
    pub(super) fn plain(&mut self, name: Field, value: &impl Display) {
        self.name(name);
        let _ = write!(self.out, "\"{value}\"");
    }

    pub(super) fn switch(&mut self, name: Field, on: bool) {
        self.name(name);
        self.out.extend_from_slice(if on { b"true" } else { b"false" });
    }

    pub(super) fn number(&mut self, name: Field, number: u64) {
        self.name(name);
        push_number(self.out, number);
    }

    /// Milliseconds with three digits after the point.
    pub(super) fn millis(&mut self, name: Field, duration: Duration) {
        self.name(name);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        push_number(self.out, micros / 1_000);
        let rest = micros % 1_000;
        let digits = [rest / 100, rest / 10 % 10, rest % 10].map(|digit| b'0' + digit as u8);
        self.out.push(b'.');
        self.out.extend_from_slice(&digits);
    }

    /// Each block of a prompt by its name and its length, then what is behind them, without a name.
    pub(super) fn prompt(&mut self, name: Field, prompt: &Chain) {
        self.name(name);
        self.out.push(b'[');
        let mut rest = prompt.bytes();
        for block in prompt.blocks() {
            let _ = write!(self.out, "[\"{:x}\",{}],", block.name, block.bytes);
            rest = rest.saturating_sub(block.bytes.into());
        }
        let _ = write!(self.out, "[\"\",{rest}]]");
    }

    pub(super) fn address(&mut self, name: Field, address: Option<SocketAddr>) {
        let Some(address) = address else { return };
        self.name(name);
        self.out.push(b'"');
        match address.port() {
            0 => push_ip(self.out, address.ip()),
            _ => push_address(self.out, address),
        }
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
            object.text_if(field!("none"), None);
            object.number(field!("number"), u64::MAX);
            object.millis(field!("millis"), Duration::from_micros(1_234_005));
            object.switch(field!("switch"), true);
            object.address(field!("four"), Some("127.0.0.1:8080".parse().unwrap()));
            object.address(field!("six"), Some("[::1]:80".parse().unwrap()));
            object.plain(field!("plain"), &"a");
        });
        let wanted = json!({"number": u64::MAX, "millis": 1234.005, "switch": true, "four": "127.0.0.1:8080",
            "six": "[::1]:80", "plain": "a"});
        assert_eq!(value, wanted);
        assert_eq!(written(|_| {}), json!({}));
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let value = written(|object| object.text(field!("text"), &text));
            prop_assert_eq!(value, json!({"text": text}));
        }
    }
}
