//! Forwards requests to upstreams: connections, limits and retries, and the answer's way back.

mod circuit_breaker;
pub mod client;
mod dial;
pub mod forward;
pub mod hop;
pub mod limits;
mod links;
pub mod multiplexed;
pub mod network;
pub mod outgoing;
pub mod route_state;
pub mod server;
pub mod servers;
pub mod upgrade;
mod upload;
