//! Which `Host` is let in: a page in a browser on the same machine must not reach Ollama by a name of its own.

use std::net::IpAddr;

use http::header::HOST;
use http::request::Parts;

use crate::sim::node::Node;

/// Ends of names that lead to nobody else's machine.
const LOCAL: [&str; 3] = [".localhost", ".local", ".internal"];

/// Whether the request may pass. On an address that others can reach anyway every name will do.
pub(super) fn is_allowed(head: &Parts, node: &Node) -> bool {
    !node.addr.ip().is_loopback() || is_local(host(head), node.host_name.as_deref())
}

/// What stands before the port.
fn host(head: &Parts) -> &str {
    let header = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 has it in the target.
    let host = header.or(head.uri.authority().map(|authority| authority.as_str()));
    let host = host.unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, _)) if name.starts_with('[') && name.ends_with(']') => &name[1..name.len() - 1],
        Some((name, _)) if !name.contains([':', '[', ']']) => name,
        _ => host,
    }
}

fn is_local(host: &str, own_name: Option<&str>) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return is_near(address);
    }
    let host = host.to_ascii_lowercase();
    host.is_empty()
        || host == "localhost"
        || own_name.is_some_and(|own| host.eq_ignore_ascii_case(own))
        || LOCAL.iter().any(|end| host.ends_with(end))
}

fn is_near(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let private = match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    };
    private || address.is_loopback() || address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_is_local() {
        for host in [
            "",
            "localhost",
            "LOCALHOST",
            "a.localhost",
            "gpu.local",
            "host.docker.internal",
            "gpu-7",
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.9",
            "0.0.0.0",
            "::1",
            "fd00::1",
        ] {
            assert!(is_local(host, Some("GPU-7")), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com",
            "local",
            "gpu-8",
            "8.8.8.8",
            "2001:db8::1",
            "[::1]",
        ] {
            assert!(!is_local(host, Some("gpu-7")), "{host}");
        }
    }

    #[test]
    fn a_port_is_left_out() {
        for (header, is) in [
            ("localhost:11434", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]:80", "::1"),
            ("[::1]", "[::1]"),
        ] {
            let request = http::Request::get("/").header(HOST, header).body(()).unwrap();
            assert_eq!(host(&request.into_parts().0), is);
        }
    }
}
