//! Debian's nginx as a plain reverse proxy, to be compared with.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use crate::nginx::program;
use crate::support::eventually;

/// A running nginx before one node. Dropped, it is killed.
pub(super) struct Proxy {
    pub(super) addr: SocketAddr,
    process: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _gone_already = self.process.kill();
        let _ended = self.process.wait();
    }
}

impl Proxy {
    /// As its documentation has it be set up: HTTP/1.1 and kept connections to the node. Its times are those of the gateway
    /// that it is compared with, or the shortest that it knows.
    pub(super) async fn before(node: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().display();
        // It is free a moment later.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {here}/{what}; "))
            .concat();
        let text = format!(
            "worker_processes 1; daemon off; master_process off; pid {here}/pid;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n  access_log off; {folders}\n  client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s;\n  \
             upstream node {{ server {node}; keepalive 8; }}\n  server {{\n    listen {addr};\n    location / {{\n      \
             proxy_pass http://node; proxy_http_version 1.1; proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n"
        );
        let conf = dir.path().join("nginx.conf");
        std::fs::write(&conf, text).unwrap();
        let process = Command::new(program())
            .arg("-e")
            .arg(dir.path().join("error.log"))
            .arg("-c")
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("apt-get install nginx-light");
        let proxy = Self { addr, process, _dir: dir };
        eventually(|| async { TcpStream::connect(addr).await.is_ok() }).await;
        proxy
    }
}
