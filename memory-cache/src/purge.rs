//! The latest purges. A fill that began before a purge must not be stored after it, but only if the purge
//! names its answer.

use crate::stored::Stored;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many purges are remembered. A fill during which there were more is not stored.
const REMEMBERED_MAX: usize = 1024;

/// Which answers are purged.
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

/// The number of purges there had been when a fill began.
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
