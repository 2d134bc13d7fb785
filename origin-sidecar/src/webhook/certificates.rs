//! Our own CA and leaf: how they are made, and when the next ones are due. Pure but for the random
//! numbers in a key.
//!
//! A rotation has three steps, so that at no time a certificate is served that an API server does
//! not know: the next CA is published beside the present one; after a while the next leaf is served;
//! the old CA stays published until the rotation after that.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use std::time::Duration;
use time::OffsetDateTime;

/// A certificate is valid from before it was made: clocks differ.
const SKEW_SECONDS: u64 = 3600;
/// How long a new CA is published before anything signed by it is served, at most. API servers
/// see a changed configuration within seconds.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// A leaf, and the CA that signed it. The CA's key is thrown away: it signs nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub ca: String,
    pub certificate: String,
    pub key: String,
    /// Seconds since 1970.
    pub made_at: u64,
}

/// What all replicas share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub serving: Issued,
    pub next: Option<Issued>,
    pub previous_ca: Option<String>,
}

impl Kept {
    /// Every CA that an API server should know now.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map_or("", |next| next.ca.as_str());
        [&self.serving.ca, next, self.previous_ca.as_deref().unwrap_or_default()].concat()
    }
}

/// For whom certificates are made, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The names under which API servers call.
    pub names: Vec<String>,
    pub lifetime: Duration,
}

impl Plan {
    fn settle(&self) -> u64 {
        (self.lifetime / 30).min(SETTLE_MAX).as_secs()
    }

    /// What should be kept from now on, if that is something else than now.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn step(&self, kept: Option<&Kept>, now: u64) -> Result<Option<Kept>, Error> {
        let lifetime = self.lifetime.as_secs();
        let Some(kept) = kept else {
            let serving = self.issue(now)?;
            return Ok(Some(Kept { serving, next: None, previous_ca: None }));
        };
        let previous_ca = Some(kept.serving.ca.clone());
        let age = now.saturating_sub(kept.serving.made_at);
        match &kept.next {
            // Nobody was there to rotate: whatever is published, the old one serves no longer.
            _ if age >= lifetime => {
                Ok(Some(Kept { serving: self.issue(now)?, next: None, previous_ca }))
            }
            None if age >= lifetime / 3 * 2 => {
                Ok(Some(Kept { next: Some(self.issue(now)?), ..kept.clone() }))
            }
            Some(next) if now.saturating_sub(next.made_at) >= self.settle() => {
                Ok(Some(Kept { serving: next.clone(), next: None, previous_ca }))
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
        // The time tells two apart: an API server looks a CA up by its name.
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
        })
    }
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

    fn stepped(kept: Option<&Kept>, now: u64) -> Option<Kept> {
        plan().step(kept, now).expect("random numbers")
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
    fn what_has_expired_is_replaced_at_once() {
        let first = stepped(None, START).expect("made");
        let late = stepped(Some(&first), START + 90 * DAY).expect("expired");
        assert_ne!(late.serving, first.serving);
        assert_eq!(late.next, None);
    }
}
