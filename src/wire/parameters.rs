//! `form-data; name="model"`: a header value with parameters, read so that every other reader reads the same.

/// A value and its parameters, in order. Names are in lower case.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameters<'a> {
    /// What stands before the first `;`, in lower case.
    pub value: String,
    parameters: Vec<(String, &'a [u8])>,
}

impl<'a> Parameters<'a> {
    /// Reads `text`. None where two readers might differ: the same parameter twice, one in pieces (`name*0`) or encoded
    /// (`name*`, but for `filename*`), a backslash, quotes that do not fit.
    pub fn read(text: &'a [u8]) -> Option<Self> {
        let (value, mut rest) = until(text, b';');
        let mut read = Self { value: lower(value)?, parameters: Vec::new() };
        while let Some(after) = rest {
            let equals = memchr::memchr(b'=', after)?;
            let name = lower(&after[..equals])?;
            let (value, next) = parameter_value(&after[equals + 1..])?;
            let encoded = name.contains('*') && name != "filename*";
            if encoded || name.is_empty() || read.get(&name).is_some() {
                return None;
            }
            read.parameters.push((name, value));
            rest = next;
        }
        Some(read)
    }

    /// A parameter's value, without its quotes.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// True where there is no parameter but these.
    pub fn are_among(&self, names: &[&str]) -> bool {
        self.parameters.iter().all(|(name, _)| names.contains(&name.as_str()))
    }
}

/// What stands before and after the first `byte`.
fn until(text: &[u8], byte: u8) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(byte, text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// A word without its spaces, in lower case; none where it holds what no word does.
fn lower(text: &[u8]) -> Option<String> {
    let word = text.trim_ascii();
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_*/.+".contains(byte);
    let text = std::str::from_utf8(word).ok()?;
    word.iter().all(fits).then(|| text.to_ascii_lowercase())
}

/// A value, quoted or not, and what follows its `;`.
fn parameter_value(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let text = text.trim_ascii_start();
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let (word, rest) = until(text, b';');
        let word = word.trim_ascii_end();
        let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\,=".contains(byte);
        return (!word.is_empty() && word.iter().all(plain)).then_some((word, rest));
    };
    let (value, after) = until(quoted, b'"');
    let (between, rest) = until(after?, b';');
    let clean = !value.contains(&b'\\') && between.trim_ascii().is_empty();
    clean.then_some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_quoted_or_not() {
        let read = Parameters::read(b"Form-Data; name=\"a; b=c\" ; FileName=x.wav").unwrap();
        assert_eq!(read.value, "form-data");
        assert_eq!(read.get("name"), Some(&b"a; b=c"[..]));
        assert_eq!(read.get("filename"), Some(&b"x.wav"[..]));
        assert!(read.are_among(&["name", "filename"]) && !read.are_among(&["name"]));
        assert_eq!(Parameters::read(b"form-data").unwrap().get("name"), None);
    }

    #[test]
    fn what_has_two_readings_is_not_read() {
        for text in [
            &b"form-data; name=a; name=b"[..],
            b"form-data; name=a; NAME=b",
            b"form-data; name*=utf-8''model",
            b"form-data; name*0=mo; name*1=del",
            b"form-data; name=\"a\\\"; b\"",
            b"form-data; name=\"a",
            b"form-data; name=\"a\" b",
            b"form-data; name=a\"b\"",
            b"form-data; name=",
            b"form-data; name",
            b"form-data;",
        ] {
            assert_eq!(Parameters::read(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}
