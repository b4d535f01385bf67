//! The `sluice` command: parses the command line and runs one command.

use std::process::ExitCode;

/// glibc's allocator makes a small request cost twice as much after a burst of streams, and never recovers.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    sluice::cli::run()
}
