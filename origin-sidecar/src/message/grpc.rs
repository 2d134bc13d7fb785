//! Errors in the form of gRPC.

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use rules::Problem;

const GRPC: &[u8] = b"application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether the message belongs to gRPC, over HTTP/2 or as gRPC-Web.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(is_grpc_type)
}

pub fn is_grpc_type(kind: &HeaderValue) -> bool {
    let kind = kind.as_bytes();
    kind.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
}

/// The trailers of a call that Spillway refuses.
pub fn trailers(problem: Problem) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(STATUS, HeaderValue::from(problem.grpc_status()));
    trailers.insert(MESSAGE, HeaderValue::from_static(problem.name()));
    trailers
}

/// A refusal as an answer without messages, with the fields that every client gets.
pub fn refusal(problem: Problem, mut fields: HeaderMap) -> Response<()> {
    fields.remove(header::CONTENT_LENGTH);
    fields.extend(trailers(problem));
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut response = Response::new(());
    *response.headers_mut() = fields;
    response
}
