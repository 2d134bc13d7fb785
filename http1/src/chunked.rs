//! The chunked coding (RFC 9112 section 7.1), read strictly.

use crate::head;
use crate::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// The largest number of hexadecimal digits in a chunk's size: a petabyte.
const SIZE_DIGITS_MAX: usize = 13;
/// The largest first line of a chunk in bytes. Extensions are of no use to anybody, and a means to make a
/// server read for nothing.
const LINE_BYTES_MAX: usize = 256;
/// The largest size in bytes of all extensions of one body.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;

/// What the decoder expects next.
#[derive(Debug)]
enum ChunkState {
    Size,
    Data(u64),
    /// The line end after a chunk's data.
    DataEnd,
    Trailers(head::Progress),
    End,
}

/// Reads the chunked coding (RFC 9112 section 7.1) from whatever pieces it comes in.
#[derive(Debug)]
pub struct Decoder {
    state: ChunkState,
    extension_bytes: usize,
}

/// A part of a chunked body.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of the body; at least one.
    Data(Bytes),
    /// The end of the body, with the fields after the last chunk; empty where there were none.
    End(HeaderMap),
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: ChunkState::Size, extension_bytes: 0 }
    }
}

impl Decoder {
    /// Takes the next part off the front of what was read; `None` when that is not enough.
    ///
    /// # Errors
    /// When it is not the chunked coding as the RFC writes it, or over a limit.
    pub fn decode(&mut self, read: &mut BytesMut) -> Result<Option<Piece>, Refusal> {
        loop {
            match &mut self.state {
                ChunkState::Size => match self.size(read)? {
                    None => return Ok(None),
                    Some(0) => self.state = ChunkState::Trailers(head::Progress::default()),
                    Some(bytes) => self.state = ChunkState::Data(bytes),
                },
                ChunkState::Data(_) if read.is_empty() => return Ok(None),
                ChunkState::Data(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = ChunkState::DataEnd;
                    }
                    return Ok(Some(Piece::Data(read.split_to(here).freeze())));
                }
                ChunkState::DataEnd => match read.first_chunk::<2>() {
                    Some(b"\r\n") => {
                        drop(read.split_to(2));
                        self.state = ChunkState::Size;
                    }
                    Some(_) => return Err(Refusal::ChunkEnd),
                    None if matches!(read.first(), None | Some(b'\r')) => return Ok(None),
                    None => return Err(Refusal::ChunkEnd),
                },
                ChunkState::Trailers(progress) => {
                    let Some(fields) = head::trailers(read, progress)? else { return Ok(None) };
                    self.state = ChunkState::End;
                    return Ok(Some(Piece::End(fields)));
                }
                ChunkState::End => return Ok(None),
            }
        }
    }

    /// Whether the last chunk and the trailers were read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, ChunkState::End)
    }

    fn size(&mut self, read: &mut BytesMut) -> Result<Option<u64>, Refusal> {
        let Some(at) = memchr::memchr(b'\n', read) else {
            // The line is wrong already or too long, however it goes on.
            let digits = read.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let may_go_on = matches!(read.get(digits), None | Some(b';' | b'\r'));
            return match (digits, may_go_on) {
                (0, _) if !read.is_empty() => Err(Refusal::ChunkSize),
                (_, false) => Err(Refusal::ChunkSize),
                _ if digits > SIZE_DIGITS_MAX => Err(Refusal::ChunkSize),
                _ if read.len() > LINE_BYTES_MAX => Err(Refusal::ChunkExtension),
                _ => Ok(None),
            };
        };
        let line = read.split_to(at + 1);
        let [line @ .., b'\r', b'\n'] = line.as_ref() else { return Err(Refusal::LineEnding) };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        if !(1..=SIZE_DIGITS_MAX).contains(&digits) || !matches!(extension, [] | [b';', ..]) {
            return Err(Refusal::ChunkSize);
        }
        self.extension_bytes += extension.len();
        let is_legal = extension.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..));
        if !is_legal || line.len() > LINE_BYTES_MAX || self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(Refusal::ChunkExtension);
        }
        let size = str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
        size.map(Some).ok_or(Refusal::ChunkSize)
    }
}
