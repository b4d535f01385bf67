//! The command line: one command, one file.

mod chat;
mod check;
mod demo;
mod explain;
mod healthcheck;
mod init;
mod keys;
mod loaded;
mod local;
mod logging;
mod schema;
mod serve;
mod sim;
mod simulate;
mod status;
mod table;
mod usage;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Environment, Problems, Source};
use crate::config::{Settings, SettingsArgs};

/// `EX_CONFIG` of sysexits.h: a supervisor need not try again before somebody edits a file.
const BAD_CONFIG: u8 = 78;

/// As clap ends on flags that it does not take.
const BAD_USAGE: u8 = 2;

/// As shells tell of a command that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// A gateway in front of GPU nodes that run vLLM.
#[derive(Parser)]
#[command(name = "sluice", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway (the default).
    Serve(serve::Serve),
    /// Run a gateway, simulated nodes and a fresh key on this machine: no GPU, no configuration.
    Demo(demo::Demo),
    /// Run one simulated node: vLLM's API, or Ollama's with `--kind ollama`.
    Sim(crate::sim::Settings),
    /// Play requests of an access log or a trace on simulated nodes, by each policy: what is found in caches, how soon answers
    /// begin.
    Simulate(simulate::Simulate),
    /// Talk to a model in the terminal, or pipe one message through it.
    Chat(chat::Chat),
    /// Write a commented configuration with a fresh key. Nothing that is there is overwritten.
    Init(init::Init),
    /// Check the configuration and tell everything that is wrong with it. Exit code 78 if anything is.
    Check(check::Check),
    /// Tell which way a request would take, and why. Exit code 1 if it would be refused.
    Explain(explain::Explain),
    /// Print the JSON Schema of a file, for editors.
    Schema(schema::Schema),
    /// Show the nodes of the gateway on this machine. Exit code 1 unless all is well.
    Status(status::Status),
    /// Add up the ledger: requests and tokens by day, key and model.
    Usage(usage::Usage),
    /// Ask the gateway on this machine whether it lives. Exit code 0 or 1.
    Healthcheck(healthcheck::Healthcheck),
    /// Make keys.
    #[command(subcommand)]
    Keys(keys::Keys),
}

/// What a command that knows the gateway's configuration is told.
#[derive(clap::Args)]
struct Boot {
    /// Folder of server.yaml, routes.yaml and keys.yaml.
    #[arg(long, value_name = "DIR", env = "SLUICE_CONFIG", default_value = "config")]
    config: PathBuf,
    /// No routes.yaml: every path of vLLM goes to the node at this URL, or to the best of several, separated by commas.
    #[arg(long, value_name = "URL", env = "SLUICE_BACKEND")]
    backend: Option<String>,
    /// Variables for this process, one NAME=VALUE a line; the environment's own win.
    #[arg(long, value_name = "PATH")]
    env_file: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Why a command ends without success.
enum Failed {
    /// Exit code 78.
    Config(Problems),
    /// Exit code 78, found while starting.
    NotTaken(crate::reload::NotTaken),
    /// Exit code 2.
    Usage(String),
    /// Exit code 1.
    Runtime(String),
    /// Exit code 1; why is told already.
    Told,
    /// Exit code 130: Ctrl-C.
    Interrupted,
}

impl From<Problems> for Failed {
    fn from(problems: Problems) -> Self {
        Self::Config(problems)
    }
}

impl From<crate::server::CannotStart> for Failed {
    fn from(error: crate::server::CannotStart) -> Self {
        match error {
            crate::server::CannotStart::Config(why) => Self::NotTaken(why),
            other => Self::Runtime(other.to_string()),
        }
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(serve) => serve::run(&serve),
        Command::Demo(demo) => demo::run(demo),
        Command::Sim(settings) => sim::run(settings),
        Command::Simulate(simulate) => simulate::run(&simulate),
        Command::Chat(chat) => chat::run(chat),
        Command::Init(init) => init::run(&init),
        Command::Check(check) => check::run(&check),
        Command::Explain(explain) => explain::run(explain),
        Command::Schema(schema) => schema::run(&schema),
        Command::Status(status) => status::run(&status),
        Command::Usage(usage) => usage::run(&usage),
        Command::Healthcheck(asked) => healthcheck::run(&asked),
        Command::Keys(keys) => keys::run(&keys),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Config(problems)) => {
            complain(&problems.for_terminal());
            ExitCode::from(BAD_CONFIG)
        }
        Err(Failed::NotTaken(crate::reload::NotTaken::Invalid(problems))) => {
            complain(&problems.for_terminal());
            ExitCode::from(BAD_CONFIG)
        }
        Err(Failed::NotTaken(why)) => {
            complain(&format!("sluice: {why}"));
            ExitCode::from(BAD_CONFIG)
        }
        Err(Failed::Usage(why)) => {
            complain(&format!("sluice: {why}"));
            ExitCode::from(BAD_USAGE)
        }
        Err(Failed::Runtime(why)) => {
            complain(&format!("sluice: {why}"));
            ExitCode::FAILURE
        }
        Err(Failed::Told) => ExitCode::FAILURE,
        Err(Failed::Interrupted) => ExitCode::from(INTERRUPTED),
    }
}

impl Boot {
    /// The settings, and where the configuration is.
    fn resolve(&self) -> Result<(Settings, Source), Problems> {
        let source = self.source()?;
        Ok((self.settings(&source)?, source))
    }

    /// Where the configuration is.
    fn source(&self) -> Result<Source, Problems> {
        let mut environment = Environment::of_process();
        if let Some(path) = &self.env_file {
            environment = environment.with_file(path)?;
        }
        Ok(Source { dir: self.config.clone(), environment, backend: self.backend.clone() })
    }

    /// The settings, of flags, environment and server.yaml.
    fn settings(&self, source: &Source) -> Result<Settings, Problems> {
        Settings::resolve(&self.settings, &source.environment, &source.dir)
    }
}

/// The runtime of a command. `threads` 0: one for each core.
fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, Failed> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    let built = builder.enable_all().thread_name("sluice").build();
    built.map_err(|error| Failed::Runtime(format!("no threads: {error}")))
}

/// A socket on `address`, or why there is none.
fn bind(address: std::net::SocketAddr) -> Result<std::net::TcpListener, Failed> {
    crate::server::bind(address)
        .map_err(|error| Failed::Runtime(format!("cannot listen on {address}: {error}")))
}

/// Standard output is a terminal, not a dumb one, and colours are wanted: `NO_COLOR` is not set (no-color.org).
fn shows_colours(environment: &Environment) -> bool {
    let wanted = environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb");
    wanted && io::stdout().is_terminal()
}

/// The output of a command. A closed pipe is no error.
fn say(text: &str) {
    let _closed = writeln!(io::stdout().lock(), "{text}");
}

fn complain(text: &str) {
    let _closed = writeln!(io::stderr().lock(), "{text}");
}
