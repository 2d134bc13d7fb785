//! TLS at both ends.
//!
//! The certificate that is served is exchanged while the process runs: a handshake gets the one of
//! its moment, connections keep theirs.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What a mounted Secret of type kubernetes.io/tls calls its two files.
pub const CERTIFICATE_FILE: &str = "tls.crt";
pub const KEY_FILE: &str = "tls.key";

#[derive(Debug, Default)]
pub struct Certificates {
    /// And the PEM it was made of, to see a change.
    current: RwLock<Option<(String, Arc<CertifiedKey>)>>,
}

impl Certificates {
    /// Serves this one from the next handshake on; whether it is another than before.
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
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| format!("the key: {error}"))?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| format!("certificate and key: {error}"))?;
        let new = Some((certificate.to_owned(), Arc::new(certified)));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(true)
    }

    pub fn is_ready(&self) -> bool {
        self.current.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Serves what lies in the folder; whether it is another than before.
    ///
    /// # Errors
    /// When a file can't be read, or it is as for [`Certificates::serve`].
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

/// For connections to others, who must be certified by one of these.
///
/// # Errors
/// When rustls has no version of TLS to speak.
pub fn client(roots: RootCertStore) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The authorities that browsers believe (Mozilla's).
pub fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The authorities of a PEM file.
///
/// # Errors
/// When it can't be read, or holds no certificate.
pub fn roots(file: &Path) -> Result<RootCertStore, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = std::fs::read(file).map_err(|error| wrong(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err(wrong(&"holds no certificate")) } else { Ok(roots) }
}
