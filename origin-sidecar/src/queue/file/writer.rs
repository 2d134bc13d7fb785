//! One thread writes. It takes every operation that waits, runs them in one transaction and answers
//! them after the one sync, so that 64 clients share a sync instead of waiting for 64.

use super::store::{self, Receipt};
use crate::queue::local::{error_name, now};
use crate::queue::{QueueError, Received};
use rusqlite::{Connection, TransactionBehavior};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use tokio::sync::{Notify, oneshot};

/// Operations that wait for the writer. At the 16,000 per second measured on the slowest disk this
/// is a sixteenth of a second; more waiting means that the disk has stopped.
const WAITING_MAX: usize = 1024;

/// Operations in one transaction: the first of a batch never waits for more than this many others,
/// and with messages of 1 MiB the log grows by 256 MiB at most.
const BATCH_MAX: usize = 256;

/// What to do.
#[derive(Debug)]
pub(super) enum Order {
    Send { body: String, attributes: String },
    Receive { max: usize, visibility: u64 },
    Delete(Receipt),
    SetVisibility { receipt: Receipt, visibility: u64 },
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Sent(String),
    Received(Vec<Received>),
    Done,
    Stale,
}

struct Operation {
    order: Order,
    answer: oneshot::Sender<Result<Outcome, QueueError>>,
}

/// The way to the writer thread, which ends when this is dropped.
pub(super) struct Writer {
    operations: SyncSender<Operation>,
    /// Tells long polls of this process that messages may have become visible.
    pub(super) arrived: Arc<Notify>,
}

impl Writer {
    pub(super) fn start(db: Connection, max_receives: u64) -> Result<Self, String> {
        let (operations, waiting) = sync_channel(WAITING_MAX);
        let arrived = Arc::new(Notify::new());
        let thread = Thread { db, max_receives, arrived: arrived.clone(), put_back: Vec::new() };
        std::thread::Builder::new()
            .name("queue-writer".into())
            .spawn(move || thread.run(&waiting))
            .map_err(|error| format!("the queue's writer thread: {error}"))?;
        Ok(Self { operations, arrived })
    }

    /// Resolves after the commit.
    pub(super) async fn run(&self, order: Order) -> Result<Outcome, QueueError> {
        let (answer, outcome) = oneshot::channel();
        self.operations.try_send(Operation { order, answer }).map_err(|error| match error {
            TrySendError::Full(_) => QueueError {
                name: "queue-full",
                detail: format!("{WAITING_MAX} operations wait for the disk"),
            },
            TrySendError::Disconnected(_) => stopped(),
        })?;
        outcome.await.map_err(|_| stopped())?
    }
}

fn stopped() -> QueueError {
    QueueError { name: "closed", detail: "the queue's writer thread has stopped".into() }
}

struct Thread {
    db: Connection,
    max_receives: u64,
    arrived: Arc<Notify>,
    /// Receives that nobody waited for any more.
    put_back: Vec<Receipt>,
}

impl Thread {
    fn run(mut self, waiting: &Receiver<Operation>) {
        while let Some(batch) = self.next_batch(waiting) {
            let outcomes = self.outcomes(&batch);
            self.answer(batch, outcomes);
        }
    }

    /// Waits for the first operation and takes along all that are there. None: the queue is closed.
    fn next_batch(&self, waiting: &Receiver<Operation>) -> Option<Vec<Operation>> {
        let mut batch = Vec::new();
        // With something to put back, don't sleep on it.
        if self.put_back.is_empty() {
            batch.push(waiting.recv().ok()?);
        }
        batch.extend(waiting.try_iter().take(BATCH_MAX));
        // Whoever stopped waiting was told a failure: a job must not run after that. Deletes and
        // releases still help.
        batch.retain(|it| {
            !(it.answer.is_closed()
                && matches!(it.order, Order::Send { .. } | Order::Receive { .. }))
        });
        Some(batch)
    }

    fn outcomes(&mut self, batch: &[Operation]) -> rusqlite::Result<Vec<Outcome>> {
        // Empty long polls ask again and again: they shall not take the lock from other processes.
        let only_receives = batch.iter().all(|it| matches!(it.order, Order::Receive { .. }));
        if only_receives && self.put_back.is_empty() && !store::any_visible(&self.db, now())? {
            return Ok(batch.iter().map(|_| Outcome::Received(Vec::new())).collect());
        }
        self.commit(batch)
    }

    fn commit(&mut self, batch: &[Operation]) -> rusqlite::Result<Vec<Outcome>> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Read with the lock held: waiting for it must not use up a visibility.
        let now = now();
        for receipt in &self.put_back {
            store::put_back(&transaction, receipt, now)?;
        }
        let outcomes = batch
            .iter()
            .map(|it| execute(&transaction, &it.order, self.max_receives, now))
            .collect::<rusqlite::Result<Vec<_>>>()?;
        transaction.commit()?;
        self.put_back.clear();
        Ok(outcomes)
    }

    fn answer(&mut self, batch: Vec<Operation>, outcomes: rusqlite::Result<Vec<Outcome>>) {
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => {
                // Nothing of the batch happened. What could not be put back reappears by itself.
                self.put_back.clear();
                let error = QueueError { name: error_name(&error), detail: error.to_string() };
                for operation in batch {
                    // Nobody waiting any more is fine.
                    let _ = operation.answer.send(Err(error.clone()));
                }
                return;
            }
        };
        let mut arrived = false;
        for (operation, outcome) in batch.into_iter().zip(outcomes) {
            arrived |= may_show_messages(&operation.order);
            if let Err(Ok(Outcome::Received(lost))) = operation.answer.send(Ok(outcome)) {
                self.put_back.extend(lost.iter().filter_map(|it| Receipt::parse(&it.receipt)));
            }
        }
        if arrived {
            self.arrived.notify_waiters();
        }
    }
}

fn may_show_messages(order: &Order) -> bool {
    matches!(order, Order::Send { .. } | Order::SetVisibility { visibility: 0, .. })
}

fn execute(
    db: &Connection,
    order: &Order,
    max_receives: u64,
    now: u64,
) -> rusqlite::Result<Outcome> {
    let until = |visibility: &u64| now.saturating_add(*visibility);
    Ok(match order {
        Order::Send { body, attributes } => Outcome::Sent(store::send(db, body, attributes, now)?),
        Order::Receive { max, visibility } => {
            Outcome::Received(store::receive(db, *max, max_receives, now, until(visibility))?)
        }
        Order::Delete(receipt) => fresh(store::delete(db, receipt)?),
        Order::SetVisibility { receipt, visibility } => {
            fresh(store::set_visible_at(db, receipt, until(visibility))?)
        }
    })
}

fn fresh(fresh: bool) -> Outcome {
    if fresh { Outcome::Done } else { Outcome::Stale }
}
