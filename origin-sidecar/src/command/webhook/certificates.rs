//! The webhook's own CA and certificate: how they are issued and rotated. Pure, except for the
//! random numbers in a key.
//!
//! A rotation has three steps, so that API servers know every certificate that is served: the next
//! CA is published beside the current one; after a while the next certificate is served; the old CA
//! stays published until the following rotation.

use net::tls::Validity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use std::time::Duration;
use time::OffsetDateTime;

/// A certificate is valid from this long before it was issued, because clocks differ.
const SKEW_SECONDS: u64 = 3600;
/// How long a new CA is published at most before a certificate of it is served. API servers see a
/// changed configuration within seconds.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// An unusable pair is replaced once in this many seconds, by all replicas together: replicas that
/// do not agree about the time must not replace each other's for ever.
const REPLACE_SECONDS: u64 = 600;

/// A certificate, and the CA that signed it. The CA's key is discarded: it signs nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub ca: String,
    pub certificate: String,
    pub key: String,
    /// When it was issued, in seconds since 1970.
    pub made_at: u64,
    /// The validity that the certificate itself states.
    pub validity: Validity,
}

/// The certificates that all replicas share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedCertificates {
    pub serving: Issued,
    pub next: Option<Issued>,
    pub previous_ca: Option<String>,
}

impl SharedCertificates {
    /// Every CA that an API server should trust now.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map_or("", |next| next.ca.as_str());
        [&self.serving.ca, next, self.previous_ca.as_deref().unwrap_or_default()].concat()
    }
}

/// The content of the Secret.
#[derive(Debug, Clone, Copy)]
pub enum Found<'k> {
    /// Nothing has been issued yet.
    Nothing,
    /// The content is unusable: a key of another certificate, or incomplete text.
    Broken,
    Kept(&'k SharedCertificates),
}

/// The certificates to store from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub kept: SharedCertificates,
    /// Whether they replace unusable ones; the Secret contains the time of the last replacement.
    pub is_replacement: bool,
}

/// The names and the lifetime of certificates.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The names under which API servers call.
    pub names: Vec<String>,
    pub lifetime: Duration,
}

impl Plan {
    /// How long a new CA is published before a certificate of it is served.
    pub fn settle(&self) -> Duration {
        (self.lifetime / 30).min(SETTLE_MAX)
    }

    /// The next step of the rotation, if one is due. `replaced_at` is when unusable certificates
    /// were last replaced.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn step(
        &self,
        found: Found<'_>,
        replaced_at: Option<u64>,
        now: u64,
    ) -> Result<Option<Step>, Error> {
        let is_recent = replaced_at.is_some_and(|at| now.abs_diff(at) < REPLACE_SECONDS);
        let replaced = |previous_ca: Option<String>| {
            if is_recent {
                return Ok(None);
            }
            let kept = SharedCertificates { serving: self.issue(now)?, next: None, previous_ca };
            Ok(Some(Step { kept, is_replacement: true }))
        };
        let usual = |kept: SharedCertificates| Ok(Some(Step { kept, is_replacement: false }));
        let kept = match found {
            Found::Nothing => {
                return usual(SharedCertificates {
                    serving: self.issue(now)?,
                    next: None,
                    previous_ca: None,
                });
            }
            Found::Broken => return replaced(None),
            Found::Kept(kept) => kept,
        };
        let previous_ca = Some(kept.serving.ca.clone());
        // A certificate from the future was issued by a replica whose clock was ahead; an expired
        // one was not rotated in time. Both are unusable, whatever is published.
        if !kept.serving.validity.contains(now) {
            return replaced(previous_ca);
        }
        let Validity { until, .. } = kept.serving.validity;
        let made_at = kept.serving.made_at;
        let lifetime = until.saturating_sub(made_at).min(self.lifetime.as_secs());
        match &kept.next {
            Some(next) if !next.validity.contains(now) => {
                usual(SharedCertificates { next: None, ..kept.clone() })
            }
            Some(next) if now.saturating_sub(next.made_at) >= self.settle().as_secs() => {
                usual(SharedCertificates { serving: next.clone(), next: None, previous_ca })
            }
            None if now.saturating_sub(made_at) >= lifetime / 3 * 2 => {
                usual(SharedCertificates { next: Some(self.issue(now)?), ..kept.clone() })
            }
            _ => Ok(None),
        }
    }

    fn issue(&self, now: u64) -> Result<Issued, Error> {
        let from = instant(now.saturating_sub(SKEW_SECONDS));
        let until = instant(now + self.lifetime.as_secs());
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        // The time makes the name unique: an API server looks a CA up by its name.
        ca.distinguished_name.push(DnType::CommonName, format!("spillway-webhook-ca-{now}"));
        (ca.not_before, ca.not_after) = (from, until);
        let ca_certificate = ca.self_signed(&ca_key)?;

        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new(self.names.clone())?;
        leaf.distinguished_name.push(DnType::CommonName, "spillway-webhook");
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        (leaf.not_before, leaf.not_after) = (from, until);
        let certificate = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key))?;
        Ok(Issued {
            ca: ca_certificate.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            made_at: now,
            validity: Validity {
                from: now.saturating_sub(SKEW_SECONDS),
                until: now + self.lifetime.as_secs(),
            },
        })
    }
}

/// A clock that differs by more seconds than this is not trusted at all.
pub const OFFSET_MAX_SECONDS: i64 = 300;

/// Why the time is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disagreement {
    /// The API server has not answered yet.
    NoAnswer,
    /// Our clock is ahead of the API server's by this many seconds.
    Offset(i64),
}

impl std::fmt::Display for Disagreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoAnswer => write!(f, "the API server has not said what time it is"),
            Self::Offset(seconds) => {
                write!(f, "this clock is {seconds} s ahead of the API server's: nothing is issued")
            }
        }
    }
}

/// The time of the API server, which decides what is valid.
///
/// # Errors
/// The API server has not answered, or the two clocks are too far apart to trust either.
pub fn agreed(own: u64, theirs: Option<u64>) -> Result<u64, Disagreement> {
    let theirs = theirs.ok_or(Disagreement::NoAnswer)?;
    let offset = i64::try_from(own).unwrap_or(i64::MAX) - i64::try_from(theirs).unwrap_or(i64::MAX);
    if offset.abs() > OFFSET_MAX_SECONDS { Err(Disagreement::Offset(offset)) } else { Ok(theirs) }
}

fn instant(seconds: u64) -> OffsetDateTime {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;
    const START: u64 = 1_800_000_000;

    fn plan() -> Plan {
        let names = vec!["webhook.spillway.svc".to_owned()];
        Plan { names, lifetime: Duration::from_secs(90 * DAY) }
    }

    fn stepped(kept: Option<&SharedCertificates>, now: u64) -> Option<SharedCertificates> {
        let found = kept.map_or(Found::Nothing, Found::Kept);
        plan().step(found, None, now).expect("random numbers").map(|step| step.kept)
    }

    #[test]
    fn what_is_written_down_of_a_certificate_is_what_it_says() {
        let issued = plan().issue(START).expect("made");
        assert_eq!(Validity::of(&issued.certificate), Ok(issued.validity));
        assert_eq!(Validity::of(&issued.ca), Ok(issued.validity));
        assert!(
            Validity::of("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----").is_err()
        );
        assert!(Validity::of(&issued.key).is_err());
    }

    #[test]
    fn a_leaf_is_served_only_after_its_ca_was_published() {
        let first = stepped(None, START).expect("made");
        assert_eq!(stepped(Some(&first), START + 59 * DAY), None, "not due");
        let due = START + 60 * DAY;
        let second = stepped(Some(&first), due).expect("due at two thirds");
        assert_eq!(second.serving, first.serving);
        let next = second.next.clone().expect("the next pair");
        assert!(second.bundle().contains(&first.serving.ca) && second.bundle().contains(&next.ca));
        assert_eq!(stepped(Some(&second), due + 59), None, "not yet known everywhere");
        let third = stepped(Some(&second), due + 60).expect("settled");
        assert_eq!((third.serving.clone(), third.next.clone()), (next, None));
        assert!(third.bundle().contains(&first.serving.ca), "another replica may still serve it");
    }

    #[test]
    fn the_oldest_ca_goes_with_the_rotation_after_next() {
        let mut kept = stepped(None, START).expect("made");
        let first = kept.serving.ca.clone();
        for rotation in 1..=2 {
            kept = stepped(Some(&kept), START + rotation * 61 * DAY).expect("due");
            kept = stepped(Some(&kept), START + rotation * 61 * DAY + 60).expect("settled");
        }
        assert!(!kept.bundle().contains(&first));
        assert_eq!(kept.bundle().matches("BEGIN CERTIFICATE").count(), 2);
    }

    #[test]
    fn what_has_expired_or_has_not_begun_is_replaced_at_once() {
        for made_at in [START - 90 * DAY, START + 400 * DAY, START + SKEW_SECONDS + 1] {
            let unusable = stepped(None, made_at).expect("made");
            let now = stepped(Some(&unusable), START).expect("nobody can use it");
            assert_eq!((now.serving.made_at, now.next.clone()), (START, None));
            assert!(now.bundle().contains(&unusable.serving.ca));
        }
        let ahead = stepped(None, START + SKEW_SECONDS - 1).expect("made");
        assert_eq!(stepped(Some(&ahead), START), None, "it is valid");
    }

    #[test]
    fn what_was_made_for_a_shorter_time_is_rotated_by_its_own() {
        let short = Plan { lifetime: Duration::from_secs(DAY), ..plan() };
        let kept = short.step(Found::Nothing, None, START).expect("random").expect("made").kept;
        assert_eq!(stepped(Some(&kept), START + DAY / 2), None);
        let due = stepped(Some(&kept), START + DAY * 2 / 3).expect("due");
        assert!(due.next.is_some());
        assert_ne!(stepped(Some(&kept), START + DAY).expect("ended").serving, kept.serving);
    }

    #[test]
    fn what_nobody_can_use_is_replaced_once_in_ten_minutes() {
        let ahead = stepped(None, START + 400 * DAY).expect("made");
        for found in [Found::Broken, Found::Kept(&ahead)] {
            let step = |replaced_at, now| plan().step(found, replaced_at, now).expect("random");
            let first = step(None, START).expect("replaced");
            assert!(first.is_replacement);
            assert_eq!(step(Some(START), START + REPLACE_SECONDS - 1), None);
            assert_eq!(step(Some(START + 60), START), None, "by somebody whose clock is ahead");
            assert!(step(Some(START), START + REPLACE_SECONDS).is_some());
        }
    }

    #[test]
    fn a_next_pair_that_nobody_can_use_is_dropped_and_made_anew() {
        let mut kept = stepped(None, START).expect("made");
        let due = START + 61 * DAY;
        kept.next = Some(plan().issue(due + 400 * DAY).expect("made"));
        let dropped = stepped(Some(&kept), due).expect("a change");
        assert_eq!((dropped.serving.clone(), dropped.next.clone()), (kept.serving, None));
        let again = stepped(Some(&dropped), due).expect("made anew");
        assert_eq!(again.next.expect("the next pair").made_at, due);
    }

    /// Three replicas: one is 400 days ahead, one is behind. Each asks the API server for the time.
    #[test]
    fn replicas_with_wrong_clocks_change_nothing_and_what_one_did_before_is_mended_once() {
        let days = [0, 400, -400_i64];
        // Issued by a replica that did not compare clocks yet.
        let mut kept = stepped(None, START + 400 * DAY).expect("made");
        let (mut replaced_at, mut writes) = (None, 0);
        for seconds in (0..3600).step_by(10) {
            let now = START + seconds;
            for ahead in days {
                let own = now.checked_add_signed(ahead * DAY as i64).expect("a time");
                let Ok(now) = agreed(own, Some(now)) else { continue };
                let step = plan().step(Found::Kept(&kept), replaced_at, now).expect("random");
                if let Some(step) = step {
                    writes += 1;
                    replaced_at = step.is_replacement.then_some(now).or(replaced_at);
                    kept = step.kept;
                }
            }
        }
        assert_eq!(writes, 1);
        assert!(kept.serving.validity.contains(START + 3600));
    }

    #[test]
    fn an_offset_within_five_minutes_is_taken_off_and_more_is_told() {
        assert_eq!(agreed(START + 299, Some(START)), Ok(START));
        assert_eq!(agreed(START - 300, Some(START)), Ok(START));
        assert_eq!(agreed(START + 301, Some(START)), Err(Disagreement::Offset(301)));
        assert_eq!(agreed(START - 301, Some(START)), Err(Disagreement::Offset(-301)));
        assert_eq!(agreed(START, None), Err(Disagreement::NoAnswer));
    }
}
