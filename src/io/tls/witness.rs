//! Remembers which certificate a server has shown, and why it was not believed: where a library tells its caller less than that.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::fingerprint::Fingerprint;

/// Judges as another does, and remembers.
#[derive(Debug)]
pub struct Witness {
    judge: Arc<dyn ServerCertVerifier>,
    disbelieved: Mutex<Option<(Fingerprint, CertificateError)>>,
}

impl Witness {
    /// Remembers what `judge` says.
    pub fn new(judge: Arc<dyn ServerCertVerifier>) -> Self {
        Self { judge, disbelieved: Mutex::new(None) }
    }

    /// The SHA-256 of the last certificate that was not believed, and why.
    pub fn disbelieved(&self) -> Option<(Fingerprint, CertificateError)> {
        self.disbelieved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.judge.verify_server_cert(own, others, name, ocsp, now);
        if let Err(Error::InvalidCertificate(why)) = &verdict {
            let seen = (Fingerprint::of(own), why.clone());
            *self.disbelieved.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}
