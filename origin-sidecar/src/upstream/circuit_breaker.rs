//! The circuit breaker and retry budget of one upstream in one thread.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

/// Failed connections in a row after which the circuit opens: then one request at a time probes the
/// upstream, and the others wait for it.
const FAILURES_MAX: u32 = 5;
/// The time between probes. It is short: an application that restarts is back before anybody
/// notices.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// How long a request waits for a probe in flight.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How many requests wait for a probe; further ones fail at once.
const WAITING_MAX: u32 = 1_000;
/// One retry is allowed per this many requests: retries must not double the load of an upstream in
/// trouble (the retry budget of Finagle and Linkerd, 20 %).
const RETRY_EVERY: u32 = 5;
/// How many retries may be saved up.
const RETRIES_MAX: u32 = 10;

#[derive(Default)]
pub struct CircuitBreaker {
    state: Mutex<BreakerState>,
    /// Notified when an attempt has ended for which others may wait.
    ended: Notify,
}

struct BreakerState {
    failures: u32,
    /// No attempt is made before this.
    pause: Option<Instant>,
    /// Whether a probe is in flight.
    is_probed: bool,
    /// Failed probes so far.
    failed_probes: u64,
    waiting: u32,
    /// The retry budget, in parts of [`RETRY_EVERY`].
    retries: u32,
    /// The address that connected last.
    good: Option<IpAddr>,
}

impl Default for BreakerState {
    fn default() -> Self {
        Self {
            failures: 0,
            pause: None,
            is_probed: false,
            failed_probes: 0,
            waiting: 0,
            retries: RETRIES_MAX * RETRY_EVERY,
            good: None,
        }
    }
}

/// The permission to try a connection; its holder reports the result.
pub struct ConnectPermit<'a> {
    breaker: &'a CircuitBreaker,
    is_probe: bool,
}

/// Counts a request that waits for permission.
struct WaitingGuard<'a>(&'a CircuitBreaker);

enum ConnectDecision<'a> {
    Now(ConnectPermit<'a>),
    /// The probe that the request waited for has failed.
    Failed,
    /// The request waits until this moment, unless an attempt ends sooner.
    Later(Option<Instant>),
}

impl CircuitBreaker {
    /// Waits for permission to connect. It is given at once while the circuit is closed; otherwise
    /// when this request may probe, or when another's probe has succeeded.
    ///
    /// # Errors
    /// Another's probe has failed meanwhile or did not end in time, or too many requests wait for
    /// it.
    pub async fn leave(&self) -> io::Result<ConnectPermit<'_>> {
        let failed_before = self.lock().failed_probes;
        if let ConnectDecision::Now(leave) = self.turn(failed_before) {
            return Ok(leave);
        }
        let left_alone = || io::Error::other("circuit open: the last connection attempts failed");
        let _waiting = self.begin_to_wait().ok_or_else(left_alone)?;
        let end = Instant::now() + WAIT_MAX;
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            let until = match self.turn(failed_before) {
                ConnectDecision::Now(leave) => return Ok(leave),
                ConnectDecision::Failed => return Err(left_alone()),
                ConnectDecision::Later(_) if Instant::now() >= end => return Err(left_alone()),
                ConnectDecision::Later(until) => until.map_or(end, |until| until.min(end)),
            };
            // Whether it ended or timed out, the next iteration checks the state.
            let _ = timeout_at(until, ended).await;
        }
    }

    fn turn(&self, failed_before: u64) -> ConnectDecision<'_> {
        let mut state = self.lock();
        if state.failures < FAILURES_MAX {
            return ConnectDecision::Now(ConnectPermit { breaker: self, is_probe: false });
        }
        if state.failed_probes != failed_before {
            return ConnectDecision::Failed;
        }
        if state.is_probed {
            return ConnectDecision::Later(None);
        }
        match state.pause.filter(|pause| Instant::now() < *pause) {
            Some(pause) => ConnectDecision::Later(Some(pause)),
            None => {
                state.is_probed = true;
                ConnectDecision::Now(ConnectPermit { breaker: self, is_probe: true })
            }
        }
    }

    fn begin_to_wait(&self) -> Option<WaitingGuard<'_>> {
        let mut state = self.lock();
        if state.waiting >= WAITING_MAX {
            return None;
        }
        state.waiting += 1;
        Some(WaitingGuard(self))
    }

    /// The address that connected last.
    pub fn good(&self) -> Option<IpAddr> {
        self.lock().good
    }

    /// Records that a request is sent for the first time, which adds to the retry budget.
    pub fn sent(&self) {
        let mut state = self.lock();
        state.retries = (state.retries + 1).min(RETRIES_MAX * RETRY_EVERY);
    }

    /// Takes one retry from the budget; false where it is exhausted.
    pub fn may_retry(&self) -> bool {
        let mut state = self.lock();
        let left = state.retries.checked_sub(RETRY_EVERY);
        state.retries = left.unwrap_or(state.retries);
        left.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, BreakerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectPermit<'_> {
    pub fn connected(self, address: Option<IpAddr>) {
        let mut state = self.breaker.lock();
        state.failures = 0;
        state.good = address.or(state.good);
    }

    pub fn failed(self) {
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        if self.is_probe {
            state.failed_probes += 1;
        }
        if self.is_probe || state.failures == FAILURES_MAX {
            state.pause = Some(Instant::now() + PAUSE);
        }
    }
}

impl Drop for ConnectPermit<'_> {
    /// Runs also when the attempt was abandoned without a result: then the next request tries.
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.lock().is_probed = false;
        }
        self.breaker.ended.notify_waiters();
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl CircuitBreaker {
    /// Connects with `connect`, which gets the address that connected last. A refused connection is
    /// tried once more after a moment: an application that restarts is back by then.
    ///
    /// # Errors
    /// Nobody listens there, or does not answer in time, or has the wrong certificate; and for a
    /// moment after several such failures.
    pub async fn connected<T, F: Future<Output = io::Result<(T, Option<IpAddr>)>>>(
        &self,
        limit: Duration,
        connect: impl Fn(Option<IpAddr>) -> F,
    ) -> io::Result<T> {
        match self.tried(limit, connect(self.good())).await {
            Err(error) if is_of_a_restart(&error) => {
                tokio::time::sleep(PAUSE).await;
                self.tried(limit, connect(self.good())).await
            }
            tried => tried,
        }
    }

    async fn tried<T>(
        &self,
        limit: Duration,
        connecting: impl Future<Output = io::Result<(T, Option<IpAddr>)>>,
    ) -> io::Result<T> {
        let leave = self.leave().await?;
        let connected = timeout(limit, connecting).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok((connection, address)) => {
                leave.connected(address);
                Ok(connection)
            }
            Err(error) => {
                leave.failed();
                Err(error)
            }
        }
    }
}

/// Whether the error is one that occurs while an upstream restarts: nobody listens, or the listener
/// has just gone.
fn is_of_a_restart(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::task::yield_now;
    use tokio::time::sleep;

    async fn broken() -> Arc<CircuitBreaker> {
        let breaker = Arc::new(CircuitBreaker::default());
        for _ in 0..FAILURES_MAX {
            breaker.leave().await.expect("the first may all try").failed();
        }
        breaker
    }

    /// Starts requests that want to connect, none of which is answered yet. Counts how many were
    /// permitted, and how many were refused.
    fn ask(breaker: &Arc<CircuitBreaker>, count: usize) -> Arc<[AtomicUsize; 2]> {
        let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        for _ in 0..count {
            let (breaker, counts) = (Arc::clone(breaker), Arc::clone(&counts));
            tokio::spawn(async move {
                let leave = breaker.leave().await;
                counts[usize::from(leave.is_err())].fetch_add(1, Ordering::Relaxed);
                leave.map(|leave| leave.connected(None))
            });
        }
        counts
    }

    fn told(counts: &[AtomicUsize; 2]) -> (usize, usize) {
        (counts[0].load(Ordering::Relaxed), counts[1].load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn after_failures_requests_wait_for_one_attempt_and_go_on_when_it_succeeds() {
        let breaker = broken().await;
        sleep(PAUSE).await;
        let probe = breaker.leave().await.expect("the pause is over");
        let asked = ask(&breaker, 100);
        sleep(WAIT_MAX / 2).await;
        assert_eq!(told(&asked), (0, 0), "all wait");
        probe.connected(None);
        yield_now().await;
        sleep(Duration::from_millis(1)).await;
        assert_eq!(told(&asked), (100, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_waited_are_refused_when_the_attempt_fails_and_not_before() {
        let breaker = broken().await;
        sleep(PAUSE).await;
        let probe = breaker.leave().await.expect("the pause is over");
        let asked = ask(&breaker, 100);
        sleep(WAIT_MAX / 2).await;
        assert_eq!(told(&asked), (0, 0), "all wait");
        probe.failed();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(told(&asked), (0, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn in_the_pause_nobody_is_refused_and_one_of_them_tries_after_it() {
        let breaker = broken().await;
        let asked = ask(&breaker, 10);
        sleep(PAUSE / 2).await;
        assert_eq!(told(&asked), (0, 0));
        sleep(PAUSE).await;
        assert_eq!(told(&asked), (10, 0), "the one that tried could connect");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_or_is_given_up_holds_nobody_for_long() {
        let breaker = broken().await;
        sleep(PAUSE).await;
        let hanging = breaker.leave().await.expect("the pause is over");
        let asked = ask(&breaker, 10);
        sleep(WAIT_MAX * 2).await;
        assert_eq!(told(&asked), (0, 10));
        let asked = ask(&breaker, 10);
        yield_now().await;
        drop(hanging);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(told(&asked), (10, 0), "another tried in its place");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_may() {
        let breaker = broken().await;
        let asked = ask(&breaker, WAITING_MAX as usize + 7);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(told(&asked), (0, 7));
    }

    #[test]
    fn one_in_five_requests_may_be_sent_again_and_a_few_at_once() {
        let breaker = CircuitBreaker::default();
        assert_eq!((0..100).filter(|_| breaker.may_retry()).count(), RETRIES_MAX as usize);
        (0..100).for_each(|_| breaker.sent());
        let retries = (0..100).filter(|_| breaker.may_retry()).count();
        assert_eq!(retries, RETRIES_MAX as usize);
        (0..10).for_each(|_| breaker.sent());
        assert_eq!((0..100).filter(|_| breaker.may_retry()).count(), 2);
    }
}
