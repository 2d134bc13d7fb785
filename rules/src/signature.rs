//! The edge signs requests, and the sidecar verifies them (RFC 9421, hmac-sha256).
//!
//! The signature covers method, authority, path and query, with a time, an expiry and a nonce, and
//! the host that the visitor asked for where the edge states it. TLS protects bodies and other
//! fields. Both halves use this module, so that they can't differ.
//!
//! HMAC comes from a crate, not from WebCrypto at the edge: WebCrypto is asynchronous, and waiting
//! for it costs more than hashing these few hundred bytes.

mod base;
mod invalid;
mod keys;
mod member;
mod nonces;
#[cfg(test)]
mod tests;

use crate::time::UnixMillis;
pub use invalid::Invalid;
pub use keys::Keys;
pub use member::{Member, part};
pub use nonces::Nonces;

use crate::head::{Head, has};
use crate::visitor;
use base::base;
use invalid::{LIFETIME_S, SKEW_S};
use member::Parameters;

/// Components that must be signed.
const COMPONENTS: [&str; 4] = ["@method", "@authority", "@path", "@query"];
/// Fields that must be signed where they are present.
const FIELDS: [&str; 2] = [visitor::HOST, visitor::SCHEME];
/// Signs with the first key. `now` is in milliseconds since 1970; `nonce` must be new for each
/// request and consist of letters, digits and dashes.
pub fn sign(keys: &Keys, head: &Head<'_>, nonce: &str, now: UnixMillis) -> Member {
    let (id, key) = keys.first();
    let created = seconds(now);
    let expires = created.saturating_add(LIFETIME_S);
    let names: Vec<&str> = required(head).collect();
    let listed: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let listed = listed.join(" ");
    let parameters =
        format!("({listed});created={created};expires={expires};nonce=\"{nonce}\";keyid=\"{id}\"");
    // Each of these components is present exactly once.
    let base = base(head, &names, &parameters).unwrap_or_default();
    Member::new(&parameters, &key.mac(&base))
}

/// Verifies the request's signature with the known keys. `now` is in milliseconds since 1970. The
/// returned number identifies the signature: copies of a request have the same one, by which
/// [`Nonces`] finds them.
///
/// # Errors
/// The reason why the signature is not valid.
pub fn verify(
    keys: &Keys,
    head: &Head<'_>,
    member: &Member,
    now: UnixMillis,
) -> Result<u64, Invalid> {
    let (parameters, mac) = member.read()?;
    let key = keys.named(&parameters.key_id).ok_or(Invalid::UnknownKey)?;
    if parameters.algorithm.as_deref().is_some_and(|name| name != "hmac-sha256") {
        return Err(Invalid::WrongAlgorithm);
    }
    let names: Vec<&str> = parameters.components.iter().map(String::as_str).collect();
    if required(head).any(|name| !names.contains(&name)) {
        return Err(Invalid::WrongComponents);
    }
    in_time(&parameters, seconds(now))?;
    let base = base(head, &names, &parameters.text).ok_or(Invalid::WrongComponents)?;
    if !key.is_mac(&base, &mac) {
        return Err(Invalid::Mismatch);
    }
    let start = mac.first_chunk().copied().unwrap_or_default();
    Ok(u64::from_be_bytes(start))
}

/// The components that a signature of this request must cover.
fn required<'a>(head: &'a Head<'_>) -> impl Iterator<Item = &'static str> + 'a {
    let fields = FIELDS.into_iter().filter(|name| has(head.fields, name));
    COMPONENTS.into_iter().chain(fields)
}

fn in_time(parameters: &Parameters, now: i64) -> Result<(), Invalid> {
    let Parameters { created, expires, .. } = *parameters;
    let lifetime = expires.saturating_sub(created);
    if !(0..=LIFETIME_S).contains(&lifetime) {
        return Err(Invalid::TooLongLived);
    }
    if created > now.saturating_add(SKEW_S) {
        return Err(Invalid::NotYetValid);
    }
    if expires < now.saturating_sub(SKEW_S) {
        return Err(Invalid::Expired);
    }
    Ok(())
}

fn seconds(moment: UnixMillis) -> i64 {
    i64::try_from(moment.as_secs()).unwrap_or(i64::MAX)
}
