//! What balancing is worth: the same requests to eight simulated nodes with caches of their own, by each policy, beside an
//! oracle that knows every cache.
//!
//! ```sh
//! cargo bench --bench routing                              # all traces, all policies, about an hour
//! cargo bench --bench routing -- chats,hot oracle,prefix_aware,round_robin
//! cargo bench --bench routing -- chats vllm-router,sglang-router .cache/routers    # cache_aware, from PyPI
//! cargo bench --bench routing -- overload                  # twice as much as can be done
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench tells its figures")]

mod fleet;
#[expect(dead_code, reason = "the parts of `failing` need more of it")]
#[path = "../failing/gateway.rs"]
mod gateway;
mod oracle;
mod outcome;
mod overload;
mod play;
mod trace;

use std::path::Path;
use std::process::ExitCode;

use outcome::Outcome;
use trace::Kind;

const POLICIES: [&str; 5] =
    ["oracle", "prefix_aware", "consistent_hash", "least_load", "round_robin"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let asked = |at: usize, all: &[&str]| -> Vec<String> {
        let all = all.iter().map(|word| (*word).to_owned()).collect();
        words.get(at).map_or(all, |list| list.split(',').map(str::to_owned).collect())
    };
    let (traces, policies) = (asked(0, &Kind::ALL.map(Kind::name)), asked(1, &POLICIES));
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let routers = Path::new(words.get(2).map_or(".cache/routers", String::as_str));
    if traces == ["overload"] {
        return match runtime.block_on(overload::run()) {
            Ok(figures) => {
                println!("overload: {figures}");
                ExitCode::SUCCESS
            }
            Err(wrong) => {
                println!("overload: FAILED: {wrong}");
                ExitCode::FAILURE
            }
        };
    }
    println!("| trace | policy | {}", Outcome::HEAD);
    for kind in Kind::ALL.into_iter().filter(|kind| traces.iter().any(|name| name == kind.name())) {
        for policy in &policies {
            match runtime.block_on(play::run(kind, policy, routers)) {
                Ok(outcome) => println!("| {} | {policy} | {}", kind.name(), outcome.row()),
                Err(error) => {
                    eprintln!("error: {} by {policy}: {error}", kind.name());
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}
