//! The small language the whole-system tests are written in: an [`App`] whose answers a test
//! writes, [`Spillway`] processes in front of it, and a [`Client`].
//!
//! Everything is a real process or a real socket; ports come from the system.

mod app;
mod aws;
mod client;
mod curl;
mod edge;
mod emulator;
mod far;
mod kube;
mod manifests;
mod namespaces;
mod postgres;
mod process;
mod prometheus;
mod raw;
mod relay;
mod wire;

pub use app::{App, Asked, Gate, Reply};
pub use aws::{Cloud, Fault, Faults};
pub use client::{Answer, Client};
pub use curl::curl;
pub use edge::Edge;
pub use emulator::{Emulator, Script, installed, peer, python};
pub use far::far;
pub use kube::{Kube, Reviews, trusting};
pub use manifests::{Manifests, VERSIONS, containers, yaml};
pub use namespaces::{Namespace, Network};
pub use postgres::{Database, PASSWORD, Postgres};
pub use process::{
    Ended, SECRET, Setup, Spillway, folder, program, reshard, run, run_with, system,
};
pub use prometheus::Prometheus;
pub use raw::{accepted, raw, read_until};
pub use relay::Relay;
pub use wire::Wire;

/// Nothing in a test takes longer; a test that waits for something that never comes ends here.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Asks until the answer is as wanted. For what happens soon, but at a time nobody tells.
///
/// # Panics
/// When it is not so within [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < until, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
