//! Server identities and TLS handshakes. A [`ServerIdentity`] is read from PEM files, or is self-signed and renewed while the server runs.
//! Errors in the PEM files are reported before the server listens. [`super::reload`] reads changed PEM files again.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, InconsistentKeys, ServerConfig};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::time::Time;

use super::pem_files::PemFiles;
use super::self_signed::{SelfSignedError, SelfSignedIssuer};
use super::{CertificateWithKey, Fingerprint, crypto_provider};
use crate::io::files;
use crate::io::log::SharedLogThrottle;
use crate::stats::Counter;

/// Reason why a certificate or key cannot be used, with a remedy.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system error.
        error: io::Error,
    },
    /// The file is not valid PEM, or is truncated.
    #[error("{} is damaged: {reason}; copy the complete file again", .path.display())]
    MalformedPem {
        /// The file.
        path: PathBuf,
        /// Reason.
        reason: &'static str,
    },
    /// The file contains no certificate.
    #[error(
        "{path} contains no certificate: a PEM certificate begins with -----BEGIN CERTIFICATE-----. \
         Convert a binary file with: openssl x509 -inform der -in {path} -out cert.pem",
        path = .0.display()
    )]
    NoCertificate(PathBuf),
    /// The file contains no private key.
    #[error(
        "{path} contains no private key: a PEM key begins with -----BEGIN PRIVATE KEY-----. \
         Convert a binary file with: openssl pkey -inform der -in {path} -out key.pem",
        path = .0.display()
    )]
    NoPrivateKey(PathBuf),
    /// The key is encrypted.
    #[error(
        "the key in {path} is encrypted, and the server cannot request a passphrase. \
         To decrypt it, run `openssl pkey -in {path} -out key.pem` and restrict the permissions of key.pem",
        path = .0.display()
    )]
    EncryptedKey(PathBuf),
    /// The type of the key is not supported.
    #[error(
        "the key in {} cannot be used: it must be ECDSA, Ed25519 or RSA. ECDSA requires P-256 or P-384, and RSA 2048 to 4096 bits",
        .0.display()
    )]
    UnsupportedKey(PathBuf),
    /// The certificate is invalid.
    #[error("the certificate in {} cannot be used: {reason}; copy it again, or issue a new one", .path.display())]
    InvalidCertificate {
        /// The file.
        path: PathBuf,
        /// Reason.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key in {} does not belong to the first certificate in {}. Use a matching pair, \
         with the server certificate before the CA certificates",
        .key.display(), .certificate.display()
    )]
    KeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// The certificate has expired.
    #[error("the certificate in {} expired at {valid_until}: renew it", .path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// End of validity, UTC.
        valid_until: Time,
    },
    /// The certificate is not valid yet.
    #[error("the certificate in {} is not valid before {valid_from}: wait, or correct the clock of this machine", .path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// Start of validity, UTC.
        valid_from: Time,
    },
}

/// Warning for a CA certificate, which `openssl req -x509` creates by default. Browsers and curl may accept a server
/// that presents such a certificate; jamjam and jamjam-dev reject it.
pub const CA_CERTIFICATE_WARNING: &str = "the server certificate is a CA certificate, which jamjam and jamjam-dev reject; reissue it with basicConstraints=critical,CA:FALSE";

/// Certificate and key of a server.
#[derive(Debug)]
pub struct ServerIdentity {
    tls_config: Arc<ServerConfig>,
    resolver: Arc<CertResolver>,
}

impl ServerIdentity {
    /// Reads both files and checks the validity at `now`.
    pub fn from_pem_files(certificate: &Path, key: &Path, now: SystemTime) -> Result<Self, IdentityError> {
        // The state is read before the contents. A change in between is therefore detected later.
        let files = PemFiles::new(certificate, key);
        let resolver = CertResolver::from_files(load_pem_files(certificate, key, now)?, files);
        Self::with_resolver(resolver).map_err(|error| invalid_certificate(certificate, &error))
    }

    /// A self-signed certificate that is valid at `now` and renewed while the server runs.
    pub fn self_signed(issuer: SelfSignedIssuer, now: SystemTime) -> Result<Self, SelfSignedError> {
        Ok(Self::with_resolver(CertResolver::renewing(issuer.load_or_issue(now)?, issuer))?)
    }

    fn with_resolver(resolver: CertResolver) -> Result<Self, rustls::Error> {
        let resolver = Arc::new(resolver);
        let config = ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::<CertResolver>::clone(&resolver));
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        config.session_storage = Arc::<CertResolver>::clone(&resolver);
        Ok(Self { tls_config: Arc::new(config), resolver })
    }

    /// Returns a resolver that supplies the current certificate for each TLS handshake.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::<CertResolver>::clone(&self.resolver)
    }

    /// The current certificate without its chain.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.current().certificate()
    }

    /// Fingerprint of the current certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.current().fingerprint()
    }

    /// Whether the current certificate is a CA certificate.
    pub fn is_ca(&self) -> bool {
        self.current().is_ca
    }

    /// End of validity, as RFC 3339 in UTC.
    pub fn valid_until(&self) -> String {
        self.current().valid_until.to_string()
    }

    /// Whether the certificate was read from files, which [`super::reload`] can watch.
    pub fn has_files(&self) -> bool {
        self.resolver.files.is_some()
    }

    fn current(&self) -> CertificateWithKey {
        self.resolver.current_at(SystemTime::now())
    }

    pub(super) fn cert_resolver(&self) -> &Arc<CertResolver> {
        &self.resolver
    }
}

/// Loads a certificate and its key, and checks the validity at `now`.
pub(super) fn load_pem_files(
    certificate: &Path,
    key: &Path,
    now: SystemTime,
) -> Result<CertificateWithKey, IdentityError> {
    let chain = read_chain(certificate)?;
    let own = chain.first().ok_or_else(|| IdentityError::NoCertificate(certificate.to_owned()))?;
    let (valid_until, is_ca) = check_validity(own, certificate, now)?;
    let key_pair = CertifiedKey::from_der(chain, read_private_key(key)?, &crypto_provider());
    let key_pair = key_pair.map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            IdentityError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        rustls::Error::InvalidCertificate(_) => invalid_certificate(certificate, &error),
        _ => IdentityError::UnsupportedKey(key.to_owned()),
    })?;
    Ok(CertificateWithKey { key: Arc::new(key_pair), valid_until, is_ca, renew_at: None })
}

/// Performs the server side of TLS handshakes. Counts and logs failed handshakes.
pub struct HandshakeAcceptor {
    acceptor: TlsAcceptor,
    resolver: Arc<CertResolver>,
    failed: Counter,
    failure_throttle: SharedLogThrottle,
}

impl std::fmt::Debug for HandshakeAcceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandshakeAcceptor").field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl HandshakeAcceptor {
    /// Accepts TLS handshakes with the certificate and key of `identity`.
    pub fn new(identity: &ServerIdentity) -> Self {
        let acceptor = TlsAcceptor::from(identity.tls_config.clone());
        let resolver = Arc::clone(&identity.resolver);
        Self { acceptor, resolver, failed: Counter::default(), failure_throttle: SharedLogThrottle::default() }
    }

    /// End of validity of the current certificate, in seconds since the Unix epoch.
    pub fn certificate_expiry(&self) -> u64 {
        self.resolver.current_at(SystemTime::now()).valid_until.to_unix_duration().as_secs()
    }

    /// Number of certificates that were loaded while the server ran.
    pub fn reloads(&self) -> u64 {
        self.resolver.reloads.get()
    }

    /// Number of changed certificate files that could not be used.
    pub fn failed_reloads(&self) -> u64 {
        self.resolver.failed_reloads.get()
    }

    /// Number of failed handshakes.
    pub fn failed(&self) -> u64 {
        self.failed.get()
    }

    /// Accepts a handshake over `stream` within `timeout`.
    pub async fn accept(
        &self,
        stream: TcpStream,
        source: SocketAddr,
        timeout: Duration,
    ) -> Option<TlsStream<TcpStream>> {
        let reason = match tokio::time::timeout(timeout, self.acceptor.accept_with(stream, limit_buffer)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) if is_disconnect(&error) => {
                // The client disconnected, for example after a health check of a load balancer.
                debug!(target: "tls", %source, "connection closed during handshake");
                self.failed.add(1);
                return None;
            }
            Ok(Err(error)) => failure_reason(&error),
            Err(_) => "timed out".to_owned(),
        };
        self.failed.add(1);
        if self.failure_throttle.allow() {
            warn!(target: "tls", %source, reason, "handshake failed");
        }
        None
    }
}

/// Maximum number of TLS sessions that clients can resume.
const MAX_RESUMABLE_SESSIONS: usize = 256;

/// Supplies the current certificate for each TLS handshake, regardless of the requested name.
#[derive(Debug)]
pub(super) struct CertResolver {
    current: Mutex<CertificateWithKey>,
    issuer: Option<SelfSignedIssuer>,
    /// The files that the certificate was read from.
    pub(super) files: Option<PemFiles>,
    /// Sessions that clients can resume. A resumed session uses the certificate of its first handshake. Therefore, a new certificate gets a
    /// new cache.
    sessions: Mutex<Arc<ServerSessionMemoryCache>>,
    reloads: Counter,
    pub(super) failed_reloads: Counter,
    renewal_throttle: SharedLogThrottle,
}

impl CertResolver {
    /// A certificate that does not change.
    fn fixed(certificate: CertificateWithKey) -> Self {
        Self {
            current: Mutex::new(certificate),
            issuer: None,
            files: None,
            sessions: Mutex::new(ServerSessionMemoryCache::new(MAX_RESUMABLE_SESSIONS)),
            reloads: Counter::default(),
            failed_reloads: Counter::default(),
            renewal_throttle: SharedLogThrottle::default(),
        }
    }

    /// A certificate that was read from `files`.
    fn from_files(certificate: CertificateWithKey, files: PemFiles) -> Self {
        Self { files: Some(files), ..Self::fixed(certificate) }
    }

    /// Replaces the certificate. Open connections are not affected.
    pub(super) fn replace(&self, certificate: CertificateWithKey) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
        *self.sessions.lock().unwrap_or_else(PoisonError::into_inner) =
            ServerSessionMemoryCache::new(MAX_RESUMABLE_SESSIONS);
        self.reloads.add(1);
    }

    fn sessions(&self) -> Arc<ServerSessionMemoryCache> {
        Arc::clone(&self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A certificate that `issuer` renews.
    fn renewing(certificate: CertificateWithKey, issuer: SelfSignedIssuer) -> Self {
        Self { issuer: Some(issuer), ..Self::fixed(certificate) }
    }

    /// Returns the certificate for a handshake at `time`. Certificates from `issuer` are due for renewal every few days. If the renewal is
    /// due, this call renews the certificate first. Other handshakes wait until the renewal is complete.
    pub(super) fn current_at(&self, time: SystemTime) -> CertificateWithKey {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(issuer) = self.issuer.as_ref().filter(|_| current.renew_at.is_some_and(|renew| time >= renew)) {
            match issuer.load_or_issue(time) {
                Ok(new) => {
                    *current = new;
                    info!(
                        target: "tls",
                        valid_until = %current.valid_until,
                        sha256 = %current.fingerprint(),
                        "certificate renewed"
                    );
                }
                Err(error) if self.renewal_throttle.allow() => {
                    warn!(target: "tls", valid_until = %current.valid_until, %error, "certificate renewal failed");
                }
                Err(_) => {}
            }
        }
        current.clone()
    }
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current_at(SystemTime::now()).key)
    }
}

impl StoresServerSessions for CertResolver {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.sessions().put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.sessions().get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.sessions().take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

fn invalid_certificate(path: &Path, reason: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::InvalidCertificate { path: path.to_owned(), reason: reason.to_string() }
}

/// All certificates of the file, in order.
fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    CertificateDer::pem_slice_iter(&read_file(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| malformed_pem(path, &error))
}

fn malformed_pem(path: &Path, error: &PemError) -> IdentityError {
    let reason = match error {
        PemError::MissingSectionEnd { .. } => "a -----BEGIN line has no -----END line after it",
        PemError::IllegalSectionStart { .. } => "a -----BEGIN line does not end in -----",
        _ => "the text between -----BEGIN and -----END is not base64",
    };
    IdentityError::MalformedPem { path: path.to_owned(), reason }
}

/// The first private key of the file.
fn read_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let text = read_file(path)?;
    // Text that marks an encrypted key, in PKCS #8 and in the older OpenSSL format.
    let marks: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
    if marks.iter().any(|mark| text.windows(mark.len()).any(|window| window == *mark)) {
        return Err(IdentityError::EncryptedKey(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        PemError::NoItemsFound => IdentityError::NoPrivateKey(path.to_owned()),
        error => malformed_pem(path, &error),
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, IdentityError> {
    files::read(path).map_err(|error| IdentityError::Read { path: path.to_owned(), error })
}

/// End of validity of a certificate that is valid `now`, and whether it is a CA certificate.
fn check_validity(
    certificate: &CertificateDer<'_>,
    path: &Path,
    now: SystemTime,
) -> Result<(Time, bool), IdentityError> {
    // Clients accept certificates with unusual serial numbers, and so does the `Raw` profile.
    let certificate =
        CertificateInner::<Raw>::from_der(certificate).map_err(|error| invalid_certificate(path, &error))?;
    let validity = certificate.tbs_certificate().validity();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (valid_from, valid_until) = (validity.not_before, validity.not_after);
    if now < valid_from.to_unix_duration() {
        return Err(IdentityError::NotYetValid { path: path.to_owned(), valid_from });
    }
    // A certificate is still valid during the last second of its validity period (RFC 5280, section 4.1.2.5).
    if now >= valid_until.to_unix_duration() + Duration::from_secs(1) {
        return Err(IdentityError::Expired { path: path.to_owned(), valid_until });
    }
    let constraints = certificate.tbs_certificate().get_extension::<BasicConstraints>();
    Ok((valid_until, constraints.is_ok_and(|found| found.is_some_and(|(_, constraints)| constraints.ca))))
}

fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn failure_reason(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        // The client sent bytes that are not TLS, for example a plain HTTP request.
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            "not TLS; clients must use wss:// or https:// on this port".to_owned()
        }
        // TLS libraries use different alerts to reject a certificate.
        Some(rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError),
        )) => format!("the client rejected the certificate ({alert:?})"),
        Some(rustls::Error::NoApplicationProtocol) => "the client does not offer HTTP/1.1".to_owned(),
        _ => error.to_string(),
    }
}

/// Limits the encrypted data that waits for a client to one record.
fn limit_buffer(connection: &mut rustls::ServerConnection) {
    connection.set_buffer_limit(Some(16 << 10));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_server_renews_its_certificate() {
        let long_ago = SystemTime::now() - Duration::from_secs(20 * 24 * 60 * 60);
        let identity = ServerIdentity::self_signed(SelfSignedIssuer::new([], None), long_ago).expect("a certificate");
        // The initial certificate expired ten days ago.
        let fingerprint = identity.fingerprint();
        assert!(identity.valid_until() > jiff::Timestamp::now().to_string(), "{}", identity.valid_until());
        assert_eq!(identity.fingerprint(), fingerprint);
    }
}
