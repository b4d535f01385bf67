//! The threads that write the access log and the ledger, and their end.

use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::access_log::AccessLog;
use crate::ledger::Ledger;

/// Longest wait for the last lines: a pipe that nobody reads would be waited for without an end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Both, each in a thread of its own, where it is on.
pub struct Writers {
    /// The end where lines go in.
    pub log: AccessLog,
    /// The end where rows go in.
    pub ledger: Ledger,
    /// What writes them.
    pub threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Returns when all is written that has come, or after a second.
    pub fn finish(self) {
        let (done, finished) = mpsc::channel();
        let closing = Builder::new().name("last-lines".into()).spawn(move || {
            self.log.close();
            self.ledger.close();
            self.threads.into_iter().for_each(|thread| drop(thread.join()));
            let _nobody_waits = done.send(());
        });
        if closing.is_ok() {
            let _in_time = finished.recv_timeout(LAST_LINES);
        }
    }
}
