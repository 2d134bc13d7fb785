//! Replay protection: finds copies of signed requests that change something.

use super::invalid::{Invalid, LIFETIME_S, SKEW_S};
use crate::time::{Millis, UnixMillis};
use std::collections::BTreeSet;

/// Requests remembered per generation: 3,700 a second, in about 6 MB.
pub(crate) const NONCES_MAX: usize = 450_000;
/// How long a signature can be used after it was first seen, in milliseconds: its lifetime, and the
/// clock skew in both directions.
const WINDOW: Millis = Millis::from_secs((LIFETIME_S + 2 * SKEW_S) as u64);

/// The signatures that one process has seen. Other processes of the same service do not know them;
/// there a copy is valid until it expires.
#[derive(Default)]
pub struct Nonces {
    /// There are two generations. When the older one is dropped, all of its entries have outlived
    /// the window.
    newer: BTreeSet<u64>,
    older: BTreeSet<u64>,
    /// When the newer generation began, in milliseconds since 1970.
    since: UnixMillis,
}

impl Nonces {
    /// Remembers a verified request. `now` is in milliseconds since 1970.
    ///
    /// # Errors
    /// `replayed` when it was seen before; `nonces-full` when it can't be remembered. Forgetting
    /// another request instead would let that one's copy pass.
    pub fn remember(&mut self, id: u64, now: UnixMillis) -> Result<(), Invalid> {
        self.age(now);
        if self.newer.contains(&id) || self.older.contains(&id) {
            return Err(Invalid::Replayed);
        }
        if self.newer.len() >= NONCES_MAX {
            return Err(Invalid::NoncesFull);
        }
        self.newer.insert(id);
        Ok(())
    }

    fn age(&mut self, now: UnixMillis) {
        let age = now - self.since;
        if age < WINDOW {
            return;
        }
        self.older = std::mem::take(&mut self.newer);
        if age >= WINDOW * 2 {
            self.older.clear();
        }
        self.since = now;
    }
}
