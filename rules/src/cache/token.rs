//! Answers that are kept for the bearer of a token (`headers = ["Authorization"]`) and for nobody else. The
//! key of such an answer holds a keyed hash in the place of the token, which so stands nowhere.

use super::freshness::Windows;
use super::plan::{AUTHORIZATION, Plan};
use crate::document::Cache;
use crate::head::{Head, joined};
use crate::hex::hex;
use crate::signature::Keys;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What the edge's keys are used for here, so that no hash means anything elsewhere.
const PURPOSE: &str = "spillway cached token";
/// A token that was withdrawn reads on for so long past its answer's lifetime, and no longer, whatever the
/// rule says of errors. Milliseconds.
const STALE_MAX_MS: u64 = 10_000;

/// What tokens are hashed with. Never printed: it has no `Debug`.
#[derive(Clone)]
pub struct TokenKey(Vec<u8>);

impl TokenKey {
    /// A key of this process, which the caller has drawn: 32 bytes are as strong as the hash.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// That of an edge, whose entries outlive the process: the same for all that have the same keys.
    pub fn of_edge(keys: &Keys) -> Self {
        Self(keys.derived(PURPOSE))
    }

    fn hash(&self, token: &str) -> Option<String> {
        // HMAC takes keys of any length, so there is always one.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(token.as_bytes());
        Some(hex(&mac.finalize().into_bytes()))
    }
}

/// Whether the rule keeps answers for bearers of tokens.
pub(crate) fn is_keyed_by_token(rule: &Cache) -> bool {
    rule.headers.iter().any(|name| name == AUTHORIZATION)
}

impl Plan<'_> {
    /// Whether the request has a token and the rule keeps an answer for its bearer. Until the plan is
    /// [sealed](Self::seal) nothing is stored for it, nor found.
    pub fn has_token(&self) -> bool {
        self.has_authorization && is_keyed_by_token(&self.rule)
    }

    /// Puts the request's token into the key.
    pub fn seal(&mut self, key: &TokenKey, request: &Head<'_>) {
        if !self.has_token() || self.is_sealed {
            return;
        }
        if let Some(hash) = joined(request.fields, AUTHORIZATION).and_then(|it| key.hash(&it)) {
            self.key.push_str("token:");
            self.key.push_str(&hash);
            self.is_sealed = true;
        }
    }
}

/// How long an answer for one bearer may be used once it is stale.
pub(super) fn cut(windows: Windows) -> Windows {
    Windows {
        stale_while_revalidate: windows.stale_while_revalidate.min(STALE_MAX_MS),
        stale_if_error: windows.stale_if_error.min(STALE_MAX_MS),
        disconnected: windows.disconnected.min(STALE_MAX_MS),
        ..windows
    }
}
