//! The keys that edge and sidecar share.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A shorter key can be guessed.
const KEY_CHARS_MIN: usize = 32;
/// More keys than this mean a forgotten rotation.
const KEYS_MAX: usize = 8;
/// Key ids travel with every request, so they are short.
const ID_CHARS_MAX: usize = 64;

/// The secret of one key. It has no `Debug`, so that it is never printed.
#[derive(Clone)]
pub(super) struct SigningKey(Vec<u8>);

impl SigningKey {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub(super) fn mac(&self, text: &str) -> Vec<u8> {
        let mac = self.started(text).map(|mac| mac.finalize().into_bytes().to_vec());
        mac.unwrap_or_default()
    }

    /// Compares in constant time.
    pub(super) fn is_mac(&self, text: &str, mac: &[u8]) -> bool {
        self.started(text).is_some_and(|own| own.verify_slice(mac).is_ok())
    }

    fn started(&self, text: &str) -> Option<Hmac<Sha256>> {
        // HMAC accepts keys of any length, so this never fails.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(text.as_bytes());
        Some(mac)
    }
}

/// Keys by their ids. The first one signs and all verify, so that a rotation interrupts nothing.
#[derive(Clone)]
pub struct Keys {
    first: (String, SigningKey),
    others: Vec<(String, SigningKey)>,
}

impl Keys {
    /// Parses `NAME=SECRET` pairs, one a line or separated by commas.
    ///
    /// # Errors
    /// What is wrong with the text and what to do. It never repeats a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<(String, SigningKey)> = Vec::new();
        for line in text.split(['\n', ',']).map(str::trim).filter(|line| !line.is_empty()) {
            let (id, key) = read(line)?;
            if keys.iter().any(|(other, _)| *other == id) {
                return Err(format!("the key {id} is given twice: give the new one another name"));
            }
            keys.push((id, key));
        }
        if keys.len() > KEYS_MAX {
            return Err(format!("more than {KEYS_MAX} keys: remove those that nobody signs with"));
        }
        let mut keys = keys.into_iter();
        let first = keys.next();
        let first = first.ok_or(
            "there is no key: write NAME=SECRET, the secret e.g. from `openssl rand -hex 32`",
        )?;
        Ok(Self { first, others: keys.collect() })
    }

    /// A key derived from the first one for another purpose; it reveals nothing about the first.
    pub(crate) fn derived(&self, purpose: &str) -> Vec<u8> {
        self.first.1.mac(purpose)
    }

    pub(super) fn first(&self) -> (&str, &SigningKey) {
        (&self.first.0, &self.first.1)
    }

    pub(super) fn named(&self, id: &str) -> Option<&SigningKey> {
        let mut all = std::iter::once(&self.first).chain(&self.others);
        all.find(|(own, _)| own == id).map(|(_, key)| key)
    }
}

fn read(line: &str) -> Result<(String, SigningKey), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let Some((id, secret)) = line.split_once('=') else {
        return Err("a key has no name: write NAME=SECRET".to_owned());
    };
    if id.is_empty() || id.len() > ID_CHARS_MAX || !id.chars().all(legal) {
        return Err(format!(
            "a key's name has up to {ID_CHARS_MAX} letters, digits, dots, dashes and underscores: 2026-11=…"
        ));
    }
    if secret.len() < KEY_CHARS_MIN {
        return Err(format!(
            "the key {id} is shorter than {KEY_CHARS_MIN} characters: use `openssl rand -hex 32`"
        ));
    }
    Ok((id.to_owned(), SigningKey::new(secret.as_bytes())))
}
