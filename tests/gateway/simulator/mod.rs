//! The simulated node tells the story of a vLLM 0.32 node: each test is one thing that a gateway relies on.

mod answers;
mod faults;
mod refusals;
mod streams;
mod support;
