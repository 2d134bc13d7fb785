//! One thread writes. It takes every operation that waits, runs them in one transaction and answers
//! them after the one sync, so that 64 clients share a sync instead of waiting for 64.

use super::error_name;
use rusqlite::{Connection, Result as Sql, TransactionBehavior};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How many operations may wait for the writer. At the 16,000 per second that were measured on the slowest
/// disk, so many take a sixteenth of a second; if more wait, the disk has stopped.
const WAITING_MAX: usize = 1024;

/// How long the writer waits for as many operations as the last batch had. The clients that it answered are
/// about to ask again, and would otherwise wait for the sync of two or three early ones. A sync takes longer
/// than this on every disk, and a single client never waits.
const LINGER: Duration = Duration::from_micros(300);

/// The number of operations in one transaction: the first of a batch never waits for more than this many
/// others, and with messages of 1 MiB the log grows by 256 MiB at most.
const BATCH_MAX: usize = 256;

/// What the writer thread does for one kind of store. All methods run on that thread.
pub(crate) trait StoreWork: Send + 'static {
    type Command: Send + 'static;
    type Reply: Send + 'static;

    fn execute(&mut self, db: &Connection, order: &Self::Command) -> Sql<Self::Reply>;

    /// The outcomes, if none of the orders has anything to write now.
    fn without_writing<'a>(
        &mut self,
        _db: &Connection,
        _orders: impl Iterator<Item = &'a Self::Command>,
    ) -> Sql<Option<Vec<Self::Reply>>> {
        Ok(None)
    }

    /// Runs first in each transaction, with the lock held.
    fn begin(&mut self, _db: &Connection) -> Sql<()> {
        Ok(())
    }

    /// Called when the transaction is durable, or has failed as a whole.
    fn end(&mut self, _committed: bool) {}

    /// Called with an outcome for which nobody waits any more.
    fn undelivered(&mut self, _outcome: Self::Reply) {}

    /// Whether a transaction is due although no order waits.
    fn is_due(&self) -> bool {
        false
    }

    /// Whether the order still helps when nobody waits for its outcome any more.
    fn outlives_caller(order: &Self::Command) -> bool;
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) detail: String,
}

struct Operation<W: StoreWork> {
    order: W::Command,
    answer: oneshot::Sender<Result<W::Reply, Fault>>,
}

/// The sender of orders to the writer thread, which ends when this is dropped.
pub(crate) struct Writer<W: StoreWork> {
    operations: SyncSender<Operation<W>>,
}

impl<W: StoreWork> Writer<W> {
    pub(crate) fn start(db: Connection, work: W) -> Result<Self, String> {
        let (operations, waiting) = sync_channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || Thread { db, work, last: 1 }.run(&waiting))
            .map_err(|error| format!("the store's writer thread: {error}"))?;
        Ok(Self { operations })
    }

    /// Sends an order to the thread, and resolves after the commit.
    pub(crate) async fn run(&self, order: W::Command) -> Result<W::Reply, Fault> {
        let (answer, outcome) = oneshot::channel();
        self.operations.try_send(Operation { order, answer }).map_err(|error| match error {
            TrySendError::Full(_) => Fault {
                name: "queue-full",
                detail: format!("{WAITING_MAX} operations wait for the disk"),
            },
            TrySendError::Disconnected(_) => stopped(),
        })?;
        outcome.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Fault {
    Fault { name: "closed", detail: "the store's writer thread has stopped".into() }
}

struct Thread<W> {
    db: Connection,
    work: W,
    /// The number of operations in the last batch.
    last: usize,
}

impl<W: StoreWork> Thread<W> {
    fn run(mut self, waiting: &Receiver<Operation<W>>) {
        while let Some(batch) = self.next_batch(waiting) {
            let outcomes = self.outcomes(&batch);
            self.answer(batch, outcomes);
        }
    }

    /// Waits for the first operation and takes all that are there with it. None once the store is closed.
    fn next_batch(&mut self, waiting: &Receiver<Operation<W>>) -> Option<Vec<Operation<W>>> {
        let mut batch = Vec::new();
        if !self.work.is_due() {
            batch.push(waiting.recv().ok()?);
        }
        let until = Instant::now() + LINGER;
        while batch.len() < self.last {
            let left = until.saturating_duration_since(Instant::now());
            match waiting.recv_timeout(left) {
                Ok(operation) => batch.push(operation),
                Err(_) => break,
            }
        }
        batch.extend(waiting.try_iter().take(BATCH_MAX - batch.len()));
        self.last = batch.len();
        batch.retain(|it| !it.answer.is_closed() || W::outlives_caller(&it.order));
        Some(batch)
    }

    fn outcomes(&mut self, batch: &[Operation<W>]) -> Sql<Vec<W::Reply>> {
        let orders = batch.iter().map(|it| &it.order);
        if let Some(outcomes) = self.work.without_writing(&self.db, orders)? {
            return Ok(outcomes);
        }
        let outcomes = self.commit(batch);
        self.work.end(outcomes.is_ok());
        outcomes
    }

    fn commit(&mut self, batch: &[Operation<W>]) -> Sql<Vec<W::Reply>> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.work.begin(&transaction)?;
        let outcomes = batch
            .iter()
            .map(|it| self.work.execute(&transaction, &it.order))
            .collect::<Sql<Vec<_>>>()?;
        transaction.commit()?;
        Ok(outcomes)
    }

    fn answer(&mut self, batch: Vec<Operation<W>>, outcomes: Sql<Vec<W::Reply>>) {
        match outcomes {
            Ok(outcomes) => {
                for (operation, outcome) in batch.into_iter().zip(outcomes) {
                    if let Err(Ok(outcome)) = operation.answer.send(Ok(outcome)) {
                        self.work.undelivered(outcome);
                    }
                }
            }
            Err(error) => {
                // Nothing of the batch happened.
                let fault = Fault { name: error_name(&error), detail: error.to_string() };
                for operation in batch {
                    // It does not matter if nobody waits any more.
                    let _ = operation.answer.send(Err(fault.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};

    /// Each order says when its execution begins and then waits for leave to go on.
    struct Steps {
        begun: mpsc::Sender<u32>,
        go: Receiver<()>,
        undelivered: Vec<u32>,
    }

    impl StoreWork for Steps {
        type Command = u32;
        /// Returns the order, and those whose outcomes nobody took before.
        type Reply = (u32, Vec<u32>);

        fn execute(&mut self, _: &Connection, order: &u32) -> Sql<(u32, Vec<u32>)> {
            self.begun.send(*order).expect("the test listens");
            self.go.recv().expect("the test goes on");
            Ok((*order, std::mem::take(&mut self.undelivered)))
        }

        fn undelivered(&mut self, (order, _): (u32, Vec<u32>)) {
            self.undelivered.push(order);
        }

        fn outlives_caller(order: &u32) -> bool {
            *order >= 100
        }
    }

    fn steps() -> (Writer<Steps>, Receiver<u32>, mpsc::Sender<()>) {
        let (begun, begins) = mpsc::channel();
        let (leave, go) = mpsc::channel();
        let db = Connection::open_in_memory().expect("in memory");
        let work = Steps { begun, go, undelivered: Vec::new() };
        (Writer::start(db, work).expect("a thread"), begins, leave)
    }

    /// Sends the order to the thread without waiting for its outcome.
    fn poll<F: Future>(future: F) -> std::pin::Pin<Box<F>> {
        let mut future = Box::pin(future);
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        future
    }

    #[tokio::test]
    async fn an_outcome_that_nobody_takes_comes_back_to_the_work() {
        let (writer, begins, leave) = steps();
        let first = poll(writer.run(1));
        assert_eq!(begins.recv(), Ok(1));
        drop(first);
        leave.send(()).expect("the thread waits");
        leave.send(()).expect("the thread will wait");
        assert_eq!(writer.run(2).await, Ok((2, vec![1])));
    }

    #[tokio::test]
    async fn an_order_given_up_before_its_turn_is_not_executed() {
        let (writer, begins, leave) = steps();
        let first = poll(writer.run(1));
        assert_eq!(begins.recv(), Ok(1));
        drop(poll(writer.run(2)));
        drop(poll(writer.run(100)));
        let last = poll(writer.run(3));
        for _ in 0..3 {
            leave.send(()).expect("the thread waits");
        }
        assert_eq!((first.await, last.await.map(|it| it.0)), (Ok((1, vec![])), Ok(3)));
        assert_eq!(begins.try_iter().collect::<Vec<_>>(), [100, 3]);
    }

    #[tokio::test]
    async fn too_many_waiting_are_refused() {
        let (writer, begins, leave) = steps();
        let first = poll(writer.run(1));
        assert_eq!(begins.recv(), Ok(1));
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| poll(writer.run(100))).collect();
        assert_eq!(writer.run(2).await.expect_err("no room").name, "queue-full");
        for _ in 0..=WAITING_MAX {
            leave.send(()).expect("the thread waits");
        }
        assert!(first.await.is_ok());
        for outcome in waiting {
            assert!(outcome.await.is_ok());
        }
    }
}
