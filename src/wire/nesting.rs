//! How deep a JSON text is nested: serde_json skips what is not wanted without counting levels.

/// Levels of `{` and `[`: serde_json's own limit, and far below Python's recursion limit of 1,000.
pub const NESTING_MAX: usize = 128;

/// True where `body` has more levels than [`NESTING_MAX`]. Nearly every body has fewer opening brackets than levels allowed
/// and needs no more than a count of them.
pub fn is_too_deep(body: &[u8]) -> bool {
    if memchr::memchr2_iter(b'{', b'[', body).nth(NESTING_MAX).is_none() {
        return false;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = body.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > NESTING_MAX {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(body, at + 1),
            _ => {}
        }
        at += 1;
    }
    false
}

/// The index of the quote that ends a string whose content begins at `at`, or the body's end.
fn end_of_string(body: &[u8], mut at: usize) -> usize {
    while let Some(rest) = body.get(at..) {
        match memchr::memchr2(b'"', b'\\', rest) {
            None => break,
            Some(found) if rest[found] == b'"' => return at + found,
            Some(escape) => at += escape + 2,
        }
    }
    body.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_outside_of_strings_only() {
        let nest = |levels: usize| {
            format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
        };
        assert!(!is_too_deep(nest(NESTING_MAX).as_bytes()));
        assert!(is_too_deep(nest(NESTING_MAX + 1).as_bytes()));
        let text =
            format!("{{\"a\":\"{}\\\\\",\"b\":\"\\\"{}\"}}", "[".repeat(500), "{".repeat(500));
        assert!(!is_too_deep(text.as_bytes()));
        let flat = format!("{{\"a\":[{}{{}}]}}", "{},".repeat(1_000));
        assert!(!is_too_deep(flat.as_bytes()));
    }
}
