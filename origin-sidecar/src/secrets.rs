//! Keys made from one root secret, and what is signed with them.
//!
//! The root comes from a file or the environment, never from `routes.toml`. It may hold several
//! keys, one a line: the first signs, all verify, so that a rotation breaks nothing.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio_rustls::rustls::crypto::ring;

/// A root key shorter than this can be guessed.
const KEY_CHARS_MIN: usize = 32;
/// More keys than this are a forgotten rotation.
const KEYS_MAX: usize = 8;
/// 128 bits can't be guessed.
const MAC_BYTES: usize = 16;

/// What a derived key is for; one use can't be passed off as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    JobId,
    /// Which route's a job is.
    JobRoute,
    /// What lets another's consumer end a job.
    Outcome,
    /// Of a plain producer's message: which job it is, and which queue's that is.
    Message,
    Owner,
    Hop,
    /// Of a live shard map.
    Map,
    Webhook,
    /// The name of a tenant in a queue.
    Tenant,
    /// What a client's credentials are sealed with.
    Sealed,
    /// The name by which a root is found that sealed something.
    KeyName,
    /// The value of a cookie that was sent with a job.
    Flash,
    /// What lets the app report the progress of a job.
    Progress,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::JobId => b"spillway job id",
            Self::JobRoute => b"spillway job route",
            Self::Outcome => b"spillway outcome",
            Self::Message => b"spillway message",
            Self::Owner => b"spillway owner",
            Self::Hop => b"spillway shard hop",
            Self::Map => b"spillway shard map",
            Self::Webhook => b"spillway webhook",
            Self::Tenant => b"spillway tenant",
            Self::Progress => b"spillway progress",
            Self::Sealed => b"spillway sealed",
            Self::Flash => b"spillway flash",
            Self::KeyName => b"spillway key name",
        }
    }
}

#[derive(Clone)]
pub struct Secrets {
    roots: Vec<Vec<u8>>,
}

impl Secrets {
    /// # Errors
    /// Says what is wrong with the text and what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let keys = text.split(['\n', ',']).map(str::trim).filter(|key| !key.is_empty());
        let roots: Vec<Vec<u8>> = keys.map(|key| key.as_bytes().to_vec()).collect();
        if roots.is_empty() {
            return Err("the secret is empty: write one key of 32 characters or more, e.g. from `openssl rand -hex 32`".into());
        }
        if roots.len() > KEYS_MAX {
            return Err(format!(
                "more than {KEYS_MAX} keys: remove those that nothing was signed with any more"
            ));
        }
        if roots.iter().any(|key| key.len() < KEY_CHARS_MIN) {
            return Err(format!(
                "a key is shorter than {KEY_CHARS_MIN} characters: use `openssl rand -hex 32`"
            ));
        }
        Ok(Self { roots })
    }

    /// Signs the parts with the first key; the parts are length-prefixed.
    pub fn sign(&self, purpose: Purpose, parts: &[&[u8]]) -> String {
        self.roots.first().map(|root| hex_mac(root, purpose, parts)).unwrap_or_default()
    }

    /// Whether any key gave this signature.
    pub fn verify(&self, purpose: Purpose, parts: &[&[u8]], signature: &str) -> bool {
        self.roots
            .iter()
            .any(|root| same(hex_mac(root, purpose, parts).as_bytes(), signature.as_bytes()))
    }

    /// The key that seals, made of the parts, and the name of the root that it comes from.
    pub fn sealing(&self, parts: &[&[u8]]) -> Option<(String, Vec<u8>)> {
        let root = self.roots.first()?;
        Some((key_name(root), mac(root, Purpose::Sealed.label(), parts)))
    }

    /// The keys of the roots of that name: one, or none.
    pub fn opening(&self, name: &str, parts: &[&[u8]]) -> impl Iterator<Item = Vec<u8>> {
        let named = self.roots.iter().filter(move |root| key_name(root) == name);
        named.map(move |root| mac(root, Purpose::Sealed.label(), parts))
    }

    /// The keys of a purpose, one of each root: the first signs, all verify.
    pub fn derived_all(&self, purpose: Purpose) -> Vec<Vec<u8>> {
        self.roots.iter().map(|root| mac(root, purpose.label(), &[])).collect()
    }

    /// The key of a purpose, for signatures whose form a standard gives.
    pub fn derived(&self, purpose: Purpose) -> Vec<u8> {
        self.roots.first().map(|root| mac(root, purpose.label(), &[])).unwrap_or_default()
    }
}

/// HMAC-SHA-256 of a message under a key.
pub fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length, so the error can't happen.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Short: it tells keys apart, and nothing of them.
fn key_name(root: &[u8]) -> String {
    const NAME_BYTES: usize = 4;
    let mac = mac(root, Purpose::KeyName.label(), &[]);
    rules::hex::hex(mac.get(..NAME_BYTES).unwrap_or(&mac))
}

fn hex_mac(root: &[u8], purpose: Purpose, parts: &[&[u8]]) -> String {
    let mac = mac(root, purpose.label(), parts);
    rules::hex::hex(mac.get(..MAC_BYTES).unwrap_or(&mac))
}

fn mac(root: &[u8], label: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::new();
    for part in parts {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part);
    }
    hmac(&hmac(root, label), &message)
}

/// Comparison in constant time.
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |differ, (left, right)| differ | (left ^ right)) == 0
}

/// What the system's random bytes are on this thread, while a schedule of the simulation says so.
#[cfg(test)]
pub(crate) mod drawn {
    use std::cell::RefCell;

    /// Makes so many bytes, in hex.
    pub(crate) type Source = Box<dyn FnMut(usize) -> String>;

    thread_local! {
        static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
    }

    pub(crate) fn set(source: Option<Source>) {
        SOURCE.set(source);
    }

    pub(super) fn hex(bytes: usize) -> Option<String> {
        SOURCE.with_borrow_mut(|source| source.as_mut().map(|draw| draw(bytes)))
    }
}

/// Random bytes of the system, in hex.
///
/// # Errors
/// When the system has none to give.
pub fn random_hex(bytes: usize) -> std::io::Result<String> {
    #[cfg(test)]
    if let Some(drawn) = drawn::hex(bytes) {
        return Ok(drawn);
    }
    Ok(rules::hex::hex(&random(bytes)?))
}

/// Random bytes of the system, also where it shows no device of that name: an image from scratch in a root of
/// its own has none.
///
/// # Errors
/// When the system has none to give.
pub fn random(bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let source = ring::default_provider().secure_random;
    source
        .fill(&mut buffer)
        .map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_rotation_old_signatures_are_still_known() {
        let old = Secrets::parse(&"o".repeat(32)).expect("long enough");
        let both = Secrets::parse(&format!("{}\n{}", "n".repeat(32), "o".repeat(32)))
            .expect("long enough");
        let signature = old.sign(Purpose::JobId, &[b"a", b"b"]);
        assert!(both.verify(Purpose::JobId, &[b"a", b"b"], &signature));
        assert!(!both.verify(Purpose::JobId, &[b"ab", b""], &signature));
        assert!(!both.verify(Purpose::Hop, &[b"a", b"b"], &signature));
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(Secrets::parse("short").is_err());
        assert!(Secrets::parse("\n").is_err());
    }
}
