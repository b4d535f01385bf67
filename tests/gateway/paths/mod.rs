//! Every path of vLLM through the gateway: what arrives is what was sent, and what comes back is what the node says to
//! those who ask it directly.

mod bytes;
mod compared;
mod each;
mod uploads;
