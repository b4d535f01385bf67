//! How an upstream's https nodes are known to be the right ones: who certifies them, and for which name.

use tokio_rustls::rustls::pki_types::ServerName;

use super::Nodes;
use super::authorities::Authorities;
use super::named_files::NamedFiles;
use super::raw::RawTls;
use super::report::{At, Fault, Report};

/// What makes an https node the right one. Says nothing of plain ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTls {
    /// Those who certify it, and nobody else; none: the setting `ca_file`, or the system's.
    pub authorities: Option<Authorities>,
    /// The name that is asked for (SNI) and that its certificate must have, lower case, or an address; none: its host.
    pub server_name: Option<String>,
}

impl Nodes {
    /// TLS is spoken to some of them.
    pub fn have_tls(&self) -> bool {
        self.urls().iter().any(|url| url.tls)
    }
}

/// Reads `tls` of an upstream, whose nodes may be unknown; what is wrong is in the report.
pub(super) fn read(
    raw: Option<RawTls>,
    nodes: Option<&Nodes>,
    at: &At<'_>,
    (files, report): (&mut NamedFiles<'_>, &mut Report),
) -> NodeTls {
    let Some(raw) = raw else { return NodeTls::default() };
    let at = &at.key("tls");
    if nodes.is_some_and(|nodes| !nodes.have_tls()) {
        let draft = report.problem(at, "no node of this upstream is reached over TLS");
        draft.hint("write `https://` where its nodes are, or remove `tls`");
    }
    let authorities = raw
        .ca_file
        .and_then(|path| report.take_secret(&at.key("ca_file"), files.authorities(&path)));
    let server_name = raw
        .server_name
        .and_then(|text| report.take(&at.key("server_name"), &text, server_name(&text)));
    NodeTls { authorities, server_name }
}

/// A name that a certificate can have. Without `_`: Pingora would ask for another one in its place.
fn server_name(text: &str) -> Result<String, Fault> {
    match ServerName::try_from(text) {
        Ok(_) if !text.contains('_') => Ok(text.to_ascii_lowercase()),
        _ => Err(Fault::with_hint(
            "this is no name that a server's certificate can have",
            "write it without scheme and port: `gpu.internal`, or an address",
        )),
    }
}
