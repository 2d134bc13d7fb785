//! The request target (RFC 9112 section 3.2), with its characters as they came.

use crate::refusal::Refusal;
use http::{Method, Uri};

/// Path and query, and the authority that an absolute target names.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Target {
    /// Path and query: starts with `/`, or is `*` (section 3.2.4). It has no fragment, which is never sent.
    pub path_and_query: String,
    /// The authority of the absolute form, and of `CONNECT`.
    pub authority: Option<String>,
}

impl Target {
    /// Reads the target of a request line. Which characters it may have is not decided here: clients send
    /// more than RFC 3986 allows, and servers accept it. It can't contain blanks and control characters.
    ///
    /// # Errors
    /// `Target` when it has none of the forms of section 3.2.
    pub fn read(method: &Method, text: &[u8]) -> Result<Self, Refusal> {
        let text = match str::from_utf8(text) {
            Ok(text) => text.to_owned(),
            Err(_) => escaped(text),
        };
        if *method == Method::CONNECT {
            return Ok(Self { path_and_query: "/".to_owned(), authority: Some(text) });
        }
        if text.starts_with('/') || text == "*" {
            return Ok(Self { path_and_query: without_fragment(text), authority: None });
        }
        let (scheme, rest) = text.split_once("://").ok_or(Refusal::Target)?;
        let is_ours = ["http", "https"].into_iter().any(|own| scheme.eq_ignore_ascii_case(own));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if !is_ours || authority.is_empty() {
            return Err(Refusal::Target);
        }
        let target = without_fragment(target.to_owned());
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            path_and_query: [slash, &target].concat(),
            authority: Some(authority.to_owned()),
        })
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }
}

/// The target of a request that came over another protocol.
impl From<Uri> for Target {
    fn from(uri: Uri) -> Self {
        let path_and_query = uri.path_and_query().map_or("/", |it| it.as_str());
        Self {
            path_and_query: path_and_query.to_owned(),
            authority: uri.authority().map(|it| it.as_str().to_owned()),
        }
    }
}

fn without_fragment(mut text: String) -> String {
    // The search goes byte by byte, because a vectorised one costs more to set up than a target is long.
    if let Some(at) = text.bytes().position(|byte| byte == b'#') {
        text.truncate(at);
    }
    text
}

/// Percent-encodes bytes of an older character encoding, because text can't hold them as they are.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        if byte.is_ascii() {
            text.push(char::from(*byte));
        } else {
            const DIGITS: [char; 16] =
                ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
            text.push('%');
            text.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<(String, Option<String>), Refusal> {
        let target = Target::read(&Method::GET, text)?;
        Ok((target.path_and_query, target.authority))
    }

    fn taken(
        path_and_query: &str,
        authority: Option<&str>,
    ) -> Result<(String, Option<String>), Refusal> {
        Ok((path_and_query.to_owned(), authority.map(str::to_owned)))
    }

    #[test]
    fn letters_stay_as_they_came() {
        for text in ["/caf\u{e9}?q=\u{6771}", "/a|b^c`d{e}\"<f>\\g", "/%zz//%2F", "*"] {
            assert_eq!(read(text.as_bytes()), taken(text, None));
        }
        assert_eq!(read(b"/caf\xe9"), taken("/caf%E9", None));
        assert_eq!(read(b"/a?b#c"), taken("/a?b", None));
    }

    #[test]
    fn an_absolute_target_has_its_authority_apart() {
        let host = Some("shop.example:80");
        assert_eq!(read(b"http://shop.example:80/a?b"), taken("/a?b", host));
        assert_eq!(read(b"HTTP://shop.example:80"), taken("/", host));
        assert_eq!(read(b"http://shop.example:80?b"), taken("/?b", host));
        for wrong in ["", "a", "a/b", "shop.example:80", "ftp://h/", "http:///a", "?a", "**"] {
            assert_eq!(read(wrong.as_bytes()), Err(Refusal::Target), "{wrong}");
        }
    }

    #[test]
    fn the_target_of_connect_is_an_authority() {
        let target = Target::read(&Method::CONNECT, b"h:443").expect("a target");
        assert_eq!(target.authority.as_deref(), Some("h:443"));
    }
}
