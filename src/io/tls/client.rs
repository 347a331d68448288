//! Verifies server certificates by the system's root certificates, a CA file or a pinned fingerprint, or not at all for tests. Rejected
//! certificates are explained, with a remedy.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use thiserror::Error;
use tracing::debug;

use super::validity::properties;
use super::{CredentialError, Fingerprint, crypto_provider, read_certificates};

use crate::lock::lock;

const UNTRUSTED_HINT: &str = "trust its CA with --ca FILE";
const NO_CA_CERTIFICATES: &str = "certificate not trusted: this host has no CA certificates; install them (ca-certificates), or trust its CA with --ca FILE";
const MISSING_CHAIN: &str = "certificate not trusted: its issuer is unknown, and the server sends no intermediate certificate; give the \
                             server the whole chain (fullchain.pem), or trust its CA with --ca FILE";

/// Which server certificates a client accepts. By default, the client accepts certificates that chain to a root certificate of the system.
#[derive(Clone, Debug, Default)]
pub struct TrustPolicy {
    /// PEM file of additional root certificates.
    pub ca_file: Option<PathBuf>,
    /// Accept only the certificate with this fingerprint, regardless of its issuer.
    pub pinned: Option<Fingerprint>,
    /// Accept any certificate.
    pub accept_any: bool,
}

/// Reason why a client cannot use TLS.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file of additional root certificates cannot be used.
    #[error(transparent)]
    Ca(#[from] CredentialError),
    /// The user combined `--insecure` with a remote server. The client refuses, because `--insecure` accepts any certificate.
    #[error(
        "--insecure requires a server on this machine, but {0} is remote. Use --cert-sha256 with the fingerprint that the \
         server prints, or --ca FILE with the CA of the certificate"
    )]
    InsecureRemote(IpAddr),
    /// Error of the TLS library.
    #[error("cannot configure TLS: {0}")]
    Tls(#[from] Error),
}

impl TrustPolicy {
    /// Fails if this policy accepts every certificate and one of `addresses` is not loopback. Users may choose such a policy for MOQT servers,
    /// which often have self-signed certificates; the error advises them to pin the fingerprint or to specify the CA instead.
    pub fn require_loopback_if_insecure(&self, addresses: &[SocketAddr]) -> Result<(), TrustError> {
        let is_remote = |ip: &IpAddr| self.accept_any && !ip.to_canonical().is_loopback();
        addresses.iter().map(SocketAddr::ip).find(is_remote).map_or(Ok(()), |ip| Err(TrustError::InsecureRemote(ip)))
    }

    /// TLS client configuration.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        let config = ClientConfig::builder_with_provider(crypto_provider()).with_safe_default_protocol_versions()?;
        let config = config.dangerous().with_custom_certificate_verifier(self.verifier()?);
        Ok(Arc::new(config.with_no_client_auth()))
    }

    /// Certificate verifier of a client.
    pub fn verifier(&self) -> Result<Arc<TrustVerifier>, TrustError> {
        let uses_roots = !self.accept_any && self.pinned.is_none();
        let roots = if uses_roots { self.web_pki_verifier()? } else { None };
        Ok(Arc::new(TrustVerifier { policy: self.clone(), roots, rejection: Mutex::default() }))
    }

    /// Verifies by root certificates. `None` if there are no root certificates.
    fn web_pki_verifier(&self) -> Result<Option<Arc<WebPkiServerVerifier>>, TrustError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        let (added, invalid) = roots.add_parsable_certificates(system.certs);
        debug!(target: "tls", added, invalid, unreadable = system.errors.len(), "system CA certificates loaded");
        if let Some(file) = &self.ca_file {
            for certificate in read_certificates(file)? {
                roots.add(certificate).map_err(|error| CredentialError::in_file(file, &error))?;
            }
        }
        // `build` fails only if there are no root certificates or if a revocation list is invalid. This client uses no revocation lists.
        Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto_provider()).build().ok())
    }
}

/// A rejected certificate: why it is rejected, and what to do.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub struct RejectedCertificate(String);

/// Verifies server certificates by a [`TrustPolicy`]. Handshake signatures are always verified, so the server must have the key. Errors
/// are a [`RejectedCertificate`]. The last rejection is also recorded, because some libraries do not report its details.
#[derive(Debug)]
pub struct TrustVerifier {
    policy: TrustPolicy,
    /// `None` if the policy needs no root certificates, or if there are none.
    roots: Option<Arc<WebPkiServerVerifier>>,
    rejection: Mutex<Option<RejectedCertificate>>,
}

impl TrustVerifier {
    /// The last rejected certificate.
    pub fn rejection(&self) -> Option<RejectedCertificate> {
        lock(&self.rejection).clone()
    }
}

impl ServerCertVerifier for TrustVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let fingerprint = Fingerprint::from_certificate(certificate);
        let advice = match self.policy {
            TrustPolicy { accept_any: true, .. } => return Ok(ServerCertVerified::assertion()),
            TrustPolicy { pinned: Some(expected), .. } if expected == fingerprint => {
                return Ok(ServerCertVerified::assertion());
            }
            TrustPolicy { pinned: Some(expected), .. } => format!(
                "certificate fingerprint mismatch: expected {expected}, got {fingerprint}. Use the fingerprint that the server prints. A \
                 generated certificate changes every 8 days and at each restart"
            ),
            TrustPolicy { pinned: None, .. } => {
                let verify = |roots: &Arc<WebPkiServerVerifier>| {
                    roots.verify_server_cert(certificate, intermediates, name, ocsp, now)
                };
                let misses_chain =
                    || intermediates.is_empty() && properties(certificate).is_some_and(|own| !own.is_self_issued);
                let advice = match self.roots.as_ref().map(verify) {
                    None => NO_CA_CERTIFICATES.to_owned(),
                    Some(Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))) if misses_chain() => {
                        MISSING_CHAIN.to_owned()
                    }
                    Some(Err(Error::InvalidCertificate(reason))) => certificate_advice(&reason),
                    Some(result) => return result,
                };
                format!(
                    "{advice}. The certificate has the SHA-256 fingerprint {fingerprint}. Verify the fingerprint with the operator of the \
                     server, then give --cert-sha256 {fingerprint}"
                )
            }
        };
        let rejected = RejectedCertificate(advice);
        *lock(&self.rejection) = Some(rejected.clone());
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(rejected)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &crypto_provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &crypto_provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Explains a rejected certificate and suggests a remedy.
fn certificate_advice(error: &CertificateError) -> String {
    match error {
        // `BadSignature`: a trusted CA has the same name as the issuer, but another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            format!("certificate not trusted: self-signed or unknown CA; {UNTRUSTED_HINT}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired; renew it on the server, or check the clock of this machine".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate is not valid yet; check the clocks of both machines".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{error}; connect to a name for which the certificate is valid")
        }
        // The verification library does not export the type of this error.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "certificate is a CA certificate (CA:TRUE). Servers must not use CA certificates, even with --ca. Reissue the certificate \
             with -addext basicConstraints=critical,CA:FALSE"
                .to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate is not for servers; reissue it with -addext extendedKeyUsage=serverAuth".to_owned()
        }
        _ => format!("invalid certificate: {error}; {UNTRUSTED_HINT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_mode_accepts_loopback_addresses_only() {
        let at = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), 4_443);
        let is_rejected = |trust: &TrustPolicy, ip: &str| trust.require_loopback_if_insecure(&[at(ip)]).is_err();
        let accept_any = TrustPolicy { accept_any: true, ..TrustPolicy::default() };
        for (ip, is_remote) in [
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("192.168.1.1", true),
            ("0.0.0.0", true),
            ("::", true),
            ("::ffff:10.0.0.1", true),
            ("fe80::1", true),
        ] {
            assert_eq!(is_rejected(&accept_any, ip), is_remote, "{ip}");
            assert!(!is_rejected(&TrustPolicy::default(), ip), "{ip}");
        }
        // A name may resolve to loopback and other addresses.
        let result = accept_any.require_loopback_if_insecure(&["127.0.0.1", "::1", "192.0.2.1", "192.0.2.2"].map(at));
        assert!(matches!(result, Err(TrustError::InsecureRemote(ip)) if ip == at("192.0.2.1").ip()));
    }
}
