//! The Kubernetes half of Spillway: the `spillway` command.
//!
//! - [`proxy`]: the path of a request: accept → handle → cache, shard, offload → forward
//! - [`overload`]: how much an upstream is asked for at once
//! - [`cache`]: answers in memory, one fetch per key at a time
//! - [`offload`]: jobs: accept, status, page, consume, notify
//! - [`queue`], [`results`]: where jobs and their results are kept (SQS and S3, or a directory)
//! - [`app`], [`bindings`], [`bound`], `opening`, [`settings`], [`commands`], [`tools`]: wiring
//! - [`admin`], [`hook`], [`metrics`], [`depths`], [`telemetry`], [`reload`], [`explain`], [`tls`]: operating it
//! - [`inject`], [`webhook`]: the sidecar's way into manifests, and into pods as they are created
//!
//! Decisions are made by the `rules` and `inject` crates; this one carries them out.

pub mod admin;
pub mod app;
pub mod bindings;
pub mod body;
pub mod bound;
mod cgroup;
pub mod clock;
pub mod commands;
pub mod depths;
pub mod explain;
pub mod fields;
pub mod hook;
pub mod in_force;
pub mod inject;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod offload;
mod opening;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod overload;
pub mod proxy;
pub mod purge;
pub mod reload;
pub mod reply;
pub mod room;
pub mod secrets;
pub mod settings;
pub mod soundness;
pub mod telemetry;
pub mod tools;
pub mod webhook;
