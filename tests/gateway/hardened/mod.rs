//! What makes the gateway safe to stand in front of others: each test begins with the requirement that it plays
//! (`r24_…`).

mod alone;
mod config;
mod process;
mod shared;
mod time;
mod upstream;
