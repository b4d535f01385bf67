//! What stands in for the model and its GPU: who is answered when, and at what pace.

mod flight;

pub(super) use flight::{Finish, Flight, Job};
