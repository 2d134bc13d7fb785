//! Cache-Control (RFC 9111 section 5.2), stale-* (RFC 5861) and targeted fields (RFC 9213).

use crate::head::{Fields, joined};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// Delta-seconds that overflow count as this (RFC 9111 section 1.2.2).
pub(crate) const DELTA_SECONDS_MAX: u64 = 1 << 31;

/// Directives whose value is a number of seconds.
const SECONDS: [&str; 4] = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];
/// Directives that may list field names.
const LISTS: [&str; 2] = ["private", "no-cache"];

/// The directives of all lines of a field. Names are case-insensitive. The smaller of two values of
/// one directive counts. A value that is not a number counts as 0, which is stale.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// `no-store` (RFC 9111 section 5.2.2.5, in requests 5.2.1.5).
    pub no_store: bool,
    /// `no-cache` without field names.
    pub no_cache: bool,
    /// `private` without field names (RFC 9111 section 5.2.2.7).
    pub private: bool,
    /// `public` (RFC 9111 section 5.2.2.9).
    pub public: bool,
    /// `must-revalidate` (RFC 9111 section 5.2.2.2).
    pub must_revalidate: bool,
    /// `proxy-revalidate` (RFC 9111 section 5.2.2.8).
    pub proxy_revalidate: bool,
    /// `must-understand` (RFC 9111 section 5.2.2.3).
    pub must_understand: bool,
    /// `only-if-cached` of a request (RFC 9111 section 5.2.1.7).
    pub only_if_cached: bool,
    /// `max-age` in seconds (RFC 9111 section 5.2.2.1).
    pub max_age: Option<u64>,
    /// `s-maxage` in seconds (RFC 9111 section 5.2.2.10).
    pub s_maxage: Option<u64>,
    /// `stale-while-revalidate` in seconds (RFC 5861 section 3).
    pub stale_while_revalidate: Option<u64>,
    /// `stale-if-error` in seconds (RFC 5861 section 4).
    pub stale_if_error: Option<u64>,
    /// Fields that `private="…"` or `no-cache="…"` keep out of a shared cache.
    pub fields: Vec<String>,
    /// Whether there is any directive at all.
    pub is_present: bool,
}

impl CacheControl {
    /// Reads the directives that apply to this cache: those of the first valid field among
    /// `targets` (RFC 9213 section 2.2), otherwise `Cache-Control`. The flag is true where a
    /// targeted field applied; `Expires` is ignored then.
    pub fn read_targeted(fields: &dyn Fields, targets: &[String]) -> (Self, bool) {
        let targeted = targets.iter().find_map(|name| Self::read_target(fields, name));
        targeted.map_or_else(|| (Self::read(fields), false), |targeted| (targeted, true))
    }

    /// Reads a targeted field as a dictionary of Structured Fields (RFC 9651). The whole field is
    /// ignored where it is malformed or a directive has a value of the wrong type.
    fn read_target(fields: &dyn Fields, name: &str) -> Option<Self> {
        let list = joined(fields, name).filter(|list| !list.is_empty())?;
        let directives: Dictionary = Parser::new(&list).parse().ok()?;
        let mut control = Self::default();
        for (name, member) in &directives {
            let ListEntry::Item(item) = member else { continue };
            let (name, value) = (name.as_str(), &item.bare_item);
            let text = match value {
                BareItem::Boolean(false) => continue,
                BareItem::Boolean(true) if !SECONDS.contains(&name) => name.to_owned(),
                BareItem::Integer(seconds) if SECONDS.contains(&name) => {
                    format!("{name}={}", i64::from(*seconds))
                }
                BareItem::String(names) if LISTS.contains(&name) => {
                    format!("{name}=\"{}\"", names.as_str())
                }
                _ if SECONDS.contains(&name) || LISTS.contains(&name) => return None,
                _ => continue,
            };
            control.apply(text.as_bytes());
        }
        control.is_present.then_some(control)
    }

    /// Reads all lines of `Cache-Control`.
    pub fn read(fields: &dyn Fields) -> Self {
        let mut control = Self::default();
        fields.each("cache-control", &mut |line| {
            for directive in split(line) {
                control.apply(directive);
            }
        });
        control
    }

    fn apply(&mut self, directive: &[u8]) {
        let mut parts = directive.splitn(2, |byte| *byte == b'=');
        let name = trim(parts.next().unwrap_or_default()).to_ascii_lowercase();
        let value = parts.next().map(|value| unquote(trim(value)));
        if name.is_empty() {
            return;
        }
        self.is_present = true;
        let seconds = || Some(value.map_or(0, delta_seconds));
        let least = |old: Option<u64>| match (old, seconds()) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
        match name.as_slice() {
            b"no-store" => self.no_store = true,
            b"no-cache" => match value {
                Some(names) if !names.is_empty() => self.fields.extend(field_names(names)),
                _ => self.no_cache = true,
            },
            b"private" => match value {
                Some(names) if !names.is_empty() => self.fields.extend(field_names(names)),
                _ => self.private = true,
            },
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"only-if-cached" => self.only_if_cached = true,
            b"max-age" => self.max_age = least(self.max_age),
            b"s-maxage" => self.s_maxage = least(self.s_maxage),
            b"stale-while-revalidate" => {
                self.stale_while_revalidate = least(self.stale_while_revalidate);
            }
            b"stale-if-error" => self.stale_if_error = least(self.stale_if_error),
            _ => {}
        }
    }
}

/// Splits at commas outside quotes.
fn split(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    line.split(move |byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => return true,
            _ => {}
        }
        false
    })
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

fn unquote(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

fn field_names(value: &[u8]) -> impl Iterator<Item = String> + '_ {
    value
        .split(|byte| *byte == b',')
        .map(|name| String::from_utf8_lossy(trim(name)).to_ascii_lowercase())
        .filter(|name| !name.is_empty())
}

/// Parses seconds. Anything but digits counts as 0, and an overflow as [`DELTA_SECONDS_MAX`].
pub(super) fn delta_seconds(value: &[u8]) -> u64 {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let number = value.iter().fold(0_u64, |number, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    number.min(DELTA_SECONDS_MAX)
}
