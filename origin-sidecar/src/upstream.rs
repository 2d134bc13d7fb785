//! Requests on their way to a server behind us: connections, limits, retries, and the answer's way back.

pub mod client;
mod dial;
pub mod forward;
mod health;
pub mod hop;
pub mod lane;
pub mod limits;
mod links;
pub mod multiplexed;
pub mod network;
pub mod outgoing;
pub mod server;
pub mod servers;
pub mod upgrade;
mod upload;
