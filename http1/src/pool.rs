//! Idle connections to one upstream.

use crate::connection::Connection;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The connection that was used last is used first, so that those that are not needed age and are closed.
pub struct Pool {
    idle: Mutex<IdleConnections>,
    most: usize,
    age_max: Duration,
}

#[derive(Default)]
struct IdleConnections {
    /// The idle connections in the order in which they came.
    connections: Vec<Waiting>,
    /// The longest time that a connection was idle and then carried a request, or that the upstream stated;
    /// it is never longer than a connection had been idle that the upstream closed.
    seen: Duration,
}

struct Waiting {
    connection: Connection,
    since: Instant,
    /// When the connection ceases to be used.
    until: Instant,
}

/// The kind of request for which a connection is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A request that may be sent again if the upstream closes as it arrives.
    Repeatable,
    /// A request that must not be sent twice: it takes a connection that is certainly open, or none.
    Once,
}

/// How long before its end a connection is no longer used: the upstream's own clock began when its answer
/// left it.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// A connection that was idle for less is taken for any request: no server in use closes one sooner
/// (gunicorn's 2 s are the shortest).
const FRESH: Duration = Duration::from_secs(1);

/// How many connections keep the memory of their messages while they are idle: those that are used next.
/// Others would hold the memory of a large body for nothing.
const BUFFERS_KEPT: usize = 64;

impl Pool {
    /// A pool of `most` connections, each of which may be idle for `age_max` at the longest.
    pub fn new(most: usize, age_max: Duration) -> Self {
        Self { idle: Mutex::default(), most, age_max }
    }

    /// Takes a connection that is still open, as far as can be told.
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

    /// Gives a connection back. `told` is how long the upstream says it keeps an idle connection.
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
    /// Notes that the upstream closed a connection that had been idle for so long.
    fn closed(&mut self, age: Duration) {
        self.seen = self.seen.min(age);
    }
}
