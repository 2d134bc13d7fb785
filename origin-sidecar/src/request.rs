//! A request before anything is done about it: its client, which of its fields are trusted, the
//! rules for it and its destination.

pub mod active_rules;
pub mod destination;
pub mod inbound;
pub mod sanitized;
pub mod signed;
