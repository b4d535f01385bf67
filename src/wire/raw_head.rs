//! The head of a request of HTTP/1, byte by byte as it came: what a parser may be lax about, and two programs may read
//! differently, is refused (RFC 9112, 11.2).

use std::net::Ipv6Addr;

use memchr::{memchr, memchr2};

use crate::refusal::Refusal;

/// Bytes of a head: what nginx takes in one piece (`large_client_header_buffers`), in all.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Lines of a head after the first: twice what any client sends.
pub const HEADERS_MAX: usize = 100;

/// Bytes of a target: as nginx and uvicorn have it.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a method: the longest that is registered has 17, the longest that is served 7.
const METHOD_BYTES_MAX: usize = 16;

/// The headers that say what belongs to a request, as far as they were seen.
#[derive(Default)]
struct Framing {
    hosts: usize,
    lengths: usize,
    encodings: usize,
    expectations: usize,
}

/// Refuses `head`, which ends with its empty line, where it is ambiguous.
///
/// # Errors
/// The refusal that its client is told.
pub fn check(head: &[u8]) -> Result<(), Refusal> {
    if head.len() > HEAD_BYTES_MAX {
        return Err(Refusal::HeadTooLarge);
    }
    let mut lines = Lines(head);
    let mut first = lines.next()?;
    // An empty line before a request is ignored (RFC 9112, 2.2).
    while first.is_empty() && !lines.0.is_empty() {
        first = lines.next()?;
    }
    check_request_line(first)?;
    let (mut framing, mut count) = (Framing::default(), 0);
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > HEADERS_MAX {
            return Err(Refusal::HeadTooLarge);
        }
        check_header(line, &mut framing)?;
    }
    if !lines.0.is_empty() {
        return Err(broken("Something follows the head's empty line."));
    }
    framing.check(first.ends_with(b"0"))
}

/// What is left of a head, cut at its line ends.
struct Lines<'h>(&'h [u8]);

impl<'h> Lines<'h> {
    fn next(&mut self) -> Result<&'h [u8], Refusal> {
        let end = memchr2(b'\r', b'\n', self.0);
        match end.map(|end| self.0.split_at(end)) {
            Some((line, rest)) if rest.starts_with(b"\r\n") => {
                self.0 = &rest[2..];
                Ok(line)
            }
            _ => Err(broken("A line of the head does not end with CRLF.")),
        }
    }
}

fn broken(what: &'static str) -> Refusal {
    Refusal::malformed("invalid_request", what)
}

fn framing(what: &'static str) -> Refusal {
    Refusal::malformed("invalid_framing", what)
}

fn check_request_line(line: &[u8]) -> Result<(), Refusal> {
    let wrong = || broken("The first line is not `METHOD TARGET HTTP/1.1`.");
    let (method, rest) = up_to(b' ', line).ok_or_else(|| broken("The method is none."))?;
    let target = memchr(b' ', rest).ok_or_else(wrong)?;
    let (target, version) = (&rest[..target], &rest[target + 1..]);
    if method.is_empty() || method.len() > METHOD_BYTES_MAX {
        return Err(broken("The method is none."));
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    if version != b"HTTP/1.1" && version != b"HTTP/1.0" {
        return Err(wrong());
    }
    if target.first() != Some(&b'/') {
        return Err(Refusal::malformed("invalid_target", "The target does not begin with `/`."));
    }
    match target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        true => Ok(()),
        false => Err(Refusal::malformed("invalid_target", "The target holds what no URL holds.")),
    }
}

/// The token that `line` begins with, if `end` follows it, and what is behind that.
fn up_to(end: u8, line: &[u8]) -> Option<(&[u8], &[u8])> {
    let token = line.iter().position(|byte| !is_token(byte))?;
    (line[token] == end).then(|| (&line[..token], &line[token + 1..]))
}

fn check_header(line: &[u8], framing: &mut Framing) -> Result<(), Refusal> {
    let wrong = || broken("A line of the head is no header.");
    let (name, value) = up_to(b':', line).filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let value = trimmed(value);
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => framing.host(value),
        6 if name.eq_ignore_ascii_case(b"expect") => {
            framing.expectations += 1;
            Ok(())
        }
        14 if name.eq_ignore_ascii_case(b"content-length") => framing.length(value),
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => framing.encoding(value),
        _ => Ok(()),
    }
}

impl Framing {
    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.hosts += 1;
        match is_host(value) {
            true => Ok(()),
            false => Err(no_host("The Host is no `host[:port]`.")),
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.lengths += 1;
        // One that is merely too large is refused as such, later: a client is told which bound it has met (SPEC 7).
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
        let digits = value.iter().all(u8::is_ascii_digit);
        match number.is_some() && digits && (value == b"0" || !value.starts_with(b"0")) {
            true => Ok(()),
            false => Err(framing("The Content-Length is no number of bytes.")),
        }
    }

    fn encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.encodings += 1;
        match value.eq_ignore_ascii_case(b"chunked") {
            true => Ok(()),
            false => Err(framing("The only transfer encoding that is served is `chunked`.")),
        }
    }

    fn check(&self, is_http_1_0: bool) -> Result<(), Refusal> {
        if self.hosts != 1 {
            return Err(no_host("There must be one Host."));
        }
        if self.lengths + self.encodings > 1 {
            return Err(framing("The body's length is told twice."));
        }
        if self.expectations > 1 {
            return Err(framing("What is expected is told twice."));
        }
        if self.encodings == 1 && is_http_1_0 {
            return Err(framing("HTTP/1.0 knows no transfer encoding."));
        }
        Ok(())
    }
}

/// What is wrong with a Host.
pub fn no_host(what: &'static str) -> Refusal {
    Refusal::malformed("invalid_host", what)
}

/// `host[:port]`: a name, an IPv4 address, or an IPv6 address in brackets (RFC 3986, 3.2.2, without percent codes).
pub fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.first() {
        Some(b'[') => match memchr(b']', value) {
            Some(end) => (&value[..=end], &value[end + 1..]),
            None => return false,
        },
        _ => value.split_at(memchr(b':', value).unwrap_or(value.len())),
    };
    let port_fits = match port {
        [] => true,
        [b':', digits @ ..] => {
            let port = std::str::from_utf8(digits).ok().filter(|_| digits.len() <= 5);
            digits.iter().all(u8::is_ascii_digit)
                && port.is_some_and(|port| port.parse::<u16>().is_ok())
        }
        _ => false,
    };
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let host_fits = match host {
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
        }
        name => !name.is_empty() && name.len() <= HOST_BYTES_MAX && name.iter().all(in_name),
    };
    port_fits && host_fits
}

/// Bytes of a host's name (RFC 1035, 2.3.4).
const HOST_BYTES_MAX: usize = 255;

/// Without the spaces at its ends. A tab is as good (RFC 9110, 5.6.3), but nginx refuses it here, and no client sends it.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = value {
        value = rest;
    }
    value
}

/// A byte of a method or a header's name (RFC 9110, 5.6.2).
pub(super) fn is_token(byte: &u8) -> bool {
    TOKEN[usize::from(*byte)]
}

/// One look for each byte, of which a head has hundreds.
const TOKEN: [bool; 256] = {
    let (mut table, others, mut byte) = ([false; 256], b"!#$%&'*+-.^_`|~", 0);
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut place = 0;
    while place < others.len() {
        table[others[place] as usize] = true;
        place += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(head: &str) -> Result<(), &'static str> {
        check(head.as_bytes()).map_err(|refusal| refusal.code())
    }

    fn with(lines: &str) -> Result<(), &'static str> {
        code(&format!("POST /v1/x?a=b HTTP/1.1\r\nhost: h\r\n{lines}\r\n"))
    }

    #[test]
    fn the_table_of_bytes_is_that_of_the_rfc() {
        for byte in 0..=u8::MAX {
            let one = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token(&byte), one, "{byte}");
        }
    }

    #[test]
    fn a_plain_head_passes() {
        assert_eq!(with(""), Ok(()));
        assert_eq!(with("Content-Length: 13\r\nX-Empty:\r\n"), Ok(()));
        assert_eq!(with("content-length:0\r\n"), Ok(()));
        assert_eq!(with("Transfer-Encoding:  Chunked \r\n"), Ok(()));
        assert_eq!(code("\r\nGET / HTTP/1.0\r\nhost: [::1]:80\r\n\r\n"), Ok(()));
    }

    #[test]
    fn a_line_that_two_programs_cut_differently_is_refused() {
        for lines in
            ["a: b\n", "a: b\rc: d\r\n", "a: b\r\r\n", " a: b\r\n", "\ta\r\n", "a b: c\r\n"]
        {
            assert_eq!(with(lines), Err("invalid_request"), "{lines:?}");
        }
        for lines in ["a: b\r\n c\r\n", "a\r\n", ": b\r\n", "a : b\r\n", "a\0: b\r\n"] {
            assert_eq!(with(lines), Err("invalid_request"), "{lines:?}");
        }
    }

    #[test]
    fn a_length_is_told_once_and_in_digits() {
        let cl = "content-length: ";
        for value in
            ["+1", "-1", "0x1", "1,1", "1 1", "01", "", "1_0", "18446744073709551616", "1\u{663}"]
        {
            assert_eq!(with(&format!("{cl}{value}\r\n")), Err("invalid_framing"), "{value}");
        }
        for value in
            ["xchunked", "gzip, chunked", "chunked, chunked", "\"chunked\"", "", "\u{b}chunked"]
        {
            let lines = format!("transfer-encoding: {value}\r\n");
            assert_eq!(with(&lines), Err("invalid_framing"), "{value}");
        }
        for lines in [
            "expect: 100-continue\r\nexpect: 100-continue\r\n",
            "content-length:\t1\r\n",
            "content-length: 1\r\ncontent-length: 1\r\n",
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
        ] {
            assert_eq!(with(lines), Err("invalid_framing"), "{lines:?}");
        }
        let old = "POST / HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(code(old), Err("invalid_framing"));
    }

    #[test]
    fn a_host_is_a_host() {
        for host in ["h", "h:80", "a.b-c_d:65535", "127.0.0.1:8080", "[::1]", "[fe80::1]:1"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "", ":80", "h:", "h:65536", "h:+80", "a/x?", "a?x", "a#x", "a b", "u@h", "[::1", "[x]",
            "::1", "h,h", "%41", "h:80:80",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        assert_eq!(code("GET / HTTP/1.1\r\n\r\n"), Err("invalid_host"));
        assert_eq!(with("Host: h\r\n"), Err("invalid_host"));
    }

    #[test]
    fn the_first_line_has_one_reading() {
        for line in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET /",
            "GET / HTTP/2.0",
            "GET / http/1.1",
            "G@T / HTTP/1.1",
            " GET / HTTP/1.1",
            "GET\t/ HTTP/1.1",
        ] {
            let head = format!("{line}\r\nhost: h\r\n\r\n");
            let refused = code(&head);
            assert!(refused.is_err(), "{line:?}");
        }
        for target in ["http://h/", "*", "h:80", "/a b", "/\u{e9}", "/a#b", "/\u{1}", ""] {
            let head = format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n");
            assert!(code(&head).is_err(), "{target:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "a".repeat(TARGET_BYTES_MAX));
        assert_eq!(code(&long), Err("uri_too_long"));
    }

    #[test]
    fn a_head_has_bounds() {
        assert_eq!(with(&"a: b\r\n".repeat(HEADERS_MAX - 1)), Ok(()));
        assert_eq!(with(&"a: b\r\n".repeat(HEADERS_MAX)), Err("request_header_fields_too_large"));
        let large = format!("a: {}\r\n", "b".repeat(HEAD_BYTES_MAX));
        assert_eq!(with(&large), Err("request_header_fields_too_large"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(head in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _refused_or_not = check(&head);
        }

        #[test]
        fn what_passes_has_one_framing(lines in "(content-length: [0-9+,]{1,2}\r\n|transfer-encoding: [chunked,]{7,8}\r\n|host: [a-z:/]{1,3}\r\n|x: [a-z\r\n]{0,3}\r\n){0,4}") {
            let head = format!("POST / HTTP/1.1\r\n{lines}\r\n");
            if check(head.as_bytes()).is_ok() {
                let count = |name: &str| head.to_lowercase().matches(name).count();
                prop_assert_eq!(count("\r\nhost:"), 1);
                prop_assert!(count("\r\ncontent-length:") + count("\r\ntransfer-encoding:") <= 1);
                prop_assert_eq!(head.matches('\n').count(), head.matches("\r\n").count());
            }
        }
    }
}
