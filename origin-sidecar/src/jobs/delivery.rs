//! One delivery of a message to a consumer.

use super::consumer::Consumer;
use rules::{Rules, document};
use std::time::Duration;
use stores::queue::Received;

/// The lease and the visibility are renewed after a third of their time.
pub(super) const HEARTBEAT_PART: u32 = 3;

/// One message in hand, and what it is run by.
pub(super) struct Delivery<'a> {
    pub consumer: &'a Consumer,
    pub rules: &'a Rules,
    pub queue: &'a document::Queue,
    pub received: &'a Received,
    pub visibility: Duration,
}
