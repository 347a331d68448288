//! Whom a client believes: the system's certificate authorities, those of a file besides, or for a test anybody.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use thiserror::Error;
use tracing::debug;

use super::provider;

/// Whose certificates are believed besides those of the system's authorities.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Those signed by a certificate of this file, PEM.
    pub ca: Option<PathBuf>,
    /// All others too.
    pub anybody: bool,
}

/// Why a client cannot speak TLS.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file cannot be read as PEM.
    #[error("cannot read certificates from {file}: {error}", file = .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        error: pem::Error,
    },
    /// It is PEM, and not of a certificate.
    #[error("{file} holds no certificate: give a PEM file that begins with BEGIN CERTIFICATE", file = .0.display())]
    Empty(PathBuf),
    /// The certificate is none that can vouch for others.
    #[error("{file} holds a certificate that cannot be used: {error}", file = .file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        error: Error,
    },
    /// The library does not want to.
    #[error("cannot speak TLS: {0}")]
    Unsupported(#[from] Error),
}

impl Trust {
    /// What a client's connections are made with.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        let provider = provider();
        let versions =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        if self.anybody {
            let verifier = versions.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
            return Ok(Arc::new(verifier.with_no_client_auth()));
        }
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        let (added, unusable) = roots.add_parsable_certificates(system.certs);
        debug!("{added} authorities of the system, {unusable} unusable, {} not read", system.errors.len());
        if let Some(file) = &self.ca {
            add(&mut roots, file)?;
        }
        Ok(Arc::new(versions.with_root_certificates(roots).with_no_client_auth()))
    }
}

fn add(roots: &mut RootCertStore, file: &Path) -> Result<(), TrustError> {
    let owned = || file.to_owned();
    let unreadable = |error| TrustError::File { file: owned(), error };
    let mut none = true;
    for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(|error| TrustError::Certificate { file: owned(), error })?;
        none = false;
    }
    if none { Err(TrustError::Empty(owned())) } else { Ok(()) }
}

/// Believes every certificate; that the server has its key is still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
