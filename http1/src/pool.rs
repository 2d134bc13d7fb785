//! Idle connections to one upstream.

use crate::client::Connection;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The one used last is used first, so that those that are not needed age and go.
pub struct Pool {
    /// Each with the moment from which it is not used any more.
    idle: Mutex<Vec<(Connection, Instant)>>,
    most: usize,
    age_max: Duration,
}

/// How long before its end a connection is left alone: the upstream's own clock began when its answer
/// left it.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// Connections that keep the memory of their messages while they are idle: those that are used
/// next. Others that had a large body would hold much of it for nobody.
const BUFFERS_KEPT: usize = 64;

impl Pool {
    /// `most` connections, each idle for `age_max` at the longest.
    pub fn new(most: usize, age_max: Duration) -> Self {
        Self { idle: Mutex::default(), most, age_max }
    }

    /// A connection that still stands, as far as can be told.
    pub fn take(&self, now: Instant) -> Option<Connection> {
        let mut idle = self.lock();
        while let Some((mut connection, until)) = idle.pop() {
            if now < until && connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    /// `told` is what the upstream said of how long it keeps an idle connection.
    pub(crate) fn put(&self, connection: Connection, told: Option<Duration>) {
        let age = told.map_or(self.age_max, |told| {
            self.age_max.min(told.saturating_sub(KEEP_ALIVE_MARGIN.min(told / 2)))
        });
        let mut idle = self.lock();
        if idle.len() < self.most && !age.is_zero() {
            idle.push((connection, Instant::now() + age));
        }
        let deep = idle.len().checked_sub(BUFFERS_KEPT + 1);
        if let Some((connection, _)) = deep.and_then(|at| idle.get_mut(at)) {
            connection.let_go();
        }
    }

    /// Closes those that nobody has needed.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|(_, until)| now < *until);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
