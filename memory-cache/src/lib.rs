//! Answers in memory under a byte budget, evicted by use: the memory cache of the sidecar.
//! What may be kept and for how long is decided by `rules::cache`.

#![deny(missing_docs)]

mod counts;
pub mod fill;
pub mod purge;
mod room;
pub mod segmented;
mod shard;
pub mod store;
pub mod stored;
pub mod uncacheable;
pub mod varies;
mod weight;

pub use counts::Counts;
