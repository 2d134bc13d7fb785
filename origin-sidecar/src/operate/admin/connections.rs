//! Limits the connections of the admin port, and decides which take precedence.
//!
//! Anybody in the cluster can open some. Probes, metrics and callers on loopback always find a
//! place: the last places are reserved for them, and when all are taken, the connection is closed
//! that has been without a request for longest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Connections of the admin port: hundreds of waiting callers, in little memory.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// How many of these are reserved for loopback, probes and metrics.
pub(super) const CONNECTIONS_KEPT: usize = 32;

#[derive(Default)]
pub(super) struct AdminConnections(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// The next number, for new connections and for answers.
    next: u64,
    open: BTreeMap<u64, OpenConnection>,
}

struct OpenConnection {
    is_busy: bool,
    /// The number of its last answer, or of its arrival.
    quiet_since: u64,
    /// Dropping it closes the connection.
    _close: oneshot::Sender<()>,
}

/// The place of one connection.
pub(super) struct Seat {
    connections: Arc<AdminConnections>,
    number: u64,
}

/// A request in flight.
pub(super) struct Busy<'s>(&'s Seat);

impl AdminConnections {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, and a receiver that resolves when the place is needed for another connection; none
    /// when all are busy.
    pub fn sit(self: &Arc<Self>) -> Option<(Seat, oneshot::Receiver<()>)> {
        let (close, closed) = oneshot::channel();
        let mut table = self.lock();
        if table.open.len() >= CONNECTIONS_MAX {
            let idle = table.open.iter().filter(|(_, open)| !open.is_busy);
            let longest = idle.min_by_key(|(_, open)| open.quiet_since).map(|(number, _)| *number);
            table.open.remove(&longest?);
        }
        let number = table.count();
        table
            .open
            .insert(number, OpenConnection { is_busy: false, quiet_since: number, _close: close });
        Some((Seat { connections: Arc::clone(self), number }, closed))
    }
}

impl Table {
    fn count(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Seat {
    /// Records that a request came, or was answered.
    fn set_busy(&self, is_busy: bool) {
        let mut table = self.connections.lock();
        let now = table.count();
        if let Some(open) = table.open.get_mut(&self.number) {
            (open.is_busy, open.quiet_since) = (is_busy, now);
        }
    }

    pub fn busy(&self) -> Busy<'_> {
        self.set_busy(true);
        Busy(self)
    }

    /// Whether the connection is in a reserved place.
    pub fn is_among_the_last(&self) -> bool {
        self.connections.lock().open.len() > CONNECTIONS_MAX - CONNECTIONS_KEPT
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.set_busy(false);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_takes_the_place_of_whoever_has_said_nothing_for_longest() {
        let connections = Arc::new(AdminConnections::default());
        let mut all: Vec<_> =
            (0..CONNECTIONS_MAX).map(|_| connections.sit().expect("there is room")).collect();
        let first = all.remove(0);
        let busy = first.0.busy();
        assert!(first.0.is_among_the_last());
        let newcomer = connections.sit().expect("the second one's place");
        let mut first_closed = first.1;
        assert!(
            first_closed.try_recv().is_err_and(|why| why == oneshot::error::TryRecvError::Empty)
        );
        assert!(all[0].1.try_recv().is_err_and(|why| why == oneshot::error::TryRecvError::Closed));
        // A connection that closes late must not free another's place.
        drop(all.remove(0));
        assert_eq!(connections.lock().open.len(), CONNECTIONS_MAX);
        drop((busy, newcomer));
        let seats: Vec<_> = all.iter().map(|(seat, _)| seat.busy()).collect();
        let _last = first.0.busy();
        let taken = connections.sit().expect("the newcomer has gone");
        let _busy = taken.0.busy();
        assert!(connections.sit().is_none(), "all are busy");
        drop(seats);
        assert!(connections.sit().is_some());
    }

    #[test]
    fn one_that_came_first_and_asks_now_and_then_keeps_its_place() {
        let connections = Arc::new(AdminConnections::default());
        let (scraper, mut closed) = connections.sit().expect("there is room");
        for _ in 0..2 * CONNECTIONS_MAX {
            drop(scraper.busy());
            let newcomer = connections.sit().expect("another has said nothing for longer");
            // The peer keeps it open.
            std::mem::forget(newcomer.0);
        }
        assert!(closed.try_recv().is_err_and(|why| why == oneshot::error::TryRecvError::Empty));
    }
}
