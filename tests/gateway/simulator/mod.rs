//! The simulated node tells the story of a vLLM 0.32 node: each test is one thing that a gateway relies on.

mod answers;
mod engine;
mod engine_leaving;
mod faults;
mod faults_ends;
mod faults_process;
mod messages;
mod metrics;
mod refusals;
mod responses;
mod responses_kept;
mod streams;
mod support;
