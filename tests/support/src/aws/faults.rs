//! What a service does wrong while a test wants it to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// Nobody listens, and connections that were open are cut.
    Refuse,
    /// Takes the call and never answers.
    Hang,
    /// Answers 500.
    Fail,
    /// Answers that there are too many calls: SQS 400 `ThrottlingException`, S3 503 `SlowDown`.
    Throttle,
    /// Answers that the caller has no right to it.
    Deny,
    /// Does what it is told and hangs up without a word.
    LoseAnswer,
    /// Every n-th entry of a batch fails and the others are done; SQS only.
    Partial(u64),
}

/// One service's faults, and how often it was called.
#[derive(Debug)]
pub struct Faults {
    all: watch::Sender<Fault>,
    only: Mutex<BTreeMap<String, Fault>>,
    duplicates: AtomicBool,
    reorder: AtomicBool,
    entries: AtomicU64,
    calls: Mutex<HashMap<String, u64>>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            all: watch::Sender::new(Fault::None),
            only: Mutex::default(),
            duplicates: AtomicBool::default(),
            reorder: AtomicBool::default(),
            entries: AtomicU64::default(),
            calls: Mutex::default(),
        }
    }
}

impl Faults {
    /// For every call from now on.
    pub fn set(&self, fault: Fault) {
        self.all.send_replace(fault);
    }

    /// For one operation, such as `SendMessageBatch` or `PutObject`; [`Fault::Refuse`] cuts the
    /// connection there.
    pub fn set_only(&self, operation: &str, fault: Fault) {
        self.only.lock().expect("no panic").insert(operation.to_owned(), fault);
    }

    /// All is well again.
    pub fn clear(&self) {
        self.only.lock().expect("no panic").clear();
        self.set(Fault::None);
    }

    /// Every message comes a second time at once, and even after the first receiver deleted it.
    pub fn duplicate(&self, on: bool) {
        self.duplicates.store(on, Relaxed);
    }

    /// The newest message comes first.
    pub fn reorder(&self, on: bool) {
        self.reorder.store(on, Relaxed);
    }

    /// How often an operation was called, those that failed included.
    pub fn calls(&self, operation: &str) -> u64 {
        self.calls.lock().expect("no panic").get(operation).copied().unwrap_or(0)
    }

    /// The same of every operation that was called.
    pub fn all_calls(&self) -> BTreeMap<String, u64> {
        let calls = self.calls.lock().expect("no panic");
        calls.iter().map(|(operation, count)| (operation.clone(), *count)).collect()
    }

    /// Waits until an operation has been called so often.
    pub async fn until_called(&self, operation: &str, times: u64) {
        crate::eventually(&format!("{times} calls of {operation}"), || async {
            (self.calls(operation) >= times).then_some(())
        })
        .await;
    }

    /// Counts the call; what is to go wrong with it.
    pub(super) fn of(&self, operation: &str) -> Fault {
        *self.calls.lock().expect("no panic").entry(operation.to_owned()).or_default() += 1;
        let only = self.only.lock().expect("no panic").get(operation).copied();
        only.unwrap_or_else(|| *self.all.borrow())
    }

    pub(super) fn watch(&self) -> watch::Receiver<Fault> {
        self.all.subscribe()
    }

    pub(super) fn duplicates(&self) -> bool {
        self.duplicates.load(Relaxed)
    }

    pub(super) fn reorders(&self) -> bool {
        self.reorder.load(Relaxed)
    }

    /// Whether this entry of a batch is the n-th.
    pub(super) fn fails_entry(&self, fault: Fault) -> bool {
        match fault {
            Fault::Partial(n) => self.entries.fetch_add(1, Relaxed) % n == n - 1,
            _ => false,
        }
    }
}
