//! Debian's nginx as a plain reverse proxy, to be compared with.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::support::eventually;
use crate::support::nginx::{Nginx, alone, folders, free_address};

/// A running nginx before one node.
pub(super) struct Proxy {
    pub(super) addr: SocketAddr,
    _nginx: Nginx,
}

impl Proxy {
    /// As its documentation has it be set up: HTTP/1.1 and kept connections to the node. Its times are those of the gateway
    /// that it is compared with, or the shortest that it knows.
    pub(super) async fn before(node: SocketAddr) -> Self {
        let (dir, addr) = (tempfile::tempdir().unwrap(), free_address());
        let (alone, folders) = (alone(dir.path()), folders(dir.path()));
        let conf = format!(
            "{alone}\nevents {{ worker_connections 256; }}\nhttp {{\n  {folders}\n  \
             client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s;\n  \
             upstream node {{ server {node}; keepalive 8; }}\n  server {{\n    listen {addr};\n    location / {{\n      \
             proxy_pass http://node; proxy_http_version 1.1; proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n"
        );
        let proxy = Self { addr, _nginx: Nginx::start(dir, &conf) };
        eventually(|| async { TcpStream::connect(addr).await.is_ok() }).await;
        proxy
    }
}
