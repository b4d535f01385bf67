//! What a request is called on its way: its id, and its place in a distributed trace.

use uuid::Uuid;

/// Longest id of a client's that is kept, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The client's own id where it can go into a log and a header as it is, else a new one that sorts by time.
pub fn request_id(from_client: Option<&[u8]>) -> String {
    let fit = |id: &&[u8]| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
    };
    match from_client.filter(fit).and_then(|id| std::str::from_utf8(id).ok()) {
        Some(id) => id.to_owned(),
        None => format!("req_{}", Uuid::now_v7().simple()),
    }
}

/// `id` with a fresh suffix. vLLM makes the ids of its answers from what it is sent: the same one twice would collide.
pub fn id_of_try(id: &str) -> String {
    let fresh = Uuid::now_v7();
    let bytes = fresh.as_bytes();
    // The first 6 bytes of a version 7 UUID are the time, the last 8 are random.
    format!("{id}-{:02x}{:02x}{:02x}{:02x}", bytes[12], bytes[13], bytes[14], bytes[15])
}

/// W3C Trace Context, level 1: `00-<trace id>-<parent id>-<flags>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: String,
    flags: String,
}

impl TraceParent {
    /// The client's header, where it is valid; all-zero ids and version `ff` are not.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?;
        let mut parts = text.split('-');
        let (version, trace_id) = (parts.next()?, parts.next()?);
        let (parent_id, flags) = (parts.next()?, parts.next()?);
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
        let valid = hex(version, 2)
            && version != "ff"
            && (version != "00" || parts.next().is_none())
            && hex(trace_id, 32)
            && !zero(trace_id)
            && hex(parent_id, 16)
            && !zero(parent_id)
            && hex(flags, 2);
        valid.then(|| Self { trace_id: trace_id.to_owned(), flags: flags.to_owned() })
    }

    /// The header for a node: the same trace, with us as the parent.
    pub fn child(&self) -> String {
        let span = Uuid::now_v7().as_u128() as u64;
        format!("00-{}-{span:016x}-{}", self.trace_id, self.flags)
    }

    /// The trace's id, 32 hex digits, for the log.
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_id_is_kept_and_any_other_replaced() {
        assert_eq!(request_id(Some(b"a.B_c-1")), "a.B_c-1");
        for bad in [&b""[..], b"a b", b"a\n", b"\xff", &[b'a'; 129]] {
            assert!(request_id(Some(bad)).starts_with("req_"));
        }
        assert_ne!(request_id(None), request_id(None));
        assert_ne!(id_of_try("a"), id_of_try("a"));
    }

    #[test]
    fn a_trace_goes_on_with_a_new_parent() {
        let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let child = TraceParent::parse(sent.as_bytes()).unwrap().child();
        assert!(
            child.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && child.ends_with("-01")
        );
        assert_ne!(child, sent);
        for bad in [
            "",
            "00-0-0-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
