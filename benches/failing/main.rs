//! What clients notice of nodes that fail, at full scale: real processes that are killed, connections that close under a
//! request, clients that leave. Each part prints its figures and fails where one is not as promised.
//!
//! ```sh
//! cargo bench --bench failing                         # all of it, about five minutes
//! cargo bench --bench failing -- killed,idle,told     # some of it; idle-full takes the 5 s of uvicorn
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench tells its figures")]
#![expect(clippy::disallowed_methods, reason = "its tasks end with the process")]

mod gateway;
mod idle;
mod killed;
mod left;
mod told;

use std::process::ExitCode;

/// How a part ends: with its figures, or with what is wrong.
type Done = Result<String, String>;

const PARTS: [&str; 5] = ["killed", "idle", "idle-full", "left", "told"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let asked: Vec<&str> = match words.first() {
        Some(words) => words.split(',').collect(),
        None => PARTS.to_vec(),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut ended = ExitCode::SUCCESS;
    for part in asked {
        let done: Done = match part {
            "killed" => runtime.block_on(killed::run()),
            "idle" => runtime.block_on(idle::run(idle::QUICK)),
            "idle-full" => runtime.block_on(idle::run(idle::FULL)),
            "left" => runtime.block_on(left::run()),
            "told" => runtime.block_on(told::run()),
            _ => Err(format!("unknown; there are {}", PARTS.join(", "))),
        };
        match done {
            Ok(figures) => println!("{part}: {figures}"),
            Err(wrong) => {
                println!("{part}: FAILED: {wrong}");
                ended = ExitCode::FAILURE;
            }
        }
    }
    ended
}
