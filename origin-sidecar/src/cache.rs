//! The sidecar's memory cache: where answers are kept, and one fetch per key at a time.
//! What may be kept and for how long is decided by `rules::cache`.

mod counts;
pub mod fill;
pub mod flights;
pub mod purge;
mod room;
pub mod segmented;
pub mod store;
pub mod stored;
pub mod uncacheable;
pub mod varies;
mod weight;

pub use counts::Counts;
