//! The certificate that is served, exchanged while the process runs: a handshake gets the one of
//! its moment, connections keep theirs.

use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

#[derive(Debug, Default)]
pub struct Certificates {
    /// And the PEM it was made of, to see a change.
    current: RwLock<Option<(String, Arc<CertifiedKey>)>>,
}

impl Certificates {
    /// Serves this one from the next handshake on.
    ///
    /// # Errors
    /// When certificate and key are none, or do not belong together.
    pub fn serve(&self, certificate: &str, key: &str) -> Result<(), String> {
        let is_same = |(known, _): &(String, Arc<CertifiedKey>)| known == certificate;
        if self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(is_same)
        {
            return Ok(());
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
        Ok(())
    }

    pub fn is_ready(&self) -> bool {
        self.current.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// # Errors
    /// When rustls has no version of TLS to offer.
    pub fn server(self: Arc<Self>) -> Result<ServerConfig, String> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|(_, key)| Arc::clone(key))
    }
}
