//! Copies of requests that change something, found by what was seen before.

use super::invalid::{Invalid, LIFETIME_S, SKEW_S};
use std::collections::BTreeSet;

/// Requests remembered per generation: 3,700 a second, and some 6 MB.
pub(crate) const NONCES_MAX: usize = 450_000;
/// A signature can be used for so long, at most, after it was first seen: from a clock that is
/// ahead by the skew to the moment when one that is behind by it calls the signature expired.
const WINDOW_MS: u64 = (LIFETIME_S + 2 * SKEW_S) as u64 * 1000;

/// What one process has seen. Another one of the same service does not know it: there a copy is
/// good until it expires.
#[derive(Default)]
pub struct Nonces {
    /// Two generations: whatever is in the older one has outlived the window when that is dropped.
    newer: BTreeSet<u64>,
    older: BTreeSet<u64>,
    /// When the newer one began.
    since: u64,
}

impl Nonces {
    /// Remembers a verified request.
    ///
    /// # Errors
    /// `replayed` when it was here before, `nonces-full` when it can't be remembered: to forget
    /// another instead would let that one's copy in.
    pub fn remember(&mut self, id: u64, now: u64) -> Result<(), Invalid> {
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

    fn age(&mut self, now: u64) {
        let age = now.saturating_sub(self.since);
        if age < WINDOW_MS {
            return;
        }
        self.older = std::mem::take(&mut self.newer);
        if age >= 2 * WINDOW_MS {
            self.older.clear();
        }
        self.since = now;
    }
}
