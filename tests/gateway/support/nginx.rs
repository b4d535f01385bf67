//! Debian's nginx, in a folder of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running nginx; killed when it is dropped.
pub(crate) struct Nginx {
    process: Child,
    dir: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it.
        let _gone_already = self.process.kill();
        let _ended = self.process.wait();
    }
}

impl Nginx {
    /// Starts it in `dir` with this configuration.
    pub(crate) fn start(dir: tempfile::TempDir, conf: &str) -> Self {
        let path = dir.path().join("nginx.conf");
        std::fs::write(&path, conf).unwrap();
        let process = Command::new(program())
            .arg("-e")
            .arg(dir.path().join("error.log"))
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("apt-get install nginx-light");
        Self { process, dir }
    }

    /// What it complains of, for a test that fails.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default()
    }
}

/// The first line of a configuration: one process, which writes to `dir` alone.
pub(crate) fn alone(dir: &Path) -> String {
    let here = dir.display();
    format!("worker_processes 1; daemon off; master_process off; pid {here}/pid;")
}

/// What stands in `http { … }`, so that it writes to `dir` alone.
pub(crate) fn folders(dir: &Path) -> String {
    let here = dir.display();
    let folder = |what| format!("{what}_temp_path {here}/{what}; ");
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(folder).concat();
    format!("access_log off; {folders}")
}

/// An address to listen on: free a moment later.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn program() -> &'static str {
    // Not in the path of everybody.
    let debians = "/usr/sbin/nginx";
    if Path::new(debians).exists() { debians } else { "nginx" }
}
