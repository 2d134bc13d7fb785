//! What the origin is shown of a request whose answer may be stored: nothing that neither the key nor
//! the stored answer holds, so that nobody's answer can depend on what another client said.
//!
//! Fields that the key does not have are kept back. When the answer says by `Vary` that it depends on
//! one of them, the request is sent again with it; from then on the route's requests carry it, and all
//! answers to them are kept apart by it, whether or not each one says so. `unkeyed_headers` of the rule
//! declares fields that reach the origin and keep nobody apart unless `Vary` names them.

use super::freshness::Entry;
use super::freshness::is_failure;
use super::plan::{Cookies, Plan};
use super::vary;
use crate::head::{Head, ResponseHead, has};

/// Part of the message or of the connection, or decided by the plan itself; never learned.
const OTHERWISE: [&str; 5] =
    ["authorization", "cookie", "host", "x-forwarded-host", "x-forwarded-proto"];

/// One client's conditions, range and address are not everybody's, and what applications are known to
/// obey like another path or method is nobody's to say: never sent, whatever the rule lists.
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

/// In `unkeyed_headers`: all fields.
const ALL: &str = "*";

/// The User-Agent of every fetch: the client's own only where the rule or the origin asks for it.
pub const USER_AGENT: &str = concat!("spillway/", env!("CARGO_PKG_VERSION"));

impl Plan<'_> {
    /// Whether a fetch carries this field (lower-case name) of the request.
    pub fn sends(&self, name: &str, request: &Head<'_>) -> bool {
        match name {
            "host" => true,
            "authorization" => self.has_authorization,
            // The ones that are part of the key are set anew: see `own_fields`.
            "cookie" => self.cookies == Cookies::Untouched,
            "traceparent" => is_traceparent(request),
            // Most assets have a coding. To learn that from each of them would cost a request more.
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

    /// Fields of a fetch that are the plan's own, in the place of the client's: the cookies that the key has,
    /// and the conditions by which the origin may confirm what is `stored` (RFC 9110 section 13.1).
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

    /// Fields that the answer depends on, that the request has, and that it was not sent with. To be
    /// learned; the answer is not the client's. None of an answer that tells of a failure only.
    pub fn kept_back(&self, request: &Head<'_>, response: &ResponseHead<'_>) -> Vec<String> {
        if is_failure(response.status) {
            return Vec::new();
        }
        let names = vary::names(self, response).into_iter();
        names.filter(|name| has(request.fields, name) && self.may_learn(name, request)).collect()
    }

    /// Whether the field is kept back, and is one that answers may depend on.
    pub(super) fn may_learn(&self, name: &str, request: &Head<'_>) -> bool {
        name != "*"
            && !NEVER.contains(&name)
            && !OTHERWISE.contains(&name)
            && !self.sends(name, request)
    }
}

/// Whether a field (lower-case name) is a condition or the range of one client's request. No fetch carries it;
/// a request whose answer is known not to be stored does.
pub fn is_of_one_request(name: &str) -> bool {
    OF_ONE_REQUEST.contains(&name)
}

/// A trace goes on in the application (W3C Trace Context). Hex digits and dashes at most, so it is no
/// way to say anything else.
fn is_traceparent(request: &Head<'_>) -> bool {
    let value = crate::head::joined(request.fields, "traceparent").unwrap_or_default();
    crate::trace::Context::parse(&value).is_some_and(|context| context.to_string() == value)
}
