//! TLS at both ends.
//!
//! The served certificate is exchanged while the process runs: a handshake gets the current one, and open
//! connections keep theirs.

mod authorities;
mod validity;

pub use authorities::Authorities;
pub use validity::Validity;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

/// What a mounted Secret of type kubernetes.io/tls calls its two files.
pub const CERTIFICATE_FILE: &str = "tls.crt";
pub const KEY_FILE: &str = "tls.key";

#[derive(Debug, Default)]
pub struct Certificates {
    /// The certificate, with the PEM texts it was made of, by which a change is noticed.
    current: RwLock<Option<(String, Arc<CertifiedKey>)>>,
}

impl Certificates {
    /// Serves this certificate from the next handshake on. Returns whether it is another one than before.
    ///
    /// # Errors
    /// When certificate and key are none, or do not belong together.
    pub fn serve(&self, certificate: &str, key: &str) -> Result<bool, String> {
        let is_same = |(known, _): &(String, Arc<CertifiedKey>)| known == certificate;
        if self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(is_same)
        {
            return Ok(false);
        }
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let chain = chain.map_err(|error| format!("the certificate: {error}"))?;
        if key.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || key.contains("\nDEK-Info:") {
            return Err(
                "the key is encrypted: nobody is there to give its passphrase, so store it without"
                    .to_owned(),
            );
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| format!("the key: {error}"))?;
        let why_not = why_not(&key);
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| why_not.unwrap_or_else(|| format!("certificate and key: {error}")))?;
        let new = Some((certificate.to_owned(), Arc::new(certified)));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(true)
    }

    /// The validity of the served certificate; none where nothing is served.
    pub fn validity(&self) -> Option<Validity> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().and_then(|(certificate, _)| Validity::of(certificate).ok())
    }

    /// Serves the certificate that lies in the folder. Returns whether it is another one than before.
    ///
    /// # Errors
    /// When a file can't be read, and as [`Certificates::serve`].
    pub fn serve_folder(&self, folder: &Path) -> Result<bool, String> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        self.serve(&read(CERTIFICATE_FILE)?, &read(KEY_FILE)?)
    }

    /// Offers the protocols, by their ALPN names, in this order.
    ///
    /// # Errors
    /// When rustls has no version of TLS to offer.
    pub fn server(self: Arc<Self>, protocols: &[&str]) -> Result<ServerConfig, String> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|(_, key)| Arc::clone(key))
    }
}

/// Kinds of keys that are not served, by how their object identifier is written.
const KEYS_UNKNOWN: [(&[u8], &str); 5] = [
    (b"\x06\x05\x2b\x81\x04\x00\x23", "on the curve P-521 (secp521r1)"),
    (b"\x06\x05\x2b\x81\x04\x00\x21", "on the curve P-224 (secp224r1)"),
    (b"\x06\x05\x2b\x81\x04\x00\x0a", "on the curve secp256k1"),
    (b"\x06\x03\x2b\x65\x71", "of the kind Ed448"),
    (b"\x06\x07\x2a\x86\x48\xce\x38\x04\x01", "of the kind DSA"),
];

/// A hint for a key that can't be served: what is wrong with it, where that is known, and which keys can be
/// served.
fn why_not(key: &PrivateKeyDer<'_>) -> Option<String> {
    let der = key.secret_der();
    let has = |id: &[u8]| der.windows(id.len()).any(|bytes| bytes == id);
    let (_, kind) = KEYS_UNKNOWN.iter().find(|(id, _)| has(id))?;
    Some(format!(
        "the key is {kind}, which is not served: use P-256, P-384, Ed25519 or RSA of 2048 bits or more"
    ))
}
