//! Keys derived from one root secret, and signatures made with them.
//!
//! The root comes from a file or the environment, never from `routes.toml`. It may contain several
//! keys, one a line: the first signs, all verify, so that a rotation interrupts nothing.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio_rustls::rustls::crypto::ring;

/// A shorter root key can be guessed.
const KEY_CHARS_MIN: usize = 32;
/// More keys than this mean a forgotten rotation.
const KEYS_MAX: usize = 8;
/// Bytes of a signature: 128 bits can't be guessed.
const MAC_BYTES: usize = 16;

/// The purpose of a derived key. A signature for one purpose is not valid for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    JobId,
    /// The route of a job.
    JobRoute,
    /// The token with which a foreign consumer ends a job.
    Outcome,
    /// The job and queue of a plain producer's message.
    Message,
    Owner,
    Hop,
    /// The signature of a live shard map.
    Map,
    Webhook,
    /// The name of a tenant in a queue.
    Tenant,
    /// The encryption of a client's credentials.
    Sealed,
    /// The name by which the root of a seal is found.
    KeyName,
    /// The value of a cookie that was sent with a job.
    Flash,
    /// The token with which the application reports a job's progress.
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
    /// Parses the root keys.
    ///
    /// # Errors
    /// What is wrong with the text and what to do.
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

    /// Signs the parts, which are length-prefixed, with the first key.
    pub fn sign(&self, purpose: Purpose, parts: &[&[u8]]) -> String {
        self.roots.first().map(|root| hex_mac(root, purpose, parts)).unwrap_or_default()
    }

    /// Whether any key made this signature.
    pub fn verify(&self, purpose: Purpose, parts: &[&[u8]], signature: &str) -> bool {
        self.roots
            .iter()
            .any(|root| same(hex_mac(root, purpose, parts).as_bytes(), signature.as_bytes()))
    }

    /// The sealing key for these parts, and the name of its root.
    pub fn sealing(&self, parts: &[&[u8]]) -> Option<(String, Vec<u8>)> {
        let root = self.roots.first()?;
        Some((key_name(root), mac(root, Purpose::Sealed.label(), parts)))
    }

    /// The opening keys of the roots with that name: one, or none.
    pub fn opening(&self, name: &str, parts: &[&[u8]]) -> impl Iterator<Item = Vec<u8>> {
        let named = self.roots.iter().filter(move |root| key_name(root) == name);
        named.map(move |root| mac(root, Purpose::Sealed.label(), parts))
    }

    /// The keys for a purpose, one of each root: the first signs, all verify.
    pub fn derived_all(&self, purpose: Purpose) -> Vec<Vec<u8>> {
        self.roots.iter().map(|root| mac(root, purpose.label(), &[])).collect()
    }

    /// The key for a purpose, for signatures in a standard's form.
    pub fn derived(&self, purpose: Purpose) -> Vec<u8> {
        self.roots.first().map(|root| mac(root, purpose.label(), &[])).unwrap_or_default()
    }
}

/// HMAC-SHA-256 of a message under a key.
pub fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC accepts keys of any length, so this can't fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// A short name that distinguishes keys, and reveals nothing about them.
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

/// Compares in constant time.
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |differ, (left, right)| differ | (left ^ right)) == 0
}

/// Replaces the system's random bytes on this thread, while a simulated schedule is running.
#[cfg(test)]
pub(crate) mod drawn {
    use std::cell::RefCell;

    /// Makes a number of bytes, in hex.
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
/// The system can't provide any.
pub fn random_hex(bytes: usize) -> std::io::Result<String> {
    #[cfg(test)]
    if let Some(drawn) = drawn::hex(bytes) {
        return Ok(drawn);
    }
    Ok(rules::hex::hex(&random(bytes)?))
}

/// A random part of a time, so that processes do not all do something together; half of it where the system
/// gives no random bytes.
pub fn random_part(time: std::time::Duration) -> std::time::Duration {
    let byte = random(1).ok().and_then(|bytes| bytes.first().copied()).unwrap_or(128);
    time.mul_f64(f64::from(byte) / 255.0)
}

/// Random bytes of the system, even where the device file is missing, as in an image from scratch
/// with a root of its own.
///
/// # Errors
/// The system can't provide any.
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
