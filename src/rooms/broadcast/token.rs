//! Tokens: who may be in which room until when, signed with a secret that the server shares with whoever issues them.
//!
//! `P.S`, where `P` is the payload's JSON in base64url without padding, and `S` the HMAC-SHA256 of `P`'s own letters in
//! the same alphabet. What was signed is the text, so the order and the spacing of the JSON are free.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// How long a token is valid unless asked otherwise, in seconds.
pub const VALID: f64 = 3_600.0;

/// The longest a token is made for: a year, in seconds.
pub const LONGEST_VALID: f64 = 31_536_000.0;

/// What tokens are signed with. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret as its UTF-8 bytes.
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// A secret made of numbers that nobody can guess.
    pub fn from_words(words: [u64; 4]) -> Self {
        Self(words.iter().flat_map(|word| word.to_be_bytes()).collect())
    }

    pub(super) fn is(&self, given: &str) -> bool {
        self.0.ct_eq(given.as_bytes()).into()
    }

    fn digest(&self, text: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(text.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// Who it is for.
    #[serde(default, deserialize_with = "text_or_nothing")]
    pub client_id: String,
    /// The room.
    pub room: String,
    /// Until when it is valid, in milliseconds since 1970. `None` is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<serde_json::Number>,
    /// What its issuer wants the room to know.
    #[serde(default, deserialize_with = "object_or_nothing")]
    pub metadata: Map<String, Value>,
    /// When it was made, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Value>,
}

/// A client's id is for others to read; a payload without one is signed all the same.
fn text_or_nothing<'de, D: serde::Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(value)? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

fn object_or_nothing<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Map<String, Value>, D::Error> {
    Ok(if let Value::Object(members) = Value::deserialize(value)? { members } else { Map::new() })
}

impl Claims {
    /// Claims for `seconds` from `now_ms` (milliseconds since 1970) on.
    pub fn new(client_id: &str, room: &str, metadata: Map<String, Value>, now_ms: u64, seconds: f64) -> Self {
        let expires_at = now_ms.saturating_add((seconds.min(LONGEST_VALID) * 1e3) as u64);
        Self {
            client_id: client_id.to_owned(),
            room: room.to_owned(),
            expires_at: Some(expires_at.into()),
            metadata,
            issued_at: Some(now_ms.into()),
        }
    }

    /// When they end, in milliseconds since 1970.
    pub fn ends_ms(&self) -> Option<u64> {
        self.expires_at.as_ref()?.as_u64()
    }
}

/// Why a token is worth nothing. Clients are told none of it, only that it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// It has not exactly one dot.
    #[error("it has not the form of a token")]
    Form,
    /// Somebody else signed it, or it was changed.
    #[error("its signature is wrong")]
    Signature,
    /// What was signed is not a payload.
    #[error("its payload is not readable")]
    Payload,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// It is for another room.
    #[error("it is for another room")]
    Room,
}

impl Invalid {
    /// The same for a log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Form => "what was shown has not the form of a token",
            Self::Signature => "the token's signature is wrong",
            Self::Payload => "the token's payload is not readable",
            Self::Expired => "the token has expired",
            Self::Room => "the token is for another room",
        }
    }
}

/// The token that says `claims`.
pub fn sign(secret: &Secret, claims: &Claims) -> String {
    // Strings, numbers and what came as JSON: all of it is JSON again.
    let payload = serde_json::to_vec(claims).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.encode(payload);
    let signature = secret.digest(&payload);
    format!("{payload}.{signature}")
}

/// What `token` says, if it is for `room` and valid at `now_ms` (milliseconds since 1970).
pub fn verify(secret: &Secret, token: &str, room: &str, now_ms: u64) -> Result<Claims, Invalid> {
    let (payload, signature) = token.split_once('.').ok_or(Invalid::Form)?;
    if signature.contains('.') {
        return Err(Invalid::Form);
    }
    if !bool::from(secret.digest(payload).as_bytes().ct_eq(signature.as_bytes())) {
        return Err(Invalid::Signature);
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Invalid::Payload)?;
    // A list of the same values would be taken for the object.
    let payload: Map<String, Value> = serde_json::from_slice(&payload).map_err(|_| Invalid::Payload)?;
    let other_room = payload.get("room").is_none_or(|named| named != room);
    let claims = match payload.get("expiresAt") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Number(at)) if at.as_f64().is_some_and(|at| at > now_ms as f64) => Ok(()),
        Some(Value::Number(_)) => Err(Invalid::Expired),
        Some(_) => Err(Invalid::Payload),
    };
    claims?;
    if other_room {
        return Err(Invalid::Room);
    }
    serde_json::from_value(Value::Object(payload)).map_err(|_| Invalid::Payload)
}
