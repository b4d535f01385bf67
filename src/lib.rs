//! Sluice: a gateway in front of GPU nodes that run vLLM.

pub mod access;
pub mod answers;
pub mod config;
pub mod gateway;
pub mod metrics;
pub mod names;
pub mod refusal;
pub mod routing;
pub mod sim;
pub mod upstream;
pub mod wire;
