//! Sluice: a gateway in front of GPU nodes that run vLLM.

pub mod access;
pub mod admin;
pub mod answers;
pub mod cli;
pub mod config;
pub mod gateway;
pub mod metrics;
pub mod names;
pub mod refusal;
pub mod reload;
pub mod routing;
pub mod server;
pub mod sim;
pub mod upstream;
pub mod wire;
