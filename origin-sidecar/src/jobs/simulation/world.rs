//! The state of the made-up world, and the way a call takes into it.

use super::check::Promise;
use super::faults::{Course, Rng, Weather};
use super::log::{Event, NOBODY, What};
use super::mailbox::Mailbox;
use super::store::Objects;
use crate::clock::Clock;
use rules::{Millis, UnixMillis};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The schedule's beginning, in milliseconds since 1970.
const EPOCH: u64 = 1_800_000_000_000;
/// More calls than this in one schedule are an endless loop.
const CALLS_MAX: u64 = 100_000;

/// One process, from its start to its end; a restarted one is another.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Vitals {
    pub is_alive: bool,
    pub is_draining: bool,
    /// Calls fail until then.
    pub cut_off_until: u64,
    /// How far its clock is off.
    pub offset: i64,
    /// Its clock was set while it ran.
    pub has_jumped: bool,
    /// When a call of it last took long or failed.
    pub troubled: u64,
}

/// An execution of a request by the application.
#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub process: usize,
    pub job: Option<usize>,
    pub request: usize,
    pub number: u64,
    /// A proxy executes it at once, for a request with a key that counts.
    pub is_once: bool,
    /// The lease it began under.
    pub taking: Option<Taking>,
    /// While it runs and somebody waits for it.
    pub is_open: bool,
    /// What was answered.
    pub answer: Option<(u16, String)>,
}

/// What is known of a job, by its id.
#[derive(Debug, Clone, Default)]
pub(super) struct Job {
    pub id: String,
    /// A message of it became durable.
    pub is_sent: bool,
    /// An adopted lease of it became durable.
    pub is_adopted: bool,
    pub outcome: Option<Ending>,
    pub leases: Vec<Taking>,
    pub is_withdrawn: bool,
    /// Its end was taken back by the operator.
    pub is_requeued: bool,
    /// … and it has a message again.
    pub is_retried: bool,
}

/// A stored outcome: when, and at which position in the event log.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    pub order: usize,
    pub outcome: crate::jobs::record::Outcome,
}

/// A lease that changed hands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taking {
    pub order: usize,
    pub process: usize,
    /// The writer's own time.
    pub now: u64,
    /// The lease before, if there was one.
    pub before: Option<Before>,
}

/// A lease that another took over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub until: u64,
    /// Since the schedule began.
    pub written: u64,
}

pub(super) struct State {
    pub rng: Rng,
    pub weather: Weather,
    pub log: Vec<Event>,
    pub mailbox: Mailbox,
    pub objects: Objects,
    pub processes: Vec<Vitals>,
    pub executions: Vec<Execution>,
    pub jobs: Vec<Job>,
    pub promises: Vec<Promise>,
    numbers: BTreeMap<String, usize>,
    pub queue_out_until: u64,
    pub store_out_until: u64,
    /// It takes no connections.
    pub app_out_until: u64,
    pub calls: u64,
    /// The first thing that must not be.
    pub violation: Option<String>,
}

pub(super) struct World {
    pub state: Mutex<State>,
    began: Instant,
    /// A message may have become visible.
    pub arrived: Notify,
    /// A client has begun to ask.
    pub asked: Notify,
}

impl World {
    pub(super) fn new(mut rng: Rng, buried_after: u64) -> Self {
        let weather = Weather::drawn(&mut rng);
        let state = State {
            rng,
            weather,
            log: Vec::with_capacity(512),
            mailbox: Mailbox::new(buried_after),
            objects: Objects::default(),
            processes: Vec::new(),
            executions: Vec::new(),
            jobs: Vec::new(),
            promises: Vec::new(),
            numbers: BTreeMap::new(),
            queue_out_until: 0,
            store_out_until: 0,
            app_out_until: 0,
            calls: 0,
            violation: None,
        };
        Self {
            state: Mutex::new(state),
            began: Instant::now(),
            arrived: Notify::new(),
            asked: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds of simulated time since the schedule began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The true time.
    pub(super) fn time(&self) -> UnixMillis {
        UnixMillis(EPOCH) + Millis(self.now())
    }

    pub(super) fn note(&self, process: usize, what: What) {
        let at = self.now();
        self.state().log.push(Event { at, process, what });
    }

    pub(super) fn draw<T>(&self, choose: impl FnOnce(&mut Rng) -> T) -> T {
        choose(&mut self.state().rng)
    }
}

impl State {
    /// The number of a job.
    pub(super) fn job(&mut self, id: &str) -> usize {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let number = self.jobs.len();
        self.jobs.push(Job { id: id.to_owned(), ..Job::default() });
        self.numbers.insert(id.to_owned(), number);
        number
    }

    pub(super) fn violated(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    /// Something that a process could notice lasts until then.
    pub(super) fn troubled(&mut self, process: usize, until: u64) {
        let vitals = &mut self.processes[process];
        vitals.troubled = vitals.troubled.max(until);
    }

    /// The faults stop, and clocks are right again.
    pub(super) fn calm(&mut self, now: u64) {
        self.weather = Weather::default();
        (self.queue_out_until, self.store_out_until, self.app_out_until) = (0, 0, 0);
        for vitals in &mut self.processes {
            (vitals.offset, vitals.cut_off_until) = (0, 0);
        }
        self.log.push(Event { at: now, process: NOBODY, what: What::Calm });
    }
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Queue,
    Store,
}

impl To {
    /// What the libraries wait at most (`queue/sqs.rs`, `results/s3.rs`).
    fn bound(self) -> u64 {
        match self {
            Self::Queue => 3_000,
            Self::Store => 5_000,
        }
    }
}

/// A process's way into the world. When the process has died, everything asked through it waits
/// for ever: tasks it left behind can do no harm.
#[derive(Clone)]
pub(super) struct Link {
    pub world: Arc<World>,
    pub process: usize,
}

impl Link {
    pub(super) fn is_alive(&self) -> bool {
        self.world.state().processes[self.process].is_alive
    }

    pub(super) async fn living(&self) {
        if !self.is_alive() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn course(&self, to: To, call: &'static str) -> Course {
        let now = self.world.now();
        let mut state = self.world.state();
        state.calls += 1;
        if state.calls > CALLS_MAX {
            state.violated(|| "the calls never end".to_owned());
            state.processes[self.process].is_alive = false;
        }
        let out_until = match to {
            To::Queue => state.queue_out_until,
            To::Store => state.store_out_until,
        };
        let vitals = state.processes[self.process];
        let weather = state.weather;
        let course = if now < out_until.max(vitals.cut_off_until) {
            Course::refused(&mut state.rng, to.bound())
        } else {
            Course::drawn(&mut state.rng, &weather, to.bound())
        };
        if !course.is_smooth() {
            let until = now + course.answer.max(course.effect.unwrap_or(0));
            state.troubled(self.process, until);
            let told = course.is_told.then_some(course.answer);
            let what = What::Trouble { call, arrives: course.effect, told };
            state.log.push(Event { at: now, process: self.process, what });
        }
        course
    }

    /// A call whose effect does not depend on what becomes of the caller; `None` when the caller
    /// is told that it failed.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        to: To,
        name: &'static str,
        effect: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        self.living().await;
        let course = self.course(to, name);
        let mut at_hand = None;
        let mut on_the_way = None;
        match course.effect {
            None => {}
            Some(0) => at_hand = Some(effect(self)),
            Some(after) => {
                let link = self.clone();
                on_the_way = Some(tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    effect(&link)
                }));
            }
        }
        if course.answer > 0 {
            tokio::time::sleep(Duration::from_millis(course.answer)).await;
        }
        self.living().await;
        if !course.is_told {
            return None;
        }
        if let Some(on_the_way) = on_the_way {
            at_hand = on_the_way.await.ok();
        }
        at_hand
    }
}

/// A process's clock: the true time, and how far it is off.
pub(super) struct Watch(pub Link);

impl Clock for Watch {
    fn now(&self) -> UnixMillis {
        let offset = self.0.world.state().processes[self.0.process].offset;
        UnixMillis(self.0.world.time().0.saturating_add_signed(offset))
    }
}
