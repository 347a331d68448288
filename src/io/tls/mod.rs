//! TLS configuration for servers and clients. All configurations use the same cryptography provider.
//!
//! A [`Fingerprint`] identifies a certificate to clients that do not trust its CA: the SHA-256 digest that browsers expect in
//! `serverCertificateHashes`, written as 64 hexadecimal digits.

pub mod client;
pub mod identity;
pub mod renewal;
pub mod server;
mod validity;

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::io::files;

/// The cryptography provider.
pub(in crate::io) fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The keys that the cryptography provider supports.
const SUPPORTED_KEYS: &str = "RSA with 2048 to 8192 bits, ECDSA with P-256 or P-384, and Ed25519";

/// Whether the other end has disconnected.
pub(in crate::io) fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// SHA-256 of a DER certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of `certificate`.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl FromStr for Fingerprint {
    type Err = &'static str;

    /// Accepts upper and lower case, and colons between bytes as printed by `openssl x509 -fingerprint -sha256`.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.replace(':', "").as_bytes()).ok();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(
            "invalid SHA-256: expected 64 hexadecimal digits, with or without colons; an echo server prints its certificate's fingerprint",
        )
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// A certificate or a key cannot be used.
#[derive(Debug, Error)]
#[error("cannot use {object}: {reason}")]
pub struct CredentialError {
    object: String,
    reason: String,
}

impl CredentialError {
    fn in_file(path: &Path, reason: &(impl ToString + ?Sized)) -> Self {
        Self { object: path.display().to_string(), reason: reason.to_string() }
    }
}

/// The certificates of a PEM file, in order. There is at least one.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let text = files::read(path).map_err(|error| CredentialError::in_file(path, &error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(CredentialError::in_file(
            path,
            &format!(
                "it contains no certificate in PEM format. Convert a binary file with: openssl x509 -in {} -out cert.pem",
                path.display()
            ),
        )),
        Err(_) => Err(CredentialError::in_file(path, "its PEM text is damaged; copy the complete file again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of the empty message, from the examples of FIPS 180-4.
    const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn fingerprint_has_64_digits_with_or_without_colons() {
        let nothing = Fingerprint::from_certificate(&CertificateDer::from_slice(&[]));
        assert_eq!(nothing.to_string(), EMPTY_SHA256);
        let colons: Vec<String> =
            EMPTY_SHA256.as_bytes().chunks(2).map(|p| String::from_utf8_lossy(p).into()).collect();
        for text in
            [EMPTY_SHA256.to_owned(), EMPTY_SHA256.to_uppercase(), colons.join(":"), colons.join(":").to_uppercase()]
        {
            assert_eq!(text.parse(), Ok(nothing), "{text}");
        }
        let long = format!("{EMPTY_SHA256}00");
        let [non_ascii, signed] = ["é3", "+3"].map(|start| EMPTY_SHA256.replacen("e3", start, 1));
        for text in ["", ":", "e3", &long[..62], &long[..63], &long, "sha256", &non_ascii, &signed] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
