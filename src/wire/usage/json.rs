//! As much of JSON as finding a field takes: where values begin and end, without reading them.

use std::ops::Range;

use memchr::memchr2;

/// The object, or `null`, behind the name of a field that ends at `at`.
pub(super) fn value(json: &[u8], at: usize) -> Option<Range<usize>> {
    let start = after_colon(json, at)?;
    let value = json.get(start..)?;
    let length = match value.strip_prefix(b"{") {
        Some(inside) => 1 + closes(inside)?,
        None => value.starts_with(b"null").then_some(4)?,
    };
    Some(start..start + length)
}

/// Where the value of a field begins whose name ends at `at`.
pub(super) fn after_colon(json: &[u8], at: usize) -> Option<usize> {
    let colon = at + blanks(json.get(at..)?);
    let value = json.get(colon..)?.strip_prefix(b":")?;
    Some(colon + 1 + blanks(value))
}

/// A field with the comma before it, or else the one behind.
pub(super) fn member(json: &[u8], name: usize, value: &Range<usize>) -> Range<usize> {
    let before = json.get(..name).unwrap_or_default().trim_ascii_end();
    if let Some(before) = before.strip_suffix(b",") {
        return before.len()..value.end;
    }
    let rest = json.get(value.end..).unwrap_or_default();
    let blank = blanks(rest);
    let comma = rest.get(blank) == Some(&b',');
    name..value.end + if comma { blank + 1 } else { 0 }
}

/// How far it is to the end of the object or list that `inside` begins in; none where it has no end.
pub(super) fn closes(inside: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (1_usize, 0);
    while let Some(byte) = inside.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            b'"' => at += text_end(inside.get(at..)?)?,
            _ => {}
        }
    }
    None
}

/// How far it is to the end of the text that `inside` begins in.
fn text_end(inside: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let mark = at + memchr2(b'"', b'\\', inside.get(at..)?)?;
        if inside.get(mark) == Some(&b'"') {
            return Some(mark + 1);
        }
        at = mark + 2;
    }
}

fn blanks(bytes: &[u8]) -> usize {
    bytes.len() - bytes.trim_ascii_start().len()
}

/// Nothing but white space.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().is_empty()
}
