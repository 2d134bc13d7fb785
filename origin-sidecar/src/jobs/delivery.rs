//! One delivery of a message to a consumer.

use super::consumer::Consumer;
use rules::{Rules, document};
use std::time::Duration;
use stores::queue::Received;

/// Lease and visibility are renewed after this fraction of their time: one third.
pub(super) const HEARTBEAT_PART: u32 = 3;

/// One message in hand, with the context in which it is handled.
pub(super) struct Delivery<'a> {
    pub consumer: &'a Consumer,
    pub rules: &'a Rules,
    pub queue: &'a document::Queue,
    pub received: &'a Received,
    pub visibility: Duration,
}
