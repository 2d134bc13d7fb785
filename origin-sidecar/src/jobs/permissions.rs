//! What the application said of callers lately.

use crate::secrets::random;
use http::HeaderMap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Checks that the application is asked at once by one process: polls of many jobs must not take the
/// application's workers from its own requests.
pub(super) const CHECKS_MAX: usize = 100;
/// How long a yes is good for the next look at the same job: half a dozen polls of a page.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(5);

/// Permissions that are remembered at once; some hundred bytes each.
pub(super) const KEPT_MAX: usize = 10_000;

/// Bytes of a key of the hash by which permissions are found, as many as the hash has.
pub(super) const KEY_BYTES: usize = 32;

/// What was asked of the application and is remembered, in one process.
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
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new() -> std::io::Result<Self> {
        let places = Semaphore::new(CHECKS_MAX);
        Ok(Self { places, key: random(KEY_BYTES)?, kept: Mutex::default() })
    }

    pub(super) fn recent(&self, fingerprint: &[u8]) -> Option<Arc<HeaderMap>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(fingerprint).filter(|kept| kept.until > Instant::now());
        found.map(|kept| Arc::clone(&kept.answer))
    }

    /// `asked` is when the question was: a logout may have come before the answer.
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
