//! What no client should send: heads that two programs read differently, and bodies that are none.

/// In a request that is hidden in another one. No node may ever see it.
pub(crate) const SMUGGLED: &str = "smuggled-by-the-soak";

/// Bytes of a head that is too large for anybody.
const HUGE_BYTES: usize = 100 << 10;

/// A line of the head, or more of them, and what comes after the head. All are refused, and what follows is not served.
const LINES: [(&str, &str); 17] = [
    ("Content-Length: 5\r\nContent-Length: 6", "hello"),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: xchunked", "0\r\n\r\n"),
    ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: identity", ""),
    ("Content-Length: +5", "hello"),
    ("Content-Length: 0x5", "hello"),
    ("Content-Length: 5, 5", "hello"),
    ("Content-Length: -1", ""),
    ("Content-Length: 99999999999999999999", ""),
    ("Content-Length : 5", "hello"),
    ("Content-Length: 5\r\nX-Null: a\0b", "hello"),
    ("Content-Length: 5\r\nHost: other", "hello"),
    ("Transfer-Encoding: chunked", "zz\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked", "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked", "-5\r\nhello\r\n0\r\n\r\n"),
];

/// Whole beginnings that are no request to an API.
const STARTS: [&str; 9] = [
    "POST //v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/../v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/%63hat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/chat/completions HTTP/1.1\r\nHost: a b\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/chat/completions HTTP/9.9\r\nHost: h\r\n\r\n",
    "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03 a hello of TLS",
    "complete nonsense\r\n\r\n",
];

/// Bodies that no chat has.
const BODIES: [&str; 10] = [
    "",
    "{",
    "[]",
    "null",
    "\"m\"",
    r#"{"model":"m""#,
    r#"{"model":5,"messages":[]}"#,
    r#"{"model":"m","model":"m","messages":[]}"#,
    r#"{"model":"nobody","messages":[{"role":"user","content":"hi"}]}"#,
    r#"{"model":"m","messages":[{"role":"user","content":"hi"}]} trailing"#,
];

/// Nested deeper than any reader goes.
const DEEP: usize = 50_000;

/// How many heads there are.
pub(crate) const HEADS: usize = LINES.len() + STARTS.len() + 1;

/// How many bodies there are.
pub(crate) const BODY_KINDS: usize = BODIES.len() + 1;

/// The bytes of a broken request, and after them a good one that must not be served.
pub(crate) fn head(number: usize, key: &str) -> Vec<u8> {
    let start = |more: &str| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\n{more}\r\n\r\n"
        )
    };
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"{SMUGGLED}"}}],"max_tokens":8}}"#
    );
    let hidden = start(&format!("Content-Length: {}", body.len())) + &body;
    let broken = match (LINES.get(number), STARTS.get(number.wrapping_sub(LINES.len()))) {
        (Some((lines, after)), _) => start(lines) + after,
        (None, Some(start)) => (*start).to_owned(),
        (None, None) => start(&format!("X-Huge: {}", "a".repeat(HUGE_BYTES))),
    };
    (broken + &hidden).into_bytes()
}

/// A broken body.
pub(crate) fn body(number: usize) -> Vec<u8> {
    match BODIES.get(number) {
        Some(body) => body.as_bytes().to_vec(),
        None => format!(r#"{{"model":"m","messages":{}"#, "[".repeat(DEEP)).into_bytes(),
    }
}
