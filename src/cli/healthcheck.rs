//! `sluice healthcheck`: for images without a shell.

use std::time::Duration;

use super::{Boot, Failed, local};

/// Longest wait for each step: less than a container engine's own.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who is asked, and what.
#[derive(clap::Args)]
pub(super) struct Healthcheck {
    /// What is asked: `/readyz`, or, with `--listen`, `/health` of a simulated node
    #[arg(long, value_name = "PATH", default_value = "/livez")]
    path: String,
    #[command(flatten)]
    boot: Boot,
}

pub(super) fn run(asked: &Healthcheck) -> Result<(), Failed> {
    let (settings, _) = asked.boot.resolve()?;
    // Behind TLS the same is asked at the operators' listener: no authority certifies a loopback address.
    let elsewhere = settings.tls_cert.is_some() && asked.boot.settings.listen.is_none();
    let listen = if elsewhere { settings.admin_listen } else { settings.listen };
    let address = local::reachable(listen);
    match local::get(address, &asked.path, None, PATIENCE) {
        Ok((200, _)) => Ok(()),
        Ok((status, _)) => {
            Err(Failed::Runtime(format!("{address} answers {} with {status}", asked.path)))
        }
        Err(error) => Err(Failed::Runtime(format!("{address}: {error}"))),
    }
}
