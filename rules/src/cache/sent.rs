//! Which fields of a request reach the origin when its answer may be stored: only those that the
//! key or the stored answer covers, so that no answer depends on what another client sent.
//!
//! Other fields are left out. When the answer names one of them in `Vary`, the request is sent
//! again with it; from then on all requests of the route carry the field, and their answers are
//! kept apart by it, whether or not each answer names it. A rule lists in `unkeyed_headers` the
//! fields that reach the origin without keeping answers apart, unless `Vary` names them.

use super::freshness::Entry;
use super::freshness::is_failure;
use super::plan::{Cookies, Plan};
use super::vary;
use crate::head::{Head, ResponseHead, has};

/// Fields of the message or the connection, and those that the plan itself decides; they are never
/// learned.
const OTHERWISE: [&str; 5] =
    ["authorization", "cookie", "host", "x-forwarded-host", "x-forwarded-proto"];

/// Fields that are never sent, whatever the rule lists: one client's conditions, range and address,
/// and those by which applications accept another path or method.
const NEVER: [&str; 23] = [
    "cache-control",
    "content-length",
    "expect",
    "forwarded",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "pragma",
    "range",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// The conditions and the range of one client's request (RFC 9110 sections 13.1 and 14.2).
const OF_ONE_REQUEST: [&str; 6] =
    ["if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"];

/// The value of `unkeyed_headers` that stands for all fields.
const ALL: &str = "*";

/// The User-Agent of every fetch. The client's own is sent only where the rule or the origin asks
/// for it.
pub const USER_AGENT: &str = concat!("spillway/", env!("CARGO_PKG_VERSION"));

impl Plan<'_> {
    /// Whether a fetch carries this field (lower-case name) of the request.
    pub fn sends(&self, name: &str, request: &Head<'_>) -> bool {
        match name {
            "host" => true,
            "authorization" => self.has_authorization,
            // The cookies that are part of the key are set anew: see `own_fields`.
            "cookie" => self.cookies == Cookies::Untouched,
            "traceparent" => is_traceparent(request),
            // Most assets are compressed. To learn that from each of them would cost one more
            // request.
            "accept-encoding" if self.is_versioned => true,
            _ if self.is_keyed(name) => true,
            _ if NEVER.contains(&name) => false,
            _ => {
                self.rule.unkeyed_headers.iter().any(|own| own == name || own == ALL)
                    || self.learned.iter().any(|own| own == name)
            }
        }
    }

    fn is_keyed(&self, name: &str) -> bool {
        self.rule.headers.iter().chain(&self.shard_headers).any(|own| own == name)
    }

    /// The fields of a fetch that replace the client's: the cookies that are part of the key, and
    /// the conditions with which the origin may confirm the `stored` answer (RFC 9110 section
    /// 13.1).
    pub fn own_fields<'p>(
        &'p self,
        stored: Option<&'p Entry>,
    ) -> impl Iterator<Item = (&'static str, &'p [u8])> {
        let cookies = match &self.cookies {
            Cookies::Only(cookies) => cookies.as_deref(),
            Cookies::Removed | Cookies::Untouched => None,
        };
        let etag = stored.and_then(|stored| stored.etag.as_deref());
        let modified = stored.and_then(|stored| stored.last_modified.as_deref());
        let own = [
            ("cookie", cookies),
            ("if-none-match", etag.map(str::as_bytes)),
            ("if-modified-since", modified.map(str::as_bytes)),
        ];
        own.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    /// The fields that the answer varies by, that the request has, and that were not sent. They are
    /// to be learned, and this answer is not for the client. Empty for a failure.
    pub fn kept_back(&self, request: &Head<'_>, response: &ResponseHead<'_>) -> Vec<String> {
        if is_failure(response.status) {
            return Vec::new();
        }
        let names = vary::names(self, response).into_iter();
        names.filter(|name| has(request.fields, name) && self.may_learn(name, request)).collect()
    }

    /// Whether the field is left out of fetches and is one that answers may vary by.
    pub(super) fn may_learn(&self, name: &str, request: &Head<'_>) -> bool {
        name != "*"
            && !NEVER.contains(&name)
            && !OTHERWISE.contains(&name)
            && !self.sends(name, request)
    }
}

/// Whether a field (lower-case name) is a condition or the range of one client's request. Fetches
/// never carry it; a request whose answer is known not to be stored does.
pub fn is_of_one_request(name: &str) -> bool {
    OF_ONE_REQUEST.contains(&name)
}

/// Whether the request has a valid `traceparent`, which continues the trace in the application (W3C
/// Trace Context). It consists of hex digits and dashes, so it can't carry anything else.
fn is_traceparent(request: &Head<'_>) -> bool {
    let value = crate::head::joined(request.fields, "traceparent").unwrap_or_default();
    crate::trace::Context::parse(&value).is_some_and(|context| context.to_string() == value)
}
