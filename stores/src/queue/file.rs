//! The embedded queue: one SQLite file in a directory of this node, shared by any number of processes there.
//! A message is durable when `send` resolves, because the transaction's log is synced by then.

mod store;
mod work;

use super::limits::{MESSAGE_BYTES_MAX, RECEIVE_MAX, WAIT_MAX, check, check_visibility};
use super::{Depth, Message, Queue, QueueError, Received};
use crate::local::group::{Fault, Writer};
use crate::local::{self, Anchor, error_name, millis, now};
use net::boxed::Boxed;
use rusqlite::Connection;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::Receipt;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use work::{QueueCommand, QueueReply, QueueWork};

const FILE: &str = "queue.db";

/// How soon a long poll sees what another process sent, or a visibility timeout that ran out. What this
/// process sends wakes it at once. One poll is one read of an index and takes about 10 µs, half a thousandth
/// of a core.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The embedded queue. The names of its errors are `message-illegal`, `message-too-large`, `refused`,
/// `receipt-stale`, `queue-full`, `closed`, `busy`, `disk-full`, `corrupt`, `denied`, `store-failed`.
#[derive(Clone)]
pub struct FileQueue {
    writer: Arc<Writer<QueueWork>>,
    /// Wakes the long polls of this process.
    arrived: Arc<Notify>,
    /// A connection of its own for counting, which must not hold up the writer.
    reader: Arc<Mutex<Connection>>,
    /// Whether this is the queue of the dead letters.
    is_dead: bool,
    /// After so many receives a message is a dead letter.
    max_receives: u64,
    anchor: Anchor,
}

impl FileQueue {
    /// Opens or creates the queue in `dir`. A message received `max_receives` times without being
    /// deleted goes to the dead letters at the next receive.
    pub fn open(dir: &Path, max_receives: u64) -> Result<Self, String> {
        let dir = local::prepare(dir)?;
        let db = local::open(&dir, FILE, &store::FORMAT)?;
        let reader = Arc::new(Mutex::new(local::reopen(&dir, FILE)?));
        let arrived = Arc::new(Notify::new());
        let max_receives = max_receives.max(1);
        let writer = Writer::start(db, QueueWork::new(max_receives, arrived.clone()))?;
        let (writer, anchor) = (Arc::new(writer), Anchor::of(&dir, FILE)?);
        Ok(Self { writer, arrived, reader, is_dead: false, max_receives, anchor })
    }

    async fn send_now(&self, message: Message) -> Result<String, QueueError> {
        check(&message, MESSAGE_BYTES_MAX)?;
        let attributes = serde_json::to_string(&message.attributes)
            .map_err(|error| failed("message-illegal", &error))?;
        let group = message.group.unwrap_or_default();
        let order = QueueCommand::Send { body: message.body, attributes, group };
        match self.writer.run(order).await? {
            QueueReply::Sent(id) => Ok(id),
            other => Err(unexpected(&other)),
        }
    }

    async fn poll(
        &self,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Received>, QueueError> {
        check_visibility(visibility)?;
        let max = max.clamp(1, RECEIVE_MAX);
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        loop {
            // It listens before it looks, so that a message that comes in between wakes it.
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let (visibility, dead) = (millis(visibility), self.is_dead);
            let order = QueueCommand::Receive { max, visibility, dead };
            match self.writer.run(order).await? {
                QueueReply::Received(messages) if !messages.is_empty() => return Ok(messages),
                QueueReply::Received(none) if Instant::now() >= deadline => return Ok(none),
                QueueReply::Received(_) => {}
                other => return Err(unexpected(&other)),
            }
            let next = deadline.min(Instant::now() + POLL_INTERVAL);
            // In either case it looks again.
            let _ = timeout_at(next, arrived).await;
        }
    }

    async fn change(
        &self,
        receipt: &str,
        order: impl FnOnce(Receipt) -> QueueCommand,
    ) -> Result<(), QueueError> {
        let stale = || QueueError {
            name: "receipt-stale",
            detail: "the message was received again, or is gone".into(),
        };
        let receipt = Receipt::parse(receipt).ok_or_else(stale)?;
        match self.writer.run(order(receipt)).await? {
            QueueReply::Done => Ok(()),
            QueueReply::Stale => Err(stale()),
            other => Err(unexpected(&other)),
        }
    }

    async fn count(&self) -> Result<Depth, QueueError> {
        let (reader, dead) = (self.reader.clone(), self.is_dead);
        let count = move || {
            // A panic leaves the connection in the state it had before.
            let db = reader.lock().unwrap_or_else(PoisonError::into_inner);
            store::depth(&db, dead, now())
        };
        tokio::task::spawn_blocking(count)
            .await
            .map_err(|error| failed("store-failed", &error))?
            .map_err(|error| failed(error_name(&error), &error))
    }
}

impl Queue for FileQueue {
    fn send(&self, message: Message) -> Boxed<'_, Result<String, QueueError>> {
        Box::pin(self.send_now(message))
    }

    fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Boxed<'_, Result<Vec<Received>, QueueError>> {
        Box::pin(self.poll(max, wait, visibility))
    }

    fn delete<'a>(&'a self, receipt: &'a str) -> Boxed<'a, Result<(), QueueError>> {
        Box::pin(self.change(receipt, QueueCommand::Delete))
    }

    fn set_visibility<'a>(
        &'a self,
        receipt: &'a str,
        visibility: Duration,
    ) -> Boxed<'a, Result<(), QueueError>> {
        Box::pin(async move {
            check_visibility(visibility)?;
            let visibility = millis(visibility);
            self.change(receipt, |receipt| QueueCommand::SetVisibility { receipt, visibility })
                .await
        })
    }

    fn depth(&self) -> Boxed<'_, Result<Depth, QueueError>> {
        Box::pin(self.count())
    }

    fn dead_letters(&self) -> Boxed<'_, Result<Option<Arc<dyn Queue>>, QueueError>> {
        let dead: Arc<dyn Queue> = Arc::new(Self { is_dead: true, ..self.clone() });
        Box::pin(std::future::ready(Ok(Some(dead))))
    }

    fn stands(&self) -> bool {
        self.anchor.stands()
    }

    fn receives_max(&self) -> Option<u64> {
        Some(self.max_receives)
    }

    fn message_bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX
    }
}

impl From<Fault> for QueueError {
    fn from(Fault { name, detail }: Fault) -> Self {
        Self { name, detail }
    }
}

fn failed(name: &'static str, error: &dyn std::fmt::Display) -> QueueError {
    QueueError { name, detail: error.to_string() }
}

fn unexpected(outcome: &QueueReply) -> QueueError {
    failed("store-failed", &format!("the writer answered {outcome:?}"))
}
