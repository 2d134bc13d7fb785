//! Request coalescing (single flight): one in-flight fetch per key, and the other requests wait for its
//! outcome.

use memory_cache::fill::Fill;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long a follower waits for another's fetch before it starts its own.
pub const FOLLOW_MAX: Duration = Duration::from_secs(5);

/// The outcome of a fetch, for the requests that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchOutcome {
    /// The answer is in the store now.
    Stored,
    /// The answer can't be stored; each follower must fetch for itself.
    NotStored,
    /// The origin failed.
    Failed,
}

/// The progress of a fetch.
#[derive(Clone, Default)]
pub struct FetchProgress {
    /// Whether even the connection to the origin takes long.
    pub is_slow: bool,
    /// Set once the head of a storable answer has been received.
    pub fill: Option<Arc<Fill>>,
    /// None while the fetch is in flight.
    pub outcome: Option<FetchOutcome>,
}

pub type ProgressReceiver = watch::Receiver<FetchProgress>;

/// The in-flight fetches, by cache key.
#[derive(Default)]
pub struct Coalescer {
    in_flight: Mutex<HashMap<String, ProgressReceiver>>,
}

/// What a request does about a key: fetch it, or wait for the request that does.
pub enum FetchRole {
    Leader(FetchPermit),
    Follower(ProgressReceiver),
}

/// The right to fetch a key. A permit that is dropped without [`FetchPermit::complete`] completes the fetch as
/// failed, so that no request waits for a fetch that is gone.
pub struct FetchPermit {
    coalescer: Arc<Coalescer>,
    /// None when the fetch is complete.
    key: Option<String>,
    sender: watch::Sender<FetchProgress>,
}

impl Coalescer {
    pub fn join(self: &Arc<Self>, key: &str) -> FetchRole {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        match in_flight.get(key) {
            Some(waiters) => FetchRole::Follower(waiters.clone()),
            None => FetchRole::Leader(self.begin(&mut in_flight, key)),
        }
    }

    /// Joins another fetch than `than`, which has not ended but can no longer be used.
    pub fn join_other(self: &Arc<Self>, key: &str, than: &ProgressReceiver) -> FetchRole {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        match in_flight.get(key).filter(|waiters| !waiters.same_channel(than)) {
            Some(waiters) => FetchRole::Follower(waiters.clone()),
            None => FetchRole::Leader(self.begin(&mut in_flight, key)),
        }
    }

    fn begin(
        self: &Arc<Self>,
        in_flight: &mut HashMap<String, ProgressReceiver>,
        key: &str,
    ) -> FetchPermit {
        let (sender, waiters) = watch::channel(FetchProgress::default());
        in_flight.insert(key.to_owned(), waiters);
        FetchPermit { coalescer: Arc::clone(self), key: Some(key.to_owned()), sender }
    }
}

impl FetchPermit {
    /// A fetch that nobody joins.
    pub fn alone() -> Self {
        let sender = watch::channel(FetchProgress::default()).0;
        Self { coalescer: Arc::default(), key: None, sender }
    }

    /// Watches the fetch's progress.
    pub fn watch(&self) -> ProgressReceiver {
        self.sender.subscribe()
    }

    /// A function that marks the fetch as slow.
    pub fn slowness(&self) -> impl Fn() + Send + Sync + 'static {
        let sender = self.sender.clone();
        move || sender.send_modify(|progress| progress.is_slow = true)
    }

    /// Lets followers read the answer while it is received.
    pub fn begins(&self, fill: &Arc<Fill>) {
        self.sender.send_modify(|progress| progress.fill = Some(Arc::clone(fill)));
    }

    pub fn complete(mut self, outcome: FetchOutcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: FetchOutcome) {
        // Removed before followers are notified: one that joins again must not find the ended
        // fetch, nor remove the next one.
        if let Some(key) = self.key.take() {
            let in_flight = self.coalescer.in_flight.lock();
            let mut in_flight = in_flight.unwrap_or_else(PoisonError::into_inner);
            let own = self.sender.subscribe();
            if in_flight.get(&key).is_some_and(|waiters| waiters.same_channel(&own)) {
                in_flight.remove(&key);
            }
            drop(in_flight);
            self.sender.send_modify(|progress| progress.outcome = Some(outcome));
        }
    }
}

impl Drop for FetchPermit {
    fn drop(&mut self) {
        self.end(FetchOutcome::Failed);
    }
}

/// Waits until the leader has the head of its answer or, with `until_slow`, is slow. `None` after
/// [`FOLLOW_MS_MAX`].
pub async fn follow(waiters: &mut ProgressReceiver, until_slow: bool) -> Option<FetchProgress> {
    let limit = FOLLOW_MAX;
    let is_known = |progress: &FetchProgress| {
        progress.outcome.is_some() || progress.fill.is_some() || (until_slow && progress.is_slow)
    };
    let known = tokio::time::timeout(limit, waiters.wait_for(is_known)).await.ok()?;
    let failed = FetchProgress { outcome: Some(FetchOutcome::Failed), ..FetchProgress::default() };
    Some(known.map_or(failed, |progress| progress.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn landed(mut waiters: ProgressReceiver) -> Option<FetchOutcome> {
        follow(&mut waiters, false).await?.outcome
    }

    #[tokio::test]
    async fn followers_learn_what_the_leader_brought() {
        let coalescer = Arc::new(Coalescer::default());
        let FetchRole::Leader(permit) = coalescer.join("k") else { panic!("the first must lead") };
        let FetchRole::Follower(waiters) = coalescer.join("k") else {
            panic!("the second must follow")
        };
        permit.complete(FetchOutcome::Stored);
        assert_eq!(landed(waiters).await, Some(FetchOutcome::Stored));
        assert!(matches!(coalescer.join("k"), FetchRole::Leader(_)));
    }

    #[test]
    fn one_who_is_told_can_lead_the_next_fetch_at_once() {
        for _ in 0..2_000 {
            let coalescer = Arc::new(Coalescer::default());
            let FetchRole::Leader(permit) = coalescer.join("k") else {
                panic!("the first must lead")
            };
            let FetchRole::Follower(waiters) = coalescer.join("k") else {
                panic!("it must follow")
            };
            let outcome = std::thread::spawn(move || permit.complete(FetchOutcome::Failed));
            while waiters.borrow().outcome.is_none() {
                std::hint::spin_loop();
            }
            assert!(matches!(coalescer.join("k"), FetchRole::Leader(_)));
            outcome.join().expect("no panic");
        }
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_does_not_leave_followers_waiting() {
        let coalescer = Arc::new(Coalescer::default());
        let FetchRole::Leader(permit) = coalescer.join("k") else { panic!("the first must lead") };
        let FetchRole::Follower(waiters) = coalescer.join("k") else {
            panic!("the second must follow")
        };
        drop(permit);
        assert_eq!(landed(waiters).await, Some(FetchOutcome::Failed));
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_can_do_without_is_told_that_the_leader_is_slow_and_the_others_wait_on() {
        let coalescer = Arc::new(Coalescer::default());
        let FetchRole::Leader(permit) = coalescer.join("k") else { panic!("the first must lead") };
        let FetchRole::Follower(mut waiters) = coalescer.join("k") else {
            panic!("it must follow")
        };
        permit.slowness()();
        let told = follow(&mut waiters, true).await.expect("at once");
        assert!(told.is_slow && told.outcome.is_none());
        assert!(follow(&mut waiters, false).await.is_none());
        permit.complete(FetchOutcome::Stored);
        assert_eq!(landed(waiters).await, Some(FetchOutcome::Stored));
    }

    #[tokio::test]
    async fn a_fetch_that_is_of_no_use_any_more_is_followed_by_another() {
        let coalescer = Arc::new(Coalescer::default());
        let FetchRole::Leader(old) = coalescer.join("k") else { panic!("the first must lead") };
        let FetchRole::Follower(waiters) = coalescer.join("k") else {
            panic!("the second must follow")
        };
        let FetchRole::Leader(new) = coalescer.join_other("k", &waiters) else {
            panic!("it must lead")
        };
        let FetchRole::Follower(other) = coalescer.join_other("k", &waiters) else {
            panic!("one leads")
        };
        old.complete(FetchOutcome::Stored);
        let FetchRole::Follower(_) = coalescer.join("k") else { panic!("the other is under way") };
        new.complete(FetchOutcome::NotStored);
        assert_eq!(landed(other).await, Some(FetchOutcome::NotStored));
        assert!(matches!(coalescer.join("k"), FetchRole::Leader(_)));
    }
}
