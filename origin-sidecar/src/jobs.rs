//! Jobs: slow requests that are answered at once and executed later: accept → queue → run → outcome
//! → notification.
//!
//! The guarantee: every id that was answered with 202 reaches one terminal outcome. A job is
//! executed at least once, and its outcome is stored at most once (`If-None-Match: *`).

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
mod enqueue;
mod envelope;
mod execute_once;
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
mod malformed;
mod notify;
mod offered;
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
mod ranged;
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
pub mod state;
pub mod status;
mod store;
mod synchronous;
mod tenant;
mod terminate;
mod token;
mod travel;
mod turn;
mod verdict;
pub mod visit;
pub(crate) mod waiting;
pub mod watch;
