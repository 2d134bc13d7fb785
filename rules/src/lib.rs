//! The Spillway rules file and every decision made from it.
//!
//! The edge worker and the sidecar ask the same questions of the same rules and carry the
//! answers out; so that both can, this crate is pure:
//!
//! ```
//! use rules::{Head, NoFields, Rules, sidecar::{self, SidecarAction}};
//!
//! let rules = Rules::from_toml(r#"
//!     [[route]]
//!     name  = "prices"
//!     match = { path = "/api/prices/{id}", methods = ["GET"] }
//!     shard = { map = "market", from = ["path:id"] }
//!
//!     [shard_map.market]
//!     key_type = "int"
//!     ranges   = [{ from = 1, shard = "a" }, { from = 10001, shard = "b" }]
//!     shards   = { a = { upstream = "app-a" }, b = { upstream = "app-b" } }
//! "#).map_err(|faults| format!("{faults:?}"))?;
//!
//! let head = Head {
//!     method: "GET", scheme: "http", host: "example.com",
//!     target: "/api/prices/15000", fields: &NoFields,
//! };
//! let decision = sidecar::decide(&rules, &head);
//! assert_eq!(decision.route_name(), "prices");
//! let SidecarAction::Proceed(proceed) = decision.action else { return Err("refused".into()) };
//! assert_eq!(proceed.shard.resolved().map(|it| &**it.shard()), Some("b"));
//! # Ok::<(), String>(())
//! ```
//!
//! # What this crate does not do
//! It opens no file and no socket, reads no clock (`now` is an argument, in milliseconds since
//! 1970), starts no thread, draws no random number and knows no `http` types: a request is a
//! [`Head`], a response a [`ResponseHead`]. It builds for wasm32.
//!
//! # Layout
//! [`mod@file`] reads `routes.toml` into a [`document::Document`] and finds every fault of it;
//! [`Rules`] is the indexed form that decisions run on; [`sidecar`] and [`edge`] hold the one
//! order in which rules are applied; [`cache`], [`shard`], [`offload`] and [`versioned`] are the
//! subjects they ask, [`assets`] says what answers leave with. [`signature`] is what the two halves know each other by.
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

pub mod assets;
pub mod cache;
pub mod cors;
pub mod demo;
pub mod document;
pub mod edge;
pub mod fallback;
#[cfg(feature = "file")]
pub mod fault;
#[cfg(feature = "file")]
pub mod file;
pub mod forwarded;
pub mod head;
pub mod hex;
pub mod hops;
pub mod hygiene;
mod nearest;
pub mod offload;
pub mod overload;
pub mod path;
pub mod problem;
mod reading;
pub mod route;
mod rules;
pub mod shard;
pub mod sidecar;
pub mod signature;
pub mod time;
pub mod trace;
pub mod trust;
pub mod versioned;
pub mod visitor;

pub use head::{Edit, Fields, Head, NoFields, ResponseHead};
pub use nearest::nearest;
pub use problem::Problem;
pub use rules::{CompiledError, Rules};
pub use time::{Millis, UnixMillis};
