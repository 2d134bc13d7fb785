//! Request collapsing: one fetch per key at a time, the others wait for what comes of it.

use memory_cache::fill::Fill;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// How long a follower waits for another's fetch before it starts its own, in milliseconds.
pub const FOLLOW_MS_MAX: u64 = 5_000;

/// What came of a fetch, for those who waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// In the store now.
    Stored,
    /// Not storable; each must fetch for itself.
    NotStored,
    /// The origin failed.
    Failed,
}

/// What is known of a fetch.
#[derive(Clone, Default)]
pub struct Progress {
    /// Even the connection to the origin takes long.
    pub is_slow: bool,
    /// It has brought the head of an answer that may be stored.
    pub fill: Option<Arc<Fill>>,
    /// None while it is under way.
    pub landing: Option<Landing>,
}

pub type Waiters = watch::Receiver<Progress>;

#[derive(Default)]
pub struct Flights {
    under_way: Mutex<HashMap<String, Waiters>>,
}

/// One's part in a fetch.
pub enum Part {
    Leader(Flight),
    Follower(Waiters),
}

/// The right to fetch a key. Dropped without [`Flight::land`] it lands as failed, so that nobody
/// waits for a fetch that is gone.
pub struct Flight {
    flights: Arc<Flights>,
    /// None when it has landed.
    key: Option<String>,
    sender: watch::Sender<Progress>,
}

impl Flights {
    pub fn join(self: &Arc<Self>, key: &str) -> Part {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.get(key) {
            Some(waiters) => Part::Follower(waiters.clone()),
            None => Part::Leader(self.begin(&mut under_way, key)),
        }
    }

    /// The same where what this fetch brings is of no use any more, though it has not ended.
    pub fn join_other(self: &Arc<Self>, key: &str, than: &Waiters) -> Part {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.get(key).filter(|waiters| !waiters.same_channel(than)) {
            Some(waiters) => Part::Follower(waiters.clone()),
            None => Part::Leader(self.begin(&mut under_way, key)),
        }
    }

    fn begin(self: &Arc<Self>, under_way: &mut HashMap<String, Waiters>, key: &str) -> Flight {
        let (sender, waiters) = watch::channel(Progress::default());
        under_way.insert(key.to_owned(), waiters);
        Flight { flights: Arc::clone(self), key: Some(key.to_owned()), sender }
    }
}

impl Flight {
    /// A fetch that nobody joins.
    pub fn alone() -> Self {
        let sender = watch::channel(Progress::default()).0;
        Self { flights: Arc::default(), key: None, sender }
    }

    /// What comes of it is told to whoever watches.
    pub fn watch(&self) -> Waiters {
        self.sender.subscribe()
    }

    /// Tells, when it is called, that the fetch is slow.
    pub fn slowness(&self) -> impl Fn() + Send + Sync + 'static {
        let sender = self.sender.clone();
        move || sender.send_modify(|progress| progress.is_slow = true)
    }

    /// Those who wait may read what comes.
    pub fn begins(&self, fill: &Arc<Fill>) {
        self.sender.send_modify(|progress| progress.fill = Some(Arc::clone(fill)));
    }

    pub fn land(mut self, landing: Landing) {
        self.end(landing);
    }

    fn end(&mut self, landing: Landing) {
        // Before anybody is told: one who is, and joins again, must not find the flight that has
        // ended, nor may it take away the next one.
        if let Some(key) = self.key.take() {
            let under_way = self.flights.under_way.lock();
            let mut under_way = under_way.unwrap_or_else(PoisonError::into_inner);
            let own = self.sender.subscribe();
            if under_way.get(&key).is_some_and(|waiters| waiters.same_channel(&own)) {
                under_way.remove(&key);
            }
            drop(under_way);
            self.sender.send_modify(|progress| progress.landing = Some(landing));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.end(Landing::Failed);
    }
}

/// Waits for the head of what the leader brings, or until the leader turns out to be slow if that is
/// enough; `None` when that took too long.
pub async fn follow(waiters: &mut Waiters, until_slow: bool) -> Option<Progress> {
    let limit = std::time::Duration::from_millis(FOLLOW_MS_MAX);
    let is_known = |progress: &Progress| {
        progress.landing.is_some() || progress.fill.is_some() || (until_slow && progress.is_slow)
    };
    let known = tokio::time::timeout(limit, waiters.wait_for(is_known)).await.ok()?;
    let failed = Progress { landing: Some(Landing::Failed), ..Progress::default() };
    Some(known.map_or(failed, |progress| progress.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn landed(mut waiters: Waiters) -> Option<Landing> {
        follow(&mut waiters, false).await?.landing
    }

    #[tokio::test]
    async fn followers_learn_what_the_leader_brought() {
        let flights = Arc::new(Flights::default());
        let Part::Leader(flight) = flights.join("k") else { panic!("the first must lead") };
        let Part::Follower(waiters) = flights.join("k") else { panic!("the second must follow") };
        flight.land(Landing::Stored);
        assert_eq!(landed(waiters).await, Some(Landing::Stored));
        assert!(matches!(flights.join("k"), Part::Leader(_)));
    }

    #[test]
    fn one_who_is_told_can_lead_the_next_fetch_at_once() {
        for _ in 0..2_000 {
            let flights = Arc::new(Flights::default());
            let Part::Leader(flight) = flights.join("k") else { panic!("the first must lead") };
            let Part::Follower(waiters) = flights.join("k") else { panic!("it must follow") };
            let landing = std::thread::spawn(move || flight.land(Landing::Failed));
            while waiters.borrow().landing.is_none() {
                std::hint::spin_loop();
            }
            assert!(matches!(flights.join("k"), Part::Leader(_)));
            landing.join().expect("no panic");
        }
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_does_not_leave_followers_waiting() {
        let flights = Arc::new(Flights::default());
        let Part::Leader(flight) = flights.join("k") else { panic!("the first must lead") };
        let Part::Follower(waiters) = flights.join("k") else { panic!("the second must follow") };
        drop(flight);
        assert_eq!(landed(waiters).await, Some(Landing::Failed));
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_can_do_without_is_told_that_the_leader_is_slow_and_the_others_wait_on() {
        let flights = Arc::new(Flights::default());
        let Part::Leader(flight) = flights.join("k") else { panic!("the first must lead") };
        let Part::Follower(mut waiters) = flights.join("k") else { panic!("it must follow") };
        flight.slowness()();
        let told = follow(&mut waiters, true).await.expect("at once");
        assert!(told.is_slow && told.landing.is_none());
        assert!(follow(&mut waiters, false).await.is_none());
        flight.land(Landing::Stored);
        assert_eq!(landed(waiters).await, Some(Landing::Stored));
    }

    #[tokio::test]
    async fn a_fetch_that_is_of_no_use_any_more_is_followed_by_another() {
        let flights = Arc::new(Flights::default());
        let Part::Leader(old) = flights.join("k") else { panic!("the first must lead") };
        let Part::Follower(waiters) = flights.join("k") else { panic!("the second must follow") };
        let Part::Leader(new) = flights.join_other("k", &waiters) else { panic!("it must lead") };
        let Part::Follower(other) = flights.join_other("k", &waiters) else { panic!("one leads") };
        old.land(Landing::Stored);
        let Part::Follower(_) = flights.join("k") else { panic!("the other is under way") };
        new.land(Landing::NotStored);
        assert_eq!(landed(other).await, Some(Landing::NotStored));
        assert!(matches!(flights.join("k"), Part::Leader(_)));
    }
}
