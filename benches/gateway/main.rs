//! What the gateway costs: CPU time per request and per chunk beside nginx, HAProxy and a bare Pingora proxy, on the same
//! work in front of the same node, in interleaved rounds. Ratios are taken within a round: the machine may be noisy.
//!
//! ```sh
//! cargo bench --bench gateway                                   # everything, 15 rounds
//! cargo bench --bench gateway -- --rounds 5 --work small,bulk   # some of it
//! cargo bench --bench gateway -- --routers .cache/routers       # also the routers of SGLang and vLLM, from PyPI
//! ```
//!
//! Each does the full work: a key is checked and replaced by the node's own, each request is logged; the routers check at most
//! the node's own key and replace none, and are given no paced streams. The gateway also reads the model, routes by it and counts.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench tells its figures")]
#![expect(clippy::disallowed_methods, reason = "its tasks end with the process")]

mod bare;
mod burst;
mod http;
mod load;
mod paced;
mod peers;
mod processes;
mod report;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use bare::Bare;
use peers::Peers;
use report::Report;
use work::Work;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What is asked for.
struct Arguments {
    rounds: usize,
    work: Vec<Work>,
    burst: bool,
    routers: Option<PathBuf>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--bare", listen, node, paced] => serve_bare(listen, node, paced),
        words => Arguments::parse(words).and_then(|arguments| measure(&arguments)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The bare proxy as a process of its own, on as many threads as the gateway has.
fn serve_bare(listen: &str, node: &str, paced: &str) -> Result<(), String> {
    let address = |text: &str| text.parse().map_err(|_| format!("{text} is no address"));
    let bare = Bare {
        node: address(node)?,
        elsewhere: (peers::PACED_PATH, address(paced)?),
        known: peers::AUTHORIZATION,
        own: peers::NODE_AUTHORIZATION,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(bare.serve(listen));
    Ok(())
}

impl Arguments {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let mut parsed = Self { rounds: 15, work: Work::ALL.to_vec(), burst: true, routers: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            match *word {
                "--rounds" => parsed.rounds = value.parse().map_err(|_| "--rounds N")?,
                "--routers" => parsed.routers = Some(PathBuf::from(value)),
                "--work" => {
                    parsed.burst = value.split(',').any(|name| name == "burst");
                    let named = value.split(',').filter(|name| *name != "burst");
                    parsed.work = named.map(Work::named).collect::<Result<_, _>>()?;
                }
                _ => return Err(format!("unknown option {word}: --rounds, --work, --routers")),
            }
        }
        Ok(parsed)
    }
}

fn measure(arguments: &Arguments) -> Result<(), String> {
    // One thread of callers: two would contend with those that are measured for both cores of a small machine.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let paced = paced::Node::start(&runtime)?;
    let mut peers = Peers::start(paced.address(), arguments.routers.as_deref())?;
    runtime.block_on(peers.ready())?;
    peers.describe();
    let mut report = Report::default();
    let idle: Vec<_> = peers.all().map(|peer| (peer.name, peer.processes.resident_kb())).collect();
    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        for work in &arguments.work {
            // Whoever comes first meets other caches: each round begins with another.
            for peer in peers.from(round).filter(|peer| peer.paced || *work != Work::Paced) {
                let figures = runtime.block_on(load::run(*work, peer))?;
                report.add(*work, peer.name, figures);
            }
            if *work == Work::Paced {
                let direct = runtime.block_on(load::paced_directly(paced.address()))?;
                report.add(*work, "direct", direct);
            }
        }
    }
    report.print(&arguments.work);
    report::print_idle(&idle);
    if arguments.burst {
        runtime.block_on(burst::run(&peers))?;
    }
    Ok(())
}
