//! The program's own log: words on a terminal, JSON elsewhere, always on standard error.

use std::io::{self, IsTerminal, Write};

use chrono::{SecondsFormat, Utc};
use env_logger::{Builder, Target};

use crate::config::{LogFormat, Settings};
use crate::gateway::Format;

/// Pingora tells every broken connection at `error`; what matters of that is in the access log and the metrics.
const LIBRARIES: log::LevelFilter = log::LevelFilter::Error;

/// Starts the log. A second call changes nothing.
pub(super) fn start(settings: &Settings) {
    let format = format(settings, io::stderr().is_terminal());
    let mut builder = Builder::new();
    builder.target(Target::Stderr).filter_level(LIBRARIES.min(settings.log_level));
    builder.filter_module("sluice", settings.log_level);
    // Two that reach for one pooled connection are no error: one of them makes a new one.
    builder.filter_module("pingora_core::connectors", log::LevelFilter::Off);
    // What it tells is a client's doing, and counted (`sluice_refusals_total`), or a node's, and in the access log.
    builder.filter_module("pingora_proxy", log::LevelFilter::Off);
    // It writes down the heads that it cannot read, with the keys in them.
    builder.filter_module("pingora_core::apps", log::LevelFilter::Off);
    builder.format(move |out, record| {
        if tells_bytes(record) {
            return Ok(());
        }
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        match format {
            Format::Text | Format::Colour => {
                writeln!(out, "{time} {} {}", record.level(), record.args())
            }
            Format::Json => {
                let line = serde_json::json!({
                    "time": time, "level": record.level().as_str().to_ascii_lowercase(),
                    "target": record.target(), "message": record.args().to_string(),
                });
                writeln!(out, "{line}")
            }
        }
    });
    let _started_before = builder.try_init();
}

/// Pingora shows what it cannot read: heads of clients with their keys, answers of nodes.
fn tells_bytes(record: &log::Record<'_>) -> bool {
    record.target().starts_with("pingora") && record.args().to_string().contains("buf:")
}

/// How lines look on an output that is a terminal or not.
pub(super) fn format(settings: &Settings, terminal: bool) -> Format {
    match settings.log_format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
        LogFormat::Auto if terminal => Format::Text,
        LogFormat::Auto => Format::Json,
    }
}
