//! `sluice status`: the nodes of the gateway on this machine, as a table or as JSON.

use std::time::Duration;

use serde_json::Value;

use super::{Boot, Failed, local, say};

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
    let address = local::reachable(settings.admin_listen);
    let asked = local::get(address, "/api/status", status.api_key.as_deref(), PATIENCE);
    let (code, body) =
        asked.map_err(|error| Failed::Runtime(format!("no gateway at {address}: {error}")))?;
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

/// A line for each node, its columns as wide as they must be.
fn table(status: &Value) -> String {
    const TITLES: [&str; 8] =
        ["UPSTREAM", "NODE", "STATE", "OURS", "OTHERS", "RUNNING", "WAITING", "WHY"];
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut rows = vec![TITLES.map(str::to_owned).to_vec()];
    for upstream in status["upstreams"].as_array().into_iter().flatten() {
        for node in upstream["nodes"].as_array().into_iter().flatten() {
            let fields = ["node", "state", "in_flight", "foreign", "running", "waiting"];
            let [url, state, ours, others, running, waiting] =
                fields.map(|field| text(&node[field]));
            let why = node["reason"].as_str().unwrap_or_default().to_owned();
            let name = text(&upstream["upstream"]);
            rows.push(vec![name, url, state, ours, others, running, waiting, why]);
        }
    }
    let generation = &status["generation"];
    format!(
        "{}, configuration {generation}\n\n{}",
        text(&status["state"]).to_uppercase(),
        super::table::table(&rows, TITLES.len())
    )
}
