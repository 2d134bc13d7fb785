//! The queue that jobs wait in. Amazon SQS sets the vocabulary; the embedded queue follows it.

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

/// SQS allows ten message attributes.
pub const ATTRIBUTES_MAX: usize = 10;

/// A message on its way in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Legal XML 1.0 text, not empty (the limits of SQS; [`is_legal_body`]).
    pub body: String,
    /// At most [`ATTRIBUTES_MAX`] string attributes.
    pub attributes: BTreeMap<String, String>,
    /// Whose message it is: no tenant's backlog holds up another's (SQS fair queues'
    /// `MessageGroupId`: 1-128 letters, digits and punctuation).
    pub group: Option<String>,
}

/// A message received and invisible to others until its visibility runs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Given by the queue at send.
    pub id: String,
    /// Names this receipt; out of date once the message was received again.
    pub receipt: String,
    pub body: String,
    pub attributes: BTreeMap<String, String>,
    pub group: Option<String>,
    /// How often the message has been received, this time included.
    pub receives: u64,
    /// When it was sent.
    pub sent: UnixMillis,
}

/// What waits. `oldest` is when the oldest was sent, where the queue can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    pub visible: u64,
    pub in_flight: u64,
    pub dead: u64,
    pub oldest: Option<UnixMillis>,
}

/// Why the queue did not do it. `name` is the metric label.
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

/// At-least-once delivery with visibility time-outs.
pub trait Queue: Send + Sync {
    /// Resolves to the message id when the message is durable, not before.
    fn send(&self, message: Message) -> Boxed<'_, Result<String, QueueError>>;

    /// Up to `max` (1–10) messages; waits up to `wait` for the first. Dropping the future must not
    /// lose messages for longer than `visibility`.
    fn receive(
        &self,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Boxed<'_, Result<Vec<Received>, QueueError>>;

    fn delete<'a>(&'a self, receipt: &'a str) -> Boxed<'a, Result<(), QueueError>>;

    /// Sets how long from now the message stays invisible; zero releases it.
    fn set_visibility<'a>(
        &'a self,
        receipt: &'a str,
        visibility: Duration,
    ) -> Boxed<'a, Result<(), QueueError>>;

    fn depth(&self) -> Boxed<'_, Result<Depth, QueueError>>;

    /// Where messages go that were received too often; `None` where nothing is set up for them.
    fn dead_letters(&self) -> Boxed<'_, Result<Option<Arc<dyn Queue>>, QueueError>>;

    /// Whether its files, if it has any, are where they were when it was opened.
    fn stands(&self) -> bool {
        true
    }

    /// Whether each call costs money, so that none is made without need.
    fn is_billed(&self) -> bool {
        false
    }

    /// After so many deliveries the queue buries a message; `None` where it never does, or nobody knows.
    fn receives_max(&self) -> Option<u64> {
        None
    }

    /// Bytes of body, attribute names, types and values together.
    fn message_bytes_max(&self) -> usize;
}

/// Whether SQS would take the text as a body: `#x9 | #xA | #xD | #x20–#xD7FF | #xE000–#xFFFD |
/// #x10000–#x10FFFF`, one character at least.
pub fn is_legal_body(text: &str) -> bool {
    let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    !text.is_empty() && text.chars().all(legal)
}
