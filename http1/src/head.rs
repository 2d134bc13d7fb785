//! Request and response heads.

use crate::Refusal;
use crate::received::Received;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Uri, Version};

/// Bytes of a head, its first line included: what nginx takes in all (four buffers of 8 KiB).
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a request target: what common servers and browsers go up to.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;
/// Header lines of one message; more is an attack or a bug.
pub const FIELDS_MAX: usize = 100;
/// Empty lines before a request that old clients send after a body (RFC 9112 section 2.2).
const LEADING_LINES_MAX: usize = 2;

#[derive(Debug)]
pub struct RequestHead {
    pub method: Method,
    pub target: Uri,
    pub version: Version,
    pub headers: HeaderMap,
}

#[derive(Debug)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub version: Version,
    pub fields: Received,
}

/// How far a head that is not complete yet was looked through, so that no byte is looked at twice.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress(usize);

/// Takes one request head off the front of what was read, once it is there whole.
///
/// # Errors
/// When it is not a head as RFC 9112 writes it, or over a limit.
pub fn request(
    read: &mut BytesMut,
    progress: &mut Progress,
) -> Result<Option<RequestHead>, Refusal> {
    if progress.0 == 0 {
        skip_empty_lines(read)?;
    }
    let Some(head) = whole(read, progress)? else {
        return if is_target_too_long(read) { Err(Refusal::TargetTooLong) } else { Ok(None) };
    };
    let mut lines = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut lines);
    match parsed.parse(&head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Refusal::StartLine),
        Err(error) => return Err(of_parser(error, &head)),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(Refusal::StartLine);
    };
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::StartLine)?;
    let target = head.slice_ref(target.as_bytes());
    let target = Uri::from_maybe_shared(target).map_err(|_| Refusal::Target)?;
    let version = version(parsed.version)?;
    let headers = Received::new(head.clone(), parsed.headers).headers()?;
    Ok(Some(RequestHead { method, target, version, headers }))
}

/// Takes one response head off the front of what was read, once it is there whole.
///
/// # Errors
/// As for a request.
pub fn response(
    read: &mut BytesMut,
    progress: &mut Progress,
) -> Result<Option<ResponseHead>, Refusal> {
    let Some(head) = whole(read, progress)? else { return Ok(None) };
    let mut lines = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut lines);
    match parsed.parse(&head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Refusal::StartLine),
        Err(error) => return Err(of_parser(error, &head)),
    }
    let code = parsed.code.ok_or(Refusal::StartLine)?;
    let status = StatusCode::from_u16(code).map_err(|_| Refusal::StartLine)?;
    let version = version(parsed.version)?;
    let fields = Received::new(head.clone(), parsed.headers);
    Ok(Some(ResponseHead { status, version, fields }))
}

/// Takes the fields after the last chunk, up to and with their empty line.
///
/// # Errors
/// `Trailer` for whatever is wrong with them.
pub fn trailers(
    read: &mut BytesMut,
    progress: &mut Progress,
) -> Result<Option<HeaderMap>, Refusal> {
    let Some(lines) = whole(read, progress).map_err(|_| Refusal::Trailer)? else {
        return Ok(None);
    };
    let mut parsed = [httparse::EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(&lines, &mut parsed) {
        Ok(httparse::Status::Complete((_, parsed))) => {
            let trailers = Received::new(lines.clone(), parsed).headers();
            trailers.map(Some).map_err(|_| Refusal::Trailer)
        }
        _ => Err(Refusal::Trailer),
    }
}

fn skip_empty_lines(read: &mut BytesMut) -> Result<(), Refusal> {
    for _ in 0..LEADING_LINES_MAX {
        match read.first_chunk::<2>() {
            Some(b"\r\n") => drop(read.split_to(2)),
            _ => break,
        }
    }
    if matches!(read.first(), Some(b'\n')) { Err(Refusal::LineEnding) } else { Ok(()) }
}

/// The lines up to and with the first empty one. Each must end in CR LF: parsers differ about
/// lone LF, so it is refused as soon as it is seen, not when the head would be complete.
fn whole(read: &mut BytesMut, progress: &mut Progress) -> Result<Option<Bytes>, Refusal> {
    let (seen, mut line_start) = (progress.0, progress.0);
    let rest = read.get(seen..).unwrap_or_default();
    let mut last = None;
    for end in memchr::memchr_iter(b'\n', rest).map(|at| seen + at) {
        match read.get(line_start..end).unwrap_or_default() {
            [b'\r'] => {
                last = Some(end);
                break;
            }
            [.., b'\r'] => line_start = end + 1,
            _ => return Err(Refusal::LineEnding),
        }
    }
    let Some(end) = last else {
        *progress = Progress(line_start);
        let is_over = read.len() > HEAD_BYTES_MAX;
        return if is_over { Err(Refusal::HeadTooLarge) } else { Ok(None) };
    };
    *progress = Progress::default();
    if end >= HEAD_BYTES_MAX {
        return Err(Refusal::HeadTooLarge);
    }
    Ok(Some(read.split_to(end + 1).freeze()))
}

/// Of a head that is not there whole yet.
fn is_target_too_long(read: &[u8]) -> bool {
    read.len() > TARGET_BYTES_MAX && memchr::memchr(b'\n', read).is_none()
}

fn of_parser(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Refusal::Field,
        httparse::Error::Version if names_a_version(head) => Refusal::Version,
        httparse::Error::NewLine if has_lone_return(head) => Refusal::LineEnding,
        _ => Refusal::StartLine,
    }
}

/// Whether the first line is `METHOD TARGET HTTP/2.0`, or another version that we don't speak.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ').skip(2);
    let version = parts.next().and_then(|version| version.strip_prefix(b"HTTP/"));
    let is_number = |text: &[u8]| matches!(text, [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit());
    version.is_some_and(is_number) && parts.next().is_none()
}

fn has_lone_return(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\r', head).any(|at| head.get(at + 1) != Some(&b'\n'))
}

fn version(minor: Option<u8>) -> Result<Version, Refusal> {
    match minor {
        Some(0) => Ok(Version::HTTP_10),
        Some(1) => Ok(Version::HTTP_11),
        _ => Err(Refusal::Version),
    }
}
