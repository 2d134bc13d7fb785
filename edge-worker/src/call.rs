//! A request as it is carried out.

use crate::incoming::Incoming;
use rules::assets::Assets;
use rules::signature::Keys;
use rules::{Millis, Rules};
use worker::Context;

/// Cloudflare ends background work so long after the answer, in milliseconds; work that is older is dead, and must
/// not keep others from trying.
pub(crate) const BACKGROUND: Millis = Millis(30_000);

/// One request and what is needed to carry it out; shared with its background work.
pub(crate) struct Call {
    pub(crate) incoming: Incoming,
    pub(crate) rules: &'static Rules,
    /// Its name.
    pub(crate) route: &'static str,
    /// `scheme://host`; `None` sends on to the zone's own origin.
    pub(crate) origin: Option<String>,
    /// `None` sends requests unsigned.
    pub(crate) keys: Option<&'static Keys>,
    /// What is changed of answers under the names of assets.
    pub(crate) assets: Option<Assets>,
    /// Milliseconds until the origin's head must be there.
    pub(crate) timeout: Millis,
    pub(crate) context: Context,
}

/// Why the origin gave no answer.
pub(crate) enum Failure {
    Timeout,
    Unreachable(String),
}
