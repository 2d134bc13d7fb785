//! Job ids that can't be guessed, and that say whose they are without a record.

use crate::secrets::{Purpose, Secrets, random_hex};

/// 128 bits.
const RANDOM_BYTES: usize = 16;

/// Who may see a job: the caller's identity, or everybody who knows the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Option<String>);

impl Caller {
    fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or("").as_bytes()
    }

    fn kind(&self) -> &'static [u8] {
        if self.0.is_some() { b"caller" } else { b"open" }
    }

    /// Whether `owner` was made for this caller, by any key of the secret.
    pub fn is(&self, secrets: &Secrets, owner: &str) -> bool {
        secrets.verify(Purpose::Owner, &[self.kind(), self.bytes()], owner)
    }

    /// What is stored instead of the identity (often a session cookie).
    pub fn owner(&self, secrets: &Secrets) -> String {
        secrets.sign(Purpose::Owner, &[self.kind(), self.bytes()])
    }
}

/// What became of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It lies in a queue: `v1.…`
    Queued,
    /// Its execution goes on in the proxy that took it: `a1.…`
    Adopted,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Queued => "v1",
            Self::Adopted => "a1",
        }
    }

    /// Of any id.
    pub fn of(id: &str) -> Self {
        if id.starts_with("a1.") { Self::Adopted } else { Self::Queued }
    }
}

/// `<kind>.<milliseconds, hex>.<random>.<mac over kind, route, caller, time and random>`
///
/// # Errors
/// When the system gives no random bytes.
pub fn fresh(
    secrets: &Secrets,
    kind: Kind,
    route: &str,
    caller: &Caller,
    now: u64,
) -> std::io::Result<String> {
    let (kind, time, random) = (kind.name(), format!("{now:x}"), random_hex(RANDOM_BYTES)?);
    let mac = secrets.sign(Purpose::JobId, &parts(kind, route, caller, &time, &random));
    Ok(format!("{kind}.{time}.{random}.{mac}"))
}

fn parts<'a>(
    kind: &'a str,
    route: &'a str,
    caller: &'a Caller,
    time: &'a str,
    random: &'a str,
) -> [&'a [u8]; 6] {
    let caller: [&[u8]; 2] = [caller.kind(), caller.bytes()];
    [kind.as_bytes(), route.as_bytes(), caller[0], caller[1], time.as_bytes(), random.as_bytes()]
}

/// Whether the id was given to this caller on this route; the time it was given, in milliseconds.
pub fn verify(secrets: &Secrets, id: &str, route: &str, caller: &Caller) -> Option<u64> {
    let split: Vec<&str> = id.split('.').collect();
    let [kind @ ("v1" | "a1"), time, random, mac] = split.as_slice() else { return None };
    let parts = parts(kind, route, caller, time, random);
    let is_ours = secrets.verify(Purpose::JobId, &parts, mac);
    if is_ours { u64::from_str_radix(time, 16).ok() } else { None }
}

/// The id of a request with an `Idempotency-Key`: the same request gets the same job.
pub fn keyed(secrets: &Secrets, route: &str, caller: &Caller, key: &str) -> String {
    let parts = [route.as_bytes(), caller.kind(), caller.bytes(), key.as_bytes()];
    format!("k1.{}", secrets.sign(Purpose::JobId, &parts))
}

/// Whether the text can be a key of the store at all.
pub fn is_plausible(id: &str) -> bool {
    const CHARS_MAX: usize = 128;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !id.is_empty() && id.len() <= CHARS_MAX && id.bytes().all(legal) && !id.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_only_for_its_caller_and_route() {
        let secrets = Secrets::parse(&"s".repeat(32)).expect("long enough");
        let alice = Caller(Some("alice".into()));
        let id = fresh(&secrets, Kind::Queued, "reports", &alice, 1234).expect("random bytes");
        assert_eq!(verify(&secrets, &id, "reports", &alice), Some(1234));
        assert_eq!(verify(&secrets, &id, "reports", &Caller(Some("bob".into()))), None);
        assert_eq!(verify(&secrets, &id, "reports", &Caller(None)), None);
        assert_eq!(verify(&secrets, &id, "other", &alice), None);
        assert_eq!(verify(&secrets, &id.replace("v1.4d2", "v1.4d3"), "reports", &alice), None);
        assert_eq!(verify(&secrets, &id.replace("v1.", "a1."), "reports", &alice), None);
        assert!(is_plausible(&id));
    }

    #[test]
    fn a_caller_named_like_nobody_is_not_nobody() {
        let secrets = Secrets::parse(&"s".repeat(32)).expect("long enough");
        assert_ne!(Caller(Some(String::new())).owner(&secrets), Caller(None).owner(&secrets));
    }
}
