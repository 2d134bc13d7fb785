//! What a stored answer is once a 304 has confirmed it (RFC 9111 sections 3.2 and 4.3.4).

use super::plan::Plan;
use crate::document::Override;
use crate::head::{Fields, first, media_type};
use crate::hygiene::{is_of_connection, named_by_connection};

const CONTENT_TYPE: &str = "content-type";
const SET_COOKIE: &str = "set-cookie";
/// Fields that describe the stored bytes, which a 304 does not bring.
const OF_THE_BYTES: [&str; 3] = ["content-encoding", "content-length", "content-range"];
/// Fields that describe the exchange that brought the stored answer: its age, the caches on its
/// way, its date, and the cookies for one client. They are dropped even where the 304 does not set
/// them again.
const OF_THE_EXCHANGE: [&str; 4] = ["age", "cache-status", "date", SET_COOKIE];

/// A stored answer after a 304, as lines of name and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed<N, V> {
    /// The answer's fields from now on. `Date` is missing where the 304 had none; the time of
    /// receipt takes its place (RFC 9110 section 6.6.1).
    pub fields: Vec<(N, V)>,
    /// The values of `Set-Cookie` in the 304. They are for the client whose request it answered and
    /// for nobody else. Empty where the rule strips cookies or shares them, and with assets.
    pub cookies: Vec<V>,
}

/// Merges a 304 into a stored answer: each field of the 304 replaces the stored one, except
/// hop-by-hop fields and those that describe the stored bytes. `Content-Type` is replaced only
/// where both name the same media type: frameworks put their default type on a 304, which has no
/// content. Names are in lower case.
pub fn confirmed<N: AsRef<str>, V: AsRef<[u8]>>(
    plan: &Plan<'_>,
    stored: impl IntoIterator<Item = (N, V)>,
    not_modified: impl IntoIterator<Item = (N, V)>,
) -> Confirmed<N, V> {
    let mut fields: Vec<(N, V)> = stored.into_iter().collect();
    let mut news: Vec<(N, V)> = not_modified.into_iter().collect();
    let named = named_by_connection(&Lines(&news));
    let is_same_type = first(&Lines(&news), CONTENT_TYPE)
        .zip(first(&Lines(&fields), CONTENT_TYPE))
        .is_some_and(|(new, old)| media_type(&new).eq_ignore_ascii_case(media_type(&old)));
    news.retain(|(name, _)| match name.as_ref() {
        CONTENT_TYPE => is_same_type,
        name => !OF_THE_BYTES.contains(&name) && !is_of_connection(name.as_bytes(), &named),
    });
    let mut cookies = Vec::new();
    if !plan.rule.overrides.contains(&Override::SetCookie) {
        let (own, rest): (Vec<_>, _) =
            news.into_iter().partition(|(name, _)| name.as_ref() == SET_COOKIE);
        news = rest;
        if !plan.rule.strip_cookies && !plan.is_versioned {
            cookies = own.into_iter().map(|(_, value)| value).collect();
        }
    }
    fields.retain(|(name, _)| {
        let name = name.as_ref();
        !OF_THE_EXCHANGE.contains(&name) && !news.iter().any(|(new, _)| new.as_ref() == name)
    });
    fields.extend(news);
    Confirmed { fields, cookies }
}

struct Lines<'a, N, V>(&'a [(N, V)]);

impl<N: AsRef<str>, V: AsRef<[u8]>> Fields for Lines<'_, N, V> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for (own, value) in self.0 {
            if own.as_ref() == name {
                visit(value.as_ref());
            }
        }
    }
}
