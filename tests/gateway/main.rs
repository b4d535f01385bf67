//! Stories over a real gateway and real upstreams, each on a port of its own: one binary, because each that links
//! Pingora is over 60 MB.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod access_log;
mod admin;
mod bodies;
mod breaks;
mod cli;
mod documents;
mod failures;
mod forms;
mod framing;
mod hardened;
mod ids;
mod leaving;
mod life;
mod names;
mod nginx;
mod nodes;
mod openapi;
mod operating;
mod paths;
mod quota;
mod reload;
mod replay;
mod responses;
mod secrets;
mod seen;
mod services;
mod sessions;
mod simulator;
mod stale;
mod streams;
mod support;
mod terminal;
mod tls;
mod upgrade;
