//! What the writer thread does for the queue.

use super::store::{self, Receipt, Wanted};
use crate::local::{group, now};
use crate::queue::Received;
use rules::{Millis, UnixMillis};
use rusqlite::{Connection, Result};
use std::sync::Arc;
use tokio::sync::Notify;

/// An order to the writer thread.
#[derive(Debug)]
pub(super) enum QueueCommand {
    Send { body: String, attributes: String, group: String },
    Receive { max: usize, visibility: Millis, dead: bool },
    Delete(Receipt),
    SetVisibility { receipt: Receipt, visibility: Millis },
}

/// The outcome of an order.
#[derive(Debug)]
pub(super) enum QueueReply {
    Sent(String),
    Received(Vec<Received>),
    Done,
    Stale,
}

pub(super) struct QueueWork {
    max_receives: u64,
    /// Tells long polls of this process that messages may have become visible.
    arrived: Arc<Notify>,
    /// Receives for which nobody waited any more.
    put_back: Vec<Receipt>,
    /// The time of the transaction.
    now: UnixMillis,
    /// Whether the transaction may have made messages visible.
    shows: bool,
    /// The tenant whose message was handed out last.
    last: String,
}

impl QueueWork {
    pub(super) fn new(max_receives: u64, arrived: Arc<Notify>) -> Self {
        Self {
            max_receives,
            arrived,
            put_back: Vec::new(),
            now: UnixMillis::default(),
            shows: false,
            last: String::new(),
        }
    }
}

impl group::StoreWork for QueueWork {
    type Command = QueueCommand;
    type Reply = QueueReply;

    /// Empty long polls ask again and again, and must not take the lock from other processes.
    fn without_writing<'a>(
        &mut self,
        db: &Connection,
        orders: impl Iterator<Item = &'a QueueCommand>,
    ) -> Result<Option<Vec<QueueReply>>> {
        if !self.put_back.is_empty() {
            return Ok(None);
        }
        let mut outcomes = Vec::new();
        for order in orders {
            let QueueCommand::Receive { dead, .. } = order else { return Ok(None) };
            if store::any_visible(db, *dead, now())? {
                return Ok(None);
            }
            outcomes.push(QueueReply::Received(Vec::new()));
        }
        Ok(Some(outcomes))
    }

    fn begin(&mut self, db: &Connection) -> Result<()> {
        // The clock is read with the lock held, because waiting for the lock must not use up a visibility
        // timeout.
        self.now = now();
        self.shows = !self.put_back.is_empty();
        self.put_back.iter().try_for_each(|receipt| store::put_back(db, receipt, self.now))
    }

    fn execute(&mut self, db: &Connection, order: &QueueCommand) -> Result<QueueReply> {
        let until = |visibility: Millis| self.now + visibility;
        self.shows |= matches!(
            order,
            QueueCommand::Send { .. }
                | QueueCommand::SetVisibility { visibility: Millis::ZERO, .. }
        );
        Ok(match order {
            QueueCommand::Send { body, attributes, group } => {
                QueueReply::Sent(store::send(db, body, attributes, group, self.now)?)
            }
            QueueCommand::Receive { max, visibility, dead } => {
                let mut wanted = Wanted {
                    max: *max,
                    max_receives: self.max_receives,
                    dead: *dead,
                    now: self.now,
                    until: until(*visibility),
                    last: &mut self.last,
                };
                QueueReply::Received(store::receive(db, &mut wanted)?)
            }
            QueueCommand::Delete(receipt) => fresh(store::delete(db, receipt)?),
            QueueCommand::SetVisibility { receipt, visibility } => {
                fresh(store::set_visible_at(db, receipt, until(*visibility))?)
            }
        })
    }

    fn end(&mut self, committed: bool) {
        // A message that could not be put back reappears by itself when its visibility timeout runs out.
        self.put_back.clear();
        if committed && self.shows {
            self.arrived.notify_waiters();
        }
    }

    fn undelivered(&mut self, outcome: QueueReply) {
        if let QueueReply::Received(messages) = outcome {
            self.put_back.extend(messages.iter().filter_map(|it| Receipt::parse(&it.receipt)));
        }
    }

    fn is_due(&self) -> bool {
        !self.put_back.is_empty()
    }

    /// A caller that stopped waiting for a send was told of a failure, so the job must not run.
    fn outlives_caller(order: &QueueCommand) -> bool {
        matches!(order, QueueCommand::Delete(_) | QueueCommand::SetVisibility { .. })
    }
}

fn fresh(fresh: bool) -> QueueReply {
    if fresh { QueueReply::Done } else { QueueReply::Stale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::group::StoreWork as _;

    #[test]
    fn what_nobody_took_is_visible_in_the_next_transaction() {
        let db = Connection::open_in_memory().expect("in memory");
        db.execute_batch(store::FORMAT.schema).expect("schema");
        let mut work = QueueWork::new(1, Arc::new(Notify::new()));
        store::send(&db, "a", "{}", "", UnixMillis(1)).expect("sent");
        let (until, last) = (UnixMillis(u64::MAX >> 1), &mut String::new());
        let mut wanted =
            Wanted { max: 1, max_receives: 1, dead: false, now: UnixMillis(1), until, last };
        let messages = store::receive(&db, &mut wanted).expect("received");
        assert!(!work.is_due());
        work.undelivered(QueueReply::Received(messages.clone()));
        assert!(work.is_due(), "nobody else may come to start a transaction");
        work.begin(&db).expect("begun");
        let again = QueueCommand::Receive { max: 1, visibility: Millis(60_000), dead: false };
        let outcome = work.execute(&db, &again).expect("executed");
        assert!(matches!(outcome, QueueReply::Received(found) if found == messages));
        work.end(true);
        assert!(!work.is_due());
    }
}
