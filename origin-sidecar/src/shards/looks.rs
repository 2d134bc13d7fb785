//! When the result store was asked for which map, and what it said.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// One refresh of a map at a time, and no more often: a burst of stale requests asks the store once.
pub(super) const REFRESH_PAUSE: Duration = Duration::from_millis(500);
/// What is known of the store's objects, by map.
#[derive(Default)]
pub(super) struct StoreLooks {
    looks: Mutex<BTreeMap<String, StoreLook>>,
    /// Held while the store is asked for a map.
    pub(super) asking: tokio::sync::Mutex<()>,
}

/// What is known of the store's object of one map.
pub(super) struct StoreLook {
    pub(super) etag: Option<String>,
    /// When the store last confirmed the map in force.
    pub(super) confirmed: Instant,
    pub(super) asked: Instant,
    /// Since when the store shows an older map than the one in force.
    pub(super) behind_since: Option<Instant>,
}

impl StoreLooks {
    /// Reads or changes what is known of one map.
    pub(super) fn with<T>(&self, name: &str, act: impl FnOnce(&mut StoreLook) -> T) -> T {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let long_ago = now.checked_sub(REFRESH_PAUSE).unwrap_or(now);
        let look = looks.entry(name.to_owned()).or_insert_with(|| StoreLook {
            etag: None,
            confirmed: now,
            asked: long_ago,
            behind_since: None,
        });
        act(look)
    }
}
