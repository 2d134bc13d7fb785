//! From when to when a certificate is valid.

use std::time::Duration;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};

/// A period in seconds since 1970; its first second is within it, its last is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub from: u64,
    pub until: u64,
}

impl Validity {
    pub fn contains(self, now: u64) -> bool {
        (self.from..self.until).contains(&now)
    }

    /// Reads the period of the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none, or it is no certificate.
    pub fn of(pem: &str) -> Result<Self, String> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| format!("the certificate: {error}"))?;
        let parsed = ParsedCertificate::try_from(&certificate)
            .map_err(|error| format!("the certificate: {error}"))?;
        // rustls names a bound when a time is beyond it, and looks there before it asks for trust.
        let verified = |seconds: u64| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let algorithms = ring::default_provider().signature_verification_algorithms.all;
            let roots = RootCertStore::empty();
            verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], at, algorithms)
        };
        let from = match verified(0) {
            Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) => not_before.as_secs(),
            _ => 0,
        };
        match verified(u64::MAX) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => Ok(Self { from, until: not_after.as_secs() }),
            other => Err(format!("the certificate has no end: {other:?}")),
        }
    }
}
