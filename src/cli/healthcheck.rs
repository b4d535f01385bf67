//! `sluice healthcheck`: for images without a shell.

use std::time::Duration;

use super::{Boot, Failed, local};

/// Longest wait for each step: less than a container engine's own.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn run(boot: &Boot) -> Result<(), Failed> {
    let (settings, _) = boot.resolve()?;
    // Behind TLS the same is asked at the operators' listener: no authority certifies a loopback address.
    let listen = if settings.tls_cert.is_some() { settings.admin_listen } else { settings.listen };
    let address = local::reachable(listen);
    match local::get(address, "/livez", None, PATIENCE) {
        Ok((200, _)) => Ok(()),
        Ok(_) => Err(Failed::Runtime(format!("{address} does not answer as a gateway"))),
        Err(error) => Err(Failed::Runtime(format!("{address}: {error}"))),
    }
}
