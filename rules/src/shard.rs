//! From a request to the shard that holds its data, and how the map that says so changes.
//!
//! A map is an ordered list of lower bounds: each range ends where the next begins, so a gap or
//! an overlap can't be written down. The map of a rules file does not change while a process runs. A live
//! map is an [`object::MapObject`] in the result store: [`change`] makes its next version, and
//! [`protocol`] is what the processes that share it decide, [`coordinate`] what the coordinator of a move does.
//! The search in `tests/tests/shards/search` explores all of these together.

pub mod change;
mod consistency;
pub mod coordinate;
mod find;
mod growth;
mod json;
mod key;
mod map;
pub mod marker;
pub mod object;
pub mod protocol;
mod range;

pub use find::{Resolved, Step};
pub(crate) use find::{in_body, in_head, keys_in_head};
pub use key::{ShardKey, ShardKeys};
pub use map::{OwnedRange, ShardMap};
pub use range::{FILE_EPOCH, RangeState, interval, range_label};

#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod tests;
