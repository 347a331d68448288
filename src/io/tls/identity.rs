//! A server's certificate and its key: from PEM files, of which whatever would keep clients away is said when they are read,
//! before anybody listens; or made here.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use thiserror::Error;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::time::Time;

use super::fingerprint::Fingerprint;
use super::kept_key::CannotMake;
use super::provider;
use super::self_made::SelfMade;
use super::shown::{Certified, Shown};

/// No PEM file that we are meant to read is longer; a device that never ends is not read for ever.
const LONGEST: u64 = 4 << 20;

/// Why a certificate and a key cannot be used, with the way out.
#[derive(Debug, Error)]
pub enum Unusable {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is no PEM, or was cut.
    #[error("{} is damaged: {why}; copy it again, whole", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no certificate in the file.
    #[error(
        "{path} holds no certificate: in a PEM file one begins with -----BEGIN CERTIFICATE-----; \
         a binary one is turned into PEM by: openssl x509 -inform der -in {path} -out cert.pem",
        path = .0.display()
    )]
    NoCertificate(PathBuf),
    /// There is no private key in the file.
    #[error(
        "{path} holds no private key: in a PEM file one begins with -----BEGIN PRIVATE KEY-----; \
         a binary one is turned into PEM by: openssl pkey -inform der -in {path} -out key.pem",
        path = .0.display()
    )]
    NoKey(PathBuf),
    /// The key needs a passphrase.
    #[error(
        "the key in {path} is encrypted, and a server has nobody to ask for the passphrase; \
         write it without one: openssl pkey -in {path} -out key.pem, and let nobody else read that",
        path = .0.display()
    )]
    Encrypted(PathBuf),
    /// The key is of no kind that can be used.
    #[error(
        "the key in {} cannot be used: it has to be ECDSA (P-256 or P-384), Ed25519, or RSA of 2048 bits or more",
        .0.display()
    )]
    KindOfKey(PathBuf),
    /// The certificate cannot be read.
    #[error("the certificate in {} cannot be used: {why}; copy it again, or have a new one made", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key in {} does not belong to the first certificate in {}: give the two that were made together, \
         the server's own certificate before those that vouch for it",
        .key.display(), .certificate.display()
    )]
    NoPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate is not valid any more.
    #[error("the certificate in {} expired at {at}: renew it", .path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// Its last moment, UTC.
        at: Time,
    },
    /// The certificate is not valid yet.
    #[error("the certificate in {} is valid from {at} on: wait, or set this machine's clock right", .path.display())]
    NotYet {
        /// The file.
        path: PathBuf,
        /// Its first moment, UTC.
        at: Time,
    },
}

/// What is said of a certificate that is an authority's own, as `openssl req -x509` makes them: browsers and curl may be made to
/// believe it as a server's, and programs that check as strictly as jamjam's and ours do not.
pub const AUTHORITY: &str = "The certificate is one of an authority (CA:TRUE): jamjam's clients, and send, probe and echo-server, \
     do not believe it as a server's; have one made with -addext basicConstraints=critical,CA:FALSE";

/// A certificate that clients can be shown, with its key.
#[derive(Debug)]
pub struct Identity {
    pub(super) config: Arc<ServerConfig>,
    shown: Arc<Shown>,
}

impl Identity {
    /// Reads both files and judges them by `now`.
    pub fn read(certificate: &Path, key: &Path, now: SystemTime) -> Result<Self, Unusable> {
        let chain = chain(certificate)?;
        let own = chain.first().ok_or_else(|| Unusable::NoCertificate(certificate.to_owned()))?;
        let (until, authority) = judge(own, certificate, now)?;
        let certified = CertifiedKey::from_der(chain, private_key(key)?, &provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                Unusable::NoPair { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            rustls::Error::InvalidCertificate(_) => cannot_use(certificate, &error),
            _ => Unusable::KindOfKey(key.to_owned()),
        })?;
        let shown = Shown::fixed(Certified { key: Arc::new(certified), until, authority, renew: None });
        Self::showing(shown).map_err(|error| cannot_use(certificate, &error))
    }

    /// A certificate that is made here, good at `now`, and made anew in time for as long as this is used.
    pub fn self_made(maker: SelfMade, now: SystemTime) -> Result<Self, CannotMake> {
        Ok(Self::showing(Shown::renewed(maker.certify(now)?, maker))?)
    }

    fn showing(shown: Shown) -> Result<Self, rustls::Error> {
        let shown = Arc::new(shown);
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::<Shown>::clone(&shown));
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        Ok(Self { config: Arc::new(config), shown })
    }

    /// What shows the certificate in handshakes: of one that was made here always the newest.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::<Shown>::clone(&self.shown)
    }

    /// The certificate that is shown now, without those that vouch for it.
    pub fn own(&self) -> CertificateDer<'static> {
        self.now().own()
    }

    /// The SHA-256 of the certificate that is shown now.
    pub fn fingerprint(&self) -> Fingerprint {
        self.now().fingerprint()
    }

    /// Whether the certificate says of itself that it is an authority's.
    pub fn is_authority(&self) -> bool {
        self.now().authority
    }

    /// The certificate's last moment, as RFC 3339 in UTC.
    pub fn valid_until(&self) -> String {
        self.now().until.to_string()
    }

    fn now(&self) -> Certified {
        self.shown.at(SystemTime::now())
    }
}

fn cannot_use(path: &Path, why: &dyn std::fmt::Display) -> Unusable {
    Unusable::Certificate { path: path.to_owned(), why: why.to_string() }
}

/// All certificates in the file, in its order.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<_, _>>().map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &PemError) -> Unusable {
    let why = match error {
        PemError::MissingSectionEnd { .. } => "a -----BEGIN line has no -----END line after it",
        PemError::IllegalSectionStart { .. } => "a -----BEGIN line does not end in -----",
        _ => "between -----BEGIN and -----END is no base64",
    };
    Unusable::Damaged { path: path.to_owned(), why }
}

/// The first private key in the file.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let text = read(path)?;
    // Today's form (PKCS #8), and the one that OpenSSL wrote before.
    let marks: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
    if marks.iter().any(|mark| text.windows(mark.len()).any(|window| window == *mark)) {
        return Err(Unusable::Encrypted(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        PemError::NoItemsFound => Unusable::NoKey(path.to_owned()),
        error => damaged(path, &error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_end(&mut text))
        .map_err(|error| Unusable::Read { path: path.to_owned(), error })?;
    Ok(text)
}

/// The last moment of a certificate, if it is valid `now`, and whether it is an authority's.
fn judge(certificate: &CertificateDer<'_>, path: &Path, now: SystemTime) -> Result<(Time, bool), Unusable> {
    // The profile that checks nothing: how a serial number is written keeps no client away.
    let certificate = CertificateInner::<Raw>::from_der(certificate).map_err(|error| cannot_use(path, &error))?;
    let validity = certificate.tbs_certificate().validity();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (from, until) = (validity.not_before, validity.not_after);
    if now < from.to_unix_duration() {
        return Err(Unusable::NotYet { path: path.to_owned(), at: from });
    }
    // To the end of its last second (RFC 5280, section 4.1.2.5: both ends are within).
    if now >= until.to_unix_duration() + Duration::from_secs(1) {
        return Err(Unusable::Expired { path: path.to_owned(), at: until });
    }
    let constraints = certificate.tbs_certificate().get_extension::<BasicConstraints>();
    Ok((until, constraints.is_ok_and(|found| found.is_some_and(|(_, constraints)| constraints.ca))))
}
