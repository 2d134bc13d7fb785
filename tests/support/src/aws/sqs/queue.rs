//! One queue: what is visible when, and whose receipts still count.

use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

#[derive(Debug, Clone)]
pub(super) struct Message {
    pub id: String,
    pub body: String,
    pub attributes: Map<String, Value>,
    pub group: Option<String>,
    /// Milliseconds since 1970, as the next two.
    pub sent: u64,
    pub first_received: u64,
    pub receives: u64,
    visible_at: Instant,
    /// Numbers of the receipts that may still delete it.
    receipts: Vec<u64>,
    /// Delivered a second time on purpose; none when nobody asked for that.
    twin: Option<Twin>,
}

/// The second delivery of a message, which a test asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twin {
    Owed,
    Delivered,
}

/// How messages are handed out.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub newest_first: bool,
    pub twice: bool,
    pub max_receives: u64,
}

/// What a receipt is worth.
pub(super) enum Held {
    Yes,
    /// Received again since, or never given out.
    Stale,
    Gone,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub attributes: HashMap<String, String>,
    messages: HashMap<u64, Message>,
    /// When each message is visible; by age within the same instant.
    order: BTreeSet<(Instant, u64)>,
    last_seq: u64,
    last_receipt: u64,
}

pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Message {
    pub(super) fn new(
        id: String,
        body: String,
        attributes: Map<String, Value>,
        group: Option<String>,
    ) -> Self {
        Self {
            id,
            body,
            attributes,
            group,
            sent: now(),
            first_received: 0,
            receives: 0,
            visible_at: Instant::now(),
            receipts: Vec::new(),
            twin: None,
        }
    }

    fn hand_out(&mut self, receipt: u64, twice: bool) {
        self.receives += 1;
        if self.first_received == 0 {
            self.first_received = now();
        }
        if self.twin == Some(Twin::Owed) {
            // The first receiver's receipt stays good beside this one.
            self.twin = Some(Twin::Delivered);
        } else {
            self.receipts.clear();
            self.twin = self.twin.or(twice.then_some(Twin::Owed));
        }
        self.receipts.push(receipt);
    }
}

impl Queue {
    /// A number among its attributes.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.attributes.get(name)?.parse().ok()
    }

    /// Name of the dead-letter queue, and how many receives a message has before it goes there.
    pub(super) fn redrive(&self) -> Option<(String, u64)> {
        let policy: Value = serde_json::from_str(self.attributes.get("RedrivePolicy")?).ok()?;
        let target = policy["deadLetterTargetArn"].as_str()?.rsplit(':').next()?.to_owned();
        let max = &policy["maxReceiveCount"];
        Some((target, max.as_u64().or_else(|| max.as_str()?.parse().ok())?))
    }

    pub(super) fn send(&mut self, mut message: Message, delay: Duration) {
        self.last_seq += 1;
        message.visible_at = Instant::now() + delay;
        self.order.insert((message.visible_at, self.last_seq));
        self.messages.insert(self.last_seq, message);
    }

    /// The next visible message with its receipt, out of sight from now on. Those that have been
    /// received as often as they may are put among the `dead` on the way.
    pub(super) fn receive(
        &mut self,
        visibility: Duration,
        how: How,
        dead: &mut Vec<Message>,
    ) -> Option<(Message, String)> {
        loop {
            let now = Instant::now();
            let mut visible = self.order.range(..=(now, u64::MAX));
            let (_, seq) = *if how.newest_first { visible.next_back() } else { visible.next() }?;
            if self.messages.get(&seq)?.receives >= how.max_receives {
                dead.extend(self.remove(seq));
                continue;
            }
            self.last_receipt += 1;
            let receipt = self.last_receipt;
            let message = self.messages.get_mut(&seq)?;
            message.hand_out(receipt, how.twice);
            let found = message.clone();
            let is_owed = found.twin == Some(Twin::Owed);
            self.show(seq, if is_owed { now } else { now + visibility });
            return Some((found, format!("{seq}.{receipt}")));
        }
    }

    /// When the next message that is out of sight comes back.
    pub(super) fn next_visible(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    pub(super) fn delete(&mut self, handle: &str) -> Held {
        let (held, seq) = self.held(handle);
        if matches!(held, Held::Yes) && self.messages[&seq].twin == Some(Twin::Owed) {
            // The other delivery is on its way already.
            return held;
        }
        if matches!(held, Held::Yes) {
            self.remove(seq);
        }
        held
    }

    pub(super) fn set_visibility(&mut self, handle: &str, visibility: Duration) -> Held {
        let (held, seq) = self.held(handle);
        if matches!(held, Held::Yes) && self.messages[&seq].twin != Some(Twin::Owed) {
            self.show(seq, Instant::now() + visibility);
        }
        held
    }

    /// Visible, and in flight or delayed.
    pub(super) fn counts(&self) -> (usize, usize) {
        let visible = self.order.range(..=(Instant::now(), u64::MAX)).count();
        (visible, self.order.len() - visible)
    }

    pub(super) fn bodies(&self) -> Vec<String> {
        self.messages.values().map(|message| message.body.clone()).collect()
    }

    /// The values of an attribute in all its messages.
    pub(super) fn values(&self, attribute: &str) -> Vec<String> {
        let values = self.messages.values().filter_map(|message| {
            message.attributes.get(attribute)?["StringValue"].as_str().map(str::to_owned)
        });
        values.collect()
    }

    fn held(&self, handle: &str) -> (Held, u64) {
        let parts = handle.split_once('.');
        let parsed =
            parts.and_then(|(seq, receipt)| Some((seq.parse().ok()?, receipt.parse().ok()?)));
        let Some((seq, receipt)): Option<(u64, u64)> = parsed else { return (Held::Stale, 0) };
        match self.messages.get(&seq) {
            Some(message) if message.receipts.contains(&receipt) => (Held::Yes, seq),
            Some(_) => (Held::Stale, seq),
            None if seq <= self.last_seq => (Held::Gone, seq),
            None => (Held::Stale, seq),
        }
    }

    fn show(&mut self, seq: u64, at: Instant) {
        if let Some(message) = self.messages.get_mut(&seq) {
            self.order.remove(&(message.visible_at, seq));
            message.visible_at = at;
            self.order.insert((at, seq));
        }
    }

    fn remove(&mut self, seq: u64) -> Option<Message> {
        let message = self.messages.remove(&seq)?;
        self.order.remove(&(message.visible_at, seq));
        Some(message)
    }
}
