//! Where a body ends (RFC 9112 section 6.3), without the section's leniencies, and whether another
//! message may follow.

use crate::Refusal;
use http::{HeaderMap, Method, StatusCode, Version, header};
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

/// # Errors
/// When the length is given twice, in two ways, or not as RFC 9112 writes it.
pub fn of_request(version: Version, headers: &HeaderMap) -> Result<Framing, Refusal> {
    Ok(stated(version, headers)?.unwrap_or(Framing::None))
}

/// # Errors
/// As for a request.
pub fn of_response(
    asked: &Method,
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
) -> Result<Framing, Refusal> {
    let stated = match stated(version, headers) {
        // Not chunked: the body ends with the connection (section 6.3).
        Err(Refusal::Coding) if !is_coded(headers) => None,
        stated => stated?,
    };
    let is_bodiless = asked == Method::HEAD || has_no_body(status);
    Ok(if is_bodiless { Framing::None } else { stated.unwrap_or(Framing::UntilClose) })
}

/// Whether `Transfer-Encoding` names a coding there is (RFC 9112 section 7): without it the body
/// would be passed on as what it is not.
fn is_coded(headers: &HeaderMap) -> bool {
    const CODINGS: [&str; 6] = ["chunked", "compress", "deflate", "gzip", "x-compress", "x-gzip"];
    let lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| matches!(byte, b',' | b';')));
    let is_known = |name: &[u8]| {
        CODINGS.iter().any(|coding| name.trim_ascii().eq_ignore_ascii_case(coding.as_bytes()))
    };
    names.into_iter().any(is_known)
}

/// Whether answers of this status never have a body (RFC 9110 section 6.4.1).
pub fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status.as_u16(), 204 | 304)
}

/// Whether the sender keeps the connection after this message (RFC 9112 section 9.3).
pub fn is_kept(version: Version, headers: &HeaderMap) -> bool {
    match version {
        Version::HTTP_10 => names(headers, "keep-alive"),
        _ => !names(headers, "close"),
    }
}

/// How long the sender keeps the connection when it is idle: `Keep-Alive: timeout=5`, as it was
/// proposed for HTTP/1.1 (RFC 2068 section 19.7.1.1) and is said by Node.js, Apache and Jetty.
pub fn kept_for(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let mut parameters = value.split(',').filter_map(|parameter| parameter.split_once('='));
    let (_, seconds) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// Whether `Connection` names the option (RFC 9110 section 7.6.1).
fn names(headers: &HeaderMap, option: &str) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|name| name.trim().eq_ignore_ascii_case(option))
}

fn stated(version: Version, headers: &HeaderMap) -> Result<Option<Framing>, Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() {
        return Err(Refusal::LengthRepeated);
    }
    match (length, coding) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Refusal::LengthAndCoding),
        (Some(length), None) => match number(length.as_bytes())? {
            0 => Ok(Some(Framing::None)),
            bytes => Ok(Some(Framing::Length(bytes))),
        },
        (None, Some(_)) if version == Version::HTTP_10 => Err(Refusal::CodingInOldVersion),
        (None, Some(coding))
            if coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none() =>
        {
            Ok(Some(Framing::Chunked))
        }
        (None, Some(_)) => Err(Refusal::Coding),
    }
}

fn number(text: &[u8]) -> Result<u64, Refusal> {
    let is_number =
        (1..=LENGTH_DIGITS_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let text = is_number.then(|| str::from_utf8(text).ok()).flatten().ok_or(Refusal::Length)?;
    text.parse().map_err(|_| Refusal::Length)
}
