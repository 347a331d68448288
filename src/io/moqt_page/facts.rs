//! What the page has to know of the server.

use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::{Decode, Error};
use x509_cert::spki::ObjectIdentifier;

use crate::io::tls::fingerprint::Fingerprint;

/// A key on an elliptic curve, and the curve P-256 (RFC 5480, section 2.1.1).
const ELLIPTIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// What is so at the moment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Scheme, host and port of WebTransport, such as `https://localhost:4443`.
    pub origin: String,
    /// The path that is served there.
    pub path: String,
    /// What the server asks for announcements of, part by part.
    pub prefix: Vec<String>,
    /// How long each frame is held, in milliseconds.
    pub delay_ms: f64,
    /// The certificate that browsers are shown.
    #[serde(flatten)]
    pub certificate: Certificate,
}

/// What a browser judges when it is given a certificate's hash: it takes that of no other key than ECDSA P-256, and of none that
/// is valid for more than 14 days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub sha256: String,
    /// Whether its key is ECDSA P-256.
    pub is_p256: bool,
    /// Its first moment, in milliseconds since 1970.
    pub not_before_ms: u64,
    /// Its last moment, in milliseconds since 1970.
    pub not_after_ms: u64,
}

impl Certificate {
    /// Of a certificate as it is sent.
    pub fn of(sent: &CertificateDer<'_>) -> Result<Self, Error> {
        let read = CertificateInner::<Raw>::from_der(sent)?;
        let read = read.tbs_certificate();
        let key = &read.subject_public_key_info().algorithm;
        let curve = key.parameters.as_ref().and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
        let validity = read.validity();
        let [not_before_ms, not_after_ms] =
            [validity.not_before, validity.not_after].map(|time| time.to_unix_duration().as_secs() * 1_000);
        Ok(Self {
            sha256: Fingerprint::of(sent).to_string(),
            is_p256: key.oid == ELLIPTIC && curve == Some(P256),
            not_before_ms,
            not_after_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// What `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 10` made, and what `openssl x509 -fingerprint -sha256
    /// -dates` says of it.
    const ON_P256: &str = "MIIBbTCCAROgAwIBAgIUTv/bpJUWjJycg8+FCfAe0Mt8MIowCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYTAeFw0yNjExMjAxOTM5\
        NDlaFw0yNjExMzAxOTM5NDlaMAwxCjAIBgNVBAMMAWEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQmb+bvJb9PRu8vmInxqMq5\
        QF6yD7kLAYP10tJUdRzBpMr+lI6XvzGOMQxMasCwS2ghtFbJh9/B5CWJ3PcKe66uo1MwUTAdBgNVHQ4EFgQUv15lqJdkYI+Sm/Af\
        GfV47HrXZbgwHwYDVR0jBBgwFoAUv15lqJdkYI+Sm/AfGfV47HrXZbgwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBF\
        AiEA4WPBQyuiEM7n+sK1L3+jurcvgY6fYG0B+yrb1MsjwdkCIF0Fo9WqCQaUdifkApvYU1LEyfTTa5G3AG9sCwO0akDN";
    /// The same on P-384.
    const ON_P384: &str = "MIIBqjCCATCgAwIBAgIUPuHHAO6sPDiztxqGUzfK47nHz4UwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYTAeFw0yNjExMjAxOTM5\
        NDlaFw0yNjExMzAxOTM5NDlaMAwxCjAIBgNVBAMMAWEwdjAQBgcqhkjOPQIBBgUrgQQAIgNiAASPovOcrcyh6pjBguTQrEArMBLd\
        rtMOwuxbgjRWC2pYPJCcoggKfusFxN3SU2doVM2GY3IV2pkk61m+t4gCqe+kdfMKO8UvDg0eXJ/fNJcsdRjh8HycRRJvsGDWCJh9\
        wl+jUzBRMB0GA1UdDgQWBBRT+FTytgbXeJ0up2kkoLEGgA2CozAfBgNVHSMEGDAWgBRT+FTytgbXeJ0up2kkoLEGgA2CozAPBgNV\
        HRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA2gAMGUCMQDNPP0zcymKr2DJZCbMMX24eliWEVNtzqz+pj5kZpbY+mhoRt6sHOyS7y8f\
        94rOh7MCMHYgFDDmvMBtnIX4WsbsS3PDmDcHmaO3vaOVhRXODf28YVVBnHelSIJxCXvLIK9v7w==";

    fn read(text: &str) -> Result<Certificate, Error> {
        Certificate::of(&STANDARD.decode(text).expect("base64").into())
    }

    #[test]
    fn a_certificate_is_as_openssl_says_and_only_p256_is_p256() {
        let expected = Certificate {
            sha256: "a08c9d5463a0a770ace9ec38e58c6a91e650d0f567499886a6fff794c2053d5d".to_owned(),
            is_p256: true,
            // Nov 20 19:39:49 2026 GMT, and ten days later.
            not_before_ms: 1_795_203_589_000,
            not_after_ms: 1_796_067_589_000,
        };
        assert_eq!(read(ON_P256), Ok(expected));
        let other = read(ON_P384).expect("a certificate");
        assert_eq!(&other.sha256[..8], "3aed9a32");
        assert!(!other.is_p256);
        assert!(read("AAAA").is_err());
    }
}
