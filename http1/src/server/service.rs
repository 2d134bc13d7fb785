//! The service that answers the requests of a connection.

use super::incoming::{Exchange, RequestBody};
use super::tolerance::Tolerance;
use crate::block::Encoded;
use crate::head::{HeadLimits, RequestHead};
use crate::refusal::Refusal;
use bytes::Bytes;
use http::Response;
use http_body::Body;
use std::io;
use std::net::IpAddr;

/// Answers requests.
pub trait Service: Sync {
    /// The type of the bodies of its answers.
    type Body: Body<Data = Bytes, Error = io::Error> + Unpin + Send;

    /// Fields that the answer has besides those of its head: they come before them, and its length
    /// is among these or those.
    fn encoded(_body: &Self::Body) -> Option<Encoded<'_>> {
        None
    }

    /// Answers a request. The head may be taken apart, because nobody else needs it.
    fn answer(
        &self,
        head: &mut RequestHead,
        body: RequestBody,
        exchange: Exchange,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The answer to what is no request; the connection closes after it.
    fn refuse(&self, refusal: Refusal) -> Response<Self::Body>;

    /// The answer in place of one whose body broke off before a byte of it was sent; the connection closes
    /// after it.
    fn broken(&self, error: &io::Error) -> Response<Self::Body>;

    /// The limits on clients that take their time; without them there are none.
    fn tolerance(&self) -> Option<&Tolerance> {
        None
    }

    /// The limits on the heads of requests.
    fn head_limits(&self) -> HeadLimits {
        HeadLimits::default()
    }

    /// The address of the client; none for a proxy, behind which there are many clients.
    fn address(&self) -> Option<IpAddr> {
        None
    }

    /// Called when nothing has come on a connection for a while, which has freed what it can do without.
    fn quiet(&self) {}

    /// Called when a request's body was malformed; its reader was told and has answered.
    fn body_refused(&self, refusal: Refusal);
}
