//! What a request is called on its way: its id, and its place in a distributed trace.

use bytes::Bytes;
use http::HeaderValue;
use uuid::Uuid;

/// Longest id of a client's that is kept, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What ids of ours begin with.
const OWN: &[u8; 4] = b"req_";

/// The id of a request, which can go into a log and a header as it is: visible ASCII. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// None yet.
    pub fn none() -> Self {
        Self(HeaderValue::from_static(""))
    }

    /// The client's own id where it is fit, else a new one that sorts by time.
    pub fn of(from_client: Option<&HeaderValue>) -> Self {
        let fit = |id: &&HeaderValue| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id
                    .as_bytes()
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
        };
        // A copy: the value itself is a part of the request's whole head, which the id outlives.
        let own =
            from_client.filter(fit).and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok());
        Self(own.unwrap_or_else(fresh))
    }

    /// As a text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// As a header.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The same with a fresh suffix, for one try. vLLM makes the ids of its answers from what it is sent: the same one
    /// twice would collide.
    pub fn of_try(&self) -> HeaderValue {
        let mut digits = [0; uuid::fmt::Simple::LENGTH];
        let suffix = &Uuid::new_v4().simple().encode_lower(&mut digits)[24..];
        let mut id = Vec::with_capacity(self.0.len() + 1 + suffix.len());
        id.extend_from_slice(self.0.as_bytes());
        id.push(b'-');
        id.extend_from_slice(suffix.as_bytes());
        // Visible ASCII is always a header.
        HeaderValue::from_maybe_shared(Bytes::from(id)).unwrap_or_else(|_| self.0.clone())
    }
}

fn fresh() -> HeaderValue {
    let mut id = [0; OWN.len() + uuid::fmt::Simple::LENGTH];
    id[..OWN.len()].copy_from_slice(OWN);
    Uuid::now_v7().simple().encode_lower(&mut id[OWN.len()..]);
    // Digits are always a header.
    HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("req_"))
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
        let span = Uuid::new_v4().as_u128() as u64;
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
        let id = |text: &[u8]| RequestId::of(Some(&HeaderValue::from_bytes(text).unwrap()));
        assert_eq!(id(b"a.B_c-1").as_str(), "a.B_c-1");
        for bad in [&b""[..], b"a b", b"a\t", b"\xff", &[b'a'; 129]] {
            let fresh = id(bad);
            assert!(fresh.as_str().starts_with("req_") && fresh.as_str().len() == 36);
        }
        assert_ne!(RequestId::of(None), RequestId::of(None));
        let id = id(b"a");
        let (first, second) = (id.of_try(), id.of_try());
        assert!(first.to_str().unwrap().starts_with("a-") && first.len() == 10);
        assert_ne!(first, second);
    }

    #[test]
    fn an_id_holds_no_more_than_itself() {
        let head = Bytes::from(vec![b'a'; 1 << 20]);
        let value = HeaderValue::from_maybe_shared(head.slice(..8)).unwrap();
        let id = RequestId::of(Some(&value));
        assert_eq!(id.as_str(), "aaaaaaaa");
        assert!(!head.as_ptr_range().contains(&id.as_str().as_ptr()));
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
