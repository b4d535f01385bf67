//! `sluice status`: the nodes of the gateway on this machine, as a table or as JSON.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::healthcheck::reachable;
use super::{Boot, Failed, say};

/// Longest wait for each step.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is shown.
#[derive(clap::Args)]
pub(super) struct Status {
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
    let address = reachable(settings.admin_listen);
    let (code, body) = ask(address, status.api_key.as_deref())
        .map_err(|error| Failed::Runtime(format!("no gateway at {address}: {error}")))?;
    let known: Value = serde_json::from_slice(&body)
        .map_err(|_| Failed::Runtime(format!("{address} does not answer as a gateway")))?;
    if code != 200 {
        let message = known["error"]["message"].as_str().unwrap_or_default();
        return Err(Failed::Runtime(format!("{address} answered {code}: {message}")));
    }
    match status.json {
        true => say(&String::from_utf8_lossy(&body)),
        false => say(&table(&known)),
    }
    if known["state"] == "ok" { Ok(()) } else { Err(Failed::Told) }
}

fn ask(address: SocketAddr, key: Option<&str>) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let request = format!(
        "GET /api/status HTTP/1.1\r\nHost: {address}\r\n{key}Accept: application/json\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let no_http = || io::Error::from(io::ErrorKind::InvalidData);
    let end = memchr::memmem::find(&answer, b"\r\n\r\n").ok_or_else(no_http)?;
    let code = answer.get(9..12).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    let body = answer.split_off(end + 4);
    Ok((code.ok_or_else(no_http)?, body))
}

/// A line for each node, its columns as wide as they must be.
fn table(status: &Value) -> String {
    const TITLES: [&str; 8] =
        ["UPSTREAM", "NODE", "STATE", "OURS", "OTHERS", "RUNNING", "WAITING", "WHY"];
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut rows = vec![TITLES.map(str::to_owned)];
    for upstream in status["upstreams"].as_array().into_iter().flatten() {
        for node in upstream["nodes"].as_array().into_iter().flatten() {
            let fields = ["node", "state", "in_flight", "foreign", "running", "waiting"];
            let [url, state, ours, others, running, waiting] =
                fields.map(|field| text(&node[field]));
            let why = node["reason"].as_str().unwrap_or_default().to_owned();
            let name = text(&upstream["upstream"]);
            rows.push([name, url, state, ours, others, running, waiting, why]);
        }
    }
    let mut widths = [0; TITLES.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; TITLES.len()]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let lines: Vec<String> = rows.iter().map(line).collect();
    let generation = &status["generation"];
    format!(
        "{}, configuration {generation}\n\n{}",
        text(&status["state"]).to_uppercase(),
        lines.join("\n")
    )
}
