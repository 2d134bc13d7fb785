//! Encrypts a client's credentials on their way through queue and store.
//!
//! AES-256-GCM with a key for each job (HMAC-SHA-256 of the root over the job's id and 32 random
//! bytes), so that no nonce is ever used twice. The seal is bound to the job: it can't be opened
//! when it is moved to another message, or when the request for which the credentials are used is
//! changed.

use crate::secrets::{Secrets, random};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rules::UnixMillis;
use std::io;

/// Random bytes of the key, besides the job's id.
const SALT_BYTES: usize = 32;
/// The version of the text form; no other is read.
const FORM: &str = "s1";

/// The scope of a seal: the request of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SealScope<'a> {
    pub id: &'a str,
    pub queue: &'a str,
    pub route: &'a str,
    pub method: &'a str,
    pub host: &'a str,
    pub target: &'a str,
    /// The SHA-256 of the body.
    pub body: &'a [u8; 32],
}

/// Why a seal can't be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It belongs to another request or another secret, or was changed.
    Broken,
    Expired,
}

impl Unopened {
    /// The reason for which the job fails.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Broken => "seal-broken",
            Self::Expired => "credentials-expired",
        }
    }
}

impl SealScope<'_> {
    /// The authenticated data: each part with its length, so that no two requests have the same.
    fn data(&self, expiry: UnixMillis) -> Vec<u8> {
        let expiry = expiry.0.to_be_bytes();
        let parts: [&[u8]; 8] = [
            self.id.as_bytes(),
            self.queue.as_bytes(),
            self.route.as_bytes(),
            self.method.as_bytes(),
            self.host.as_bytes(),
            self.target.as_bytes(),
            self.body,
            &expiry,
        ];
        let mut data = Vec::new();
        for part in parts {
            data.extend_from_slice(&(part.len() as u64).to_be_bytes());
            data.extend_from_slice(part);
        }
        data
    }
}

/// Seals: `s1.<name of the root>.<salt>.<expiry, milliseconds since 1970>.<ciphertext>`.
///
/// # Errors
/// The system gives no random bytes.
pub(super) fn seal(
    secrets: &Secrets,
    bound: &SealScope<'_>,
    expiry: UnixMillis,
    mut plain: Vec<u8>,
) -> io::Result<String> {
    let salt = random(SALT_BYTES)?;
    let key = secrets.sealing(&[bound.id.as_bytes(), &salt]);
    let (name, key) = key.ok_or_else(|| io::Error::other("no secret to seal with"))?;
    let failed = |_| io::Error::other("sealing failed");
    cipher(&key)
        .and_then(|key| {
            key.seal_in_place_append_tag(nonce(), Aad::from(bound.data(expiry)), &mut plain)
        })
        .map_err(failed)?;
    Ok(format!("{FORM}.{name}.{}.{}.{}", BASE64.encode(salt), expiry.0, BASE64.encode(plain)))
}

/// Opens a seal that was made for exactly this request and is valid at `now`, in milliseconds since
/// 1970.
///
/// # Errors
/// Why it can't be opened.
pub(super) fn open(
    secrets: &Secrets,
    bound: &SealScope<'_>,
    text: &str,
    now: UnixMillis,
) -> Result<Vec<u8>, Unopened> {
    let parts: Vec<&str> = text.split('.').collect();
    let [FORM, name, salt, expiry, sealed] = parts.as_slice() else { return Err(Unopened::Broken) };
    let salt = BASE64.decode(salt).map_err(|_| Unopened::Broken)?;
    let sealed = BASE64.decode(sealed).map_err(|_| Unopened::Broken)?;
    let expiry = UnixMillis(expiry.parse().map_err(|_| Unopened::Broken)?);
    let of_job = [bound.id.as_bytes(), salt.as_slice()];
    let mut keys = secrets.opening(name, &of_job);
    let opened = keys.find_map(|key| opened(&key, bound.data(expiry), sealed.clone()));
    let plain = opened.ok_or(Unopened::Broken)?;
    // Checked only for an authentic seal: anybody can write a time.
    if expiry < now { Err(Unopened::Expired) } else { Ok(plain) }
}

fn opened(key: &[u8], data: Vec<u8>, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    let plain = cipher(key).ok()?.open_in_place(nonce(), Aad::from(data), &mut sealed).ok()?.len();
    sealed.truncate(plain);
    Some(sealed)
}

fn cipher(key: &[u8]) -> Result<LessSafeKey, ring::error::Unspecified> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new)
}

/// A constant: each key seals once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: SealScope<'_> = SealScope {
        id: "v1.1",
        queue: "work",
        route: "reports",
        method: "POST",
        host: "app.example",
        target: "/reports?x=1",
        body: &[1; 32],
    };
    const BOB: SealScope<'_> = SealScope {
        id: "v1.2",
        queue: "rest",
        route: "admin",
        method: "PUT",
        host: "b.example",
        target: "/",
        body: &[2; 32],
    };

    fn secrets(key: &str) -> Secrets {
        Secrets::parse(&key.repeat(32)).expect("long enough")
    }

    #[test]
    fn what_is_sealed_is_opened_for_the_same_request_until_it_expires() {
        let sealed =
            seal(&secrets("s"), &ALICE, UnixMillis(100), b"cookie".to_vec()).expect("random bytes");
        assert_eq!(
            open(&secrets("s"), &ALICE, &sealed, UnixMillis(100)).as_deref(),
            Ok(&b"cookie"[..])
        );
        assert_eq!(open(&secrets("s"), &ALICE, &sealed, UnixMillis(101)), Err(Unopened::Expired));
        let again =
            seal(&secrets("s"), &ALICE, UnixMillis(100), b"cookie".to_vec()).expect("random bytes");
        assert_ne!(sealed, again);
        assert!(!sealed.contains("cookie"));
    }

    #[test]
    fn no_part_of_one_job_can_stand_in_anothers() {
        let sealed =
            seal(&secrets("s"), &ALICE, UnixMillis(100), b"cookie".to_vec()).expect("random bytes");
        for other in [
            SealScope { id: BOB.id, ..ALICE },
            SealScope { queue: BOB.queue, ..ALICE },
            SealScope { route: BOB.route, ..ALICE },
            SealScope { method: BOB.method, ..ALICE },
            SealScope { host: BOB.host, ..ALICE },
            SealScope { target: BOB.target, ..ALICE },
            SealScope { body: BOB.body, ..ALICE },
            BOB,
        ] {
            assert_eq!(
                open(&secrets("s"), &other, &sealed, UnixMillis(0)),
                Err(Unopened::Broken),
                "{other:?}"
            );
        }
        let later = sealed.replace(".100.", ".101.");
        assert_eq!(open(&secrets("s"), &ALICE, &later, UnixMillis(0)), Err(Unopened::Broken));
    }

    #[test]
    fn a_changed_seal_is_broken_wherever_it_was_changed() {
        let sealed =
            seal(&secrets("s"), &ALICE, UnixMillis(100), b"cookie".to_vec()).expect("random bytes");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(
                open(&secrets("s"), &ALICE, &changed, UnixMillis(0)),
                Err(Unopened::Broken),
                "{changed}"
            );
            let cut = sealed.get(..at).unwrap_or_default();
            assert_eq!(
                open(&secrets("s"), &ALICE, cut, UnixMillis(0)),
                Err(Unopened::Broken),
                "{cut}"
            );
        }
    }

    #[test]
    fn all_keys_open_what_the_first_one_sealed() {
        let old = secrets("o");
        let both = Secrets::parse(&format!("{}\n{}", "n".repeat(32), "o".repeat(32)));
        let both = both.expect("long enough");
        let sealed = seal(&old, &ALICE, UnixMillis(100), b"cookie".to_vec()).expect("random bytes");
        assert!(open(&both, &ALICE, &sealed, UnixMillis(0)).is_ok());
        let newer = seal(&both, &ALICE, UnixMillis(100), b"cookie".to_vec()).expect("random bytes");
        assert_eq!(open(&old, &ALICE, &newer, UnixMillis(0)), Err(Unopened::Broken));
        assert_eq!(open(&secrets("x"), &ALICE, &sealed, UnixMillis(0)), Err(Unopened::Broken));
    }

    /// Arbitrary text in place of a seal: parts of one in any order, and noise.
    #[test]
    fn text_that_is_no_seal_is_broken_and_nothing_worse() {
        let sealed =
            seal(&secrets("s"), &ALICE, UnixMillis(100), b"cookie".to_vec()).expect("random bytes");
        let mut pieces: Vec<&str> = sealed.split('.').collect();
        pieces.extend([
            "",
            ".",
            "s1",
            "-1",
            "18446744073709551616",
            "\u{e9}",
            "=",
            "AAAA",
            "store",
        ]);
        let mut state = 1_u64;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap_or(0) % below
        };
        for _ in 0..50_000 {
            let drawn: Vec<&str> = (0..draw(8)).map(|_| pieces[draw(pieces.len())]).collect();
            let text = drawn.join(["", ".", ".."][draw(3)]);
            let opened = open(&secrets("s"), &ALICE, &text, UnixMillis(0));
            assert_eq!(opened.is_ok(), text == sealed, "{text}");
        }
    }
}
