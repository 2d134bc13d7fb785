//! The lines of a head as RFC 9112 writes them (sections 3 to 5), without its leniencies: each part is
//! looked at once, and found by where it lies.

use crate::refusal::Refusal;
use http::Version;

/// The largest number of header lines for which there can be room.
pub const FIELDS_MAX: usize = 1024;
/// The number of lines for which there is room at first; most heads have fewer.
const FIELDS_USUAL: usize = 16;
/// A byte in each place of a word.
const EACH: u64 = 0x0101_0101_0101_0101;

/// A piece of a head by its offsets; a head is smaller than 64 KiB.
pub(crate) type Span = (u16, u16);

/// Where a name lies, and a value without the blanks around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub name: Span,
    pub value: Span,
}

#[derive(Debug)]
pub(crate) struct RequestLine {
    pub method: Span,
    pub target: Span,
    pub version: Version,
}

#[derive(Debug)]
pub(crate) struct StatusLine {
    pub version: Version,
    pub status: u16,
    /// The reason phrase; empty where there is none.
    pub reason: Span,
}

/// Why lines could not be read to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There are no more bytes.
    Partial,
    Refused(Refusal),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Reads lines off the front of bytes.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads these bytes, no more than a [`Span`] can address.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes), at: 0 }
    }

    /// How many bytes were read.
    pub fn read(&self) -> usize {
        self.at
    }

    /// Reads a request line (section 3). Of the target only its characters are checked.
    pub fn request_line(&mut self) -> Result<RequestLine, Fault> {
        let method = self.run(|byte| !is_token(byte))?;
        self.one(b' ', method, Refusal::StartLine)?;
        let target = self.run(|byte| byte <= b' ' || byte == 0x7f)?;
        self.one(b' ', target, Refusal::StartLine)?;
        let version = self.version()?;
        match self.peek()? {
            b'\r' => self.line_end(Refusal::LineEnding)?,
            _ => return Err(Refusal::StartLine.into()),
        }
        Ok(RequestLine { method, target, version })
    }

    /// Reads a status line (section 4). The reason phrase may be missing, with the space before it.
    pub fn status_line(&mut self) -> Result<StatusLine, Fault> {
        let version = self.version()?;
        let [b' ', code @ ..] = self.ahead::<4>()? else { return Err(Refusal::StartLine.into()) };
        if !code.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::StartLine.into());
        }
        let status = code.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        self.at += 4;
        let mut reason = (0, 0);
        if self.peek()? == b' ' {
            self.at += 1;
            reason = self.text()?;
        }
        self.line_end(Refusal::StartLine)?;
        Ok(StatusLine { version, status, reason })
    }

    /// Reads the field lines (section 5), up to and with the empty line.
    pub fn fields(&mut self, fields: &mut Vec<Field>, most: usize) -> Result<(), Fault> {
        fields.clear();
        fields.reserve(FIELDS_USUAL);
        loop {
            if self.peek()? == b'\r' {
                return self.line_end(Refusal::LineEnding);
            }
            let name = self.run(|byte| !is_token(byte))?;
            self.one(b':', name, Refusal::Field)?;
            self.run(|byte| !is_blank(byte))?;
            let value = self.text()?;
            self.line_end(Refusal::Field)?;
            if fields.len() == most.min(FIELDS_MAX) {
                return Err(Refusal::TooManyFields.into());
            }
            fields.push(Field { name, value });
        }
    }

    fn version(&mut self) -> Result<Version, Fault> {
        let version = match self.ahead::<8>()? {
            b"HTTP/1.1" => Version::HTTP_11,
            b"HTTP/1.0" => Version::HTTP_10,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() && self.is_line_end(8) =>
            {
                return Err(Refusal::Version.into());
            }
            _ => return Err(Refusal::StartLine.into()),
        };
        self.at += 8;
        Ok(version)
    }

    /// Reads up to the first control character, of which a tab is none, and leaves out the blanks at the end.
    fn text(&mut self) -> Result<Span, Fault> {
        let rest = self.rest();
        let end = control(rest).ok_or(Fault::Partial)?;
        let text = rest.get(..end).unwrap_or_default();
        let blanks = text.iter().rev().take_while(|byte| is_blank(**byte)).count();
        let start = self.at;
        self.at += end;
        Ok(span(start, self.at - blanks))
    }

    /// Reads up to the first byte that ends the word.
    fn run(&mut self, is_end: impl Fn(u8) -> bool) -> Result<Span, Fault> {
        let length = self.rest().iter().position(|byte| is_end(*byte)).ok_or(Fault::Partial)?;
        let start = self.at;
        self.at += length;
        Ok(span(start, self.at))
    }

    /// Reads one byte after something that must not be empty.
    fn one(&mut self, byte: u8, (from, to): Span, refusal: Refusal) -> Result<(), Fault> {
        if from == to || self.peek()? != byte {
            return Err(refusal.into());
        }
        self.at += 1;
        Ok(())
    }

    fn line_end(&mut self, refusal: Refusal) -> Result<(), Fault> {
        if self.ahead::<2>()? != b"\r\n" {
            return Err(refusal.into());
        }
        self.at += 2;
        Ok(())
    }

    fn is_line_end(&self, after: usize) -> bool {
        self.rest().get(after..).is_some_and(|rest| rest.starts_with(b"\r"))
    }

    fn peek(&self) -> Result<u8, Fault> {
        self.bytes.get(self.at).copied().ok_or(Fault::Partial)
    }

    fn ahead<const BYTES: usize>(&self) -> Result<&'a [u8; BYTES], Fault> {
        self.rest().first_chunk().ok_or(Fault::Partial)
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
}

fn span(from: usize, to: usize) -> Span {
    (from as u16, to as u16)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The position of the first control character, of which a tab is none. Eight bytes are looked at together:
/// the subtraction borrows from the next byte only above a match, so the lowest mark is a true one.
fn control(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word);
        let rubout = word ^ (EACH * 0x7f);
        let low = word.wrapping_sub(EACH * 0x20) & !word;
        let marks = (low | (rubout.wrapping_sub(EACH) & !rubout)) & (EACH * 0x80);
        if marks == 0 {
            at += 8;
            continue;
        }
        at += marks.trailing_zeros() as usize / 8;
        if bytes.get(at) != Some(&b'\t') {
            return Some(at);
        }
        at += 1;
    }
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    bytes.get(at..)?.iter().position(is_control).map(|rest| at + rest)
}

/// Whether the byte is a `tchar` of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or_default()
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, any, prop_oneof, proptest};
    use proptest::sample::select;

    /// Where a head ended, and its fields.
    type Parsed = Option<(usize, Vec<(Vec<u8>, Vec<u8>)>)>;

    const FIELDS: usize = 100;

    /// The result of httparse, which also accepts lone line feeds, and names fewer faults.
    fn by_httparse(bytes: &[u8], is_request: bool) -> Parsed {
        let mut lines = [httparse::EMPTY_HEADER; FIELDS];
        let (parsed, fields) = if is_request {
            let mut request = httparse::Request::new(&mut lines);
            (request.parse(bytes), request.headers.to_vec())
        } else {
            let mut response = httparse::Response::new(&mut lines);
            (response.parse(bytes), response.headers.to_vec())
        };
        let Ok(httparse::Status::Complete(end)) = parsed else { return None };
        let owned = |it: &httparse::Header<'_>| (it.name.as_bytes().to_vec(), it.value.to_vec());
        Some((end, fields.iter().map(owned).collect()))
    }

    fn by_us(bytes: &[u8], is_request: bool) -> Parsed {
        let mut reader = Reader::new(bytes);
        let has_begun = if is_request {
            reader.request_line().is_ok_and(|line| {
                let (from, to) = line.target;
                str::from_utf8(&bytes[usize::from(from)..usize::from(to)]).is_ok()
            })
        } else {
            reader.status_line().is_ok()
        };
        let mut fields = Vec::new();
        reader.fields(&mut fields, FIELDS).ok().filter(|()| has_begun)?;
        let part = |(from, to): Span| bytes[usize::from(from)..usize::from(to)].to_vec();
        let fields = fields.iter().map(|field| (part(field.name), part(field.value))).collect();
        Some((reader.read(), fields))
    }

    /// Heads that are nearly right: pieces of correct ones, and now and then any byte.
    fn heads() -> impl Strategy<Value = Vec<u8>> {
        let parts: [&[u8]; 30] = [
            b"GET ",
            b"POST ",
            b"/",
            b"/a?b ",
            b"*",
            b" ",
            b" HTTP/1.1\r\n",
            b"HTTP/1.1 ",
            b"HTTP/1.0 ",
            b" HTTP/2.0",
            b"200",
            b"200 OK\r\n",
            b"404 Not Found",
            b"99 ",
            b"\r\n",
            b"\r\n\r\n",
            b"\r",
            b"Host: a\r\n",
            b"x:\r\n",
            b"x: \t \r\n",
            b"x : 1\r\n",
            b" y\r\n",
            b": ",
            b"accept-language: de, en;q=0.5 \t\r\n",
            b"\t",
            b"\0",
            b"\x7f",
            b"\xc3\xa9",
            b"\xff",
            b"a-very-long-name-of-a-field: and a value that is longer than a block is",
        ];
        let part = prop_oneof![
            20 => select(parts.to_vec()).prop_map(<[u8]>::to_vec),
            1 => vec(any::<u8>(), 0..4),
        ];
        vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn the_first_control_character_is_found_wherever_it_is(bytes in vec(select(vec![b'a', b' ', b'\t', 0xff, 0x80, 0x1f, 0x7f, b'\r', 0]), 0..40)) {
            let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
            assert_eq!(control(&bytes), bytes.iter().position(is_control));
        }
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(20_000))]
        #[test]
        fn what_is_taken_is_what_httparse_takes_but_for_lone_line_ends(
            start in select(vec![&b"GET / HTTP/1.1\r\n"[..], b"HTTP/1.1 200 OK\r\n", b""]),
            rest in heads(),
        ) {
            let bytes = [start, &rest].concat();
            let has_lone_feed = bytes.iter().enumerate().any(|(at, byte)| {
                *byte == b'\n' && (at == 0 || bytes[at - 1] != b'\r')
            });
            // httparse skips empty lines first, which is done elsewhere here.
            if !has_lone_feed && !bytes.starts_with(b"\r") {
                for is_request in [true, false] {
                    assert_eq!(by_us(&bytes, is_request), by_httparse(&bytes, is_request));
                }
            }
        }
    }
}
