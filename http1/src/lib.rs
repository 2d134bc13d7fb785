//! HTTP/1.1 for a proxy: strict in what it takes, and built to cost little.
//!
//! Pure, without I/O:
//! - [`refusal`]: everything that is wrong with a message, by name
//! - `syntax`: the lines of a head
//! - [`head`]: request and response heads
//! - [`received`]: a head's fields as they came
//! - [`target`]: what a request asks for
//! - [`framing`]: where a body ends
//! - [`chunked`]: the chunked coding
//! - [`encode`]: heads and chunks as bytes
//! - [`lines`]: looking for a field
//! - [`block`]: a head's fields, encoded once for many answers
//! - [`pace`]: how long a peer is waited for, and when it is slow
//! - [`slow`], [`held`]: how many that take their time are borne at once
//!
//! Connections:
//! - [`stream`]: TCP or anything else that bytes come from
//! - [`server`], [`client`], [`pool`]: both ends of a proxy
//!
//! Why not hyper: docs/decisions/0002-http1.md.

#![deny(missing_docs)]

mod alarm;
pub mod block;
pub mod chunked;
pub mod client;
mod conn;
mod connection;
pub mod encode;
pub mod framing;
pub mod head;
pub mod held;
pub mod lines;
pub mod pace;
pub mod pool;
pub mod received;
pub mod refusal;
pub mod server;
pub mod slow;
pub mod stream;
mod syntax;
pub mod target;
mod writer;

pub use conn::{Error, Limits, Patience};
pub use refusal::Refusal;
