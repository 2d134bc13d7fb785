//! Request and response heads.

use crate::received::Received;
use crate::refusal::Refusal;
use crate::syntax::{Fault, Field, Reader};
use crate::target::Target;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Uri, Version};

/// The limits on the size of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// The size in bytes with the first line; offsets of its parts have 16 bits.
    pub bytes: u16,
    /// The number of field lines.
    pub fields: u16,
}

/// As many bytes as nginx takes in all (four buffers of 8 KiB). More lines are mostly an attack or a bug.
impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: HEAD_BYTES_DEFAULT, fields: FIELDS_DEFAULT }
    }
}

/// The largest head in bytes by default: start line and fields.
pub(crate) const HEAD_BYTES_DEFAULT: u16 = 32 * 1024;
/// The largest number of field lines by default.
pub(crate) const FIELDS_DEFAULT: u16 = 100;
/// The largest request target in bytes: what common servers and browsers support.
pub(crate) const TARGET_BYTES_MAX: usize = 16 * 1024;
/// How many empty lines are skipped before a request: old clients send them after a body (RFC 9112 section
/// 2.2).
const LEADING_LINES_MAX: usize = 2;

/// The head of a request. The default is a place for one, not a request.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// The method as received; its case counts (RFC 9110 section 9.1).
    pub method: Method,
    /// The request target.
    pub target: Target,
    /// The version: HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The header fields, parsed into a map.
    pub headers: HeaderMap,
    /// The fields as they came, in their order and spelling; empty for a request that came over another
    /// protocol.
    pub came: Received,
}

impl RequestHead {
    /// A head of a request that came over another protocol.
    pub fn new(method: Method, target: Uri, version: Version, headers: HeaderMap) -> Self {
        Self { method, target: target.into(), version, headers, came: Received::default() }
    }

    /// Frees what was read; its memory is used again once nobody has a part of it.
    pub(crate) fn let_go(&mut self) {
        self.target = Target::default();
        self.headers.clear();
        self.came.let_go();
    }
}

/// The head of an answer.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status code.
    pub status: StatusCode,
    /// The version: HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The reason phrase, where it is not the usual one of the status.
    pub reason: Option<Reason>,
    /// Header fields as they came.
    pub fields: Received,
}

/// A reason phrase (RFC 9112 section 4): an extension of a response whose phrase is not the usual one. Some
/// old clients show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(Bytes);

impl Reason {
    /// The reason phrase as it came (RFC 9112 section 4).
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// How far a head that is not complete yet was looked through.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress {
    /// Up to here there are whole lines, which are not looked at again until the head is complete.
    line_start: usize,
    /// Whether the head did not come at once: a client that sends it byte by byte must not cause a scan of
    /// all bytes each time.
    has_begun: bool,
    /// The limits on a head.
    pub limits: HeadLimits,
}

/// Takes one request head off the front of what was read, once it is complete, and returns whether it was.
/// The caller gives the place for it, because heads are large and each move of one costs measurable time.
///
/// # Errors
/// When it is not a head as RFC 9112 writes it, or over a limit.
pub fn request(
    read: &mut BytesMut,
    progress: &mut Progress,
    head: &mut RequestHead,
) -> Result<bool, Refusal> {
    if progress.line_start == 0 {
        skip_empty_lines(read)?;
    }
    let own = std::mem::take(&mut head.came).into_fields();
    let Some((line, fields)) = take(read, progress, own, |reader| reader.request_line())? else {
        return if is_target_too_long(read) { Err(Refusal::TargetTooLong) } else { Ok(false) };
    };
    let target = fields.part(line.target);
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    head.method = Method::from_bytes(fields.part(line.method)).map_err(|_| Refusal::StartLine)?;
    head.target = Target::read(&head.method, target)?;
    head.version = line.version;
    fields.fill(&mut head.headers)?;
    head.came = fields;
    Ok(true)
}

/// Takes one response head off the front of what was read, once it is complete.
///
/// # Errors
/// As for a request.
pub fn response(
    read: &mut BytesMut,
    progress: &mut Progress,
) -> Result<Option<ResponseHead>, Refusal> {
    let Some((line, fields)) = take(read, progress, Vec::new(), |reader| reader.status_line())?
    else {
        return Ok(None);
    };
    let status = StatusCode::from_u16(line.status).map_err(|_| Refusal::StartLine)?;
    let reason = fields.part(line.reason);
    let usual = status.canonical_reason().unwrap_or_default();
    let reason = (reason != usual.as_bytes()).then(|| Reason(fields.share(reason)));
    Ok(Some(ResponseHead { status, version: line.version, reason, fields }))
}

/// Takes the fields after the last chunk, up to and with their empty line.
///
/// # Errors
/// `Trailer` for whatever is wrong with them.
pub fn trailers(
    read: &mut BytesMut,
    progress: &mut Progress,
) -> Result<Option<HeaderMap>, Refusal> {
    let taken = take(read, progress, Vec::new(), |_| Ok(())).map_err(|_| Refusal::Trailer)?;
    let Some(((), fields)) = taken else { return Ok(None) };
    fields.headers().map(Some).map_err(|_| Refusal::Trailer)
}

/// Takes a first line, and fields up to and with their empty line, off the front.
fn take<T>(
    read: &mut BytesMut,
    progress: &mut Progress,
    mut fields: Vec<Field>,
    first_line: impl Fn(&mut Reader<'_>) -> Result<T, Fault>,
) -> Result<Option<(T, Received)>, Refusal> {
    if read.is_empty() {
        return Ok(None);
    }
    let limits = progress.limits;
    let parse = |bytes: &[u8], fields: &mut Vec<Field>| {
        let mut reader = Reader::new(bytes);
        let line = first_line(&mut reader)?;
        reader.fields(fields, usize::from(limits.fields))?;
        Ok((line, reader.read()))
    };
    // Mostly a head comes at once and is correct; then no byte is looked at twice.
    if !progress.has_begun
        && let Ok((line, bytes)) = parse(read, &mut fields)
        && bytes <= usize::from(limits.bytes)
    {
        return Ok(Some((line, Received::new(read.split_to(bytes).freeze(), fields))));
    }
    let Some(head) = whole(read, progress)? else { return Ok(None) };
    match parse(&head, &mut fields) {
        Ok((line, _)) => Ok(Some((line, Received::new(head, fields)))),
        Err(Fault::Refused(refusal)) => Err(refusal),
        Err(Fault::Partial) => Err(Refusal::StartLine),
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

/// Finds the lines up to and with the first empty one. Each must end in CR LF: parsers differ about lone LF,
/// so it is refused as soon as it is seen, not when the head would be complete.
fn whole(read: &mut BytesMut, progress: &mut Progress) -> Result<Option<Bytes>, Refusal> {
    let (seen, mut line_start) = (progress.line_start, progress.line_start);
    let limits = progress.limits;
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
        *progress = Progress { line_start, has_begun: true, limits };
        let is_over = read.len() > usize::from(limits.bytes);
        return if is_over { Err(Refusal::HeadTooLarge) } else { Ok(None) };
    };
    *progress = Progress { limits, ..Progress::default() };
    if end >= usize::from(limits.bytes) {
        return Err(Refusal::HeadTooLarge);
    }
    Ok(Some(read.split_to(end + 1).freeze()))
}

/// Looks through a head that is not complete yet.
fn is_target_too_long(read: &[u8]) -> bool {
    read.len() > TARGET_BYTES_MAX && memchr::memchr(b'\n', read).is_none()
}
