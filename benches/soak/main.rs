//! Hours of bad weather in minutes: a real gateway before nodes that fail in every way, clients that leave and lie, and a
//! configuration that never rests. Every answer is compared with what its request must get; memory and descriptors are
//! watched. Ends with status 1 where a bar is missed.
//!
//! ```sh
//! cargo bench --bench soak -- --minutes 30
//! cargo bench --bench soak -- --seconds 20 --seed 7      # a try; the same seed throws the same dice
//! cargo bench --bench soak -- --minutes 30 --binary /usr/local/bin/sluice    # another build of the gateway
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench tells its figures")]
#![expect(clippy::disallowed_methods, reason = "its tasks end with the process")]

mod answers;
mod bad;
mod broken;
mod clients;
mod dice;
mod echo;
mod gateway;
mod nodes;
mod samples;
mod seen;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clients::Clients;
use dice::Dice;
use gateway::Gateway;
use nodes::Nodes;
use samples::Samples;
use seen::Seen;

/// How long everything may take to come to rest when the clients have gone: longer than any timeout of the nodes, and than
/// the gateway keeps an idle connection to them.
const REST: Duration = Duration::from_secs(30);

/// What is asked for.
struct Arguments {
    time: Duration,
    seed: u64,
    binary: PathBuf,
}

impl Arguments {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut parsed = Self {
            time: Duration::from_secs(30 * 60),
            seed: dice::any_seed(),
            binary: env!("CARGO_BIN_EXE_sluice").into(),
        };
        for pair in words.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{} needs a value", pair.concat()));
            };
            let number = || value.parse::<u64>().map_err(|_| format!("{value} is no number"));
            match name.as_str() {
                "--minutes" => parsed.time = Duration::from_secs(number()? * 60),
                "--seconds" => parsed.time = Duration::from_secs(number()?),
                "--seed" => parsed.seed = number()?,
                "--binary" => parsed.binary = value.into(),
                _ => {
                    let known = "--minutes, --seconds, --seed, --binary";
                    return Err(format!("{name} is unknown; there are {known}"));
                }
            }
        }
        Ok(parsed)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let done = Arguments::parse(&words).and_then(|arguments| {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        runtime.block_on(soak(&arguments))
    });
    match done {
        Ok(missed) if missed.is_empty() => {
            println!("every bar is held");
            ExitCode::SUCCESS
        }
        Ok(missed) => {
            missed.iter().for_each(|bar| println!("MISSED: {bar}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the bars that were missed.
async fn soak(arguments: &Arguments) -> Result<Vec<String>, String> {
    println!("{:?} with --seed {}", arguments.time, arguments.seed);
    let mut dice = Dice::new(arguments.seed);
    let seen = Arc::new(Seen::default());
    let nodes = Nodes::start(&mut dice, &seen).await?;
    let gateway = Gateway::start(&arguments.binary, &nodes.addresses()).await?;
    let mut samples = Samples::begin(&gateway)?;

    let clients = Clients::start(&gateway, &mut dice, &seen);
    let until = Instant::now() + arguments.time;
    let weather = nodes.misbehave(dice.child(), until);
    let reloads = gateway.reload(dice.child(), until);
    let watch = samples.watch(&gateway, &seen, until);
    let ((), reloaded, watched) = tokio::join!(weather, reloads, watch);
    watched?;
    let reloaded = reloaded?;
    clients.stop().await;
    nodes.smuggled(&seen);

    let rest = samples.rest(&gateway, REST).await?;
    println!("{}", seen.figures());
    let taken = gateway.series("sluice_config_reloads_total", "ok").await?;
    let (slope, judged) = samples.slope();
    println!(
        "{reloaded} files written, {taken} reloads took effect; resident memory {slope:+.2} MB a minute after the warm-up{}; \
         at rest {rest}",
        if judged { "" } else { " (too short a time to be judged)" }
    );
    let mut missed = seen.missed();
    missed.extend(samples.missed(&rest));
    if taken == 0.0 {
        missed.push("no reload took effect".to_owned());
    }
    Ok(missed)
}
