//! Whom a client believes: the system's certificate authorities, those of a file besides, one certificate alone, or for a test anybody.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, Error, RootCertStore};
use thiserror::Error;
use tracing::debug;

use super::fingerprint::Fingerprint;
use super::provider;
use super::unvouched::{Believed, Unvouched};

/// Whose certificates are believed besides those of the system's authorities.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Those signed by a certificate of this file, PEM.
    pub ca: Option<PathBuf>,
    /// Not those, and no other, but this one, whoever vouches for it.
    pub only: Option<Fingerprint>,
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
    /// Anybody would be believed who is not on this machine.
    #[error(
        "--insecure is for servers on this machine, and {0} is not: give the SHA-256 of its certificate (the server prints it) \
         with --cert-sha256, or its authority with --ca FILE"
    )]
    Afar(IpAddr),
    /// The library does not want to.
    #[error("cannot speak TLS: {0}")]
    Unsupported(#[from] Error),
}

impl Trust {
    /// Refuses to believe anybody at all as the server at one of `addresses`, unless all of them are this machine's. To be asked
    /// of the very addresses that are called, by those clients for which certificates that nobody vouches for are an everyday
    /// matter, so that their way out is the fingerprint.
    pub fn refuse_anybody_afar(&self, addresses: &[SocketAddr]) -> Result<(), TrustError> {
        let is_afar = |ip: &IpAddr| self.anybody && !ip.to_canonical().is_loopback();
        addresses.iter().map(SocketAddr::ip).find(is_afar).map_or(Ok(()), |ip| Err(TrustError::Afar(ip)))
    }

    /// What a client's connections are made with.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let config = config.dangerous().with_custom_certificate_verifier(self.verifier()?);
        Ok(Arc::new(config.with_no_client_auth()))
    }

    /// What judges a server's certificate.
    pub fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
        let unvouched = |believed| Arc::new(Unvouched { believed, provider: provider() });
        match self.only {
            _ if self.anybody => return Ok(unvouched(Believed::Any)),
            Some(only) => return Ok(unvouched(Believed::Only(only))),
            None => {}
        }
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        let (added, unusable) = roots.add_parsable_certificates(system.certs);
        debug!("{added} authorities of the system, {unusable} unusable, {} not read", system.errors.len());
        if let Some(file) = &self.ca {
            add(&mut roots, file)?;
        }
        match WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build() {
            Ok(verifier) => Ok(verifier),
            // It wants at least one. There are no revocation lists here, which it could dislike.
            Err(_) => Ok(unvouched(Believed::None)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anybody_is_believed_on_this_machine_alone() {
        let at = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), 4_443);
        let refused = |trust: &Trust, ip: &str| trust.refuse_anybody_afar(&[at(ip)]).is_err();
        let anybody = Trust { anybody: true, ..Trust::default() };
        for (ip, afar) in [
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
            assert_eq!(refused(&anybody, ip), afar, "{ip}");
            assert!(!refused(&Trust::default(), ip), "{ip}");
        }
        // A name may lead to this machine and to others.
        let refused = anybody.refuse_anybody_afar(&["127.0.0.1", "::1", "192.0.2.1", "192.0.2.2"].map(at));
        assert!(matches!(refused, Err(TrustError::Afar(ip)) if ip == at("192.0.2.1").ip()));
    }
}
