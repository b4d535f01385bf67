//! Processes that are measured: their CPU time and their memory, as Linux counts them.

use std::fs;
use std::process::{Child, Command, Stdio};

/// A process and its children; killed when dropped.
pub(crate) struct Processes {
    child: Child,
}

impl Processes {
    /// # Errors
    /// It cannot be started; `hint` is the line that installs it.
    pub(crate) fn start(command: &mut Command, hint: &str) -> Result<Self, String> {
        let named = format!("{:?}", command.get_program());
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Self { child: child.map_err(|error| format!("{named}: {error}. {hint}"))? })
    }

    /// Nanoseconds of CPU time that all threads had up to now, in user space and in the kernel.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.ids().iter().map(|id| cpu_ns(*id)).sum()
    }

    /// Resident memory.
    pub(crate) fn resident_kb(&self) -> u64 {
        self.ids().iter().map(|id| resident_kb(*id)).sum()
    }

    /// Whether it still runs.
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its own id, and those of all that it started.
    fn ids(&self) -> Vec<u32> {
        let mut ids = vec![self.child.id()];
        let mut place = 0;
        while let Some(id) = ids.get(place).copied() {
            let path = format!("/proc/{id}/task/{id}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            ids.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            place += 1;
        }
        ids
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // nginx's workers end with their master only when it is asked.
        let children = self.ids();
        let kill =
            |id: &u32| Command::new("kill").arg(id.to_string()).stderr(Stdio::null()).status();
        for id in children.iter().rev() {
            let _gone_already = kill(id);
        }
        let _ended = self.child.wait();
    }
}

/// The first number of `schedstat` of each thread: nanoseconds on a processor.
fn cpu_ns(id: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    times.sum()
}

fn resident_kb(id: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
