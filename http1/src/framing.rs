//! Where a body ends (RFC 9112 section 6.3), without the section's leniencies, and whether another
//! message may follow.

use crate::refusal::Refusal;
use http::{HeaderMap, HeaderName, Method, StatusCode, Version, header};
use std::time::Duration;

/// How the end of a body is found (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// The body comes in chunks, of which the last is empty (RFC 9112 section 7.1).
    Chunked,
    /// The body ends with the connection; only for responses.
    UntilClose,
}

/// Which of an answer's `Content-Length` lines may be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lengths {
    /// The only line, or none, as it came.
    AsTheyCame,
    /// The first of several that are equal (RFC 9112 section 6.3, rule 5).
    First,
    /// No line: `Transfer-Encoding` overrides it (rule 4), or there is no body that it could describe.
    Dropped,
}

/// Where an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// How the end of the body is found.
    pub framing: Framing,
    /// Which of its `Content-Length` lines may be passed on.
    pub lengths: Lengths,
}

impl Answered {
    /// Whether its fields contradict each other in a way that has one reading. The answer is passed on by
    /// that reading, but not stored, and its connection is not used again: its author may be wrong about its
    /// end.
    pub fn is_mended(&self) -> bool {
        self.lengths != Lengths::AsTheyCame
    }
}

/// The largest number of digits of a length: an exabyte, which fits in a u64 with room to add.
const LENGTH_DIGITS_MAX: usize = 18;

/// What the fields say about the body's end and the connection, read in one pass.
#[derive(Debug, Default)]
pub struct Stated<'a> {
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    is_length_repeated: bool,
    /// Whether several lengths differ.
    do_lengths_differ: bool,
    is_coding_repeated: bool,
    /// Whether `Transfer-Encoding` names a known coding (RFC 9112 section 7).
    is_coded: bool,
    is_close: bool,
    is_keep_alive: bool,
    keep_alive: Option<&'a [u8]>,
}

impl<'a> Stated<'a> {
    /// Reads it from the fields of a message.
    pub fn of(headers: &'a HeaderMap) -> Self {
        Self::read(headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
    }

    /// Reads it from names, in any case, and values.
    pub fn read(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut stated = Self::default();
        for (name, value) in fields {
            // Few names are as long as one of these.
            match name.len() {
                10 if name.eq_ignore_ascii_case(b"connection") => stated.connection(value),
                10 if name.eq_ignore_ascii_case(b"keep-alive") => {
                    stated.keep_alive.get_or_insert(value);
                }
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    if let Some(first) = stated.length.replace(value) {
                        stated.is_length_repeated = true;
                        stated.do_lengths_differ |= first != value;
                    }
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    stated.is_coding_repeated |= stated.coding.replace(value).is_some();
                    stated.is_coded |= names_a_coding(value);
                }
                _ => {}
            }
        }
        stated
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.is_close |= option.eq_ignore_ascii_case(b"close");
            self.is_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// # Errors
    /// When the length is stated twice, or in a form other than that of RFC 9112.
    pub fn of_request(&self, version: Version) -> Result<Framing, Refusal> {
        Ok(self.framing(version)?.unwrap_or(Framing::None))
    }

    /// # Errors
    /// When the end of the body is stated in two ways that differ, or in an unknown way.
    pub fn of_response(
        &self,
        asked: &Method,
        status: StatusCode,
        version: Version,
    ) -> Result<Answered, Refusal> {
        if asked == Method::HEAD || has_no_body(status) {
            // There is no body whatever the fields say (section 6.3, rule 1), so nothing can be read in two
            // ways.
            return Ok(Answered { framing: Framing::None, lengths: self.lengths_without_body() });
        }
        let lengths = match (self.length, self.coding) {
            (Some(_), Some(coding)) if is_chunked(coding) => Lengths::Dropped,
            (Some(length), None) if self.is_length_repeated || number(length).is_err() => {
                self.one_length()?;
                Lengths::First
            }
            _ => Lengths::AsTheyCame,
        };
        let stated = match lengths {
            Lengths::First => Ok(Some(self.one_length()?.into())),
            Lengths::Dropped => {
                Self { length: None, is_length_repeated: false, ..*self }.framing(version)
            }
            Lengths::AsTheyCame => self.framing(version),
        };
        let stated = match stated {
            // Without `chunked` the body ends with the connection (section 6.3). A known coding is refused,
            // because the body would be passed on without it, as something else than it is.
            Err(Refusal::Coding) if !self.is_coded => None,
            stated => stated?,
        };
        Ok(Answered { framing: stated.unwrap_or(Framing::UntilClose), lengths })
    }

    fn lengths_without_body(&self) -> Lengths {
        match (self.length, self.coding) {
            (None, _) => Lengths::AsTheyCame,
            (Some(length), None) if !self.is_length_repeated && number(length).is_ok() => {
                Lengths::AsTheyCame
            }
            (Some(_), None) if self.one_length().is_ok() => Lengths::First,
            _ => Lengths::Dropped,
        }
    }

    /// The length that all lines, and all members of a list, agree on.
    fn one_length(&self) -> Result<u64, Refusal> {
        if self.do_lengths_differ {
            return Err(Refusal::LengthRepeated);
        }
        let mut members = self.length.unwrap_or_default().split(|byte| *byte == b',');
        let first = members.next().unwrap_or_default().trim_ascii();
        if members.any(|member| member.trim_ascii() != first) {
            return Err(Refusal::LengthRepeated);
        }
        number(first)
    }

    /// Whether the sender keeps the connection after this message (RFC 9112 section 9.3).
    pub fn is_kept(&self, version: Version) -> bool {
        match version {
            Version::HTTP_10 => self.is_keep_alive,
            _ => !self.is_close,
        }
    }

    /// How long the sender keeps an idle connection: `Keep-Alive: timeout=5`, as RFC 2068 section 19.7.1.1
    /// proposed it and Node.js, Apache and Jetty send it.
    pub(crate) fn kept_for(&self) -> Option<Duration> {
        let value = str::from_utf8(self.keep_alive?).ok()?;
        let mut parameters = value.split(',').filter_map(|parameter| parameter.split_once('='));
        let (_, seconds) =
            parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
        seconds.trim().parse().ok().map(Duration::from_secs)
    }

    fn framing(&self, version: Version) -> Result<Option<Framing>, Refusal> {
        if self.is_length_repeated {
            return Err(Refusal::LengthRepeated);
        }
        match (self.length, self.coding) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(Refusal::LengthAndCoding),
            (Some(length), None) => Ok(Some(number(length)?.into())),
            (None, Some(_)) if version == Version::HTTP_10 => Err(Refusal::CodingInOldVersion),
            (None, Some(coding)) if is_chunked(coding) && !self.is_coding_repeated => {
                Ok(Some(Framing::Chunked))
            }
            (None, Some(_)) => Err(Refusal::Coding),
        }
    }
}

/// The framing of a body of this length.
impl From<u64> for Framing {
    fn from(bytes: u64) -> Self {
        if bytes == 0 { Self::None } else { Self::Length(bytes) }
    }
}

fn is_chunked(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"chunked")
}

fn names_a_coding(value: &[u8]) -> bool {
    const CODINGS: [&str; 6] = ["chunked", "compress", "deflate", "gzip", "x-compress", "x-gzip"];
    let names = value.split(|byte| matches!(byte, b',' | b';')).map(<[u8]>::trim_ascii);
    let is_known =
        |name: &[u8]| CODINGS.iter().any(|coding| name.eq_ignore_ascii_case(coding.as_bytes()));
    names.into_iter().any(is_known)
}

/// Whether answers of this status never have a body (RFC 9110 section 6.4.1).
pub fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status.as_u16(), 204 | 304)
}

fn number(text: &[u8]) -> Result<u64, Refusal> {
    let is_number =
        (1..=LENGTH_DIGITS_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let text = is_number.then(|| str::from_utf8(text).ok()).flatten().ok_or(Refusal::Length)?;
    text.parse().map_err(|_| Refusal::Length)
}

/// Whether a field belongs to this connection, or is a length where there is no body: those are not passed
/// on.
pub(crate) fn is_ours(name: &HeaderName, status: StatusCode) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || name.as_str() == "keep-alive"
        || (*name == header::CONTENT_LENGTH
            && (status.is_informational() || status == StatusCode::NO_CONTENT))
}
