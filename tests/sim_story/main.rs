//! The simulated node tells the story of a vLLM 0.32 node: each test is one thing that a gateway relies on.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod answers;
mod faults;
mod refusals;
mod streams;
mod support;
