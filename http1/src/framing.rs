//! Where a body ends (RFC 9112 section 6.3), without the section's leniencies, and whether another
//! message may follow.

use crate::Refusal;
use http::{HeaderMap, Method, StatusCode, Version};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    /// Bytes, at least one.
    Length(u64),
    Chunked,
    /// Until the connection ends; only of responses.
    UntilClose,
}

/// Eighteen digits are an exabyte, and fit in a u64 with room to add.
const LENGTH_DIGITS_MAX: usize = 18;

/// What the fields say of the body's end and of the connection, read in one go.
#[derive(Debug, Default)]
pub struct Stated<'a> {
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    is_length_repeated: bool,
    is_coding_repeated: bool,
    /// `Transfer-Encoding` names a coding there is (RFC 9112 section 7).
    is_coded: bool,
    is_close: bool,
    is_keep_alive: bool,
    keep_alive: Option<&'a [u8]>,
}

impl<'a> Stated<'a> {
    pub fn of(headers: &'a HeaderMap) -> Self {
        Self::read(headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
    }

    /// Of names, in any case, and values.
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
                    stated.is_length_repeated |= stated.length.replace(value).is_some();
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
    /// When the length is given twice, in two ways, or not as RFC 9112 writes it.
    pub fn of_request(&self, version: Version) -> Result<Framing, Refusal> {
        Ok(self.framing(version)?.unwrap_or(Framing::None))
    }

    /// # Errors
    /// As for a request.
    pub fn of_response(
        &self,
        asked: &Method,
        status: StatusCode,
        version: Version,
    ) -> Result<Framing, Refusal> {
        let stated = match self.framing(version) {
            // Not chunked: the body ends with the connection (section 6.3). But not of a coding that
            // there is: without it the body would be passed on as what it is not.
            Err(Refusal::Coding) if !self.is_coded => None,
            stated => stated?,
        };
        let is_bodiless = asked == Method::HEAD || has_no_body(status);
        Ok(if is_bodiless { Framing::None } else { stated.unwrap_or(Framing::UntilClose) })
    }

    /// Whether the sender keeps the connection after this message (RFC 9112 section 9.3).
    pub fn is_kept(&self, version: Version) -> bool {
        match version {
            Version::HTTP_10 => self.is_keep_alive,
            _ => !self.is_close,
        }
    }

    /// How long the sender keeps the connection when it is idle: `Keep-Alive: timeout=5`, as it was
    /// proposed for HTTP/1.1 (RFC 2068 section 19.7.1.1) and is said by Node.js, Apache and Jetty.
    pub fn kept_for(&self) -> Option<Duration> {
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
            (Some(length), None) => match number(length)? {
                0 => Ok(Some(Framing::None)),
                bytes => Ok(Some(Framing::Length(bytes))),
            },
            (None, Some(_)) if version == Version::HTTP_10 => Err(Refusal::CodingInOldVersion),
            (None, Some(coding))
                if coding.eq_ignore_ascii_case(b"chunked") && !self.is_coding_repeated =>
            {
                Ok(Some(Framing::Chunked))
            }
            (None, Some(_)) => Err(Refusal::Coding),
        }
    }
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
