//! Idle connections to one upstream.

use crate::client::Connection;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The one used last is used first, so that those that are not needed age and go.
pub struct Pool {
    idle: Mutex<Vec<(Connection, Instant)>>,
    most: usize,
    age_max: Duration,
}

impl Pool {
    /// `most` connections, each idle for `age_max` at the longest.
    pub fn new(most: usize, age_max: Duration) -> Self {
        Self { idle: Mutex::default(), most, age_max }
    }

    /// A connection that still stands, as far as can be told.
    pub fn take(&self) -> Option<Connection> {
        let mut idle = self.lock();
        while let Some((mut connection, since)) = idle.pop() {
            if since.elapsed() < self.age_max && connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    pub(crate) fn put(&self, connection: Connection) {
        let mut idle = self.lock();
        if idle.len() < self.most {
            idle.push((connection, Instant::now()));
        }
    }

    /// Closes those that nobody has needed.
    pub fn sweep(&self) {
        self.lock().retain(|(_, since)| since.elapsed() < self.age_max);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
