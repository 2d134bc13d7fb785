//! Idle connections to one upstream.

use crate::connection::Connection;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The one used last is used first, so that those that are not needed age and go.
pub struct Pool {
    idle: Mutex<IdleConnections>,
    most: usize,
    age_max: Duration,
}

#[derive(Default)]
struct IdleConnections {
    /// In the order in which they came.
    connections: Vec<Waiting>,
    /// The longest that one of them was idle and then carried a request, or that the upstream told; no
    /// longer than any that it closed had been idle.
    seen: Duration,
}

struct Waiting {
    connection: Connection,
    since: Instant,
    /// From when on it is not used any more.
    until: Instant,
}

/// What a connection is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Sending it again does no harm, if the upstream closes as it comes.
    Repeatable,
    /// It takes a connection that is sure to stand, or none.
    Once,
}

/// How long before its end a connection is left alone: the upstream's own clock began when its answer
/// left it.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// Connections that were idle for less are taken for any request: no server in use closes them sooner
/// (gunicorn's 2 s are the shortest).
const FRESH: Duration = Duration::from_secs(1);

/// Connections that keep the memory of their messages while they are idle: those that are used
/// next. Others that had a large body would hold much of it for nobody.
const BUFFERS_KEPT: usize = 64;

impl Pool {
    /// `most` connections, each idle for `age_max` at the longest.
    pub fn new(most: usize, age_max: Duration) -> Self {
        Self { idle: Mutex::default(), most, age_max }
    }

    /// A connection that still stands, as far as can be told.
    pub fn take(&self, now: Instant, purpose: For) -> Option<Connection> {
        let mut idle = self.lock();
        loop {
            let last = idle.connections.last()?;
            let age = now.saturating_duration_since(last.since);
            if purpose == For::Once && age >= FRESH.max(idle.seen / 2) {
                return None;
            }
            let Waiting { mut connection, until, .. } = idle.connections.pop()?;
            if now >= until {
                continue;
            }
            if connection.is_idle() {
                connection.was_idle_for(age);
                return Some(connection);
            }
            idle.closed(age);
        }
    }

    /// `told` is what the upstream said of how long it keeps an idle connection.
    pub(crate) fn put(&self, connection: Connection, told: Option<Duration>) {
        let age = told.map_or(self.age_max, |told| {
            self.age_max.min(told.saturating_sub(KEEP_ALIVE_MARGIN.min(told / 2)))
        });
        let mut idle = self.lock();
        let stood = connection.idle_for();
        idle.seen = idle.seen.max(stood).max(told.map_or(Duration::ZERO, |_| age));
        if idle.connections.len() < self.most && !age.is_zero() {
            let since = Instant::now();
            idle.connections.push(Waiting { connection, since, until: since + age });
        }
        let deep = idle.connections.len().checked_sub(BUFFERS_KEPT + 1);
        if let Some(waiting) = deep.and_then(|at| idle.connections.get_mut(at)) {
            waiting.connection.let_go();
        }
    }

    /// Closes those that nobody has needed, and those that the upstream has closed.
    pub fn sweep(&self) {
        let now = Instant::now();
        let idle = &mut *self.lock();
        let mut shortest = idle.seen;
        idle.connections.retain_mut(|waiting| {
            if now >= waiting.until {
                return false;
            }
            let stands = waiting.connection.is_idle();
            if !stands {
                shortest = shortest.min(now.saturating_duration_since(waiting.since));
            }
            stands
        });
        idle.closed(shortest);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, IdleConnections> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdleConnections {
    /// The upstream closed one that had been idle for so long.
    fn closed(&mut self, age: Duration) {
        self.seen = self.seen.min(age);
    }
}
