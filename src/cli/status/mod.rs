//! `sluice status`: how the gateway on this machine is, in words and tables, or as JSON.

mod tables;
mod words;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::{Boot, Failed, local, say};

/// Longest wait for each step.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often `--watch` asks: numbers are of ten seconds, and nobody reads faster.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// Puts a terminal's cursor at its begin, and wipes what was there.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// What is shown.
#[derive(clap::Args)]
pub(super) struct Status {
    /// Everything, also what is well: models, keys, streams, all errors that are remembered.
    #[arg(long)]
    all: bool,
    /// Again every two seconds, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// The answer of /api/status as it is.
    #[arg(long)]
    json: bool,
    /// A key of scope `admin`: needed where the operators' listener is not on this machine alone.
    #[arg(long, value_name = "KEY", env = "SLUICE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    #[command(flatten)]
    boot: Boot,
}

pub(super) fn run(status: &Status) -> Result<(), Failed> {
    let (settings, _) = status.boot.resolve()?;
    let address = local::reachable(settings.admin_listen);
    if status.watch {
        watch(status, address);
    }
    let (shown, is_ok) = ask(status, address).map_err(Failed::Runtime)?;
    say(&shown);
    if is_ok { Ok(()) } else { Err(Failed::Told) }
}

/// Shows it again and again; a gateway that is away may come back.
#[expect(clippy::disallowed_methods, reason = "there is nothing else to do")]
fn watch(status: &Status, address: SocketAddr) -> ! {
    let clear = if io::stdout().is_terminal() { CLEAR } else { "" };
    loop {
        let shown = ask(status, address).map_or_else(|why| why, |(shown, _)| shown);
        say(&format!("{clear}{shown}"));
        std::thread::sleep(WATCH_EVERY);
    }
}

/// What is to be shown, and whether all is well.
fn ask(status: &Status, address: SocketAddr) -> Result<(String, bool), String> {
    let asked = local::get(address, "/api/status", status.api_key.as_deref(), PATIENCE);
    let (code, body) = asked.map_err(|error| format!("no gateway at {address}: {error}"))?;
    let known: Value = serde_json::from_slice(&body)
        .map_err(|_| format!("{address} does not answer as a gateway"))?;
    if code != 200 {
        let message = known["error"]["message"].as_str().unwrap_or_default();
        return Err(format!("{address} answered {code}: {}", message.escape_debug()));
    }
    let shown = match status.json {
        true => String::from_utf8_lossy(&body).into_owned(),
        false => tables::page(&known, status.all),
    };
    Ok((shown, known["state"] == "ok" && known["failed_reload"].is_null()))
}
