//! The headers with which a newer jamjam client proves in the upgrade request that it has the key of a device.
//!
//! A [`DeviceKey`] writes the headers, and [`verify`] checks them. Both receive the Unix time as an argument.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use http::HeaderMap;
use sha2::{Digest, Sha256};
use thiserror::Error;

const ID: &str = "x-device-id";
const PUBLIC_KEY: &str = "x-device-pubkey";
const TIMESTAMP: &str = "x-device-timestamp";
const SIGNATURE: &str = "x-device-signature";

/// Begins the signed text. The timestamp follows as it is in its header.
const SIGNED_PREFIX: &str = "jamjam-device-v1:";

/// Number of bytes of the hash of the public key that make the id.
const ID_BYTES: usize = 16;

/// Maximum difference between the timestamp and the server's clock, in seconds.
const MAX_CLOCK_DIFFERENCE: u64 = 300;

/// A device, identified by its public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceId(Box<[u8; 32]>);

/// The secret key of a device.
pub struct DeviceKey(SigningKey);

impl DeviceKey {
    /// The key with this seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Names and values of the headers of an upgrade request at this Unix time.
    pub fn headers(&self, unix_seconds: u64) -> [(&'static str, String); 4] {
        let public = self.0.verifying_key().to_bytes();
        let timestamp = unix_seconds.to_string();
        let signature = self.0.sign(signed_text(&timestamp).as_bytes()).to_bytes();
        [
            (ID, device_id(&public)),
            (PUBLIC_KEY, STANDARD.encode(public)),
            (TIMESTAMP, timestamp),
            (SIGNATURE, STANDARD.encode(signature)),
        ]
    }
}

/// Why an upgrade request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// A header is missing, repeated, or not ASCII.
    #[error("the request needs exactly one header {0}")]
    Header(&'static str),
    /// The header is not 32 bytes in base64, or the bytes are not a key.
    #[error("{PUBLIC_KEY} is not an Ed25519 public key in base64")]
    PublicKey,
    /// The id belongs to another key.
    #[error("{ID} is not the id of {PUBLIC_KEY}")]
    Id,
    /// The header is not a number.
    #[error("{TIMESTAMP} is not a decimal number")]
    Timestamp,
    /// The clocks differ too much.
    #[error("{TIMESTAMP} differs by {0} s from the server's clock, which is more than {MAX_CLOCK_DIFFERENCE} s")]
    Clock(u64),
    /// Another key or another text was signed.
    #[error("{SIGNATURE} is not a signature of {TIMESTAMP} by {PUBLIC_KEY}")]
    Signature,
}

/// Checks the device headers of a request that arrived at this Unix time. Returns the device. A request without any of them is accepted,
/// unless `is_required`.
pub fn verify(headers: &HeaderMap, unix_seconds: u64, is_required: bool) -> Result<Option<DeviceId>, DeviceError> {
    if !is_required && [ID, PUBLIC_KEY, TIMESTAMP, SIGNATURE].iter().all(|name| !headers.contains_key(*name)) {
        return Ok(None);
    }
    let value = |name| single_value(headers, name);
    let (id, public_key, timestamp, signature) = (value(ID)?, value(PUBLIC_KEY)?, value(TIMESTAMP)?, value(SIGNATURE)?);
    let public_key = decode::<32>(public_key).and_then(|key| VerifyingKey::from_bytes(&key).ok());
    let public_key = public_key.ok_or(DeviceError::PublicKey)?;
    if id != device_id(public_key.as_bytes()) {
        return Err(DeviceError::Id);
    }
    // Parsing alone would accept a sign.
    let is_number = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: u64 = timestamp.parse().ok().filter(|_| is_number).ok_or(DeviceError::Timestamp)?;
    let difference = seconds.abs_diff(unix_seconds);
    if difference > MAX_CLOCK_DIFFERENCE {
        return Err(DeviceError::Clock(difference));
    }
    let signature = Signature::from_bytes(&decode(signature).ok_or(DeviceError::Signature)?);
    public_key.verify_strict(signed_text(timestamp).as_bytes(), &signature).map_err(|_| DeviceError::Signature)?;
    Ok(Some(DeviceId(Box::new(public_key.to_bytes()))))
}

fn single_value<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, DeviceError> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
    value.ok_or(DeviceError::Header(name))
}

fn decode<const LEN: usize>(base64: &str) -> Option<[u8; LEN]> {
    STANDARD.decode(base64).ok()?.try_into().ok()
}

fn device_id(public_key: &[u8; 32]) -> String {
    BASE32_NOPAD.encode(&Sha256::digest(public_key)[..ID_BYTES])
}

fn signed_text(timestamp: &str) -> String {
    format!("{SIGNED_PREFIX}{timestamp}")
}
