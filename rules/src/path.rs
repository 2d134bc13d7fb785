//! Path normalisation (RFC 3986 section 6.2.2) and query parameters, for both halves.
//!
//! Two spellings that a server might read as the same file must not be two cache entries, and a
//! spelling that two servers read differently must not reach either: what can't be told apart
//! safely is refused with a named problem.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Why servers interpret a path in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ambiguous {
    /// `.` or `..`, plain or encoded.
    DotSegment,
    /// `%2F`, `%5C` or `\`.
    EncodedSeparator,
    /// `//`.
    EmptySegment,
    /// `%` without two hex digits, or `%00`.
    BadEncoding,
    /// The path does not start with `/`.
    NotAbsolute,
}

impl Ambiguous {
    /// The detail of the problem `path-ambiguous`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DotSegment => "dot-segment",
            Self::EncodedSeparator => "encoded-separator",
            Self::EmptySegment => "empty-segment",
            Self::BadEncoding => "bad-encoding",
            Self::NotAbsolute => "not-absolute",
        }
    }
}

/// A request target in its one normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path. It starts with `/`; unreserved characters are plain, everything else is `%XX` in
    /// upper case.
    pub path: Cow<'a, str>,
    /// The query without the `?`, as received, except that characters that no URI may contain are
    /// encoded. `None` when there was no `?`.
    pub query: Option<Cow<'a, str>>,
}

impl Target<'_> {
    /// The target as it is sent.
    pub fn join(&self) -> String {
        match &self.query {
            Some(query) => [&*self.path, "?", query].concat(),
            None => self.path.to_string(),
        }
    }
}

/// Normalises a target as received.
///
/// # Errors
/// Why the path is ambiguous.
pub fn normalize(target: &str) -> Result<Target<'_>, Ambiguous> {
    let (path, query) = split(target);
    let query = query.map(|query| encoded(query, is_plain_in_query));
    let is_as_it_is = path == "*" || is_normal(path);
    let path = if is_as_it_is { Cow::Borrowed(path) } else { Cow::Owned(by_segments(path)?) };
    Ok(Target { path, query })
}

/// Whether a path is under the reserved prefix `base` of Spillway's own resources.
pub(crate) fn is_reserved(base: &str, path: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Path and query of a target, without its fragment.
pub(crate) fn split(target: &str) -> (&str, Option<&str>) {
    let Some(at) = target.bytes().position(|byte| matches!(byte, b'?' | b'#')) else {
        return (target, None);
    };
    let (path, rest) = target.split_at_checked(at).unwrap_or((target, ""));
    let query = rest.strip_prefix('?');
    (path, query.map(|query| until(query, b'#').map_or(query, |(before, _)| before)))
}

/// The target with each character encoded that no URI may contain (RFC 3986 section 2); what is
/// legal or encoded already stays unchanged. For receivers that accept nothing else: queues and
/// HTTP/2.
pub fn legal(target: &str) -> Cow<'_, str> {
    encoded(target, |byte| is_plain_in_query(byte) || byte == b'#')
}

fn encoded(text: &str, is_plain: impl Fn(u8) -> bool) -> Cow<'_, str> {
    if text.bytes().all(&is_plain) {
        return Cow::Borrowed(text);
    }
    let mut legal = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_plain(byte) { legal.push(char::from(byte)) } else { push_encoded(byte, &mut legal) }
    }
    Cow::Owned(legal)
}

pub(crate) fn push_encoded(byte: u8, text: &mut String) {
    let hex = |digit: u8| char::from_digit(u32::from(digit), 16).unwrap_or('0');
    text.push('%');
    text.push(hex(byte >> 4).to_ascii_uppercase());
    text.push(hex(byte & 15).to_ascii_uppercase());
}

/// Splits before and after an ASCII character. Compares bytes: targets are short, and setting up a
/// search costs more than comparing them.
pub(crate) fn until(text: &str, letter: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == letter)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

fn by_segments(path: &str) -> Result<String, Ambiguous> {
    let Some(rest) = path.strip_prefix('/') else { return Err(Ambiguous::NotAbsolute) };
    let mut normal = String::with_capacity(path.len());
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        normal.push('/');
        let is_last = segments.peek().is_none();
        if segment.is_empty() && !is_last {
            return Err(Ambiguous::EmptySegment);
        }
        push_segment(segment, &mut normal)?;
    }
    Ok(normal)
}

/// Whether a path certainly is in its normal form, as most are.
fn is_normal(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let mut is_after_slash = true;
    for byte in rest.bytes() {
        let may_stand = class(byte) & (UNRESERVED | SUB_DELIMITER) != 0;
        // Slashes and dots after a slash need a closer look.
        let is_plain =
            if is_after_slash { may_stand && byte != b'.' } else { may_stand || byte == b'/' };
        if !is_plain {
            return false;
        }
        is_after_slash = byte == b'/';
    }
    true
}

fn push_segment(segment: &str, normal: &mut String) -> Result<(), Ambiguous> {
    let start = normal.len();
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, was_encoded) = match byte {
            b'%' => {
                let hex = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
                match (hex(bytes.next()), hex(bytes.next())) {
                    (Some(high), Some(low)) => ((high * 16 + low) as u8, true),
                    _ => return Err(Ambiguous::BadEncoding),
                }
            }
            plain => (plain, false),
        };
        match byte {
            0 => return Err(Ambiguous::BadEncoding),
            b'\\' => return Err(Ambiguous::EncodedSeparator),
            b'/' if was_encoded => return Err(Ambiguous::EncodedSeparator),
            _ if is_unreserved(byte) || (!was_encoded && is_plain_in_path(byte)) => {
                normal.push(char::from(byte));
            }
            _ => push_encoded(byte, normal),
        }
    }
    // Servers that cut off path parameters (Tomcat, Jetty) read `..;` as the parent directory.
    let name = normal.get(start..).unwrap_or_default().split(';').next().unwrap_or_default();
    if name == "." || name == ".." { Err(Ambiguous::DotSegment) } else { Ok(()) }
}

pub(crate) fn is_unreserved(byte: u8) -> bool {
    class(byte) & UNRESERVED != 0
}

/// Sub-delimiters, `:` and `@`: they are allowed in a segment, and differ from their encoded form.
pub(crate) fn is_plain_in_path(byte: u8) -> bool {
    class(byte) & SUB_DELIMITER != 0
}

/// Characters that a query may contain, including brackets, which many clients send unencoded and
/// all servers accept.
fn is_plain_in_query(byte: u8) -> bool {
    class(byte) & (UNRESERVED | SUB_DELIMITER | QUERY_ONLY) != 0
}

const UNRESERVED: u8 = 1;
const SUB_DELIMITER: u8 = 2;
const QUERY_ONLY: u8 = 4;

/// What each byte may be. Looked up for every byte of every target, where comparing takes longer.
const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let (mut byte, mut left): (u8, &mut [u8]) = (0, &mut classes);
    while let [first, rest @ ..] = left {
        *first = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => UNRESERVED,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':'
            | b'@' => SUB_DELIMITER,
            b'/' | b'?' | b'%' | b'[' | b']' => QUERY_ONLY,
            _ => 0,
        };
        byte = byte.wrapping_add(1);
        left = rest;
    }
    classes
}

fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// A parameter of a path: its name in the template, and its decoded value.
pub type PathParameter<'a> = (&'a str, Cow<'a, str>);

/// Decodes the `%XX` of a path parameter. `None` when the bytes are not UTF-8.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if text.bytes().all(|byte| byte != b'%') {
        return Some(Cow::Borrowed(text));
    }
    percent_decode_str(text).decode_utf8().ok()
}

/// The decoded values of a query parameter, in order. `+` is a space (HTML forms).
pub fn query_values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    pairs(query).filter(move |(own, _)| own == name).map(|(_, value)| value)
}

/// Decoded (name, value) pairs of a query.
pub fn pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_form(name), decode_form(value))
    })
}

fn decode_form(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Keeps only the listed parameters, sorted by name; parameters of one name keep their order. The
/// second value says whether any was dropped.
pub fn filter_query(query: &str, keep: &[String]) -> (Option<String>, bool) {
    let mut kept: Vec<(String, &str)> = Vec::new();
    let mut dropped = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = decode_form(pair.split('=').next().unwrap_or_default());
        if keep.contains(&name) {
            kept.push((name, pair));
        } else {
            dropped = true;
        }
    }
    kept.sort_by(|left, right| left.0.cmp(&right.0));
    if kept.is_empty() {
        return (None, dropped);
    }
    let joined = kept.iter().map(|(_, pair)| *pair).collect::<Vec<_>>().join("&");
    (Some(joined), dropped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(target: &str) -> Result<String, Ambiguous> {
        normalize(target).map(|target| target.path.into_owned())
    }

    #[test]
    fn unreserved_characters_are_decoded_and_the_rest_is_upper_case() {
        assert_eq!(path("/%61b/%e2%82%ac"), Ok("/ab/%E2%82%AC".into()));
        assert_eq!(path("/a b"), Ok("/a%20b".into()));
        assert_eq!(path("/a;v=1"), Ok("/a;v=1".into()));
        assert_eq!(path("/a%3Bv"), Ok("/a%3Bv".into()));
    }

    #[test]
    fn a_path_that_servers_read_differently_is_ambiguous() {
        assert_eq!(path("/a/../b"), Err(Ambiguous::DotSegment));
        assert_eq!(path("/a/%2e%2E/b"), Err(Ambiguous::DotSegment));
        assert_eq!(path("/a/..;/b"), Err(Ambiguous::DotSegment));
        assert_eq!(path("/a%2fb"), Err(Ambiguous::EncodedSeparator));
        assert_eq!(path("/a\\b"), Err(Ambiguous::EncodedSeparator));
        assert_eq!(path("/a%5cb"), Err(Ambiguous::EncodedSeparator));
        assert_eq!(path("//a"), Err(Ambiguous::EmptySegment));
        assert_eq!(path("/a%zz"), Err(Ambiguous::BadEncoding));
        assert_eq!(path("/a%00"), Err(Ambiguous::BadEncoding));
        assert_eq!(path("a"), Err(Ambiguous::NotAbsolute));
    }

    #[test]
    fn only_listed_parameters_are_kept_and_they_are_sorted() {
        let keep = ["to".to_owned(), "from".to_owned()];
        let (query, dropped) = filter_query("to=2&utm=x&from=1&to=1", &keep);
        assert_eq!(query.as_deref(), Some("from=1&to=2&to=1"));
        assert!(dropped);
        assert_eq!(filter_query("utm=x", &keep), (None, true));
    }

    #[test]
    fn letters_that_no_uri_has_are_encoded_once() {
        let query = |target: &str| normalize(target).map(|it| it.query.map(Cow::into_owned));
        assert_eq!(query("/?q=caf\u{e9}&a[]=%zz"), Ok(Some("q=caf%C3%A9&a[]=%zz".into())));
        assert_eq!(query("/?a|b^`\"<>\\{}"), Ok(Some("a%7Cb%5E%60%22%3C%3E%5C%7B%7D".into())));
        assert_eq!(legal("/\u{e9}?%C3%A9#x"), "/%C3%A9?%C3%A9#x");
        assert!(matches!(legal("/a?b=%20&c[]=1"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(target in "[/a-c.%;\\\\0-9?&=é ]{0,24}") {
            if let Ok(once) = normalize(&target) {
                let joined = once.join();
                prop_assert_eq!(normalize(&joined), Ok(once));
            }
        }

        #[test]
        fn what_looks_normal_at_once_is_so_segment_by_segment(path in "[/a-c.%;é ]{0,12}") {
            if is_normal(&path) {
                prop_assert_eq!(by_segments(&path), Ok(path));
            }
        }

        #[test]
        fn no_input_panics(target in "\\PC*", keep in proptest::collection::vec("[a-z]{1,2}", 0..3)) {
            if let Ok(target) = normalize(&target)
                && let Some(query) = &target.query {
                filter_query(query, &keep);
            }
        }
    }
}
