//! The `sluice` command: parses the command line and runs one command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice::cli::run()
}
