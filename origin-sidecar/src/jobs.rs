//! Slow requests answered at once: accept → queue → run → outcome → notification.
//!
//! The promise: every id that was answered 202 reaches one terminal outcome. A job is executed at
//! least once and its outcome is stored at most once (`If-None-Match: *`).

pub mod accept;
mod addressee;
mod adopt;
mod attempt;
mod auth;
pub mod backends;
mod bare;
mod caller;
pub mod consume;
pub mod consumer;
pub mod context;
mod deliver;
mod delivery;
mod destinations;
mod envelope;
pub mod expire;
mod finish;
mod flash;
mod id;
pub mod intake;
mod job;
mod judge;
mod kept;
mod keyed;
pub mod latency;
mod lease;
mod leases;
mod limits;
mod lines;
mod notify;
mod once;
pub mod operator;
mod outside;
mod ownership;
mod page;
pub mod payload;
pub mod permission;
mod permissions;
mod pointer;
pub mod presence;
mod progress;
mod receipt;
pub mod receives;
mod record;
mod refused;
mod repeat;
mod replay;
mod run;
mod sealed;
mod sending;
#[cfg(test)]
pub(crate) mod simulation;
pub mod spool;
pub mod status;
mod store;
mod synchronous;
mod tenant;
mod token;
mod travel;
mod turn;
mod verdict;
pub mod visit;
pub(crate) mod waiting;
pub mod watch;
