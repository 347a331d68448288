//! Certificates of servers. A [`ServerIdentity`] is read from PEM files or self-signed. [`super::renewal`] replaces its certificate while the
//! server runs: open connections keep their certificate, and new handshakes get the new one. Errors in the PEM files are reported before
//! the server listens.

use std::mem;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::BoxError;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::{error, info, warn};

use super::validity::{Properties, properties};
use super::{CredentialError, Fingerprint, SUPPORTED_KEYS, crypto_provider, read_certificates};
use crate::io::files;
use crate::lock::lock;
use crate::stats::Counter;

/// Warning for a CA certificate, which `openssl req -x509` creates by default. Browsers and curl may accept a server
/// that presents such a certificate; jamjam and jamjam-dev reject it.
const CA_CERTIFICATE_WARNING: &str = "the server certificate is a CA certificate, which jamjam and jamjam-dev reject; reissue it with basicConstraints=critical,CA:FALSE";

/// A self-signed certificate, which is valid for 10 days, is renewed this long before its end.
const RENEW_BEFORE_END: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Lifetime of a self-signed certificate.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// The validity of a self-signed certificate starts this long before it is issued, for clients whose clock is slow.
const CLOCK_SKEW_ALLOWANCE: Duration = Duration::from_secs(60 * 60);

/// Subject and issuer of self-signed certificates.
const COMMON_NAME: &str = "jamjam-dev echo-server";

/// Subject alternative names of every self-signed certificate.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where a certificate and its key come from.
#[derive(Debug)]
enum Source {
    PemFiles { certificate: PathBuf, key: PathBuf },
    SelfSigned { subject_alt_names: Vec<String> },
}

/// A certificate chain with its key and the properties that are used here.
#[derive(Clone, Debug)]
struct Certificate {
    key: Arc<CertifiedKey>,
    properties: Properties,
}

/// Certificate and key of a server. Supplies the current certificate for each TLS handshake, regardless of the requested name.
#[derive(Debug)]
pub struct ServerIdentity {
    source: Source,
    current: Mutex<Certificate>,
    /// Why the files could not be used the last time.
    last_error: Mutex<Option<String>>,
    /// Number of certificates that were loaded while the server ran.
    pub reloads: Counter,
    /// Number of times that the certificate files could not be used.
    pub failed_reloads: Counter,
}

impl ServerIdentity {
    /// Reads both files and checks the validity at `now`.
    pub fn from_pem_files(certificate: &Path, key: &Path, now: SystemTime) -> Result<Arc<Self>, CredentialError> {
        Self::load(Source::PemFiles { certificate: certificate.to_owned(), key: key.to_owned() }, now)
    }

    /// A self-signed certificate, issued at `now` for loopback names and for the `hosts` that a client could connect to.
    pub fn self_signed(hosts: &[&str], now: SystemTime) -> Result<Arc<Self>, CredentialError> {
        Self::load(Source::SelfSigned { subject_alt_names: subject_alt_names(hosts) }, now)
    }

    fn load(source: Source, now: SystemTime) -> Result<Arc<Self>, CredentialError> {
        let current = Mutex::new(source.load(now)?);
        let (reloads, failed_reloads) = (Counter::default(), Counter::default());
        Ok(Arc::new(Self { source, current, last_error: Mutex::default(), reloads, failed_reloads }))
    }

    /// Renews a self-signed certificate two days before its end, and replaces one whose files have changed. A self-signed certificate from the
    /// future is also renewed: the clock was wrong when it was issued. If that fails, the previous certificate remains in use. Errors are logged
    /// when they change: a certificate and its key are rarely replaced at the same moment.
    pub fn replace_if_due(&self, now: SystemTime) {
        let Properties { not_before, not_after, .. } = self.current().properties;
        let renewed_at = not_after - RENEW_BEFORE_END;
        if matches!(self.source, Source::SelfSigned { .. })
            && (not_before..renewed_at).contains(&OffsetDateTime::from(now))
        {
            return;
        }
        let loaded = self.source.load(now);
        let error = loaded.as_ref().err().map(ToString::to_string);
        let is_new = error != mem::replace(&mut *lock(&self.last_error), error.clone());
        match loaded {
            Ok(certificate) if certificate.key.cert != self.current().key.cert => {
                *lock(&self.current) = certificate;
                self.reloads.add(1);
                self.log("certificate reloaded");
            }
            Err(error) if is_new => {
                self.failed_reloads.add(1);
                let valid_until = self.valid_until();
                error!(target: "tls", %error, %valid_until, hint = "correct the files; they are read again every few seconds", "certificate not reloaded; the previous one remains in use");
            }
            _ => {}
        }
    }

    /// The current certificate without its chain.
    pub fn certificate(&self) -> CertificateDer<'static> {
        // The chain is never empty.
        self.current().key.cert.first().cloned().unwrap_or_else(|| CertificateDer::from_slice(&[]))
    }

    /// Fingerprint of the current certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::from_certificate(&self.certificate())
    }

    /// End of validity of the current certificate, as RFC 3339 in UTC.
    pub fn valid_until(&self) -> String {
        rfc_3339(self.current().properties.not_after)
    }

    /// End of validity of the current certificate, in seconds since the Unix epoch.
    pub fn expiry(&self) -> u64 {
        self.current().properties.not_after.unix_timestamp().cast_unsigned()
    }

    /// Logs `event` with the current certificate.
    pub fn log(&self, event: &str) {
        info!(target: "tls", valid_until = %self.valid_until(), sha256 = %self.fingerprint(), "{event}");
        if self.current().properties.is_ca {
            warn!(target: "tls", "{CA_CERTIFICATE_WARNING}");
        }
    }

    fn current(&self) -> Certificate {
        lock(&self.current).clone()
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key)
    }
}

impl Source {
    /// A certificate that is valid at `now`.
    fn load(&self, now: SystemTime) -> Result<Certificate, CredentialError> {
        match self {
            Self::PemFiles { certificate, key } => load_pem_files(certificate, key, now),
            Self::SelfSigned { subject_alt_names } => issue(subject_alt_names, now).map_err(|error| CredentialError {
                object: "the self-signed certificate".to_owned(),
                reason: error.to_string(),
            }),
        }
    }
}

/// The names of a self-signed certificate: loopback names and the `hosts` that a client could connect to.
fn subject_alt_names(hosts: &[&str]) -> Vec<String> {
    let is_connectable = |host: &str| {
        let is_no_host = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified() || ip.is_multicast());
        !is_no_host && !LOOPBACK_NAMES.contains(&host) && ServerName::try_from(host).is_ok()
    };
    let hosts = hosts.iter().copied().filter(|host| is_connectable(host));
    LOOPBACK_NAMES.into_iter().chain(hosts).map(str::to_owned).collect()
}

/// A new self-signed certificate with a new key, valid from `now`. It meets the rules of browsers for `serverCertificateHashes`: ECDSA
/// P-256 and a lifetime of less than 14 days. It is not a CA certificate: strict clients reject a server that presents a CA certificate,
/// even with `--ca`.
fn issue(subject_alt_names: &[String], now: SystemTime) -> Result<Certificate, BoxError> {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(CLOCK_SKEW_ALLOWANCE);
    let mut params = CertificateParams::new(subject_alt_names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(since.as_secs());
    params.not_after = params.not_before + CERTIFICATE_LIFETIME;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = CertificateDer::from(params.self_signed(&key)?);
    let properties = properties(&certificate).ok_or("its encoding is wrong")?;
    let key = CertifiedKey::from_der(vec![certificate], PrivateKeyDer::from(key), &crypto_provider())?;
    Ok(Certificate { key: Arc::new(key), properties })
}

fn load_pem_files(certificate: &Path, key: &Path, now: SystemTime) -> Result<Certificate, CredentialError> {
    let chain = read_certificates(certificate)?;
    let all: Option<Vec<_>> = chain.iter().map(|certificate| properties(certificate)).collect();
    let all = all.ok_or_else(|| CredentialError::in_file(certificate, "it is no X.509 certificate"))?;
    // A client needs every certificate of the chain.
    let properties = all.iter().skip(1).fold(all[0], |one, next| Properties {
        not_before: one.not_before.max(next.not_before),
        not_after: one.not_after.min(next.not_after),
        ..one
    });
    let Properties { not_before: from, not_after: until, .. } = properties;
    // A certificate is still valid during the last second of its validity period (RFC 5280, section 4.1.2.5).
    if OffsetDateTime::from(now) < from || OffsetDateTime::from(now).unix_timestamp() > until.unix_timestamp() {
        let [from, until] = [from, until].map(rfc_3339);
        let reason = format!("it is valid only from {from} to {until}; renew it, or correct the clock of this machine");
        return Err(CredentialError::in_file(certificate, &reason));
    }
    let text = files::read(key).map_err(|error| CredentialError::in_file(key, &error))?;
    let private_key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let path = key.display();
        let reason = "it contains no unencrypted private key in PEM format. Convert or decrypt the key with";
        CredentialError::in_file(key, &format!("{reason}: openssl pkey -in {path} -out key.pem"))
    })?;
    let certified = CertifiedKey::from_der(chain, private_key, &crypto_provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let path = certificate.display();
            let reason = format!("it does not belong to the first certificate in {path}, which must be the server's");
            CredentialError::in_file(key, &reason)
        }
        error => CredentialError::in_file(key, &format!("{error}; supported keys are {SUPPORTED_KEYS}")),
    })?;
    Ok(Certificate { key: Arc::new(certified), properties })
}

fn rfc_3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::UnixTime;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// 2026-11-20T12:00:00Z, from `date -u -d 2026-11-20T12:00:00Z +%s`.
    const START: Duration = Duration::from_secs(1_795_176_000);

    fn at_day(days: u32) -> SystemTime {
        UNIX_EPOCH + START + DAY * days
    }

    /// Whether a client with `--ca root` accepts the certificate `presented` for `name` at `time`.
    fn verifies(certificate: &CertificateDer<'static>, name: &str, time: SystemTime) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), crypto_provider()).build().expect("a verifier");
        let name = ServerName::try_from(name).expect("a name");
        let time = UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).expect("a time"));
        verifier.verify_server_cert(certificate, &[], &name, &[], time).is_ok()
    }

    #[test]
    fn self_signed_certificate_meets_browser_rules() {
        let hosts = ["echo.example.org", "0.0.0.0", "::", "192.0.2.7", "no name", "localhost"];
        let identity = ServerIdentity::self_signed(&hosts, at_day(0)).expect("a certificate");
        let der = identity.certificate();
        assert_eq!(identity.valid_until(), "2026-11-30T11:00:00Z");
        // The encodings of notBefore, of the algorithm (id-ecPublicKey with prime256v1) and of the critical extension "no CA".
        for part in [
            &b"\x17\x0d261120110000Z"[..],
            b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
            b"\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x02\x30\x00",
        ] {
            assert!(der.windows(part.len()).any(|window| window == part), "{part:x?}");
        }
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
            assert_eq!(verifies(&der, name, at_day(1)), covers, "{name}");
        }
        assert!(!verifies(&der, "localhost", at_day(10)) && !verifies(&der, "localhost", at_day(0) - DAY));
    }

    /// A certificate that ends at the beginning of `year`, and its key.
    fn pem(year: i32) -> [String; 2] {
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        [params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem()]
    }

    #[test]
    fn changed_files_are_read_and_a_pair_that_does_not_fit_counts_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ["cert", "key"].map(|name| folder.path().join(name));
        let write = |texts: [&String; 2]| {
            files.iter().zip(texts).for_each(|(file, text)| std::fs::write(file, text).expect("a file"));
        };
        let [[old, old_key], [new, new_key], [issuer, _]] = [2_100, 2_101, 2_050].map(pem);
        // The chain ends with its earliest certificate.
        let chain = old + &issuer;
        write([&chain, &old_key]);
        let identity = ServerIdentity::from_pem_files(&files[0], &files[1], at_day(0)).expect("a pair");
        for (cert, key, year, reloads, failed) in [
            (&chain, &old_key, 2_050, 0, 0),
            (&new, &old_key, 2_050, 0, 1),
            (&new, &old_key, 2_050, 0, 1),
            (&new, &new_key, 2_101, 1, 1),
            (&new, &new_key, 2_101, 1, 1),
            (&new, &old_key, 2_101, 1, 2),
            (&chain, &old_key, 2_050, 2, 2),
        ] {
            write([cert, key]);
            identity.replace_if_due(at_day(1));
            let counts = (identity.valid_until(), identity.reloads.get(), identity.failed_reloads.get());
            assert_eq!(counts, (format!("{year}-01-01T00:00:00Z"), reloads, failed));
        }
    }

    #[test]
    fn self_signed_certificate_is_renewed_on_day_8_or_if_the_clock_was_ahead() {
        let identity = ServerIdentity::self_signed(&[], at_day(0)).expect("a certificate");
        let mut current = identity.fingerprint();
        for (day, is_renewed) in [(0, false), (7, false), (8, true), (15, false), (16, true), (1, true), (8, false)] {
            identity.replace_if_due(at_day(day));
            assert_eq!(identity.fingerprint() != current, is_renewed, "day {day}");
            assert!(verifies(&identity.certificate(), "localhost", at_day(day)), "day {day}");
            current = identity.fingerprint();
        }
    }
}
