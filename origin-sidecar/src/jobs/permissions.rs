//! Recent permissions of the application.

use crate::secrets::random;
use http::HeaderMap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Checks that one process has in flight: polls of many jobs must not take the application's
/// workers from its own requests.
pub(super) const CHECKS_MAX: usize = 100;
/// How long a permission is valid for further polls of the same job: about half a dozen polls of a
/// page.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(5);

/// Permissions that are remembered at once, about a hundred bytes each.
pub(super) const KEPT_MAX: usize = 10_000;

/// Bytes of the key with which requests for permission are hashed: the size of the hash.
pub(super) const KEY_BYTES: usize = 32;

/// The permissions that one process remembers.
pub struct Permissions {
    pub(super) places: Semaphore,
    pub(super) key: Vec<u8>,
    kept: Mutex<HashMap<Vec<u8>, CachedPermission>>,
}

struct CachedPermission {
    until: Instant,
    answer: Arc<HeaderMap>,
}

impl Permissions {
    /// Creates an empty set with a random key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> std::io::Result<Self> {
        let places = Semaphore::new(CHECKS_MAX);
        Ok(Self { places, key: random(KEY_BYTES)?, kept: Mutex::default() })
    }

    pub(super) fn recent(&self, fingerprint: &[u8]) -> Option<Arc<HeaderMap>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(fingerprint).filter(|kept| kept.until > Instant::now());
        found.map(|kept| Arc::clone(&kept.answer))
    }

    /// Remembers a permission. `asked` is when the check was sent: a logout may have come before
    /// its answer.
    pub(super) fn keep(&self, fingerprint: Vec<u8>, answer: Arc<HeaderMap>, asked: Instant) {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, kept| kept.until > now);
        }
        if kept.len() < KEPT_MAX {
            kept.insert(fingerprint, CachedPermission { until: asked + KEPT_FOR, answer });
        }
    }

    pub(super) fn forget(&self, fingerprint: &[u8]) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(fingerprint);
    }
}
