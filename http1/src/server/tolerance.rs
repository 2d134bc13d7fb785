//! Limits on clients that take their time, over all connections of a process.

use crate::held::Held;
use crate::slow::SlowPeers;
use std::sync::Arc;

/// How many connections may linger at once, so that their clients can read an answer that came before the end
/// of their upload (RFC 9112 section 9.6); the oldest one is closed for another.
pub const LINGERING_MAX: usize = 256;
/// How many requests go on for clients that have closed their sending half; those that may be repeated end
/// first when there is one more.
pub const HALF_CLOSED_MAX: usize = 1000;

/// The limits, shared by all connections of a process.
#[derive(Debug, Clone)]
pub struct Tolerance {
    /// Connections whose clients read or write slowly.
    pub slow: Arc<SlowPeers>,
    pub(super) lingering: Arc<Held>,
    pub(super) half_closed: Arc<Held>,
}

impl Tolerance {
    /// Limits for a process with so many connections.
    pub fn new(connections: usize) -> Self {
        Self {
            slow: SlowPeers::new(connections),
            lingering: Held::new(LINGERING_MAX),
            half_closed: Held::new(HALF_CLOSED_MAX),
        }
    }
}
