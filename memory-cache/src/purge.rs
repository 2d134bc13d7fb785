//! What was purged lately. A fill that began before a purge must not be stored after it, and those
//! of other answers are not to suffer for it.

use crate::stored::Stored;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Purges that are remembered. A fill that has seen more of them go by is not stored.
const REMEMBERED_MAX: usize = 1024;

/// What is purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every answer of a URL, by the store's hash.
    Url(u64),
    /// Every answer with this tag.
    Tag(String),
    /// Every answer that there is.
    All,
}

impl Target {
    pub(super) fn is(&self, stored: &Stored) -> bool {
        match self {
            Self::Url(url) => stored.url == *url,
            Self::Tag(tag) => stored.tags.iter().any(|own| **own == **tag),
            Self::All => true,
        }
    }
}

/// How many purges there have been when a fill began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

#[derive(Default)]
pub(super) struct Log {
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    count: u64,
    targets: VecDeque<Target>,
}

impl Log {
    pub(super) fn mark(&self) -> Mark {
        Mark(self.recent.lock().unwrap_or_else(PoisonError::into_inner).count)
    }

    pub(super) fn note(&self, target: Target) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.count += 1;
        if recent.targets.len() == REMEMBERED_MAX {
            recent.targets.pop_front();
        }
        recent.targets.push_back(target);
    }

    /// Whether an answer whose fetch began at the mark was purged since.
    pub(super) fn has_purged(&self, stored: &Stored, since: Mark) -> bool {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = usize::try_from(recent.count - since.0).unwrap_or(usize::MAX);
        if missed > recent.targets.len() {
            return true;
        }
        recent.targets.iter().rev().take(missed).any(|target| target.is(stored))
    }
}
