//! Heads and chunks as bytes.

use crate::lines;
use http::{HeaderMap, Method, StatusCode, Version, header};
use std::io::Write;
use std::time::SystemTime;

/// The end of each line of a head (RFC 9112 section 2.1).
pub(crate) const LINE_END: &[u8] = b"\r\n";
/// The memory in bytes for a usual head, so that it is written without growing.
pub(crate) const HEAD_BYTES_USUAL: usize = 512;
/// The field for a body without a length, and the end of the last chunk.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The interim answer that lets a client send its body (RFC 9110 section 15.2.1).
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Writes a response's head up to its empty line, which [`end`] adds.
pub fn response(
    head: &mut Vec<u8>,
    status: StatusCode,
    reason: Option<&[u8]>,
    headers: &HeaderMap,
) {
    head.reserve(HEAD_BYTES_USUAL);
    status_line(head, status, reason);
    fields(head, headers);
}

/// `reason` is the upstream's own, where it is not the usual one.
pub(crate) fn status_line(head: &mut Vec<u8>, status: StatusCode, reason: Option<&[u8]>) {
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    let usual = || status.canonical_reason().unwrap_or_default().as_bytes();
    head.extend_from_slice(reason.unwrap_or_else(usual));
    head.extend_from_slice(b"\r\n");
}

/// Writes the first line of a request's head.
pub fn request_line(head: &mut Vec<u8>, method: &Method, target: &str) {
    head.reserve(HEAD_BYTES_USUAL);
    head.extend_from_slice(method.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(target.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes all fields of a map as lines.
pub fn fields(head: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        field(head, name.as_str(), value.as_bytes());
    }
}

/// Writes one field. Its name, given in lower case, gets the usual spelling, because some old programs
/// compare it letter by letter.
pub fn field(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    spelled(head, name);
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

fn spelled(head: &mut Vec<u8>, name: &str) {
    let known = match name {
        "etag" => "ETag",
        "te" => "TE",
        "dnt" => "DNT",
        "www-authenticate" => "WWW-Authenticate",
        "x-xss-protection" => "X-XSS-Protection",
        "x-ua-compatible" => "X-UA-Compatible",
        "content-md5" => "Content-MD5",
        "sec-websocket-key" => "Sec-WebSocket-Key",
        "sec-websocket-accept" => "Sec-WebSocket-Accept",
        "sec-websocket-version" => "Sec-WebSocket-Version",
        "sec-websocket-protocol" => "Sec-WebSocket-Protocol",
        "sec-websocket-extensions" => "Sec-WebSocket-Extensions",
        _ => {
            let mut is_first = true;
            head.extend(name.bytes().map(|byte| {
                let was_first = std::mem::replace(&mut is_first, byte == b'-');
                if was_first { byte.to_ascii_uppercase() } else { byte }
            }));
            return;
        }
    };
    head.extend_from_slice(known.as_bytes());
}

/// Writes the field with the body's length in bytes.
pub fn content_length(head: &mut Vec<u8>, length: u64) {
    // Writing to memory can't fail.
    let _ = write!(head, "Content-Length: {length}\r\n");
}

/// The length that the fields state.
pub fn stated(headers: &HeaderMap) -> Option<u64> {
    lines::first(headers, &header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Writes the date, which every answer has (RFC 9110 section 6.6.1).
pub fn date(head: &mut Vec<u8>, headers: &HeaderMap) {
    if !lines::has(headers, &header::DATE) {
        let now = httpdate::HttpDate::from(SystemTime::now());
        let _ = write!(head, "Date: {now}\r\n");
    }
}

/// Writes the empty line after the last field.
pub fn end(head: &mut Vec<u8>) {
    head.extend_from_slice(b"\r\n");
}

/// Writes the line before a chunk of so many bytes.
pub fn chunk(out: &mut Vec<u8>, bytes: usize) {
    let _ = write!(out, "{bytes:x}\r\n");
}

/// Writes the last chunk and the fields after it.
pub fn trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    fields(out, trailers);
    end(out);
}

/// Writes the `Connection` field where it is needed: HTTP/1.0 closes unless told otherwise, HTTP/1.1 keeps
/// the connection unless told otherwise (RFC 9112 section 9.3).
pub fn connection(version: Version, is_kept: bool) -> Option<&'static str> {
    match (version, is_kept) {
        (Version::HTTP_10, true) => Some("keep-alive"),
        (Version::HTTP_10, false) | (_, true) => None,
        (_, false) => Some("close"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_old_programs_look_for_them() {
        let of = |name| {
            let mut out = Vec::new();
            field(&mut out, name, b"1");
            String::from_utf8(out).expect("text")
        };
        assert_eq!(of("content-length"), "Content-Length: 1\r\n");
        assert_eq!(of("etag"), "ETag: 1\r\n");
        assert_eq!(of("x-a--b"), "X-A--B: 1\r\n");
    }
}
