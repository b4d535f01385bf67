//! Sluice: a gateway in front of GPU nodes that run vLLM.

pub mod config;
pub mod names;
pub mod sim;
