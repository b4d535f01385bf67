//! What makes the gateway safe to stand in front of others: each test begins with the requirement that it plays
//! (`r24_…`).

mod shared;
