//! Answers that are stored for the bearer of a token (`headers = ["Authorization"]`) and for nobody
//! else. The key of such an answer contains a keyed hash of the token; the token itself is stored
//! nowhere.

use super::freshness::Windows;
use super::plan::{AUTHORIZATION, Plan};
use crate::document::Cache;
use crate::head::{Head, joined};
use crate::hex::hex;
use crate::signature::Keys;
use crate::time::Millis;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Separates this use of the edge's keys from others, so that a hash is of no use elsewhere.
const PURPOSE: &str = "spillway cached token";
/// How long past its lifetime a sealed answer may be used, in milliseconds. A revoked token can
/// read it no longer than this, whatever the rule says about errors.
const STALE_MAX: Millis = Millis(10_000);

/// The key with which tokens are hashed. It has no `Debug`, so that it is never printed.
#[derive(Clone)]
pub struct TokenKey(Vec<u8>);

impl TokenKey {
    /// A key of this process. The caller draws 32 random bytes, which are as strong as the hash.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The key of an edge, whose entries outlive the process: all instances with the same signing
    /// keys share it.
    pub fn of_edge(keys: &Keys) -> Self {
        Self(keys.derived(PURPOSE))
    }

    fn hash(&self, token: &str) -> Option<String> {
        // HMAC accepts keys of any length, so this never fails.
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
    /// Whether the request has a token and the rule stores answers for its bearer. Nothing is
    /// stored or looked up for it until the plan is [sealed](Self::seal).
    pub fn has_token(&self) -> bool {
        self.has_authorization && is_keyed_by_token(&self.rule)
    }

    /// Adds the keyed hash of the request's token to the key.
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

/// Limits how long a stale answer for one bearer may be used.
pub(super) fn cut(windows: Windows) -> Windows {
    Windows {
        stale_while_revalidate: windows.stale_while_revalidate.min(STALE_MAX),
        stale_if_error: windows.stale_if_error.min(STALE_MAX),
        disconnected: windows.disconnected.min(STALE_MAX),
        ..windows
    }
}
