//! The process that SIGQUIT starts: the same program with the same arguments, which takes this one's place.

use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::process::ExitStatus;

use tokio::process::{Child, Command};

/// How it is told apart from a first process.
const UPGRADE: &str = "--upgrade";

/// What Linux adds to the path of a program whose file was replaced while it runs (proc_pid_exe(5)).
const DELETED: &[u8] = b" (deleted)";

/// None, or one that starts.
#[derive(Default)]
pub(super) struct Successor(Option<Child>);

impl Successor {
    /// Starts it, unless one is starting.
    pub(super) fn start(&mut self) {
        if self.0.is_some() {
            return log::warn!("SIGQUIT: a successor is starting already");
        }
        if std::process::id() == 1 {
            // Its container would end with it, whoever serves then.
            return log::error!("SIGQUIT: the first process of a container cannot be replaced");
        }
        match spawn() {
            Ok(child) => {
                log::info!("SIGQUIT: process {} starts as successor", child.id().unwrap_or(0));
                self.0 = Some(child);
            }
            Err(error) => log::error!("SIGQUIT: no successor, this process serves on: {error}"),
        }
    }

    /// Returns when it has ended by itself.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let Some(child) = &mut self.0 else { return pending().await };
        let status = child.wait().await;
        self.0 = None;
        status
    }
}

fn spawn() -> io::Result<Child> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut command = Command::new(program()?);
    // The watchdog's process is named there: it is another one now.
    command.args(&arguments).env_remove("WATCHDOG_PID");
    if !arguments.iter().any(|argument| argument == UPGRADE) {
        command.arg(UPGRADE);
    }
    command.spawn()
}

/// The program as it was called: a link may lead to a newer one by now. Where that is no path, as it was found.
fn program() -> io::Result<PathBuf> {
    let typed = std::env::args_os().next().map(PathBuf::from);
    let is_path = |path: &PathBuf| path.components().count() > 1 && path.is_file();
    match typed.filter(is_path) {
        Some(path) => Ok(path),
        None => std::env::current_exe().map(|path| without_mark(path.into_os_string())),
    }
}

fn without_mark(path: OsString) -> PathBuf {
    let plain = path.as_bytes().strip_suffix(DELETED);
    plain.map(|plain| OsString::from_vec(plain.to_vec())).unwrap_or(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_replaced_is_found_by_its_name() {
        assert_eq!(without_mark("/bin/sluice (deleted)".into()), PathBuf::from("/bin/sluice"));
        assert_eq!(without_mark("/bin/sluice".into()), PathBuf::from("/bin/sluice"));
    }
}
