//! How an answer is written: what its framing is, and whether the connection is kept after it.

use super::Service;
use crate::block::Block;
use crate::encode;
use crate::framing::{self, has_no_body};
use crate::writer::{COPY_BYTES_MAX, Coding, Writer};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, Version, header};
use http_body::Body;

/// What of the request matters to the answer's form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub version: Version,
    pub is_head: bool,
    pub is_kept: bool,
}

impl Asked {
    pub fn new(method: &Method, version: Version, headers: &HeaderMap) -> Self {
        let is_kept = framing::is_kept(version, headers);
        Self { version, is_head: method == Method::HEAD, is_kept }
    }
}

/// The answer as it is to be written, and whether the connection is kept.
pub(super) fn begin<S: Service>(
    response: Response<S::Body>,
    asked: Asked,
) -> (Writer<S::Body>, bool) {
    let (parts, body) = response.into_parts();
    let headers = &parts.headers;
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let mut head = encode::response(parts.status, headers);
        encode::end(&mut head);
        return (Writer::new(head, Coding::None, body), false);
    }
    let block = S::block(&body);
    let stated = block.map_or_else(|| encode::stated(headers), |block| block.length);
    let coding = if asked.is_head || has_no_body(parts.status) {
        Coding::None
    } else {
        match stated.or(body.size_hint().exact()) {
            Some(bytes) => Coding::Length(bytes),
            None if asked.version == Version::HTTP_10 => Coding::UntilClose,
            None => Coding::Chunked,
        }
    };
    let is_kept = asked.is_kept
        && coding != Coding::UntilClose
        && framing::is_kept(Version::HTTP_11, headers);
    let mut head = encode::with_room(parts.status, room(block, coding));
    head.extend_from_slice(block.map_or(b"", Block::lines));
    for (name, value) in headers {
        if !is_ours(name, parts.status) {
            encode::field(&mut head, name.as_str(), value.as_bytes());
        }
    }
    match coding {
        Coding::Length(bytes) if stated.is_none() => encode::content_length(&mut head, bytes),
        Coding::Chunked => encode::field(&mut head, "transfer-encoding", b"chunked"),
        _ => {}
    }
    if let Some(option) = encode::connection(asked.version, is_kept) {
        encode::field(&mut head, "connection", option.as_bytes());
    }
    if !block.is_some_and(|block| block.has_date) {
        encode::date(&mut head, headers);
    }
    encode::end(&mut head);
    (Writer::new(head, coding, body), is_kept)
}

/// Bytes of a usual head with encoded fields, and a body that is copied behind it.
fn room(block: Option<&Block>, coding: Coding) -> usize {
    let body = match coding {
        Coding::Length(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
        _ => 0,
    };
    let body = if body <= COPY_BYTES_MAX { body } else { 0 };
    encode::HEAD_BYTES_USUAL + block.map_or(0, |block| block.lines().len()) + body
}

/// Fields of this connection, which only its own end can set right; and a length where there is no
/// body to have one.
pub(crate) fn is_ours(name: &HeaderName, status: StatusCode) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || name.as_str() == "keep-alive"
        || (*name == header::CONTENT_LENGTH
            && (status.is_informational() || status == StatusCode::NO_CONTENT))
}
