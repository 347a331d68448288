//! TLS configuration for servers and clients. All configurations use the same cryptography provider.
//!
//! A [`Fingerprint`] identifies a certificate to clients that do not trust its CA. The fingerprint is the SHA-256 digest that browsers
//! expect in `serverCertificateHashes`. A fingerprint is written as 64 hexadecimal digits.

pub mod client;
mod pem_files;
pub mod reload;
pub mod self_signed;
pub mod server;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_cert::time::Time;

/// The cryptography provider.
pub(in crate::io) fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// SHA-256 of a DER certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// The text is not a SHA-256 fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "invalid SHA-256: expected 64 hexadecimal digits, with or without colons; an echo server prints its certificate's fingerprint"
)]
pub struct ParseFingerprintError;

impl Fingerprint {
    /// The fingerprint of `certificate`.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    /// Accepts upper and lower case, and colons between bytes as printed by `openssl x509 -fingerprint -sha256`.
    fn from_str(text: &str) -> Result<Self, ParseFingerprintError> {
        let pairs: Vec<&[u8]> = if text.contains(':') {
            text.split(':').map(str::as_bytes).collect()
        } else {
            text.as_bytes().chunks(2).collect()
        };
        let bytes: Option<Vec<u8>> = pairs.into_iter().map(parse_hex_byte).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(ParseFingerprintError)
    }
}

/// Parses two hexadecimal digits.
fn parse_hex_byte(pair: &[u8]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let [high, low] = pair else { return None };
    Some(((digit(*high)? << 4) | digit(*low)?) as u8)
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A certificate chain with its key and the properties that are used here.
#[derive(Clone, Debug)]
struct CertificateWithKey {
    key: Arc<CertifiedKey>,
    /// End of validity, UTC.
    valid_until: Time,
    /// Whether the certificate is a CA certificate.
    is_ca: bool,
    /// When to renew a self-signed certificate.
    renew_at: Option<SystemTime>,
}

impl CertificateWithKey {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::from_certificate(&self.certificate())
    }

    fn certificate(&self) -> CertificateDer<'static> {
        // The chain is never empty.
        self.key.cert.first().cloned().unwrap_or_else(|| CertificateDer::from_slice(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of the empty message, from the examples of FIPS 180-4.
    const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn fingerprint_parses_colons_and_upper_case() {
        let nothing = Fingerprint::from_certificate(&CertificateDer::from_slice(&[]));
        assert_eq!(nothing.to_string(), EMPTY_SHA256);
        let colons: Vec<String> =
            EMPTY_SHA256.as_bytes().chunks(2).map(|p| String::from_utf8_lossy(p).into()).collect();
        for text in
            [EMPTY_SHA256.to_owned(), EMPTY_SHA256.to_uppercase(), colons.join(":"), colons.join(":").to_uppercase()]
        {
            assert_eq!(text.parse(), Ok(nothing), "{text}");
        }
    }

    #[test]
    fn invalid_fingerprint_is_rejected() {
        let long = format!("{EMPTY_SHA256}00");
        let non_ascii = EMPTY_SHA256.replacen('e', "é", 1);
        for text in [
            "",
            ":",
            "e3",
            &EMPTY_SHA256[..63],
            &EMPTY_SHA256[..62],
            &long,
            "sha256",
            &non_ascii,
            &EMPTY_SHA256.replacen("e3", "+3", 1),
        ] {
            assert_eq!(text.parse::<Fingerprint>(), Err(ParseFingerprintError), "{text}");
        }
    }
}
