//! The path of a request: accept → handle → cache, shard, offload → forward.

mod arrival;
mod bypass;
mod cache_fields;
pub mod cached;
pub mod coalescer;
pub mod context;
mod cross_origin;
mod fetch;
mod fetched;
mod filling;
pub mod front;
pub mod handle;
pub mod handled;
mod http2;
mod in_body;
mod invalidate;
mod onward;
mod redirected;
mod reserved;
mod resharded;
pub mod serve;
pub mod serving;
mod upgraded;
