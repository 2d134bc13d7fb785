//! Tracks lasting refusals of queue, results and spool, such as a missing bucket or permission. All
//! calls of this process are observed, and repeated while they are refused. A call without answer
//! proves nothing.

pub mod checks;
pub mod watched;

use crate::telemetry::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Errors that no waiting fixes, by name.
const DEFINITE: [&str; 3] = ["queue-missing", "bucket-missing", "denied"];
/// A local folder is no longer where it was.
const FOLDER_MISSING: &str = "folder-missing";
/// A reload has removed the queue's rules.
const RULES_MISSING: &str = "rules-missing";
/// How long a refusal counts; a later request tries again.
const KNOWN_FOR: Duration = Duration::from_secs(15);
/// A process that has sent and received no message for this long is idle.
const IDLE_AFTER: Duration = Duration::from_secs(60);
/// How long a new role may take until its permissions apply everywhere.
const START: Duration = Duration::from_secs(30);

/// Whether it is a refusal that no waiting fixes.
pub fn is_definite(name: &str) -> bool {
    DEFINITE.contains(&name)
}

/// The backend that refuses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    Queue(String),
    Results,
    Spool,
}

impl Dependency {
    fn name(&self) -> &'static str {
        match self {
            Self::Queue(_) => "queue",
            Self::Results => "results",
            Self::Spool => "spool",
        }
    }

    /// The queue's name; empty for other backends.
    fn queue(&self) -> &str {
        if let Self::Queue(name) = self { name } else { "" }
    }
}

/// The call that is refused; permissions are granted one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Send,
    Receive,
    Delete,
    Hide,
    Count,
    Read,
    Write,
    List,
    /// The folder is where it was.
    Stand,
    /// There are rules for the queue.
    Rules,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Delete => "delete",
            Self::Hide => "hide",
            Self::Count => "count",
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Stand => "stand",
            Self::Rules => "rules",
        }
    }
}

#[derive(Debug, Clone)]
struct Fault {
    reason: &'static str,
    detail: String,
    since: Instant,
    /// Answered last.
    seen: Instant,
}

#[derive(Default)]
struct FaultTable {
    faults: BTreeMap<(Dependency, Call), Fault>,
    /// Calls that have succeeded since the start.
    worked: BTreeSet<(Dependency, Call)>,
    /// When a message was last sent or received.
    moved: Option<Instant>,
}

/// The known refusals of this process's queues, results and spool.
#[derive(Default)]
pub struct Soundness {
    state: Mutex<FaultTable>,
    changed: Notify,
}

/// A backend, the call that it refuses, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedCall {
    pub part: Dependency,
    pub call: Call,
    pub reason: &'static str,
    detail: String,
}

impl fmt::Display for RefusedCall {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, call, reason, detail } = self;
        match part {
            Dependency::Queue(name) => write!(out, "queue {name}")?,
            part => out.write_str(part.name())?,
        }
        write!(out, ": {reason} ({}): {detail}", call.name())
    }
}

impl Soundness {
    fn state(&self) -> MutexGuard<'_, FaultTable> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a call succeeded, or failed with another error than these refusals.
    fn works(&self, part: &Dependency, call: Call) {
        let key = (part.clone(), call);
        let mut state = self.state();
        if let Some(fault) = state.faults.remove(&key) {
            let (part, queue, reason) = (part.name(), part.queue(), fault.reason);
            tracing::info!(part, queue, call = call.name(), reason, "accepted again");
            self.changed.notify_waiters();
        } else if state.worked.contains(&key) {
            return;
        }
        state.worked.insert(key);
    }

    fn refuses(&self, part: &Dependency, call: Call, reason: &'static str, detail: &str) {
        let now = Instant::now();
        let mut state = self.state();
        let fault = state.faults.get(&(part.clone(), call));
        let since = fault.filter(|fault| fault.reason == reason).map(|fault| fault.since);
        let fault =
            Fault { reason, detail: detail.to_owned(), since: since.unwrap_or(now), seen: now };
        state.faults.insert((part.clone(), call), fault);
        drop(state);
        if since.is_none() {
            say(&RefusedCall { part: part.clone(), call, reason, detail: detail.to_owned() });
            self.changed.notify_waiters();
        }
    }

    fn find(&self, is_it: impl Fn(&Dependency, Call, &Fault) -> bool) -> Option<RefusedCall> {
        let state = self.state();
        let ((part, call), fault) =
            state.faults.iter().find(|((part, call), fault)| is_it(part, *call, fault))?;
        let (part, detail) = (part.clone(), fault.detail.clone());
        Some(RefusedCall { part, call: *call, reason: fault.reason, detail })
    }

    /// Why a request must not become a job of the queue: its message can't be sent, or its outcome
    /// can't be stored.
    pub fn of_new_jobs(&self, queue: &str) -> Option<RefusedCall> {
        self.find(|part, call, fault| {
            let is_in_the_way = match (part, call) {
                (Dependency::Queue(name), Call::Send) => name == queue,
                (Dependency::Queue(name), Call::Count) => name == queue && fault.reason != "denied",
                (Dependency::Queue(name), Call::Stand) => name == queue,
                (Dependency::Results, Call::Read | Call::Write | Call::Stand) => true,
                _ => false,
            };
            is_in_the_way && fault.seen.elapsed() < KNOWN_FOR
        })
    }

    /// Why nothing must be received from the queue: outcomes can't be stored, or there are no
    /// rules. Whether receiving itself is allowed is found out by receiving.
    pub fn of_receiving(&self, queue: &str) -> Option<RefusedCall> {
        self.find(|part, call, _| match (part, call) {
            (Dependency::Queue(name), Call::Stand | Call::Rules) => name == queue,
            (Dependency::Results, Call::Read | Call::Write | Call::List | Call::Stand) => true,
            (Dependency::Spool, _) => true,
            _ => false,
        })
    }

    /// A call that has never succeeded since the start and was refused for half a minute: a
    /// consumer exits because of it.
    pub fn of_start(&self) -> Option<RefusedCall> {
        let worked = self.state().worked.clone();
        self.find(|part, call, fault| {
            let is_needed = match call {
                Call::Receive | Call::Read | Call::Write | Call::List => true,
                Call::Count => fault.reason != "denied",
                _ => false,
            };
            is_needed && fault.since.elapsed() >= START && !worked.contains(&(part.clone(), call))
        })
    }

    /// Records that a message is sent or was received.
    fn moves(&self) {
        self.state().moved = Some(Instant::now());
    }

    /// Whether messages are sent or received: an idle process needs fewer checks.
    pub fn has_traffic(&self) -> bool {
        self.state().moved.is_some_and(|moved| moved.elapsed() < IDLE_AFTER)
    }

    fn has_faults(&self) -> bool {
        !self.state().faults.is_empty()
    }

    /// Records whether new rules contain a bound queue.
    pub fn has_rules(&self, queue: &str, has_rules: bool) {
        let part = Dependency::Queue(queue.to_owned());
        if has_rules {
            return self.works(&part, Call::Rules);
        }
        let detail = "the rules file has no [queue.NAME] for it any more";
        self.refuses(&part, Call::Rules, RULES_MISSING, detail);
    }

    /// Publishes the refusals as metrics.
    fn publish(&self, metrics: &Arc<Metrics>) {
        let gauge = &metrics.jobs.faults;
        gauge.reset();
        for ((part, call), fault) in &self.state().faults {
            gauge.with_label_values(&[part.name(), part.queue(), call.name(), fault.reason]).set(1);
        }
    }

    /// Logs the refusals that remain.
    fn remind(&self) {
        let faults = self.state().faults.clone();
        for ((part, call), Fault { reason, detail, .. }) in faults {
            say(&RefusedCall { part, call, reason, detail });
        }
    }
}

fn say(RefusedCall { part, call, reason, detail }: &RefusedCall) {
    let (part, queue, call) = (part.name(), part.queue(), call.name());
    tracing::warn!(part, queue, call, reason, detail, "permanently refused; still retrying");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Dependency {
        Dependency::Queue("work".to_owned())
    }

    #[test]
    fn a_job_is_taken_unless_its_message_or_its_outcome_is_known_to_have_no_place() {
        let soundness = Soundness::default();
        let refused = |queue| soundness.of_new_jobs(queue).map(|refusal| refusal.reason);
        soundness.refuses(&queue(), Call::Count, "denied", "");
        soundness.refuses(&queue(), Call::Receive, "denied", "");
        soundness.refuses(&Dependency::Results, Call::List, "denied", "");
        assert_eq!(refused("work"), None, "a sidecar needs none of these");
        soundness.refuses(&queue(), Call::Send, "denied", "");
        assert_eq!((refused("work"), refused("other")), (Some("denied"), None));
        soundness.works(&queue(), Call::Send);
        soundness.refuses(&Dependency::Results, Call::Write, "bucket-missing", "");
        assert_eq!(refused("other"), Some("bucket-missing"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_a_while_ago_is_a_new_question() {
        let soundness = Soundness::default();
        soundness.refuses(&queue(), Call::Send, "denied", "");
        tokio::time::advance(KNOWN_FOR).await;
        assert_eq!(soundness.of_new_jobs("work"), None);
        assert!(soundness.has_faults(), "the metric still says so");
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_is_refused_by_half_a_minute_of_the_same_answer_and_never_later() {
        let soundness = Soundness::default();
        soundness.refuses(&Dependency::Results, Call::Write, "bucket-missing", "");
        tokio::time::advance(START - Duration::from_secs(1)).await;
        assert_eq!(soundness.of_start(), None);
        soundness.refuses(&Dependency::Results, Call::Write, "denied", "another answer");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(soundness.of_start(), None);
        tokio::time::advance(START).await;
        let refusal = soundness.of_start().expect("refused");
        assert_eq!(refusal.to_string(), "results: denied (write): another answer");
        soundness.works(&Dependency::Results, Call::Write);
        soundness.refuses(&Dependency::Results, Call::Write, "denied", "");
        tokio::time::advance(START).await;
        assert_eq!(soundness.of_start(), None, "it has worked");
    }

    #[test]
    fn a_queue_without_rules_is_not_received_from_until_it_has_some() {
        let soundness = Soundness::default();
        soundness.has_rules("work", true);
        assert_eq!(soundness.of_receiving("work"), None);
        soundness.has_rules("work", false);
        let reason = soundness.of_receiving("work").map(|refusal| refusal.reason);
        assert_eq!((reason, soundness.of_receiving("other")), (Some(RULES_MISSING), None));
        soundness.has_rules("work", true);
        assert_eq!(soundness.of_receiving("work"), None);
    }
}
