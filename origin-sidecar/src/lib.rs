//! The Kubernetes half of Spillway: the `spillway` command.
//!
//! In this order, each folder imports only what stands before it:
//! - [`clock`], [`secrets`], [`memory`], [`logging`], [`room`], [`writes`]: leaves
//! - [`telemetry`]: metrics, lines of the log, spans
//! - [`message`]: bodies, fields, answers of our own
//! - [`upstream`]: connections to servers behind us, and requests on their way there
//! - [`request`]: what a request is before anything is done about it
//! - [`shards`]: live shard maps, and what waits while a range moves
//! - [`jobs`]: slow requests answered at once, and their jobs
//! - [`proxy`]: the path of a request: accept → handle → cache, shard, offload → forward
//! - [`operate`]: admin port, purges, reloads
//! - [`command`]: settings, wiring, and the commands themselves
//!
//! Decisions are made by the `rules` and `inject` crates; this one carries them out.

mod cgroup;
pub mod clock;
pub mod command;
pub mod drain;
pub mod jobs;
pub mod logging;
pub mod memory;
pub mod message;
pub mod operate;
pub mod proxy;
pub mod request;
pub mod room;
pub mod secrets;
pub mod shards;
pub mod soundness;
pub mod telemetry;
pub mod upstream;
pub mod writes;
