//! What goes over the wire. Pure: bytes in, values out; no socket, no clock, no Pingora.

pub mod address;
pub mod chats;
pub mod chunked;
pub mod events;
pub mod exposition;
pub mod field;
pub mod finish;
pub mod form;
pub mod head;
pub mod head_end;
pub mod ids;
pub mod lines;
pub mod negotiated;
pub mod nesting;
pub mod ollama;
pub mod overlap;
pub mod parameters;
pub mod paths;
pub mod query;
pub mod raw_head;
pub mod response_id;
pub mod splice;
pub mod stream_end;
pub mod token_events;
pub mod usage;
