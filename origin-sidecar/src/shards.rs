//! Live shard maps: what this process follows, how it hears of changes, and what waits while a range moves.

pub mod admission;
pub mod hold;
pub mod keys;
pub mod live_maps;
mod looks;
pub mod member;
pub mod peers;
pub mod poll;
mod standing;
pub mod store;
pub mod stream_end;
