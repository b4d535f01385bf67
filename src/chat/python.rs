//! What chat templates call in Python's words: `tojson`, `raise_exception`, `strftime_now`, written as Python writes them.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io;

use minijinja::value::{DynObject, Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// A template's own refusal, told apart from what goes wrong in it.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Puts them where templates find them.
pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, _, value| Ok(out.write_str(&text_of(value))?));
    environment.add_filter("string", |value: &Value| text_of(value).into_owned());
    environment.add_filter("trim", |value: &Value, chars: Option<&str>| {
        let (text, chars) = (text_of(value), chars.map(|chars| chars.chars().collect::<Vec<_>>()));
        chars.map_or_else(|| text.trim(), |chars| text.trim_matches(&chars[..])).to_owned()
    });
    // Nothing can be looped over that Python does not loop over.
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && minijinja::tests::is_iterable(value)
    });
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", raise);
    environment.add_function("strftime_now", strftime_now);
}

fn raise(text: &str) -> Result<Value, Error> {
    let raised = Raised(text.to_owned());
    Err(Error::new(ErrorKind::InvalidOperation, "refused").with_source(raised))
}

/// The node's clock may show another day: its date has as many tokens nearly always.
fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    let written = write!(text, "{}", chrono::Local::now().format(format));
    written.map_err(|_| Error::new(ErrorKind::InvalidOperation, "no format of a time"))?;
    Ok(text)
}

/// `json.dumps`, with what transformers lets a template say of it.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent = indent(options.get::<Option<Value>>("indent")?)?;
    let separators: Option<(String, String)> =
        match options.get::<Option<Vec<String>>>("separators")? {
            None => None,
            Some(two) => Some(<[String; 2]>::try_from(two).map(Into::into).map_err(|_| cannot())?),
        };
    let item = if indent.is_some() { "," } else { ", " };
    let (item, key) = separators.unwrap_or_else(|| (item.to_owned(), ": ".to_owned()));
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    if sorted {
        return Err(cannot());
    }
    let mut out = Vec::new();
    let format = Dumps { indent, item, key, ascii, depth: 0, filled: false };
    value.serialize(&mut Serializer::with_formatter(&mut out, format)).map_err(|_| cannot())?;
    String::from_utf8(out).map_err(|_| cannot())
}

/// A number of spaces, or what stands for each level.
fn indent(value: Option<Value>) -> Result<Option<String>, Error> {
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(None) };
    if value.kind() == ValueKind::String {
        return Ok(value.as_str().map(str::to_owned));
    }
    let spaces = usize::try_from(value).map_err(|_| cannot())?;
    if spaces > INDENT_MAX { Err(cannot()) } else { Ok(Some(" ".repeat(spaces))) }
}

/// Spaces of one level: more than any template wants.
const INDENT_MAX: usize = 16;

fn cannot() -> Error {
    Error::new(ErrorKind::InvalidOperation, "no such JSON")
}

/// JSON as Python's module writes it.
struct Dumps {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    depth: usize,
    /// What ends next has something in it.
    filled: bool,
}

impl Dumps {
    fn open<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: u8) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        out.write_all(&[bracket])
    }

    fn close<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: u8) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.new_line(out)?;
        }
        self.filled = true;
        out.write_all(&[bracket])
    }

    fn next<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.new_line(out)
    }

    fn new_line<W: ?Sized + io::Write>(&self, out: &mut W) -> io::Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(indent.as_bytes()))
    }
}

impl Formatter for Dumps {
    fn write_f64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.ascii {
            return out.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => out.write_all(&[byte])?,
                _ => write!(out, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b'[')
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b']')
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b'{')
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b'}')
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
}

/// As Python's `repr`: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
fn float(value: f64) -> String {
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{value:?}"),
    }
}

/// As Python's `str`.
fn text_of(value: &Value) -> Cow<'_, str> {
    match value.kind() {
        ValueKind::String => value.as_str().unwrap_or_default().into(),
        ValueKind::Number | ValueKind::Seq | ValueKind::Map => represented(value).into(),
        _ => value.to_string().into(),
    }
}

/// As Python's `repr`.
fn represented(value: &Value) -> String {
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq if value.as_object().is_some_and(DynObject::is::<Vec<Value>>) => {
            let items: Vec<String> = items().map(|item| represented(&item)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map => {
            let pair = |key: Value| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", represented(&key), represented(&item))
            };
            format!("{{{}}}", items().map(pair).collect::<Vec<_>>().join(", "))
        }
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        _ => value.to_string(),
    }
}

/// In single quotes, but where double ones save escapes; what cannot be seen is escaped.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if is_seen(c) => out.push(c),
            c => {
                let _ = match u32::from(c) {
                    code @ ..=0xff => write!(out, "\\x{code:02x}"),
                    code @ ..=0xffff => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
    out
}

/// Rust has the table: after a letter it escapes only what cannot be seen.
fn is_seen(c: char) -> bool {
    matches!(c, ' '..='~')
        || (!c.is_ascii() && format!("a{c}").escape_debug().any(|seen| seen == c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_written_as_python_writes_it() {
        let mut environment = Environment::new();
        add_to(&mut environment);
        let written = |call: &str| {
            let text =
                r#"{"a":[1,2.0,1e16,1e-5,0.0001,-1e300],"b":{},"c":"<é😀\n>","d":[null,true]}"#;
            let value: Value = serde_json::from_str(text).unwrap();
            let context = minijinja::context! { x => value };
            environment.render_str(&format!("{{{{ x|{call} }}}}"), context).unwrap()
        };
        assert_eq!(
            written("tojson"),
            r#"{"a": [1, 2.0, 1e+16, 1e-05, 0.0001, -1e+300], "b": {}, "c": "<é😀\n>", "d": [null, true]}"#
        );
        assert_eq!(
            written("tojson(ensure_ascii=true, separators=(',', ':'))"),
            r#"{"a":[1,2.0,1e+16,1e-05,0.0001,-1e+300],"b":{},"c":"<\u00e9\ud83d\ude00\n>","d":[null,true]}"#
        );
        assert_eq!(
            written("tojson(indent=1)"),
            "{\n \"a\": [\n  1,\n  2.0,\n  1e+16,\n  1e-05,\n  0.0001,\n  -1e+300\n ],\n \"b\": {},\n \"c\": \"<é😀\\n>\",\n \"d\": [\n  null,\n  true\n ]\n}"
        );
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        let mut environment = Environment::new();
        add_to(&mut environment);
        let text = r#"{"a":["it's","\"","e\u0301\u00a0\u200b\u0000\n","\ud83d\ude00"],"b":{},"c":[1,1e16,true,null]}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let context = minijinja::context! { x => value };
        let written = environment
            .render_str("{{ x }}|{{ x.c|trim }}|{{ x.c[1] }}|{{ none is iterable }}", context)
            .unwrap();
        assert_eq!(
            written,
            r#"{'a': ["it's", '"', 'é\xa0\u200b\x00\n', '😀'], 'b': {}, 'c': [1, 1e+16, True, None]}|[1, 1e+16, True, None]|1e+16|False"#
        );
    }
}
