//! The headers with which a newer jamjam client proves in the upgrade request that it has the key of a device.
//!
//! A [`DeviceKey`] writes the headers, and [`verify`] checks them. Both receive the Unix time as an argument.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::BASE32_NOPAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use http::HeaderMap;
use sha2::{Digest, Sha256};

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

/// Checks the device headers of a request that arrived at this Unix time. Returns the device. A request without any of them is accepted,
/// unless `is_required`. The error says what is wrong with the headers.
pub fn verify(headers: &HeaderMap, unix_seconds: u64, is_required: bool) -> Result<Option<DeviceId>, String> {
    if !is_required && [ID, PUBLIC_KEY, TIMESTAMP, SIGNATURE].iter().all(|name| !headers.contains_key(*name)) {
        return Ok(None);
    }
    let value = |name| single_value(headers, name);
    let (id, public_key, timestamp, signature) = (value(ID)?, value(PUBLIC_KEY)?, value(TIMESTAMP)?, value(SIGNATURE)?);
    let public_key = decode::<32>(public_key).and_then(|key| VerifyingKey::from_bytes(&key).ok());
    let public_key = public_key.ok_or_else(|| format!("{PUBLIC_KEY} is not an Ed25519 public key in base64"))?;
    if id != device_id(public_key.as_bytes()) {
        return Err(format!("{ID} is not the id of {PUBLIC_KEY}"));
    }
    // Parsing alone would accept a sign.
    let is_number = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: Option<u64> = timestamp.parse().ok().filter(|_| is_number);
    let seconds = seconds.ok_or_else(|| format!("{TIMESTAMP} is not a decimal number"))?;
    let difference = seconds.abs_diff(unix_seconds);
    if difference > MAX_CLOCK_DIFFERENCE {
        return Err(format!(
            "{TIMESTAMP} differs by {difference} s from the server's clock, which is more than {MAX_CLOCK_DIFFERENCE} s"
        ));
    }
    let signature = decode(signature).map(|bytes| Signature::from_bytes(&bytes));
    let is_signed = |signature| public_key.verify_strict(signed_text(timestamp).as_bytes(), signature).is_ok();
    if !signature.as_ref().is_some_and(is_signed) {
        return Err(format!("{SIGNATURE} is not a signature of {TIMESTAMP} by {PUBLIC_KEY}"));
    }
    Ok(Some(DeviceId(Box::new(public_key.to_bytes()))))
}

fn single_value<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, String> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| format!("the request needs exactly one header {name}"))
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
