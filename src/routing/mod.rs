//! Which upstream a request goes to: by its path, its method and its model, or by the response that it is about.

pub mod choice;
pub mod operating;
pub mod responses;
pub mod table;
