//! Self-signed certificates for servers without a CA. The certificates meet the rules of browsers for `serverCertificateHashes`:
//! ECDSA P-256 and a lifetime of less than 14 days. The certificates are not CA certificates. Strict clients reject a server that
//! presents a CA certificate, even with `--ca`.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::ServerName;

/// Lifetime of a certificate.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// The validity of a certificate starts this long before the certificate is issued. The early start allows for a client whose clock is
/// slow.
const CLOCK_SKEW_ALLOWANCE: Duration = Duration::from_secs(60 * 60);

/// Subject and issuer of the certificates.
const COMMON_NAME: &str = "jamjam-dev echo-server";

/// Subject alternative names of every certificate.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The names of a certificate: loopback names and the `hosts` that a client could connect to.
pub(super) fn subject_alt_names(hosts: &[&str]) -> Vec<String> {
    let is_connectable = |host: &str| {
        let is_no_host = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified() || ip.is_multicast());
        !is_no_host && !LOOPBACK_NAMES.contains(&host) && ServerName::try_from(host).is_ok()
    };
    let hosts = hosts.iter().copied().filter(|host| is_connectable(host));
    LOOPBACK_NAMES.into_iter().chain(hosts).map(str::to_owned).collect()
}

/// A new certificate with a new key, valid from `now`.
pub(super) fn issue(subject_alt_names: &[String], now: SystemTime) -> Result<(Certificate, KeyPair), rcgen::Error> {
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
    Ok((params.self_signed(&key)?, key))
}
