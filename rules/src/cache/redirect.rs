//! Redirects to the request's own path: signs that the application was shown too little.
//!
//! Next.js computes a checksum over fields of a request and redirects one whose URL has another: without
//! those fields no URL is ever right, and a browser goes round for ever. Such redirects do not say `Vary`.
//! So the client's request is sent on whole, and the fields that were kept back are tried one by one.

use super::plan::Plan;
use crate::head::{Head, ResponseHead, first};
use crate::hops;
use crate::hygiene::is_hop_by_hop;
use crate::path;

/// Fields that are tried for one answer: each costs the application a request.
const TRIES_MAX: usize = 5;

/// Of those on the way, who say something else of each request: never tried. A prefix ends with a dash.
const OF_THE_WAY: [&str; 19] = [
    hops::FIELD,
    "baggage",
    "cdn-",
    "cf-",
    "fastly-",
    "priority",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "true-client-ip",
    "via",
    "x-amzn-",
    "x-azure-",
    "x-b3-",
    "x-cloud-",
    "x-envoy-",
    "x-forwarded-",
    "x-real-ip",
    "x-request-id",
];

/// What browsers send with everything: tried last. A prefix ends with a dash.
const USUAL: [&str; 10] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "dnt",
    "origin",
    "referer",
    "sec-",
    "upgrade-insecure-requests",
    "user-agent",
    "x-requested-with",
];

impl Plan<'_> {
    /// Whether the answer redirects the request to its own path on its own host.
    pub fn leads_back(&self, request: &Head<'_>, response: &ResponseHead<'_>) -> bool {
        if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
            return false;
        }
        let Some(location) = first(response.fields, "location") else { return false };
        let own = self.target().split('?').next().unwrap_or_default();
        let Some(led) = self.path_of(request, own, &location) else { return false };
        let normal = |path: &str| path::normalize(path).map(|target| target.path.into_owned()).ok();
        normal(&led).is_some_and(|led| Some(led) == normal(own))
    }

    /// The path that a `Location` names, when it is on the request's host (RFC 3986 section 5.2, but for dot
    /// segments).
    fn path_of(&self, request: &Head<'_>, own: &str, location: &str) -> Option<String> {
        let location = location.split('#').next().unwrap_or_default();
        let hosts = [request.host, self.host()];
        let of_host = |rest: &str| {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, target) = rest.split_at_checked(end)?;
            let is_own = hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
            is_own.then(|| if target.starts_with('/') { target } else { "/" }.to_owned())
        };
        let found = match location.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
                of_host(rest).filter(|_| scheme.eq_ignore_ascii_case(request.scheme))?
            }
            _ => match location.strip_prefix("//") {
                Some(rest) => of_host(rest)?,
                None if location.starts_with('/') => location.to_owned(),
                None if location.is_empty() || location.starts_with('?') => own.to_owned(),
                None => format!("{}/{location}", own.rsplit_once('/')?.0),
            },
        };
        Some(found.split('?').next().unwrap_or_default().to_owned())
    }

    /// Of the request's fields (lower-case names) those that the application was not shown and that its
    /// answers may depend on, as many as are tried, the likeliest first.
    pub fn untried<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        request: &Head<'_>,
    ) -> Vec<String> {
        let may_learn = |name: &&str| {
            !is_hop_by_hop(name) && !is_among(name, &OF_THE_WAY) && self.may_learn(name, request)
        };
        let mut untried: Vec<String> = names.filter(may_learn).map(str::to_owned).collect();
        untried.sort_by_key(|name| is_among(name, &USUAL));
        untried.dedup();
        untried.truncate(TRIES_MAX);
        untried
    }
}

/// Whether a list has the name, or a prefix of it that ends with a dash.
fn is_among(name: &str, list: &[&str]) -> bool {
    list.iter().any(|own| if own.ends_with('-') { name.starts_with(own) } else { name == *own })
}
