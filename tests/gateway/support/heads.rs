//! The head of a request as a node must see it, to the byte.

use std::net::SocketAddr;

use super::scripted::Came;

/// A request to `node` with this first line; `lines` are what goes up of the client's own headers, and the node's key,
/// each with its CRLF. The Host that the client asked for is `host`. The id is taken from what came: a new one is made for each try.
pub(crate) fn sent_up(
    came: &Came,
    node: SocketAddr,
    (line, lines): (&str, &str),
    host: &str,
) -> String {
    let id = came.header("x-request-id").unwrap();
    assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{id}");
    assert!(id.starts_with("req_"), "{id}");
    let length = match (line.starts_with("POST "), came.body.len()) {
        (false, 0) => String::new(),
        (_, length) => format!("Content-Length: {length}\r\n"),
    };
    format!(
        "{line} HTTP/1.1\r\nHost: {node}\r\n{lines}x-request-id: {id}\r\nx-forwarded-for: 127.0.0.1\r\n\
         x-forwarded-proto: http\r\nx-forwarded-host: {host}\r\n{length}\r\n"
    )
}

/// One request came, with this body, and its head is [`sent_up`].
#[track_caller]
pub(crate) fn only_came(seen: &[Came], node: SocketAddr, (line, lines): (&str, &str), body: &str) {
    let [came] = seen else { panic!("{seen:?}") };
    assert_eq!(came.head, sent_up(came, node, (line, lines), "h"));
    assert_eq!(String::from_utf8_lossy(&came.body), body);
}
