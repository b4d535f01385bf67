//! Who may come in, and to what.

pub mod keys;
pub mod permission;
