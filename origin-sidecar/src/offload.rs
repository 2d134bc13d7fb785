//! Slow requests answered at once: accept → queue → run → outcome → notification.
//!
//! The promise: every id that was answered 202 reaches one terminal outcome. A job is executed at
//! least once and its outcome is stored at most once (`If-None-Match: *`).

pub mod accept;
mod adopt;
mod auth;
pub mod consume;
mod envelope;
mod id;
mod lease;
mod notify;
mod page;
mod receipt;
mod record;
mod run;
pub mod status;

use rules::offload::{Decision, Reason};

/// A request that is to be offloaded, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Enqueue { reason: Reason, wait: Option<u64> },
    Adopt { reason: Reason, after: u64 },
}

impl Wanted {
    pub fn of(decision: Decision) -> Option<Self> {
        match decision {
            Decision::Inline(_) => None,
            Decision::Enqueue { reason, wait } => Some(Self::Enqueue { reason, wait }),
            Decision::Adopt { reason, after } => Some(Self::Adopt { reason, after }),
        }
    }
}
