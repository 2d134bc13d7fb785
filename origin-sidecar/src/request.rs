//! What a request is before anything is done about it: where it came from, what its fields are worth, under
//! which rules it stands and where it would go.

pub mod active_rules;
pub mod destination;
pub mod inbound;
pub mod sanitized;
pub mod signed;
