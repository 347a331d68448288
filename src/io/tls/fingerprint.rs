//! A certificate's SHA-256, by which somebody who has no authority in common with a server knows it again: 64 hexadecimal digits,
//! the bytes that a browser's `serverCertificateHashes` compares.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The SHA-256 of a certificate as it is sent (DER).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// What is written is no SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a SHA-256 has 64 hexadecimal digits, with or without colons between them; an echo server prints that of its certificate"
)]
pub struct NoFingerprint;

impl Fingerprint {
    /// That of `certificate`.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    /// Digits of either case, alone or in pairs between colons, as `openssl x509 -fingerprint -sha256` has them.
    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let pairs: Vec<&[u8]> = if text.contains(':') {
            text.split(':').map(str::as_bytes).collect()
        } else {
            text.as_bytes().chunks(2).collect()
        };
        let bytes: Option<Vec<u8>> = pairs.into_iter().map(byte).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(NoFingerprint)
    }
}

/// What two digits are.
fn byte(pair: &[u8]) -> Option<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of no bytes at all, from FIPS 180-4's examples.
    const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_fingerprint_is_written_as_64_digits_and_read_with_colons_and_capitals_too() {
        let nothing = Fingerprint::of(&CertificateDer::from_slice(&[]));
        assert_eq!(nothing.to_string(), OF_NOTHING);
        let colons: Vec<String> = OF_NOTHING.as_bytes().chunks(2).map(|p| String::from_utf8_lossy(p).into()).collect();
        for text in
            [OF_NOTHING.to_owned(), OF_NOTHING.to_uppercase(), colons.join(":"), colons.join(":").to_uppercase()]
        {
            assert_eq!(text.parse(), Ok(nothing), "{text}");
        }
    }

    #[test]
    fn what_is_no_sha_256_is_refused() {
        let long = format!("{OF_NOTHING}00");
        let strange = OF_NOTHING.replacen('e', "é", 1);
        for text in [
            "",
            ":",
            "e3",
            &OF_NOTHING[..63],
            &OF_NOTHING[..62],
            &long,
            "sha256",
            &strange,
            &OF_NOTHING.replacen("e3", "+3", 1),
        ] {
            assert_eq!(text.parse::<Fingerprint>(), Err(NoFingerprint), "{text}");
        }
    }
}
