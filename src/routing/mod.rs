//! Which upstream a request goes to: by its path, its method and its model.

pub mod choice;
pub mod table;
