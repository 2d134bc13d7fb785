//! A request whose fields have been cleaned, ready to be answered.

use super::inbound::Inbound;
use crate::message::body::Body;
use crate::message::fields::{Map, OutgoingFields, View};
use crate::upstream::route_state::RouteState;
use crate::writes::WriteInFlight;
use http::{HeaderMap, Method};
use http1::received::Received;
use http1::server::Exchange;
use rules::hygiene::{self, AsSent};
use rules::shard::protocol::Marker;
use rules::{Fields, Head, Rules};
use std::sync::Arc;

/// Bytes of the forwarding and trace fields that are usually added.
const ADDED_BYTES_USUAL: usize = 256;

/// A cleaned request, with the rules with which it started.
pub struct SanitizedRequest<'a> {
    pub inbound: Inbound,
    pub method: Method,
    pub headers: &'a mut HeaderMap,
    /// The fields as received, for a request that is forwarded unchanged.
    pub came: &'a mut Received,
    /// Whether the fields are final. They are not for requests that the cache answers.
    pub is_rebuilt: bool,
    pub body: Body,
    pub rules: &'a Arc<Rules>,
    pub route_state: &'a Arc<RouteState>,
    /// What another sidecar says that sent the request on.
    pub marker: Option<Marker>,
    /// Bytes of the body that were read to find its key.
    pub read_ahead: u64,
    /// Of a write in a live shard map.
    pub write: Option<WriteInFlight>,
    /// The way to send interim answers to the client, where its protocol has one.
    pub exchange: Option<Exchange>,
}

impl SanitizedRequest<'_> {
    /// Whether another sidecar sent it on.
    pub fn is_forwarded(&self) -> bool {
        self.marker.is_some()
    }

    /// Changes the fields to those that are forwarded.
    pub fn finalize_headers(&mut self) {
        if !self.is_rebuilt {
            hygiene::before_sending(&mut Map(self.headers), &self.inbound.sender());
            self.is_rebuilt = true;
        }
    }

    /// Finalizes a request that is forwarded as received: returns the rebuilt fields as lines.
    pub fn finalize_as_lines(&mut self) -> String {
        let mut added = String::with_capacity(ADDED_BYTES_USUAL);
        if !self.is_rebuilt {
            let mut fields = OutgoingFields { headers: self.headers, added: &mut added };
            hygiene::before_sending(&mut fields, &self.inbound.sender());
            self.is_rebuilt = true;
        }
        added
    }

    /// Whether an answer's fields may keep their spelling and order: HTTP/1.1 preserves them,
    /// HTTP/2 does not.
    pub fn may_pass(&self) -> bool {
        self.exchange.is_some()
    }

    /// Makes a decision on the request in the form in which it is, or would be, forwarded.
    pub fn decide<T>(&self, by: impl FnOnce(&Head<'_>) -> T) -> T {
        let view = View::of(self.headers);
        let as_sent = AsSent { fields: &view, sender: self.inbound.sender() };
        let fields: &dyn Fields = if self.is_rebuilt { &view } else { &as_sent };
        by(&self.inbound.head(&self.method, fields))
    }
}
