//! The `sluice` command: parses the command line and runs one command.

use std::process::ExitCode;

/// Chosen by measurement: the page of `lib.rs` has the figures.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    sluice::cli::run()
}
