//! Certificates that are believed though nobody vouches for them: one that is known by its fingerprint, or any at all.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use thiserror::Error;

use super::fingerprint::Fingerprint;

/// A server shows another certificate than the one that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("its certificate is another one: it has SHA-256 {shown}, and {believed} is believed")]
pub struct Another {
    /// That of the certificate that it shows.
    pub shown: Fingerprint,
    /// That of the one that is believed.
    pub believed: Fingerprint,
}

/// Which certificate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Believed {
    /// Every one.
    Any,
    /// This one alone.
    Only(Fingerprint),
    /// None: there is nobody who could vouch for one.
    None,
}

/// Believes a certificate without asking who vouches for it, for whom, and until when. That the server has its key is still checked.
#[derive(Debug)]
pub(super) struct Unvouched {
    pub(super) believed: Believed,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unvouched {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Fingerprint::of(own);
        let why = match self.believed {
            Believed::Any => return Ok(ServerCertVerified::assertion()),
            Believed::Only(believed) if believed == shown => return Ok(ServerCertVerified::assertion()),
            Believed::Only(believed) => CertificateError::Other(OtherError(Arc::new(Another { shown, believed }))),
            Believed::None => CertificateError::UnknownIssuer,
        };
        Err(Error::InvalidCertificate(why))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
