//! The simulated node tells the story of a vLLM 0.32 node, or of an Ollama one: each test is one thing that a gateway relies
//! on.

mod answers;
mod audio;
mod chats;
mod embeddings;
mod engine;
mod engine_leaving;
mod faults;
mod faults_ends;
mod faults_process;
mod generate;
mod messages;
mod metrics;
mod ollama;
mod operating;
mod recorded;
mod refusals;
mod responses;
mod responses_kept;
mod scores;
mod streams;
mod support;
