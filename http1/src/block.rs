//! Header fields as they are sent: encoded once for many answers, or passed on as they came.

use crate::encode::{self, LINE_END};
use crate::framing::{self, Lengths, is_ours};
use crate::head::Reason;
use crate::received::Received;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

const AFTER_NAME: &[u8] = b": ";

/// The head of an answer without its first line and the fields that are added as it is sent.
#[derive(Debug, Clone)]
pub struct Block {
    /// The fields as `name: value CR LF` each.
    lines: Bytes,
    /// The body's length in bytes by `Content-Length`; none where there is no such field.
    pub(crate) length: Option<u64>,
    pub(crate) has_date: bool,
    reason: Option<Reason>,
}

/// The fields of an answer that are encoded already.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    /// The fields, encoded once for all answers.
    pub block: &'a Block,
    /// The lines of this one answer, each with its end.
    pub added: &'a str,
}

impl Block {
    /// Encodes the fields, without those that belong to one connection.
    pub fn new(status: StatusCode, headers: &HeaderMap) -> Self {
        let mut lines = Vec::new();
        for (name, value) in headers.iter().filter(|(name, _)| !is_ours(name, status)) {
            encode::field(&mut lines, name.as_str(), value.as_bytes());
        }
        Self {
            // The block is kept for long, so it gets memory of exactly its size.
            lines: Bytes::copy_from_slice(&lines),
            length: encode::stated(headers),
            has_date: headers.contains_key(header::DATE),
            reason: None,
        }
    }

    /// The block of an answer that is passed on, without the fields that are dropped by name, in whatever
    /// case they came; the fields of a connection must be among those. The lengths were judged when the head
    /// was read.
    pub fn passed(
        status: StatusCode,
        fields: &Received,
        lengths: Lengths,
        is_dropped: impl Fn(&[u8]) -> bool,
    ) -> Self {
        let (mut length, mut has_date) = (None, false);
        let has_length = lengths != Lengths::Dropped
            && (!framing::has_no_body(status) || status == StatusCode::NOT_MODIFIED);
        let lines = fields.lines_without(|name, value| {
            let is_length = name.eq_ignore_ascii_case(b"content-length");
            if is_dropped(name) || (is_length && (!has_length || length.is_some())) {
                return true;
            }
            if is_length {
                length = str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            }
            has_date |= name.eq_ignore_ascii_case(b"date");
            // A list of equal lengths is written anew as one length.
            is_length && length.is_none()
        });
        Self { lines, length, has_date, reason: None }
    }

    /// Sets a reason phrase other than the usual one.
    pub fn with_reason(self, reason: Option<Reason>) -> Self {
        Self { reason, ..self }
    }

    pub(crate) fn reason(&self) -> Option<&[u8]> {
        self.reason.as_ref().map(Reason::as_bytes)
    }

    /// Adds lines, each with its end.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The values of a field, in whatever way its lines are written.
    pub fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.lines.split(|byte| *byte == b'\n');
        lines.filter_map(move |line| {
            let colon = memchr::memchr(b':', line)?;
            let (own, value) = line.split_at(colon);
            let is_own = own.eq_ignore_ascii_case(name.as_str().as_bytes());
            is_own.then(|| value.get(1..).unwrap_or_default().trim_ascii())
        })
    }

    /// The fields one by one, as they were encoded here; their values share the block's memory.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut rest = self.lines();
        while let Some(end) = rest.windows(LINE_END.len()).position(|bytes| bytes == LINE_END) {
            let (line, more) = rest.split_at(end);
            rest = more.get(LINE_END.len()..).unwrap_or_default();
            headers.extend(self.field(line));
        }
        headers
    }

    fn field(&self, line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
        let colon = memchr::memchr(b':', line)?;
        let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
        let value = line.get(colon + AFTER_NAME.len()..)?;
        Some((name, HeaderValue::from_maybe_shared(self.lines.slice_ref(value)).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_read_as_it_was_but_for_the_connections_fields() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::CONTENT_LENGTH, &b"12"[..]),
            (header::VARY, b"accept"),
            (header::VARY, b"accept-language"),
            (header::ETAG, b"\"\xfc: \""),
            (header::WARNING, b""),
        ] {
            headers.append(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        let mut with_connection = headers.clone();
        with_connection.insert(header::CONNECTION, HeaderValue::from_static("close"));
        with_connection.insert("keep-alive", HeaderValue::from_static("timeout=5"));
        let block = Block::new(StatusCode::OK, &with_connection);
        assert_eq!(block.headers(), headers);
        assert_eq!((block.length, block.has_date), (Some(12), false));
        assert_eq!(Block::new(StatusCode::OK, &HeaderMap::new()).headers(), HeaderMap::new());
    }

    #[test]
    fn values_are_found_in_whatever_case_and_spacing_their_lines_came() {
        let lines = Bytes::from_static(b"LOCATION:/a\r\nLoc: x\r\nlocation:  /b \r\n");
        let block = Block { lines, length: None, has_date: false, reason: None };
        let values: Vec<&[u8]> = block.values(&header::LOCATION).collect();
        assert_eq!(values, [&b"/a"[..], b"/b"]);
    }

    #[test]
    fn an_answer_that_has_no_body_has_no_length() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        assert!(Block::new(StatusCode::NO_CONTENT, &headers).lines().is_empty());
    }
}
