//! The connection as its reader, its writer and what answers share it.

use crate::conn::{Conn, Limits};
use crate::stream::Stream;
use crate::writer::Sink;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) type Shared = Arc<Mutex<Conn>>;

pub(super) fn lock(conn: &Shared) -> MutexGuard<'_, Conn> {
    conn.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink for &Shared {
    fn with<R>(&mut self, act: impl FnOnce(&mut Stream, Limits<'_>) -> R) -> R {
        let conn = &mut *lock(self);
        conn.has_answered = true;
        let limits = Limits { idle: conn.idle, peer: conn.peer.as_ref() };
        act(&mut conn.stream, limits)
    }
}
