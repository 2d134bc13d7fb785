//! Tracks whether the upstreams of jobs accept connections. An upstream that does not is only
//! probed, once a second. When it accepts a connection, it gets one job first, then as many as
//! before.

use super::context::JobWorker;
use crate::telemetry::metrics::Metrics;
use crate::upstream::server::{APP, Upstream};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// The interval between probes of an upstream that is away.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long the first job may take before others follow: a report that takes an hour must not block
/// those behind it.
const TRIAL: Duration = Duration::from_secs(5);

/// The state of one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PresenceState {
    /// It has not been checked yet.
    Unseen,
    Here,
    Away {
        since: Instant,
    },
    /// It accepts connections again, and has not been sent a job yet.
    Back {
        since: Instant,
    },
    /// One job was sent to it.
    Trial {
        since: Instant,
        begun: Instant,
    },
}

/// How many jobs may be received for a set of upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReceiveAllowance {
    None,
    /// One upstream is back: one job shows how it fares.
    One,
    Many,
}

/// The states of this process's upstreams.
pub struct Presence {
    states: Mutex<BTreeMap<Arc<str>, PresenceState>>,
    /// Waiters are notified in the order in which they wait, so that a simulated schedule is
    /// reproducible.
    changed: Notify,
    metrics: Arc<Metrics>,
}

impl Presence {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { states: Mutex::default(), changed: Notify::new(), metrics }
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, PresenceState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many jobs may be received for these upstreams: the allowance of the local application if
    /// it is one of them, otherwise the largest one. Upstreams that were not checked yet are
    /// checked.
    pub(super) fn room<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> ReceiveAllowance {
        let (mut room, mut of_app, mut is_new) = (ReceiveAllowance::None, None, false);
        let mut states = self.states();
        for name in names {
            let state = states.entry(name.into()).or_insert_with(|| {
                is_new = true;
                PresenceState::Unseen
            });
            let own = match state {
                PresenceState::Here => ReceiveAllowance::Many,
                PresenceState::Back { .. } => ReceiveAllowance::One,
                PresenceState::Unseen
                | PresenceState::Away { .. }
                | PresenceState::Trial { .. } => ReceiveAllowance::None,
            };
            room = room.max(own);
            if name == APP {
                of_app = Some(own);
            }
        }
        drop(states);
        if is_new {
            self.changed.notify_waiters();
        }
        of_app.unwrap_or(room)
    }

    /// Resolves when a state has changed, or after a second.
    pub(super) async fn news(&self) {
        // Whether it changed or timed out, the next iteration checks the states.
        let _ = timeout(PROBE_INTERVAL, self.changed.notified()).await;
    }

    /// How long the upstream has been away.
    pub(super) fn away_for(&self, name: &str) -> Duration {
        match self.states().get(name) {
            Some(
                PresenceState::Away { since }
                | PresenceState::Back { since }
                | PresenceState::Trial { since, .. },
            ) => since.elapsed(),
            None | Some(PresenceState::Unseen | PresenceState::Here) => Duration::ZERO,
        }
    }

    /// Whether a job may be sent there now. One that [`Self::opened`] has admitted may.
    pub(super) fn enter(&self, name: &str, is_let_go: bool) -> bool {
        let mut states = self.states();
        match states.get_mut(name) {
            None | Some(PresenceState::Unseen | PresenceState::Here) => true,
            Some(state @ PresenceState::Back { .. }) => {
                state.begin_trial();
                drop(states);
                // The watcher may be asleep: a trial job that is never answered must not be the
                // last one.
                self.changed.notify_waiters();
                true
            }
            Some(PresenceState::Trial { .. }) => is_let_go,
            Some(PresenceState::Away { .. }) => false,
        }
    }

    /// Resolves when a waiting job may be sent there; at first only one is.
    pub(super) async fn opened(&self, name: &str) {
        loop {
            // Subscribes before it checks.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.states().get_mut(name) {
                None | Some(PresenceState::Unseen | PresenceState::Here) => return,
                Some(state @ PresenceState::Back { .. }) => {
                    state.begin_trial();
                    break;
                }
                Some(PresenceState::Trial { .. } | PresenceState::Away { .. }) => {}
            }
            changed.await;
        }
        // The watcher may be asleep, as in [`Self::enter`].
        self.changed.notify_waiters();
    }

    /// Records that the upstream has answered a job.
    pub(super) fn answered(&self, name: &str) {
        let is_tried = matches!(
            self.states().get(name),
            Some(PresenceState::Back { .. } | PresenceState::Trial { .. })
        );
        if is_tried {
            self.set_here(name);
        }
    }

    /// Records that the upstream accepted no connection.
    pub(super) fn away(&self, name: &str, detail: &str) {
        let mut states = self.states();
        let state = states.entry(name.into()).or_insert(PresenceState::Unseen);
        let since = match *state {
            PresenceState::Away { .. } => return,
            PresenceState::Back { since } | PresenceState::Trial { since, .. } => since,
            PresenceState::Unseen | PresenceState::Here => {
                tracing::warn!(
                    upstream = name,
                    reason = "app-away",
                    detail,
                    "the application accepts no connections; its jobs wait"
                );
                Instant::now()
            }
        };
        *state = PresenceState::Away { since };
        drop(states);
        self.metrics.jobs.app_up.with_label_values(&[name]).set(0);
        self.changed.notify_waiters();
    }

    /// Probes the upstream after a connection was lost before any answer: it may have lost that one
    /// only, or be away.
    pub(super) async fn doubt(&self, worker: &JobWorker, upstream: &Upstream) {
        if let Err(error) = worker.client.upstreams.probe(upstream).await {
            self.away(&upstream.name, &error.to_string());
        }
    }

    fn set_here(&self, name: &str) {
        let before = self.states().insert(name.into(), PresenceState::Here);
        if let Some(
            PresenceState::Away { since }
            | PresenceState::Back { since }
            | PresenceState::Trial { since, .. },
        ) = before
        {
            let seconds = since.elapsed().as_secs();
            tracing::info!(upstream = name, seconds, "the application is back");
        }
        self.metrics.jobs.app_up.with_label_values(&[name]).set(1);
        self.changed.notify_waiters();
    }

    /// Probes upstreams that are away. Never returns.
    pub async fn watch(&self, worker: &JobWorker) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let (sought, is_tried) = self.look();
            if sought.is_empty() && !is_tried {
                changed.await;
                continue;
            }
            let probes = sought.iter().map(|name| self.probe(worker, name));
            join_all(probes).await;
            sleep(PROBE_INTERVAL).await;
        }
    }

    /// The upstreams that must be probed, and whether a trial is in progress. A trial that takes
    /// long counts as a success.
    fn look(&self) -> (Vec<Arc<str>>, bool) {
        let (mut sought, mut over, mut is_tried) = (Vec::new(), Vec::new(), false);
        for (name, state) in &*self.states() {
            match state {
                PresenceState::Unseen | PresenceState::Away { .. } => sought.push(Arc::clone(name)),
                PresenceState::Trial { begun, .. } if begun.elapsed() >= TRIAL => {
                    over.push(Arc::clone(name));
                }
                PresenceState::Trial { .. } => is_tried = true,
                PresenceState::Here | PresenceState::Back { .. } => {}
            }
        }
        over.iter().for_each(|name| self.set_here(name));
        (sought, is_tried)
    }

    async fn probe(&self, worker: &JobWorker, name: &str) {
        // The name is not bound: the job itself fails with that reason.
        let Some(upstream) = worker.context.destinations.servers.by_name(name) else {
            return self.set_here(name);
        };
        match worker.client.upstreams.probe(upstream).await {
            Err(error) => self.away(name, &error.to_string()),
            Ok(()) => {
                let state = self.states().get(name).copied();
                match state {
                    Some(PresenceState::Away { since }) => {
                        self.states().insert(name.into(), PresenceState::Back { since });
                        self.changed.notify_waiters();
                    }
                    Some(PresenceState::Unseen) => self.set_here(name),
                    _ => {}
                }
            }
        }
    }
}

impl PresenceState {
    fn begin_trial(&mut self) {
        if let Self::Back { since } = *self {
            *self = Self::Trial { since, begun: Instant::now() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::JobContext;
    use super::*;
    use crate::clock::System;

    fn presence() -> Presence {
        Presence::new(Arc::new(Metrics::new().expect("one of each")))
    }

    fn back(presence: &Presence) {
        let since = Instant::now();
        presence.states().insert("app".into(), PresenceState::Back { since });
        presence.changed.notify_waiters();
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_wait_one_is_let_go_first_and_the_others_after_its_answer() {
        let presence = Arc::new(presence());
        presence.away("app", "refused");
        assert!(!presence.enter("app", false));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let presence = Arc::clone(&presence);
                tokio::spawn(async move { presence.opened("app").await })
            })
            .collect();
        let let_go = || waiting.iter().filter(|waiting| waiting.is_finished()).count();
        back(&presence);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(let_go(), 1);
        assert!(presence.enter("app", true) && !presence.enter("app", false));
        presence.answered("app");
        sleep(Duration::from_millis(1)).await;
        assert_eq!(let_go(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_job_that_takes_long_holds_up_nobody_for_long() {
        let presence = presence();
        presence.away("app", "refused");
        back(&presence);
        assert!(presence.enter("app", false) && !presence.enter("app", false));
        sleep(TRIAL).await;
        assert_eq!(presence.look(), (Vec::new(), false));
        assert!(presence.enter("app", false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_job_that_is_never_answered_is_not_the_last() {
        let app = JobContext::alone("", Arc::new(System));
        let (worker, presence) = (JobWorker::new(Arc::new(app)), Arc::new(presence()));
        back(&presence);
        let watching = Arc::clone(&presence);
        let watching = tokio::spawn(async move { watching.watch(&worker).await });
        // Waits until there is nothing to probe.
        sleep(PROBE_INTERVAL * 2).await;
        assert!(presence.enter("app", false));
        timeout(TRIAL * 2, presence.opened("app")).await.expect("the next one is let go");
        watching.abort();
    }

    #[test]
    fn jobs_are_received_while_the_application_is_there_or_else_one_of_their_upstreams() {
        let presence = presence();
        assert_eq!(presence.room(["one", "two"]), ReceiveAllowance::None, "nobody has looked yet");
        presence.set_here("one");
        presence.away("two", "refused");
        assert_eq!(presence.room(["one", "two"]), ReceiveAllowance::Many);
        presence.away("app", "refused");
        assert_eq!(
            presence.room(["app", "one"]),
            ReceiveAllowance::None,
            "its own jobs would be in its hands"
        );
        assert_eq!(presence.room(["app"]), ReceiveAllowance::None);
        back(&presence);
        assert_eq!(presence.room(["app"]), ReceiveAllowance::One);
        presence.away("app", "refused again");
        assert_eq!(presence.room(["app"]), ReceiveAllowance::None);
    }
}
