//! Who may come in, to what, and how often.

pub mod attempts;
pub mod clock;
pub mod keys;
pub mod limits;
pub mod passes;
pub mod permission;
pub mod redis;
pub mod ring;
pub mod store;
