//! A request that is being answered.

use crate::incoming::Incoming;
use rules::assets::Assets;
use rules::signature::Keys;
use rules::{Millis, Rules};
use worker::Context;

/// Cloudflare ends background work so long after the answer, in milliseconds; work that is older is dead, and must
/// not keep others from trying.
pub(crate) const BACKGROUND: Millis = Millis(30_000);

/// One request and what is needed to answer it; shared with its background work.
pub(crate) struct Call {
    pub(crate) incoming: Incoming,
    pub(crate) rules: &'static Rules,
    /// The name of the route.
    pub(crate) route: &'static str,
    /// The origin as `scheme://host`; `None` sends requests on to the zone's own origin.
    pub(crate) origin: Option<String>,
    /// Signs requests to the origin; `None` sends them unsigned.
    pub(crate) keys: Option<&'static Keys>,
    /// How answers under the names of assets are changed.
    pub(crate) assets: Option<Assets>,
    /// How many milliseconds the head of the origin's answer may take.
    pub(crate) timeout: Millis,
    pub(crate) context: Context,
}

/// Why the origin gave no answer.
pub(crate) enum Failure {
    Timeout,
    Unreachable(String),
}
