//! Everything that is wrong with a message, by name.

use std::fmt;

/// Why a message is not taken. Nothing of it is repaired: what two programs may read in two ways is
/// how requests are smuggled (RFC 9112 section 11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A line that ends in LF alone, or a CR in its middle (RFC 9112 section 2.2).
    LineEnding,
    /// The first line is no request line or status line.
    StartLine,
    /// The request target is no URI (RFC 9112 section 3.2).
    Target,
    /// The request target is longer than is read (RFC 9110 section 15.5.15).
    TargetTooLong,
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// A name that is no token, space before the colon, a folded line, NUL or another control
    /// character (RFC 9112 section 5).
    Field,
    /// The head has more bytes than are read (RFC 6585 section 5).
    HeadTooLarge,
    /// The head has more lines than are read (RFC 6585 section 5).
    TooManyFields,
    /// `Content-Length` that is no number, or too large a one.
    Length,
    /// `Content-Length` more than once, equal or not.
    LengthRepeated,
    /// `Content-Length` beside `Transfer-Encoding` (RFC 9112 section 6.1).
    LengthAndCoding,
    /// A `Transfer-Encoding` other than one `chunked`.
    Coding,
    /// `Transfer-Encoding` in HTTP/1.0, which has none.
    CodingInOldVersion,
    /// A chunk's size is no hexadecimal number, or too large a one.
    ChunkSize,
    /// A chunk's line is too long or has illegal characters.
    ChunkExtension,
    /// A chunk is longer than it says.
    ChunkEnd,
    /// The fields after the last chunk are illegal or too many.
    Trailer,
}

impl Refusal {
    /// All reasons, for the labels of the metric.
    pub const ALL: [Self; 17] = [
        Self::LineEnding,
        Self::StartLine,
        Self::Target,
        Self::TargetTooLong,
        Self::Version,
        Self::Field,
        Self::HeadTooLarge,
        Self::TooManyFields,
        Self::Length,
        Self::LengthRepeated,
        Self::LengthAndCoding,
        Self::Coding,
        Self::CodingInOldVersion,
        Self::ChunkSize,
        Self::ChunkExtension,
        Self::ChunkEnd,
        Self::Trailer,
    ];

    /// The name in logs, metrics and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::LineEnding => "line-ending",
            Self::StartLine => "start-line",
            Self::Target => "target",
            Self::TargetTooLong => "target-too-long",
            Self::Version => "version",
            Self::Field => "field",
            Self::HeadTooLarge => "head-too-large",
            Self::TooManyFields => "too-many-fields",
            Self::Length => "length",
            Self::LengthRepeated => "length-repeated",
            Self::LengthAndCoding => "length-and-coding",
            Self::Coding => "coding",
            Self::CodingInOldVersion => "coding-in-old-version",
            Self::ChunkSize => "chunk-size",
            Self::ChunkExtension => "chunk-extension",
            Self::ChunkEnd => "chunk-end",
            Self::Trailer => "trailer",
        }
    }

    /// The status of a request that is refused for it.
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::Version => 505,
            Self::Coding => 501,
            _ => 400,
        }
    }

    /// What is wrong, for whoever sent it.
    pub fn detail(self) -> &'static str {
        match self {
            Self::LineEnding => "a line does not end in CR LF, or has a CR within",
            Self::StartLine => "the first line is malformed",
            Self::Target => "the request target is not a URI",
            Self::TargetTooLong => "the request target is too long",
            Self::Version => "only HTTP/1.0 and HTTP/1.1 are spoken here",
            Self::Field => {
                "a header line is malformed: a name that is no token, space before the colon, a folded line or a control character"
            }
            Self::HeadTooLarge => "the head is too large",
            Self::TooManyFields => "there are too many header lines",
            Self::Length => "Content-Length is not a number",
            Self::LengthRepeated => "Content-Length is given more than once",
            Self::LengthAndCoding => "Content-Length and Transfer-Encoding contradict each other",
            Self::Coding => "Transfer-Encoding must be chunked and nothing else",
            Self::CodingInOldVersion => "HTTP/1.0 has no Transfer-Encoding",
            Self::ChunkSize => "the size of a chunk is malformed",
            Self::ChunkExtension => "the extension of a chunk is malformed or too long",
            Self::ChunkEnd => "a chunk is longer than its size says",
            Self::Trailer => "the fields after the last chunk are malformed or too many",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.name(), self.detail())
    }
}

impl std::error::Error for Refusal {}
