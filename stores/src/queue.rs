//! The queue in which jobs wait. The vocabulary is that of Amazon SQS; the embedded queue follows it.

pub mod file;
mod limits;
#[cfg(feature = "aws")]
pub mod sqs;

use net::boxed::Boxed;
use rules::UnixMillis;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How many attributes a message may have; SQS allows ten.
pub const ATTRIBUTES_MAX: usize = 10;

/// A message to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The body: legal XML 1.0 text that is not empty, as SQS demands ([`is_legal_body`]).
    pub body: String,
    /// The attributes, [`ATTRIBUTES_MAX`] strings at most.
    pub attributes: BTreeMap<String, String>,
    /// The tenant of the message, so that no tenant's backlog holds up another's (`MessageGroupId` of SQS
    /// fair queues: 1-128 letters, digits and punctuation).
    pub group: Option<String>,
}

/// A message that was received, and is invisible to others until its visibility timeout runs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The id that the queue gave the message when it was sent.
    pub id: String,
    /// The receipt handle, which is out of date once the message is received again.
    pub receipt: String,
    pub body: String,
    pub attributes: BTreeMap<String, String>,
    pub group: Option<String>,
    /// How often the message has been received, this time included.
    pub receives: u64,
    /// When it was sent.
    pub sent: UnixMillis,
}

/// How many messages the queue holds. `oldest` is when the oldest one was sent, where the queue can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    pub visible: u64,
    pub in_flight: u64,
    pub dead: u64,
    pub oldest: Option<UnixMillis>,
}

/// Why the queue did not carry out a call. `name` is the metric label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueError {
    pub name: &'static str,
    pub detail: String,
}

impl fmt::Display for QueueError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.name, self.detail)
    }
}

impl std::error::Error for QueueError {}

/// A queue with at-least-once delivery and visibility timeouts.
pub trait Queue: Send + Sync {
    /// Sends a message. Resolves to its id when it is durable, not before.
    fn send(&self, message: Message) -> Boxed<'_, Result<String, QueueError>>;

    /// Receives up to `max` (1–10) messages, and waits up to `wait` for the first. Dropping the future must
    /// not lose messages for longer than `visibility`.
    fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Boxed<'_, Result<Vec<Received>, QueueError>>;

    fn delete<'a>(&'a self, receipt: &'a str) -> Boxed<'a, Result<(), QueueError>>;

    /// Sets for how long from now the message stays invisible; zero releases it.
    fn set_visibility<'a>(
        &'a self,
        receipt: &'a str,
        visibility: Duration,
    ) -> Boxed<'a, Result<(), QueueError>>;

    fn depth(&self) -> Boxed<'_, Result<Depth, QueueError>>;

    /// The dead-letter queue, to which messages go that were received too often; `None` where there is none.
    fn dead_letters(&self) -> Boxed<'_, Result<Option<Arc<dyn Queue>>, QueueError>>;

    /// Whether the files of the queue, if it has any, are where they were when it was opened.
    fn stands(&self) -> bool {
        true
    }

    /// Whether each call costs money, so that none is made without need.
    fn is_billed(&self) -> bool {
        false
    }

    /// After how many deliveries the queue moves a message to the dead letters; `None` where it never does,
    /// or where that is not known.
    fn receives_max(&self) -> Option<u64> {
        None
    }

    /// The size of a message in bytes: body, attribute names, types and values together.
    fn message_bytes_max(&self) -> usize;
}

/// Whether SQS would take the text as a body: `#x9 | #xA | #xD | #x20–#xD7FF | #xE000–#xFFFD |
/// #x10000–#x10FFFF`, one character at least.
pub fn is_legal_body(text: &str) -> bool {
    let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    !text.is_empty() && text.chars().all(legal)
}
