//! Self-signed certificates for servers without a CA. The certificates meet the rules of browsers for `serverCertificateHashes`:
//! ECDSA P-256 and a lifetime of less than 14 days. The certificates are not CA certificates. Strict clients reject a server that
//! presents a CA certificate, even with `--ca`.
//!
//! With a certificate directory, the key is kept. Renewed certificates then have the same key and name. Therefore, a client that trusts an
//! earlier certificate with `--ca` accepts the new certificate. The key is used only if no other user could have read or replaced it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber, date_time_ymd,
};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;

use super::{CertificateWithKey, crypto_provider};
use crate::io::{files, os};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Lifetime of a certificate.
const CERTIFICATE_LIFETIME: Duration = DAY.saturating_mul(10);
/// Age at which a certificate is renewed.
const RENEW_AFTER: Duration = DAY.saturating_mul(8);
/// The validity of a certificate starts this long before the certificate is issued. The early start allows for a client whose clock is
/// slow.
const CLOCK_SKEW_ALLOWANCE: Duration = Duration::from_secs(60 * 60);

/// File names in the certificate directory.
const CERTIFICATE_FILE_NAME: &str = "moqt-cert.pem";
const KEY_FILE_NAME: &str = "moqt-key.pem";

/// Subject and issuer of the certificates.
const COMMON_NAME: &str = "jamjam-dev echo-server";

/// Subject alternative names of every certificate.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Maximum size of a key file, in bytes.
const MAX_KEY_BYTES: u64 = 1 << 16;

/// Issues certificates for the given names. If a directory is given, stores the certificate and the key there.
#[derive(Clone, Debug)]
pub struct SelfSignedIssuer {
    subject_alt_names: Vec<String>,
    dir: Option<PathBuf>,
}

impl SelfSignedIssuer {
    /// Issues certificates for loopback names and for the `hosts` that a client could connect to. `dir` is created if necessary.
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a str>, dir: Option<PathBuf>) -> Self {
        let mut subject_alt_names: Vec<String> = LOOPBACK_NAMES.map(str::to_owned).into();
        for host in hosts {
            let is_not_a_host = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified() || ip.is_multicast());
            if !is_not_a_host
                && ServerName::try_from(host).is_ok()
                && !subject_alt_names.iter().any(|name| name == host)
            {
                subject_alt_names.push(host.to_owned());
            }
        }
        Self { subject_alt_names, dir }
    }

    /// The certificate file in `dir`.
    pub fn certificate_path(dir: &Path) -> PathBuf {
        dir.join(CERTIFICATE_FILE_NAME)
    }

    /// All files in `dir`.
    pub fn files(dir: &Path) -> [PathBuf; 2] {
        [Self::certificate_path(dir), dir.join(KEY_FILE_NAME)]
    }

    /// A certificate that is valid at `time`: either the stored certificate or a new one.
    pub(super) fn load_or_issue(&self, time: SystemTime) -> Result<CertificateWithKey, SelfSignedError> {
        let Some(dir) = &self.dir else { return self.issue(&KeyPair::generate()?, time).map(|(issued, _)| issued) };
        let cannot = |operation, path: &Path| {
            let path = path.to_owned();
            move |error| SelfSignedError::File { operation, path, error }
        };
        create_private_dir(dir).map_err(cannot("create the directory", dir))?;
        let (file, key) = (Self::certificate_path(dir), load_or_generate_key(&dir.join(KEY_FILE_NAME))?);
        // A certificate file that cannot be reused is replaced. Examples are an incomplete file and a certificate for another key.
        let stored = CertificateDer::from_pem_file(&file).ok();
        if let Some(certified) = stored.and_then(|stored| self.reusable(stored, &key, time)) {
            return Ok(certified);
        }
        let (issued, pem) = self.issue(&key, time)?;
        files::write(&file, &pem).map_err(cannot("write", &file))?;
        Ok(issued)
    }

    /// Issues a certificate for `key`. Also returns the PEM text of the certificate.
    fn issue(&self, key: &KeyPair, time: SystemTime) -> Result<(CertificateWithKey, String), SelfSignedError> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(CLOCK_SKEW_ALLOWANCE);
        let from = date_time_ymd(1970, 1, 1) + Duration::from_secs(since.as_secs());
        let mut params = CertificateParams::new(self.subject_alt_names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
        params.not_before = from;
        params.not_after = from + CERTIFICATE_LIFETIME;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Certificates with the same name need distinct, nonzero serial numbers.
        let [number] = os::random_u64s();
        params.serial_number = Some(SerialNumber::from(number | 1));
        let certificate = params.self_signed(key)?;
        let certified = certificate_with_key(certificate.der().clone(), key)?;
        Ok((certified, certificate.pem()))
    }

    /// Returns the stored certificate if it can be reused, or else `None`. A reusable certificate contains all names and belongs to `key`.
    /// At `time`, a reusable certificate is already valid and not yet due for renewal.
    fn reusable(&self, stored: CertificateDer<'static>, key: &KeyPair, time: SystemTime) -> Option<CertificateWithKey> {
        let parsed = ParsedCertificate::try_from(&stored).ok()?;
        let covers = |name: &String| {
            ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
        };
        if !self.subject_alt_names.iter().all(covers) {
            return None;
        }
        let certified = certificate_with_key(stored, key).ok()?;
        let renew = certified.renew_at?;
        (renew.checked_sub(RENEW_AFTER)? <= time && time < renew).then_some(certified)
    }
}

/// Combines a certificate and its key; fails if they do not match.
fn certificate_with_key(own: CertificateDer<'static>, key: &KeyPair) -> Result<CertificateWithKey, rustls::Error> {
    let unreadable = |_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
    let validity = *CertificateInner::<Raw>::from_der(&own).map_err(unreadable)?.tbs_certificate().validity();
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = Arc::new(CertifiedKey::from_der(vec![own], private.into(), &crypto_provider())?);
    let renew_at = UNIX_EPOCH.checked_add(validity.not_before.to_unix_duration() + RENEW_AFTER);
    Ok(CertificateWithKey { key, valid_until: validity.not_after, is_ca: false, renew_at })
}

/// Reason why no certificate was issued.
#[derive(Debug, Error)]
pub enum SelfSignedError {
    /// A file or directory cannot be used.
    #[error("cannot {operation} {}: {error}", .path.display())]
    File {
        /// The operation that failed.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system error.
        error: io::Error,
    },
    /// The stored key is not an ECDSA P-256 key.
    #[error("{} contains no valid ECDSA P-256 key: remove the file to create a new key", .0.display())]
    InvalidKey(PathBuf),
    /// Other users can access the key.
    #[error(
        "other users can access the key {} (its mode is {mode:03o}). Remove the key to create a new key. If the key is still \
         secret, run `chmod 600 {}` instead", .file.display(), .file.display()
    )]
    KeyPermissions {
        /// The key file.
        file: PathBuf,
        /// The permissions of the key file.
        mode: u32,
    },
    /// Another user owns the key.
    #[error("the key {} belongs to another user. Remove the key to create a new key, or change its owner with `chown`", .0.display())]
    KeyOwner(PathBuf),
    /// The certificate cannot be generated.
    #[error("cannot generate a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// The generated certificate cannot be used.
    #[error("cannot use the generated certificate: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Creates a directory and its parents, accessible to the owner only (Unix).
fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir)
}

/// Reads the private key from `file`. If `file` does not exist, generates a key and writes it to `file`. On Unix, only the owner can read
/// the new file.
fn load_or_generate_key(file: &Path) -> Result<KeyPair, SelfSignedError> {
    let cannot = |operation| move |error| SelfSignedError::File { operation, path: file.to_owned(), error };
    let invalid = || SelfSignedError::InvalidKey(file.to_owned());
    let open = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            files::write_private(file, &key.serialize_pem()).map_err(cannot("write"))?;
            return Ok(key);
        }
        opened => opened.map_err(cannot("read"))?,
    };
    // Checks the open file, because the name may refer to another file by now.
    let metadata = open.metadata().map_err(cannot("read"))?;
    check_key_permissions(file, &metadata)?;
    let mut text = String::new();
    match open.take(MAX_KEY_BYTES).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(invalid()),
        Err(error) => Err(cannot("read")(error)),
        Ok(_) => KeyPair::from_pem_and_sign_algo(&text, &PKCS_ECDSA_P256_SHA256).map_err(|_| invalid()),
    }
}

#[cfg(unix)]
fn check_key_permissions(file: &Path, metadata: &fs::Metadata) -> Result<(), SelfSignedError> {
    use std::os::unix::fs::MetadataExt;

    #[cfg(target_os = "linux")]
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(SelfSignedError::KeyOwner(file.to_owned()));
    }
    let (mode, others) = (metadata.mode() & 0o777, 0o077);
    if mode & others == 0 { Ok(()) } else { Err(SelfSignedError::KeyPermissions { file: file.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_key_permissions(_: &Path, _: &fs::Metadata) -> Result<(), SelfSignedError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::UnixTime;
    use x509_cert::ext::pkix::BasicConstraints;

    use super::*;

    /// 2026-11-20T12:00:00Z, from `date -u -d 2026-11-20T12:00:00Z +%s`.
    const START: Duration = Duration::from_secs(1_795_176_000);

    fn at_day(days: u64) -> SystemTime {
        UNIX_EPOCH + START + DAY * days as u32
    }

    fn issued(issuer: &SelfSignedIssuer, days: u64) -> (CertificateDer<'static>, CertificateWithKey) {
        let certified = issuer.load_or_issue(at_day(days)).expect("a certificate");
        (certified.key.cert[0].clone(), certified)
    }

    /// Whether a client with `--ca root` accepts the certificate `presented` for `name` at `time`.
    fn verifies(root: &CertificateDer<'static>, presented: &CertificateDer<'_>, name: &str, time: SystemTime) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).expect("a root");
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), crypto_provider()).build().expect("a verifier");
        let name = ServerName::try_from(name).expect("a name");
        let time = UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).expect("a time"));
        verifier.verify_server_cert(presented, &[], &name, &[], time).is_ok()
    }

    #[test]
    fn self_signed_certificate_meets_browser_rules() {
        let issuer =
            SelfSignedIssuer::new(["echo.example.org", "0.0.0.0", "::", "192.0.2.7", "no name", "localhost"], None);
        let (der, certified) = issued(&issuer, 0);
        let read = CertificateInner::<Raw>::from_der(&der).expect("a certificate");
        let own = read.tbs_certificate();
        assert_eq!(own.validity().not_before.to_string(), "2026-11-20T11:00:00Z");
        assert_eq!(own.validity().not_after.to_string(), "2026-11-30T11:00:00Z");
        assert_eq!(certified.valid_until, own.validity().not_after);
        let constraints = own.get_extension::<BasicConstraints>().expect("readable").expect("constraints").1;
        assert!(!constraints.ca);
        // OIDs of id-ecPublicKey and prime256v1.
        let kind = &own.subject_public_key_info().algorithm;
        assert_eq!(kind.oid.to_string(), "1.2.840.10045.2.1");
        let curve = kind.parameters.as_ref().expect("a curve").value();
        assert_eq!(curve, [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
        for (name, covers) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("echo.example.org", true),
            ("192.0.2.7", true),
            ("example.org", false),
            ("127.0.0.2", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(verifies(&der, &der, name, at_day(1)), covers, "{name}");
        }
        assert!(!verifies(&der, &der, "localhost", at_day(10)) && !verifies(&der, &der, "localhost", at_day(0) - DAY));
    }

    #[test]
    fn stored_certificate_is_renewed_on_day_8_with_the_same_key() {
        let temp_dir = tempfile::tempdir().expect("a directory");
        let dir = temp_dir.path().join("new/certificates");
        let start = |hosts: &[&str]| SelfSignedIssuer::new(hosts.iter().copied(), Some(dir.clone()));
        let (first, _) = issued(&start(&[]), 0);
        assert_eq!(issued(&start(&[]), 3).0, first);
        assert_eq!(issued(&start(&["0.0.0.0"]), 7).0, first);
        let file = SelfSignedIssuer::certificate_path(&dir);
        assert_eq!(CertificateDer::from_pem_file(&file).expect("a certificate"), first);
        let (second, _) = issued(&start(&[]), 8);
        assert_ne!(second, first);
        assert!(verifies(&first, &second, "localhost", at_day(16)));
        let serial_number = |der: &CertificateDer<'_>| {
            CertificateInner::<Raw>::from_der(der).expect("a certificate").tbs_certificate().serial_number().clone()
        };
        assert_ne!(serial_number(&first), serial_number(&second));
        // The clock was far ahead and is correct again.
        assert_ne!(issued(&start(&[]), 1).0, second);
        // Another host.
        let (third, _) = issued(&start(&["echo.example.org"]), 1);
        assert!(verifies(&first, &third, "echo.example.org", at_day(2)));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(dir.join(KEY_FILE_NAME)).expect("a key").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let mut names: Vec<_> =
            fs::read_dir(&dir).expect("a directory").map(|file| file.expect("one").file_name()).collect();
        names.sort();
        assert_eq!(names, [CERTIFICATE_FILE_NAME, KEY_FILE_NAME]);
    }

    #[test]
    fn damaged_certificate_is_replaced_and_foreign_key_rejected() {
        let temp_dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| temp_dir.path().join(name);
        let issuer = SelfSignedIssuer::new([], Some(temp_dir.path().to_owned()));
        let (first, _) = issued(&issuer, 0);
        fs::write(at(CERTIFICATE_FILE_NAME), "-----BEGIN CERTIFICATE-----\nAAAA").expect("a file");
        let (second, _) = issued(&issuer, 0);
        assert_ne!(second, first);
        fs::remove_file(at(KEY_FILE_NAME)).expect("a key");
        let (third, _) = issued(&issuer, 0);
        assert!(third != second && !verifies(&second, &third, "localhost", at_day(1)));
        for invalid in ["", "a diary", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            let _ = fs::remove_file(at(KEY_FILE_NAME));
            files::write_private(&at(KEY_FILE_NAME), invalid).expect("a file");
            let error = issuer.load_or_issue(at_day(0)).expect_err("no key").to_string();
            assert!(error.contains(KEY_FILE_NAME) && error.contains("remove the file"), "{error}");
            assert_eq!(fs::read_to_string(at(KEY_FILE_NAME)).expect("a file"), invalid);
        }
    }

    #[cfg(unix)]
    #[test]
    fn key_with_open_permissions_or_another_owner_is_rejected() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt;

        let temp_dir = tempfile::tempdir().expect("a directory");
        let dir = temp_dir.path().join("new/certificates");
        create_private_dir(&dir).expect("a directory");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&temp_dir.path().join("new"))), (0o700, 0o700));
        let file = dir.join("key.pem");
        let first = load_or_generate_key(&file).expect("a key").serialize_pem();
        for (mode, is_open) in [(0o640, true), (0o604, true), (0o620, true), (0o400, false), (0o600, false)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).expect("ours");
            let read = load_or_generate_key(&file).map(|key| key.serialize_pem());
            match read {
                Err(error @ SelfSignedError::KeyPermissions { .. }) if is_open => {
                    let message = error.to_string();
                    assert!(
                        message.contains(&format!("mode is {mode:03o}")) && message.contains("chmod 600"),
                        "{message}"
                    );
                }
                read => assert!(!is_open && read.expect("a key") == first, "{mode:o}"),
            }
        }
        // Only root can change the owner of a file.
        if std::os::unix::fs::chown(&file, Some(65_532), None).is_ok() {
            let message = load_or_generate_key(&file).expect_err("another's key").to_string();
            assert!(message.contains("belongs to another user") && message.contains("chown"), "{message}");
        }
    }
}
