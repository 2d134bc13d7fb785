//! What answers the requests of a connection.

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

/// What answers.
pub trait Service: Sync {
    /// The bodies of its answers.
    type Body: Body<Data = Bytes, Error = io::Error> + Unpin + Send;

    /// Fields that the answer has besides those of its head: they come before them, and its length
    /// is among these or those.
    fn encoded(_body: &Self::Body) -> Option<Encoded<'_>> {
        None
    }

    /// The head may be taken apart: nobody else needs it.
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

    /// What is borne of clients that take their time; without it, all of it.
    fn tolerance(&self) -> Option<&Tolerance> {
        None
    }

    /// How large the heads of requests may be.
    fn head_limits(&self) -> HeadLimits {
        HeadLimits::default()
    }

    /// Whose connection it is; none of a proxy, behind which there are many.
    fn address(&self) -> Option<IpAddr> {
        None
    }

    /// Nothing comes on a connection for a while: it has let go of what it can do without.
    fn quiet(&self) {}

    /// A request's body was malformed; its reader was told and has answered.
    fn body_refused(&self, refusal: Refusal);
}
