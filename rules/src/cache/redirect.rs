//! Redirects to the request's own path: signs that the application did not get enough of the
//! request.
//!
//! Next.js computes a checksum over fields of a request and redirects a URL that has another one.
//! Without those fields no URL is ever right, and a browser loops for ever. Such redirects do not
//! name the fields in `Vary`. So the client's full request is sent on, and then the omitted fields
//! are tried one by one.

use super::location::on_own_origin;
use super::plan::Plan;
use crate::head::{Head, ResponseHead, first};
use crate::hops;
use crate::hygiene::is_hop_by_hop;
use crate::path;

/// Fields that are tried for one answer at most: each costs the application a request.
const TRIES_MAX: usize = 5;

/// Fields that proxies set anew on each request; they are never tried. A prefix ends with a dash.
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

/// Fields that browsers send with every request; they are tried last. A prefix ends with a dash.
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
        let hosts = [request.host, self.host()];
        let Some(led) = on_own_origin(request, &hosts, own, &location) else { return false };
        let led = led.split('?').next().unwrap_or_default();
        let normal = |path: &str| path::normalize(path).map(|target| target.path.into_owned()).ok();
        normal(led).is_some_and(|led| Some(led) == normal(own))
    }

    /// The request's fields (lower-case names) that the application did not get and that its
    /// answers may depend on: the likeliest first, and no more than are tried.
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

/// Whether the list contains the name, or a prefix of it that ends with a dash.
fn is_among(name: &str, list: &[&str]) -> bool {
    list.iter().any(|own| if own.ends_with('-') { name.starts_with(own) } else { name == *own })
}
