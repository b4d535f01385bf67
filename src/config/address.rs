//! Addresses of nodes: `http://host:port/base`.

use std::fmt;
use std::net::Ipv6Addr;

use super::NodeUrl;
use super::paths::RoutePath;
use super::report::Fault;

/// A URL taken apart: where it leads, and the path below it as written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address<'t> {
    /// Scheme, host and port; its base is empty.
    pub(super) node: NodeUrl,
    /// Empty, or from the first `/` on.
    pub(super) path: &'t str,
}

/// Whether a text that should be a URL may be quoted: one with a user or a query may hold a key.
pub(super) fn quotable(text: &str) -> bool {
    !text.contains(['@', '?', '#'])
}

impl<'t> Address<'t> {
    /// Takes `text` apart.
    pub(super) fn parse(text: &'t str) -> Result<Self, Fault> {
        let (scheme, rest) = text.split_once("://").ok_or_else(no_url)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(no_url()),
        };
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(Fault::with_hint(
                "a user or password cannot stand in a URL",
                "put the key into `upstream_key`, or `key` of the upstream",
            ));
        }
        if path.contains('?') {
            return Err("a query cannot stand here: a request brings its own".into());
        }
        if path.contains('#') {
            return Err("a fragment cannot stand here: it is never sent".into());
        }
        let (host, port) = host_and_port(authority)?;
        let port = match port {
            None if tls => 443,
            None => 80,
            Some(port) => number(port)?,
        };
        Ok(Self { node: NodeUrl { tls, host, port, base: String::new() }, path })
    }
}

fn no_url() -> Fault {
    Fault::with_hint("this is no URL of a node", "write `http://host:port` or `https://host`")
}

/// The host, lower case and without brackets, and the text of the port.
fn host_and_port(authority: &str) -> Result<(String, Option<&str>), Fault> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("a `[` in the host is never closed")?;
        let host: Ipv6Addr =
            host.parse().map_err(|_| "between `[` and `]` stands an IPv6 address")?;
        return match port {
            "" => Ok((host.to_string(), None)),
            port => {
                let port = port.strip_prefix(':').ok_or("after `]` comes `:` and the port")?;
                Ok((host.to_string(), Some(port)))
            }
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let labels = |host: &str| host.trim_end_matches('.').split('.').all(|label| !label.is_empty());
    if host.len() > 253 || !host.chars().all(fits) || !labels(host) {
        return Err("the host must be a name of letters, digits, `-` and `.`, or an address".into());
    }
    Ok((host.to_ascii_lowercase(), port))
}

fn number(port: &str) -> Result<u16, Fault> {
    // `parse` alone would also take `+80`.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err("the port must be 1 to 65535".into()),
    }
}

impl NodeUrl {
    /// Reads the address of a node, with or without a path. `/v1` at its end is the same as nothing: that is where
    /// `/v1/x` goes anyway.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let Address { mut node, path } = Address::parse(text)?;
        let base = path.strip_suffix('/').unwrap_or(path);
        if !base.is_empty() {
            let base = RoutePath::parse_target(base)?;
            if base.as_str().contains('{') {
                return Err("the address of a node has no parameters".into());
            }
            if base.as_str() != "/v1" {
                node.base = base.as_str().to_owned();
            }
        }
        Ok(node)
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base)
    }
}
