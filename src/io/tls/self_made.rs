//! A certificate that a server makes itself, for whoever has none from an authority. It is as browsers want one that they are
//! told the fingerprint of (`serverCertificateHashes`): ECDSA P-256, valid for less than 14 days. It is no authority's, or clients
//! that check strictly would not believe it as a server's, not even with `--ca`.
//!
//! In a folder the key stays, and a certificate that is made anew has the same key and the same name: a client that was given
//! an earlier one by `--ca` believes the new one too.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SerialNumber, date_time_ymd,
};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;

use super::kept_key::{self, CannotMake};
use super::provider;
use super::shown::Certified;
use crate::io::{entropy, whole_file};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// From the first moment of a certificate to its last.
const LIFETIME: Duration = DAY.saturating_mul(10);
/// From its first moment until there is a new one.
const RENEWAL: Duration = DAY.saturating_mul(8);
/// It is valid from that long ago on: a client's clock may be behind ours.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60 * 60);

/// The names of the files in the folder.
const CERTIFICATE: &str = "moqt-cert.pem";
const KEY: &str = "moqt-key.pem";

/// Who a certificate says that it is for and from.
const NAME: &str = "jamjam-dev echo-server";

/// For whom it is in any case.
const ALWAYS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How certificates are made: for whom, and where they are kept, if anywhere.
#[derive(Clone, Debug)]
pub struct SelfMade {
    names: Vec<String>,
    folder: Option<PathBuf>,
}

impl SelfMade {
    /// Certificates for this machine as it names itself, and for `hosts` if those are names or addresses that a client could
    /// ask for. They are kept in `folder`, which need not be there yet.
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a str>, folder: Option<PathBuf>) -> Self {
        let mut names: Vec<String> = ALWAYS.map(str::to_owned).into();
        for host in hosts {
            let is_place = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified() || ip.is_multicast());
            if !is_place && ServerName::try_from(host).is_ok() && !names.iter().any(|name| name == host) {
                names.push(host.to_owned());
            }
        }
        Self { names, folder }
    }

    /// The file with the certificate that is kept in `folder`.
    pub fn certificate_in(folder: &Path) -> PathBuf {
        folder.join(CERTIFICATE)
    }

    /// All files that are kept in `folder`.
    pub fn files(folder: &Path) -> [PathBuf; 2] {
        [Self::certificate_in(folder), folder.join(KEY)]
    }

    /// The certificate that is good at `time`: the one that is kept, or a new one.
    pub(super) fn certify(&self, time: SystemTime) -> Result<Certified, CannotMake> {
        let Some(folder) = &self.folder else { return self.make(&KeyPair::generate()?, time).map(|(made, _)| made) };
        let cannot = |what, path: &Path| {
            let path = path.to_owned();
            move |error| CannotMake::File { what, path, error }
        };
        kept_key::make_folder(folder).map_err(cannot("make the folder", folder))?;
        let (file, key) = (Self::certificate_in(folder), kept_key::read_or_make(&folder.join(KEY))?);
        // Whatever else is there, half a file or a certificate of another key, is replaced.
        let kept = CertificateDer::from_pem_file(&file).ok();
        if let Some(certified) = kept.and_then(|kept| self.judge(kept, &key, time)) {
            return Ok(certified);
        }
        let (made, pem) = self.make(&key, time)?;
        whole_file::write(&file, &pem).map_err(cannot("write", &file))?;
        Ok(made)
    }

    /// A new certificate of `key`, and its text.
    fn make(&self, key: &KeyPair, time: SystemTime) -> Result<(Certified, String), CannotMake> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(CLOCKS_DIFFER);
        let from = date_time_ymd(1970, 1, 1) + Duration::from_secs(since.as_secs());
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.not_before = from;
        params.not_after = from + LIFETIME;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Two of one name must not share a number, and none is 0.
        let [number] = entropy::words();
        params.serial_number = Some(SerialNumber::from(number | 1));
        let certificate = params.self_signed(key)?;
        let certified = certified(certificate.der().clone(), key)?;
        Ok((certified, certificate.pem()))
    }

    /// The kept certificate, if it is still good at `time` and for our names, and is that of `key`.
    fn judge(&self, kept: CertificateDer<'static>, key: &KeyPair, time: SystemTime) -> Option<Certified> {
        let parsed = ParsedCertificate::try_from(&kept).ok()?;
        let is_for = |name: &String| {
            ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
        };
        if !self.names.iter().all(is_for) {
            return None;
        }
        let certified = certified(kept, key).ok()?;
        let renew = certified.renew?;
        (renew.checked_sub(RENEWAL)? <= time && time < renew).then_some(certified)
    }
}

/// A certificate with its key, ready to be shown; an error if they do not belong together.
fn certified(own: CertificateDer<'static>, key: &KeyPair) -> Result<Certified, rustls::Error> {
    let unreadable = |_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
    let validity = *CertificateInner::<Raw>::from_der(&own).map_err(unreadable)?.tbs_certificate().validity();
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = Arc::new(CertifiedKey::from_der(vec![own], private.into(), &provider())?);
    let renew = UNIX_EPOCH.checked_add(validity.not_before.to_unix_duration() + RENEWAL);
    Ok(Certified { key, until: validity.not_after, authority: false, renew })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::UnixTime;
    use x509_cert::ext::pkix::BasicConstraints;

    use super::super::identity::Identity;
    use super::*;

    /// 2026-11-20T12:00:00Z, from `date -u -d 2026-11-20T12:00:00Z +%s`.
    const NOON: Duration = Duration::from_secs(1_795_176_000);

    fn days_on(days: u64) -> SystemTime {
        UNIX_EPOCH + NOON + DAY * days as u32
    }

    fn made(maker: &SelfMade, days: u64) -> (CertificateDer<'static>, Certified) {
        let certified = maker.certify(days_on(days)).expect("a certificate");
        (certified.key.cert[0].clone(), certified)
    }

    /// Whether a client that was given `root` by `--ca` believes `shown` at `time` as the certificate of `name`.
    fn believes(root: &CertificateDer<'static>, shown: &CertificateDer<'_>, name: &str, time: SystemTime) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).expect("a root");
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), provider()).build().expect("a verifier");
        let name = ServerName::try_from(name).expect("a name");
        let time = UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).expect("a time"));
        verifier.verify_server_cert(shown, &[], &name, &[], time).is_ok()
    }

    #[test]
    fn it_is_as_browsers_want_it_and_for_the_names_of_this_machine_and_of_the_host() {
        let maker = SelfMade::new(["echo.example.org", "0.0.0.0", "::", "192.0.2.7", "no name", "localhost"], None);
        let (der, certified) = made(&maker, 0);
        let read = CertificateInner::<Raw>::from_der(&der).expect("a certificate");
        let own = read.tbs_certificate();
        assert_eq!(own.validity().not_before.to_string(), "2026-11-20T11:00:00Z");
        assert_eq!(own.validity().not_after.to_string(), "2026-11-30T11:00:00Z");
        assert_eq!(certified.until, own.validity().not_after);
        let constraints = own.get_extension::<BasicConstraints>().expect("readable").expect("constraints").1;
        assert!(!constraints.ca);
        // id-ecPublicKey, and prime256v1 as its parameter.
        let kind = &own.subject_public_key_info().algorithm;
        assert_eq!(kind.oid.to_string(), "1.2.840.10045.2.1");
        let curve = kind.parameters.as_ref().expect("a curve").value();
        assert_eq!(curve, [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
        for (name, is_for) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("echo.example.org", true),
            ("192.0.2.7", true),
            ("example.org", false),
            ("127.0.0.2", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(believes(&der, &der, name, days_on(1)), is_for, "{name}");
        }
        assert!(
            !believes(&der, &der, "localhost", days_on(10)) && !believes(&der, &der, "localhost", days_on(0) - DAY)
        );
    }

    #[test]
    fn in_a_folder_it_stays_for_eight_days_and_then_whoever_believed_it_believes_the_next() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("new/certificates");
        let start = |hosts: &[&str]| SelfMade::new(hosts.iter().copied(), Some(folder.clone()));
        let (first, _) = made(&start(&[]), 0);
        assert_eq!(made(&start(&[]), 3).0, first);
        assert_eq!(made(&start(&["0.0.0.0"]), 7).0, first);
        let file = SelfMade::certificate_in(&folder);
        assert_eq!(CertificateDer::from_pem_file(&file).expect("a certificate"), first);
        let (second, _) = made(&start(&[]), 8);
        assert_ne!(second, first);
        assert!(believes(&first, &second, "localhost", days_on(16)));
        let number = |der: &CertificateDer<'_>| {
            CertificateInner::<Raw>::from_der(der).expect("a certificate").tbs_certificate().serial_number().clone()
        };
        assert_ne!(number(&first), number(&second));
        // A clock that was far ahead, and is right again.
        assert_ne!(made(&start(&[]), 1).0, second);
        // Another host.
        let (third, _) = made(&start(&["echo.example.org"]), 1);
        assert!(believes(&first, &third, "echo.example.org", days_on(2)));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.join(KEY)).expect("a key").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let mut names: Vec<_> =
            fs::read_dir(&folder).expect("a folder").map(|file| file.expect("one").file_name()).collect();
        names.sort();
        assert_eq!(names, [CERTIFICATE, KEY]);
    }

    #[test]
    fn half_a_certificate_and_that_of_another_key_are_replaced_but_a_key_of_others_never() {
        let place = tempfile::tempdir().expect("a folder");
        let at = |name: &str| place.path().join(name);
        let maker = SelfMade::new([], Some(place.path().to_owned()));
        let (first, _) = made(&maker, 0);
        fs::write(at(CERTIFICATE), "-----BEGIN CERTIFICATE-----\nAAAA").expect("a file");
        let (second, _) = made(&maker, 0);
        assert_ne!(second, first);
        fs::remove_file(at(KEY)).expect("a key");
        let (third, _) = made(&maker, 0);
        assert!(third != second && !believes(&second, &third, "localhost", days_on(1)));
        for strange in ["", "a diary", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            let _ = fs::remove_file(at(KEY));
            whole_file::write_secret(&at(KEY), strange).expect("a file");
            let error = maker.certify(days_on(0)).expect_err("no key").to_string();
            assert!(error.contains(KEY) && error.contains("remove the file"), "{error}");
            assert_eq!(fs::read_to_string(at(KEY)).expect("a file"), strange);
        }
    }

    #[test]
    fn a_server_that_runs_for_weeks_shows_a_new_one_in_time() {
        let long_ago = SystemTime::now() - DAY * 20;
        let identity = Identity::self_made(SelfMade::new([], None), long_ago).expect("a certificate");
        // It was to expire ten days ago.
        let shown = identity.fingerprint();
        assert!(identity.valid_until() > jiff::Timestamp::now().to_string(), "{}", identity.valid_until());
        assert_eq!(identity.fingerprint(), shown);
    }
}
