//! A real Redis in a folder of its own, on a free port, which can be stopped, killed and brought back.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running server. Dropped, it is killed.
pub(crate) struct RedisServer {
    port: u16,
    password: Option<&'static str>,
    dir: tempfile::TempDir,
    process: Option<(Child, BufReader<ChildStdout>)>,
}

impl RedisServer {
    /// Starts one that anybody may use.
    pub(crate) fn start() -> Self {
        Self::of(None)
    }

    /// Starts one that wants a password.
    pub(crate) fn with_password(password: &'static str) -> Self {
        Self::of(Some(password))
    }

    fn of(password: Option<&'static str>) -> Self {
        // It is free a moment later.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self { port, password, dir, process: None };
        server.bring_back();
        server
    }

    /// Starts it again on its port, with nothing in it.
    pub(crate) fn bring_back(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"]);
        command.arg(self.dir.path());
        if let Some(password) = self.password {
            command.args(["--requirepass", password]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("apt-get install redis-server");
        let mut log = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("Ready to accept connections") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it has ended");
        }
        self.process = Some((process, log));
    }

    /// It takes connections, and answers nothing.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
    }

    /// It answers again, also what it was asked meanwhile.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    /// It is gone, and all that was in it.
    pub(crate) fn kill(&mut self) {
        if let Some((mut process, _)) = self.process.take() {
            let _gone_already = process.kill();
            let _ended = process.wait();
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        let password = self.password.map_or(String::new(), |password| format!(":{password}@"));
        format!("redis://{password}127.0.0.1:{}", self.port)
    }

    fn signal(&self, name: &str) {
        let (process, _) = self.process.as_ref().unwrap();
        let kill = format!("kill -{name} {}", process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
