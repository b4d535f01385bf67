//! A head that passes has one reading: a lenient parser finds the same lines in it, one Host and one framing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::wire::raw_head;

fuzz_target!(|head: &[u8]| {
    let start = head.chunks(2).take_while(|pair| *pair == b"\r\n").count() * 2;
    let Some(end) = head[start..].windows(4).position(|four| four == b"\r\n\r\n") else {
        let _refused_or_not = raw_head::check(head);
        return;
    };
    let head = &head[..start + end + 4];
    if raw_head::check(head).is_err() {
        return;
    }
    let mut headers = [httparse::EMPTY_HEADER; raw_head::HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    // What the parser refuses, such as NUL in a value, goes no further either.
    let Ok(parsed) = request.parse(head) else { return };
    assert_eq!(parsed, httparse::Status::Complete(head.len()), "another end");
    let lines = head[start..].split(|byte| *byte == b'\n').count() - 3;
    assert_eq!(request.headers.len(), lines, "another number of lines");
    let values = |name: &str| -> Vec<&[u8]> {
        let named = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.trim_ascii()).collect()
    };
    let (hosts, lengths) = (values("host"), values("content-length"));
    let encodings = values("transfer-encoding");
    assert!(hosts.len() == 1 && raw_head::is_host(hosts[0]), "another host");
    assert!(lengths.len() + encodings.len() <= 1, "two framings");
    assert!(lengths.iter().all(|value| value.iter().all(u8::is_ascii_digit) && !value.is_empty()));
    assert!(encodings.iter().all(|value| value.eq_ignore_ascii_case(b"chunked")));
    assert!(request.path.is_some_and(|target| target.starts_with('/')));
});
