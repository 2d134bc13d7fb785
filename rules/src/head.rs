//! The view of a request and a response from which decisions are made.

use crate::hex::hex;

/// Fields with which a client that can only POST names another method. They pass where no rule
/// depends on the method; see [`overrides_method`].
const METHOD_OVERRIDES: [&str; 3] =
    ["x-http-method-override", "x-http-method", "x-method-override"];

/// Read access to header fields. Both hyper's map and a browser's `Headers` implement it without
/// being copied.
pub trait Fields {
    /// Calls `visit` with the value of each field line of that name (lower case), in order.
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]));
}

/// Header fields that can be changed. Names are in lower case.
pub trait FieldsMut: Fields {
    /// Removes all lines of each name for which `is_unwanted` is true.
    fn remove_where(&mut self, is_unwanted: &dyn Fn(&str) -> bool);
    /// Sets a field, in place of all its lines.
    fn set(&mut self, field: Rebuilt, value: &str);
}

/// Fields that tell the application who made the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuilt {
    /// `X-Forwarded-For`: addresses of the client and of the proxies behind it.
    For,
    /// `X-Forwarded-Host`: the host that the client asked.
    Host,
    /// `X-Forwarded-Proto`: `http` or `https`, as the client asked.
    Proto,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl Rebuilt {
    /// The name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::For => "x-forwarded-for",
            Self::Host => "x-forwarded-host",
            Self::Proto => "x-forwarded-proto",
            Self::Forwarded => "forwarded",
        }
    }

    /// The name in its usual spelling.
    pub const fn spelled(self) -> &'static str {
        match self {
            Self::For => "X-Forwarded-For",
            Self::Host => "X-Forwarded-Host",
            Self::Proto => "X-Forwarded-Proto",
            Self::Forwarded => "Forwarded",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        if name == Self::Forwarded.name() {
            return Some(Self::Forwarded);
        }
        match name.strip_prefix("x-forwarded-")? {
            "for" => Some(Self::For),
            "host" => Some(Self::Host),
            "proto" => Some(Self::Proto),
            _ => None,
        }
    }
}

/// A set without any field.
pub struct NoFields;

impl Fields for NoFields {
    fn each(&self, _: &str, _: &mut dyn FnMut(&[u8])) {}
}

/// Pairs of lower-case name and value, for tests, `explain` and stored entries.
impl Fields for &[(String, String)] {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for (own, value) in *self {
            if own.eq_ignore_ascii_case(name) {
                visit(value.as_bytes());
            }
        }
    }
}

impl Fields for Vec<(String, String)> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.as_slice().each(name, visit);
    }
}

impl FieldsMut for Vec<(String, String)> {
    fn remove_where(&mut self, is_unwanted: &dyn Fn(&str) -> bool) {
        self.retain(|(name, _)| !is_unwanted(name));
    }

    fn set(&mut self, field: Rebuilt, value: &str) {
        self.retain(|(own, _)| own != field.name());
        self.push((field.name().to_owned(), value.to_owned()));
    }
}

/// A change to an answer's fields. Names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Removes all lines of that name.
    Remove(&'static str),
    /// Sets a field, in place of all its lines.
    Set(&'static str, String),
}

impl Edit {
    /// The name of the changed field.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Remove(name) | Self::Set(name, _) => name,
        }
    }

    /// Its value after the change; none where it is removed.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Remove(_) => None,
            Self::Set(_, value) => Some(value),
        }
    }
}

/// A request without its body. `target` is the path and query as received.
pub struct Head<'a> {
    /// As received; methods are case-sensitive (RFC 9110 section 9.1).
    pub method: &'a str,
    /// `http` or `https`, as the client asked.
    pub scheme: &'a str,
    /// Lower case, with the port when it is not the scheme's own. Empty when an old client named none.
    pub host: &'a str,
    /// Path and query as received, or `*`.
    pub target: &'a str,
    /// The header fields.
    pub fields: &'a dyn Fields,
}

/// A response without its body.
pub struct ResponseHead<'a> {
    /// The status code (RFC 9110 section 15).
    pub status: u16,
    /// The header fields.
    pub fields: &'a dyn Fields,
}

impl Head<'_> {
    /// Whether the method is safe (RFC 9110 section 9.2.1). A request that names another method in
    /// a field is not.
    pub fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
            && !overrides_method(self.fields)
    }

    /// Whether the method is GET or HEAD, whose answers can be stored.
    pub fn is_get_or_head(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }
}

/// Whether the request names another method than its own, in a field that frameworks obey.
pub fn overrides_method(fields: &dyn Fields) -> bool {
    METHOD_OVERRIDES.into_iter().any(|name| has(fields, name))
}

/// The first line of a field, if there is one and it is text.
pub fn first(fields: &dyn Fields, name: &str) -> Option<String> {
    let mut found: Option<Option<String>> = None;
    fields.each(name, &mut |value| {
        if found.is_none() {
            found = Some(std::str::from_utf8(value).ok().map(|text| text.trim().to_owned()));
        }
    });
    found.flatten()
}

/// All lines of a field joined by `", "` (RFC 9110 section 5.3), whitespace trimmed; `None` when
/// the field is absent.
pub fn joined(fields: &dyn Fields, name: &str) -> Option<String> {
    let mut joined: Option<String> = None;
    fields.each(name, &mut |value| {
        let line = text_of(value);
        match &mut joined {
            Some(all) => {
                all.push_str(", ");
                all.push_str(&line);
            }
            None => joined = Some(line),
        }
    });
    joined
}

/// A value as text. Each value has a text of its own: bytes that are not UTF-8 become a hex form
/// that begins with NUL, which no field value contains.
pub fn text_of(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => format!("\0{}", hex(value)),
    }
}

/// Appends a number. This is cheaper than `write!`, which costs more than all of a short text.
pub fn push_number(text: &mut String, mut number: u64) {
    let digit = |number: u64| char::from(b'0' + (number % 10) as u8);
    if number < 100 {
        if number > 9 {
            text.push(digit(number / 10));
        }
        return text.push(digit(number));
    }
    let mut digits = [b'0'; 20];
    let mut begin = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        begin -= 1;
        if number == 0 {
            break;
        }
    }
    text.push_str(str::from_utf8(digits.get(begin..).unwrap_or_default()).unwrap_or_default());
}

/// The media type of a `Content-Type`, such as `text/html`, in its original case (RFC 9110 section
/// 8.3.1).
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether there is a field of that name (lower case).
pub fn has(fields: &dyn Fields, name: &str) -> bool {
    let mut found = false;
    fields.each(name, &mut |_| found = true);
    found
}

/// The value of the first cookie of that name (RFC 6265 section 4.2), quotes included. Parsing is
/// bytewise, so that a cookie that is not text hides none of the others.
pub fn cookie(fields: &dyn Fields, name: &str) -> Option<Vec<u8>> {
    let mut found = None;
    fields.each("cookie", &mut |line| {
        for pair in line.split(|byte| *byte == b';') {
            let Some(end) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let (own, value) = pair.split_at(end);
            if found.is_none() && own.trim_ascii() == name.as_bytes() {
                found = Some(value.get(1..).unwrap_or_default().trim_ascii().to_vec());
            }
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_cookie_hides_no_other_and_quotes_are_part_of_a_value() {
        struct Line(&'static [u8]);
        impl Fields for Line {
            fn each(&self, _: &str, visit: &mut dyn FnMut(&[u8])) {
                visit(self.0);
            }
        }
        let line = Line(b"a=\xfc; b=\"x\\054y\" ;c = 1; b=2; d");
        let value = |name| cookie(&line, name);
        assert_eq!(value("a").as_deref(), Some(&b"\xfc"[..]));
        assert_eq!(value("b").as_deref(), Some(&b"\"x\\054y\""[..]));
        assert_eq!(value("c").as_deref(), Some(&b"1"[..]));
        assert_eq!((value("d"), value("e")), (None, None));
    }

    #[test]
    fn a_number_is_written_as_it_is_written_elsewhere() {
        for number in [0, 9, 10, 99, 100, 160, u64::MAX] {
            let mut text = String::from("ttl=");
            push_number(&mut text, number);
            assert_eq!(text, format!("ttl={number}"));
        }
    }
}
