//! Certificates for tests: an authority, and the certificates that it signs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

pub type Day = (i32, u8, u8);

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    pub fn options(&self) -> [&str; 4] {
        ["--cert", self.cert.to_str().unwrap(), "--key", self.key.to_str().unwrap()]
    }
}

impl Authority {
    pub fn new() -> Self {
        Self::named("an authority of the tests")
    }

    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: tempfile::tempdir().unwrap() };
        fs::write(authority.own(), authority.issuer.pem()).unwrap();
        authority
    }

    pub fn own(&self) -> PathBuf {
        self.file("authority.pem")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The authority's own certificate and key, for use by a server.
    pub fn own_as_server(&self) -> Pair {
        let pair = Pair { cert: self.own(), key: self.file("authority.key") };
        fs::write(&pair.key, self.issuer.key().serialize_pem()).unwrap();
        pair
    }

    /// Creates a certificate for this machine that is valid until 2200.
    pub fn certify(&self) -> Pair {
        self.certify_for("server", (2000, 1, 1), (2200, 1, 1))
    }

    /// Creates a certificate for this machine in files with this name, valid from midnight of `from` to midnight of `until`. That of `client` is
    /// not for servers.
    pub fn certify_for(&self, name: &str, from: Day, until: Day) -> Pair {
        self.certify_key(name, from, until, &KeyPair::generate().unwrap())
    }

    /// Like [`Self::certify_for`], but with a given key, which may be of any type.
    pub fn certify_key(&self, name: &str, from: Day, until: Day, key: &KeyPair) -> Pair {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        if name == "client" {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        let pair = Pair { cert: self.file(&format!("{name}.pem")), key: self.file(&format!("{name}.key")) };
        fs::write(&pair.cert, params.signed_by(key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}

pub fn trusting(authority: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}
