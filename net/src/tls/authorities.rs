//! Certificate authorities that are trusted.

use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// The certificates by which a peer must be certified, or one of which it must show itself.
#[derive(Debug)]
pub struct Authorities {
    roots: RootCertStore,
    given: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// The authorities that browsers trust (Mozilla's list).
    pub fn public() -> Self {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Self { roots, given: Vec::new() }
    }

    /// The authorities of a PEM file.
    ///
    /// # Errors
    /// When it can't be read, or holds no certificate.
    pub fn of(file: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = std::fs::read(file).map_err(|error| wrong(&error))?;
        let mut own = Self::none();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            own.roots.add(certificate.clone()).map_err(|error| wrong(&error))?;
            own.given.push(certificate);
        }
        if own.given.is_empty() { Err(wrong(&"holds no certificate")) } else { Ok(own) }
    }

    /// No authority, so that no peer is trusted.
    pub fn none() -> Self {
        Self { roots: RootCertStore::empty(), given: Vec::new() }
    }

    /// The TLS configuration of a client whose peers must be certified by one of these.
    ///
    /// # Errors
    /// When rustls has no version of TLS to speak.
    pub fn client(self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        if self.given.is_empty() {
            return Ok(builder.with_root_certificates(self.roots).with_no_client_auth());
        }
        let chains =
            WebPkiServerVerifier::builder_with_provider(self.roots.into(), provider.clone());
        let chains = chains.build().map_err(|error| error.to_string())?;
        let verifier = Arc::new(Verifier { chains, given: self.given, provider });
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        Ok(builder.with_no_client_auth())
    }
}

/// Accepts a chain that leads to an authority, or a certificate that is listed itself, byte for byte. The
/// latter is what `openssl req -x509` makes: it says that it is an authority, so webpki refuses it as a
/// server's, while curl, OpenSSL and nginx accept it.
#[derive(Debug)]
struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let error = match self.chains.verify_server_cert(server, others, name, ocsp, now) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        // webpki says this only after it has checked the validity: an expired certificate is another error.
        let is_of_chain = matches!(
            error,
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_))
        );
        if !is_of_chain || !self.given.iter().any(|given| given == server) {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(server)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, server, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, server, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
