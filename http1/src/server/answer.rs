//! The form of an answer: its framing, and whether the connection is kept after it.

use super::service::Service;
use crate::block::Encoded;
use crate::encode;
use crate::framing::{Stated, has_no_body, is_ours};
use crate::head::Reason;
use crate::writer::{COPY_BYTES_MAX, Coding, Writer};
use http::{Method, Response, StatusCode, Version};
use http_body::Body;

/// What the form of an answer depends on in its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub version: Version,
    pub is_head: bool,
    pub is_kept: bool,
}

impl Asked {
    pub fn new(method: &Method, version: Version, stated: &Stated<'_>) -> Self {
        let is_kept = stated.is_kept(version);
        Self { version, is_head: method == Method::HEAD, is_kept }
    }
}

/// The answer as it is to be written, and whether the connection is kept. `head` is empty, or the memory of
/// an earlier one.
pub(super) fn begin<S: Service>(
    mut head: Vec<u8>,
    response: Response<S::Body>,
    asked: Asked,
) -> (Writer<S::Body>, bool) {
    let (parts, body) = response.into_parts();
    let headers = &parts.headers;
    let reason = parts.extensions.get::<Reason>().map(Reason::as_bytes);
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        encode::response(&mut head, parts.status, reason, headers);
        encode::end(&mut head);
        return (Writer::new(head, Coding::None, body), false);
    }
    let encoded = S::encoded(&body);
    let stated = encoded.map_or_else(|| encode::stated(headers), |own| own.block.length);
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
        && Stated::of(headers).is_kept(Version::HTTP_11);
    head.reserve(room(encoded, coding));
    let reason = reason.or_else(|| encoded.and_then(|own| own.block.reason()));
    encode::status_line(&mut head, parts.status, reason);
    if let Some(Encoded { block, added }) = encoded {
        head.extend_from_slice(block.lines());
        head.extend_from_slice(added.as_bytes());
    }
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
    if !encoded.is_some_and(|own| own.block.has_date) {
        encode::date(&mut head, headers);
    }
    encode::end(&mut head);
    (Writer::new(head, coding, body), is_kept)
}

/// The size in bytes of a usual head with encoded fields, and of a body that is copied behind it.
fn room(encoded: Option<Encoded<'_>>, coding: Coding) -> usize {
    let body = match coding {
        Coding::Length(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
        _ => 0,
    };
    let body = if body <= COPY_BYTES_MAX { body } else { 0 };
    let lines = encoded.map_or(0, |own| own.block.lines().len() + own.added.len());
    encode::HEAD_BYTES_USUAL + lines + body
}
