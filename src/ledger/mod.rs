//! The account: for each request that was let through to a node a line with its tokens, appended to a file. Off unless a
//! path is given. Lines survive the process: what ended 100 ms before it is killed is in the file.

mod file;
mod row;
pub mod sums;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use self::file::Appended;
pub use self::file::files_of;
pub use self::row::Row;
use crate::metrics::LedgerSeries;

/// Rows that wait for the writer: about a second at full speed. More are dropped and counted.
const QUEUE: usize = 16 * 1024;

/// How long the writer waits for more rows when one has come: few writes, and far less than 100 ms.
const GATHERING: Duration = Duration::from_millis(20);

/// Lines that are kept while the file cannot be written, in bytes: some 50,000 requests.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How often it is tried again then.
const RETRY: Duration = Duration::from_secs(1);

/// The end of the queue where rows go in. Off: nothing happens.
#[derive(Clone)]
pub struct Ledger(Option<Arc<Open>>);

struct Open {
    rows: SyncSender<Message>,
    series: LedgerSeries,
}

/// What the writer is told.
enum Message {
    /// Write this.
    Row(Box<Row>),
    /// All that came before is written; end.
    End,
}

impl Ledger {
    /// No account is kept.
    pub fn off() -> Self {
        Self(None)
    }

    /// Rows to the file at `path`, by a thread that ends when all is written after [`Ledger::close`]. From `bytes_max` on the file is
    /// put aside.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread be started.
    pub fn start(
        path: &Path,
        bytes_max: u64,
        series: LedgerSeries,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let file = Appended::open(path, bytes_max)?;
        let (rows, queue) = sync_channel(QUEUE);
        let writer =
            Writer { file, lines: Vec::new(), failing: false, lost: 0, series: series.clone() };
        let named = std::thread::Builder::new().name("ledger".into());
        let thread = named.spawn(move || writer.run(&queue))?;
        Ok((Self(Some(Arc::new(Open { rows, series }))), thread))
    }

    /// Somebody wants to know what requests cost.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Queues a row. Never waits.
    pub fn write(&self, row: Row) {
        let Some(open) = &self.0 else { return };
        if open.rows.try_send(Message::Row(Box::new(row))).is_err() {
            open.series.dropped.inc();
        }
    }

    /// Nothing comes any more: the writer ends when it has written what waits. Blocks while the queue is full.
    pub fn close(&self) {
        if let Some(open) = &self.0 {
            let _writer_is_gone = open.rows.send(Message::End);
        }
    }
}

/// What the thread has.
struct Writer {
    file: Appended,
    /// Not written yet.
    lines: Vec<u8>,
    failing: bool,
    /// Rows that were let go of since it failed.
    lost: u64,
    series: LedgerSeries,
}

impl Writer {
    #[expect(clippy::disallowed_methods, reason = "the writer has a thread of its own")]
    fn run(mut self, queue: &Receiver<Message>) {
        loop {
            let first = match self.lines.is_empty() {
                true => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => queue.recv_timeout(RETRY),
            };
            if matches!(first, Err(RecvTimeoutError::Disconnected)) {
                return self.end();
            }
            // While it sleeps nobody wakes it: a wake-up costs a request more than its row.
            std::thread::sleep(GATHERING);
            for message in first.into_iter().chain(queue.try_iter().take(QUEUE)) {
                match message {
                    Message::Row(row) => self.take(&row),
                    Message::End => return self.end(),
                }
            }
            self.flush();
        }
    }

    fn take(&mut self, row: &Row) {
        if self.lines.len() > KEPT_BYTES_MAX {
            self.lost += 1;
            self.series.dropped.inc();
        } else {
            row.write(&mut self.lines);
        }
    }

    fn flush(&mut self) {
        let before = count(&self.lines);
        let result = self.file.append(&mut self.lines);
        self.series.rows.inc_by(before - count(&self.lines));
        match &result {
            Err(error) => {
                self.series.failures.inc();
                if !self.failing {
                    log::error!("the ledger cannot be written, its rows wait: {error}");
                }
            }
            Ok(()) if self.failing => {
                let lost = std::mem::take(&mut self.lost);
                log::warn!("the ledger is written again; rows that are lost: {lost}");
            }
            Ok(()) => {}
        }
        self.failing = result.is_err();
    }

    fn end(mut self) {
        self.flush();
        self.file.sync();
        let lost = count(&self.lines);
        if lost > 0 {
            self.series.dropped.inc_by(lost);
            log::error!("the ledger ends; rows that are lost: {}", lost + self.lost);
        }
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}
