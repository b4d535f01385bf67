//! Who may come in, to what, and how often.

pub mod clock;
pub mod keys;
pub mod limits;
pub mod passes;
pub mod permission;
pub mod ring;
