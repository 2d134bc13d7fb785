//! Heads and chunks as bytes.

use crate::lines;
use http::{HeaderMap, Method, StatusCode, Version, header};
use std::io::Write;
use std::time::SystemTime;

/// Room for a usual head, so that it is written without growing.
pub(crate) const HEAD_BYTES_USUAL: usize = 512;
/// How a body without a length is sent; the end of the last chunk.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A response's head up to its empty line, which [`end`] adds.
pub fn response(head: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    head.reserve(HEAD_BYTES_USUAL);
    status_line(head, status);
    fields(head, headers);
}

pub fn status_line(head: &mut Vec<u8>, status: StatusCode) {
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    head.extend_from_slice(b"\r\n");
}

/// A request's head up to its empty line.
pub fn request(head: &mut Vec<u8>, method: &Method, target: &str, headers: &HeaderMap) {
    head.reserve(HEAD_BYTES_USUAL);
    head.extend_from_slice(method.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(target.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    fields(head, headers);
}

pub fn fields(head: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        field(head, name.as_ref(), value.as_bytes());
    }
}

pub fn field(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.extend_from_slice(name);
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

pub fn content_length(head: &mut Vec<u8>, length: u64) {
    // Writing to memory can't fail.
    let _ = write!(head, "content-length: {length}\r\n");
}

/// The length that the fields tell.
pub fn stated(headers: &HeaderMap) -> Option<u64> {
    lines::first(headers, &header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Every answer has a date (RFC 9110 section 6.6.1).
pub fn date(head: &mut Vec<u8>, headers: &HeaderMap) {
    if !lines::has(headers, &header::DATE) {
        let now = httpdate::HttpDate::from(SystemTime::now());
        let _ = write!(head, "date: {now}\r\n");
    }
}

pub fn end(head: &mut Vec<u8>) {
    head.extend_from_slice(b"\r\n");
}

/// The line before a chunk of so many bytes.
pub fn chunk(out: &mut Vec<u8>, bytes: usize) {
    let _ = write!(out, "{bytes:x}\r\n");
}

/// The last chunk with the fields after it.
pub fn trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    fields(out, trailers);
    end(out);
}

/// What the other side must be told about the connection: HTTP/1.0 closes unless told otherwise,
/// HTTP/1.1 the other way round (RFC 9112 section 9.3).
pub fn connection(version: Version, is_kept: bool) -> Option<&'static str> {
    match (version, is_kept) {
        (Version::HTTP_10, true) => Some("keep-alive"),
        (Version::HTTP_10, false) | (_, true) => None,
        (_, false) => Some("close"),
    }
}
