//! The path of a request: accept → handle → cache, shard, offload → forward.

mod arrival;
mod bypass;
mod cache_fields;
pub mod cached;
pub mod context;
mod cross_origin;
mod fetch;
mod fetched;
mod filling;
pub mod flights;
pub mod front;
pub mod handle;
mod http2;
mod in_body;
mod invalidate;
mod redirected;
pub mod serve;
pub mod serving;
pub mod step;
