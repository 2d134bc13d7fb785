//! A request that may be answered.

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

/// Room for what the app is told of who asked, and of the trace.
const ADDED_BYTES_USUAL: usize = 256;

/// A request after its hygiene, with the rules it started with.
pub struct SanitizedRequest<'a> {
    pub inbound: Inbound,
    pub method: Method,
    pub headers: &'a mut HeaderMap,
    /// The fields as they came, for a request that is sent on so.
    pub came: &'a mut Received,
    /// They are as they are sent on. What the cache answers is not.
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
    /// The way back to the client, where its protocol has one beside the answer.
    pub exchange: Option<Exchange>,
}

impl SanitizedRequest<'_> {
    /// Whether another sidecar sent it on.
    pub fn is_forwarded(&self) -> bool {
        self.marker.is_some()
    }

    /// Makes the fields what is sent on.
    pub fn finalize_headers(&mut self) {
        if !self.is_rebuilt {
            hygiene::before_sending(&mut Map(self.headers), &self.inbound.sender());
            self.is_rebuilt = true;
        }
    }

    /// The same for a request that is sent on as it came: returns what is rebuilt as lines.
    pub fn finalize_as_lines(&mut self) -> String {
        let mut added = String::with_capacity(ADDED_BYTES_USUAL);
        if !self.is_rebuilt {
            let mut fields = OutgoingFields { headers: self.headers, added: &mut added };
            hygiene::before_sending(&mut fields, &self.inbound.sender());
            self.is_rebuilt = true;
        }
        added
    }

    /// Whether an answer's fields may go on as they came: HTTP/1.1 has spelling and order, HTTP/2 has
    /// not.
    pub fn may_pass(&self) -> bool {
        self.exchange.is_some()
    }

    /// Decides about the request as it is, or would be, sent on.
    pub fn decide<T>(&self, by: impl FnOnce(&Head<'_>) -> T) -> T {
        let view = View::of(self.headers);
        let as_sent = AsSent { fields: &view, sender: self.inbound.sender() };
        let fields: &dyn Fields = if self.is_rebuilt { &view } else { &as_sent };
        by(&self.inbound.head(&self.method, fields))
    }
}
