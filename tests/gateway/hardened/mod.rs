//! What makes the gateway safe to stand in front of others: each test begins with the requirement that it plays
//! (`r24_…`).

mod alone;
mod body;
mod config;
mod corpus;
mod errors;
mod fields;
mod http2;
mod limits;
mod log;
mod process;
mod proxy;
mod secrets;
mod shared;
mod time;
mod upstream;
mod wire;
