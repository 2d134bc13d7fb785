//! Schedules reads of the leases of adopted executions. A listing costs as much as twelve reads, so
//! listings are rare, and a listed lease is read when it should have expired.

use super::record::{ADOPTED, Adopted};
use rules::{Millis, UnixMillis};
use std::collections::BTreeMap;
use std::time::Duration;
use stores::results::{Listed, Results, StoreError};
use tokio::time::Instant;

/// How long a lease lasts without renewal in milliseconds, and so how long the store may be
/// unavailable. A crash is detected within this and 10 s.
pub(super) const LEASE: Millis = Millis(20_000);
/// The largest clock skew between two processes, in milliseconds. With more, a running job may
/// appear lost.
pub(super) const SKEW: Millis = Millis(5_000);
/// Longer than any notification takes, in milliseconds: two minutes of attempts with 5 s for each.
pub(super) const TELL: Millis = Millis(180_000);
/// The interval between listings of a local store, which cost nothing.
const LIST_INTERVAL: Duration = Duration::from_secs(5);
/// Between two listings of a bucket. A process that dies as it has renewed its lease shows in the next
/// one, after 15 s, or 20 s when that fails; the lease is read, and is over, after 25 s ([`LEASE`] and
/// [`SKEW`]). A clock that is [`SKEW`] off makes that 30 s, the promise. Two consumers list 345,600
/// times in a month of 30 days: 1.73 $.
const LIST_INTERVAL_BILLED: Duration = Duration::from_secs(15);
/// The interval while no rule allows adopted executions: 0.02 $ a month for one consumer.
const LIST_INTERVAL_QUIET: Duration = Duration::from_secs(600);
/// How long after the start, the last such rule or the last lease the short interval is kept: a
/// proxy may have older rules.
const QUIET_AFTER: Duration = Duration::from_secs(600);
/// The pause after a failed call, and before the next try of a notification.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// The longest time until a lease is read, whatever the clocks say.
const WATCH_MAX: Duration = Duration::from_secs(180);
/// Leases that are tracked, about 200 bytes each; further ones follow when others are gone.
const LEASES_MAX: usize = 100_000;
/// Keys in one listing.
const PAGE: usize = 500;

/// A listed lease, and when it is read.
struct Watched {
    written: UnixMillis,
    due: Instant,
}

/// The leases of all adopted executions.
pub(super) struct Leases {
    watched: BTreeMap<String, Watched>,
    interval: Duration,
    listed: Option<Instant>,
    /// Whether the last listing failed.
    has_failed: bool,
    /// When there was last a reason to expect leases.
    expected: Instant,
}

impl Leases {
    pub(super) fn new(is_billed: bool) -> Self {
        let interval = if is_billed { LIST_INTERVAL_BILLED } else { LIST_INTERVAL };
        let (watched, expected) = (BTreeMap::new(), Instant::now());
        Self { watched, interval, listed: None, has_failed: false, expected }
    }

    /// Whether a listing is due. `may_come`: the rules allow adopted executions.
    pub(super) fn is_list_due(&mut self, may_come: bool) -> bool {
        if may_come || !self.watched.is_empty() {
            self.expected = Instant::now();
        }
        let pause = match self.interval {
            _ if self.has_failed => AGAIN,
            LIST_INTERVAL_BILLED if self.expected.elapsed() >= QUIET_AFTER => LIST_INTERVAL_QUIET,
            interval => interval,
        };
        self.listed.is_none_or(|listed| listed.elapsed() >= pause)
    }

    /// Lists all there are.
    pub(super) async fn list(
        &mut self,
        results: &dyn Results,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let at = Instant::now();
        (self.listed, self.has_failed) = (Some(at), true);
        let (mut after, mut found) = (String::new(), BTreeMap::new());
        loop {
            let page = results.list(ADOPTED, &after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            for Listed { key, written } in page {
                let due = match self.watched.get(&key) {
                    Some(known) if known.written == written => known.due,
                    _ => at + over_after(written, now),
                };
                if found.len() < LEASES_MAX {
                    found.insert(key, Watched { written, due });
                }
            }
        }
        (self.watched, self.has_failed) = (found, false);
        Ok(())
    }

    /// The keys of the leases that are to be read now.
    pub(super) fn due(&self) -> Vec<String> {
        let now = Instant::now();
        let due = self.watched.iter().filter(|(_, lease)| lease.due <= now);
        due.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.watched.remove(key);
    }

    pub(super) fn put_off(&mut self, key: &str, pause: Duration) {
        if let Some(lease) = self.watched.get_mut(key) {
            lease.due = Instant::now() + pause.min(WATCH_MAX);
        }
    }

    /// When the next step is due: the rules may have changed after [`AGAIN`].
    pub(super) fn next(&self) -> Instant {
        let due = self.watched.values().map(|lease| lease.due).min();
        let most = Instant::now() + AGAIN;
        due.map_or(most, |due| due.min(most))
    }
}

/// How long from now a lease written at that time certainly has not expired; it may be renewed. The
/// store's clock may be ahead of ours.
fn over_after(written: UnixMillis, now: UnixMillis) -> Duration {
    let whole = LEASE + SKEW;
    let over = written + whole;
    Duration::from((over - now).min(whole))
}

/// Whether the process that executes an adopted request is gone, allowing for clock skew.
pub(super) fn is_lost(lease: &Adopted, now: UnixMillis) -> bool {
    is_over(lease.until, now)
}

/// Whether a lease until that time has expired, allowing for clock skew.
pub(super) fn is_over(until: UnixMillis, now: UnixMillis) -> bool {
    until + SKEW <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time until the next listing after one that succeeds now.
    async fn pace(leases: &mut Leases, may_come: bool) -> Duration {
        let listed = Instant::now();
        leases.listed = Some(listed);
        while !leases.is_list_due(may_come) {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        listed.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_is_listed_seldom_only_while_no_lease_can_be_expected() {
        let mut leases = Leases::new(true);
        assert_eq!(pace(&mut leases, false).await, LIST_INTERVAL_BILLED, "it has just begun");
        tokio::time::advance(QUIET_AFTER).await;
        assert_eq!(pace(&mut leases, false).await, LIST_INTERVAL_QUIET);
        assert_eq!(pace(&mut leases, true).await, LIST_INTERVAL_BILLED, "the rules have changed");
        tokio::time::advance(QUIET_AFTER).await;
        let lease = Watched { written: UnixMillis(0), due: Instant::now() };
        leases.watched.insert("adopted/a".to_owned(), lease);
        assert_eq!(pace(&mut leases, false).await, LIST_INTERVAL_BILLED, "there is one");
        leases.forget("adopted/a");
        leases.has_failed = true;
        assert_eq!(pace(&mut leases, false).await, AGAIN);
        let mut local = Leases::new(false);
        tokio::time::advance(QUIET_AFTER).await;
        assert_eq!(pace(&mut local, false).await, LIST_INTERVAL, "a folder costs nothing");
    }

    #[test]
    fn a_lease_is_read_when_it_is_over_whatever_the_clock_of_the_store_says() {
        let over = |written, now| over_after(written, now).as_millis();
        assert_eq!(over(UnixMillis(100_000), UnixMillis(100_000)), 25_000);
        assert_eq!(over(UnixMillis(100_000), UnixMillis(113_000)), 12_000);
        assert_eq!(over(UnixMillis(100_000), UnixMillis(300_000)), 0);
        assert_eq!(
            over(UnixMillis(900_000), UnixMillis(100_000)),
            25_000,
            "a clock that is far ahead"
        );
    }
}
