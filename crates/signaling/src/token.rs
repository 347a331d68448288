//! Tokens that admit a client to a broadcast room or a WebRTC room until they expire, signed with the server's secret.
//!
//! A token has an [`Audience`], so that one for a broadcast room does not open the WebRTC room of the same name. Its format is `P.S`: `P`
//! is the payload's JSON in unpadded base64url, and `S` is the HMAC-SHA256 of the text `P` in the same encoding. Since `S` covers this
//! text, the JSON may have any field order and spacing.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use super::json::{self, JsonSize};

/// Default lifetime of a token, in seconds.
pub const DEFAULT_LIFETIME_SECONDS: f64 = 3_600.0;

/// Maximum lifetime of a token that the server issues: one year, in seconds.
pub(crate) const MAX_LIFETIME_SECONDS: f64 = 31_536_000.0;

/// Maximum number of values in the payload of a token. A parsed value takes much more memory than its text.
pub(crate) const MAX_TOKEN_VALUES: usize = 100;

/// The key that signs tokens. `Debug` does not print the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The UTF-8 bytes of `text` as the key.
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// A key of 256 random bits.
    pub fn from_random(words: [u64; 4]) -> Self {
        Self(words.iter().flat_map(|word| word.to_be_bytes()).collect())
    }

    /// Compares the key with `given` in constant time.
    pub fn matches(&self, given: &str) -> bool {
        self.0.ct_eq(given.as_bytes()).into()
    }

    /// HMAC-SHA256 of `text` with the key, in base64url.
    pub fn authentication_code(&self, text: &str) -> String {
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

/// The kind of room that a token is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// Broadcast rooms. Their tokens may omit the audience.
    #[default]
    Broadcast,
    /// WebRTC rooms.
    WebRtc,
}

/// The payload of a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The client's id; empty if it is neither a string nor a number.
    #[serde(default, deserialize_with = "string_or_empty")]
    pub client_id: String,
    /// The room.
    pub room: String,
    /// The kind of room; `None` is a broadcast room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Audience>,
    /// Expiry in milliseconds since the Unix epoch; `None` never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<serde_json::Number>,
    /// Data from the issuer for the room handler.
    #[serde(default, deserialize_with = "object_or_empty")]
    pub metadata: Map<String, Value>,
    /// Time of issue in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Value>,
}

/// A string, or a number as text. Any other type is an empty string: a token with a valid signature is not rejected for its client id.
fn string_or_empty<'de, D: serde::Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(value)? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

fn object_or_empty<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Map<String, Value>, D::Error> {
    Ok(if let Value::Object(members) = Value::deserialize(value)? { members } else { Map::new() })
}

impl Claims {
    /// Claims with a lifetime of `seconds`, at most one year, from `now_ms` (milliseconds since the Unix epoch).
    pub fn new(client_id: &str, room: &str, metadata: Map<String, Value>, now_ms: u64, seconds: f64) -> Self {
        let expires_at = now_ms.saturating_add((seconds.min(MAX_LIFETIME_SECONDS) * 1e3) as u64);
        Self {
            client_id: client_id.to_owned(),
            room: room.to_owned(),
            audience: None,
            expires_at: Some(expires_at.into()),
            metadata,
            issued_at: Some(now_ms.into()),
        }
    }

    /// These claims for another kind of room. Tokens for broadcast rooms contain no audience.
    #[must_use]
    pub fn with_audience(self, audience: Audience) -> Self {
        Self { audience: Some(audience).filter(|audience| *audience != Audience::default()), ..self }
    }

    /// Reads the claims of a token without verifying it. Any client can make a token with these claims.
    pub fn read_unverified(token: &str) -> Option<Self> {
        let (payload, _) = token.split_once('.')?;
        serde_json::from_value(Value::Object(parse_payload(payload)?)).ok()
    }

    /// Whether a token with these claims is rejected because of its number of values.
    pub fn has_too_many_values(&self) -> bool {
        JsonSize::of(&json::to_json(self)).values > MAX_TOKEN_VALUES
    }

    /// Expiry in milliseconds since the Unix epoch.
    pub fn expires_ms(&self) -> Option<u64> {
        self.expires_at.as_ref()?.as_u64()
    }
}

/// Signs `claims`.
pub fn sign(secret: &Secret, claims: &Claims) -> String {
    // Cannot fail: the claims consist of JSON values.
    let payload = serde_json::to_vec(claims).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.encode(payload);
    let signature = secret.authentication_code(&payload);
    format!("{payload}.{signature}")
}

/// The claims of `token`, if it is valid for the broadcast room `room` at `now_ms` (milliseconds since the Unix epoch). Without a `secret`,
/// no token is. The error is the reason for the log; clients learn it only with `--strict`.
pub fn verify(secret: Option<&Secret>, token: &str, room: &str, now_ms: u64) -> Result<Claims, &'static str> {
    verify_for(Audience::Broadcast, secret, token, room, now_ms)
}

/// Like [`verify`], for the client `user` of the WebRTC room `room`. The token must name the user and must expire.
pub fn verify_webrtc(
    secret: Option<&Secret>,
    token: &str,
    room: &str,
    user: &str,
    now_ms: u64,
) -> Result<(), &'static str> {
    let claims = verify_for(Audience::WebRtc, secret, token, room, now_ms)?;
    if claims.client_id != user {
        return Err("token for another client");
    }
    if claims.expires_at.is_none() { Err("token without expiresAt") } else { Ok(()) }
}

/// Why a client without a token is rejected.
pub(crate) const TOKEN_MISSING: &str = "Authentication required: the parameter token is missing";

/// Times below this one are in seconds: in milliseconds, they are before March 1973.
const MIN_MILLISECONDS: f64 = 1e11;

/// The claims of `token`, if it is valid for this kind of room and this room.
fn verify_for(
    audience: Audience,
    secret: Option<&Secret>,
    token: &str,
    room: &str,
    now_ms: u64,
) -> Result<Claims, &'static str> {
    let secret = secret.ok_or("invalid token signature")?;
    let parts = token.split_once('.').filter(|(_, signature)| !signature.contains('.'));
    let (payload, signature) = parts.ok_or("malformed token")?;
    if token.contains(['=', '+', '/']) {
        return Err("token with base64 padding or the characters + and /; tokens are unpadded base64url");
    }
    if !bool::from(secret.authentication_code(payload).as_bytes().ct_eq(signature.as_bytes())) {
        return Err("invalid token signature");
    }
    let payload = parse_payload(payload);
    // The name in JSON Web Tokens. The token would be valid for ever.
    let has_exp = payload.as_ref().is_some_and(|payload| payload.contains_key("exp"));
    let claims = payload.and_then(|payload| serde_json::from_value::<Claims>(Value::Object(payload)).ok());
    let claims = claims.ok_or("invalid token payload")?;
    match claims.expires_at.as_ref().and_then(serde_json::Number::as_f64) {
        None if has_exp => return Err("token with exp; expiresAt in milliseconds is expected"),
        Some(at) if at <= now_ms as f64 && at < MIN_MILLISECONDS => {
            return Err("expired token: expiresAt is in seconds; milliseconds are expected");
        }
        Some(at) if at <= now_ms as f64 => return Err("expired token"),
        _ => {}
    }
    if claims.audience.unwrap_or_default() != audience {
        return Err("token for another audience");
    }
    if claims.room == room { Ok(claims) } else { Err("token for another room") }
}

/// Decodes the first part of a token, which must be a JSON object. Deserialized directly, [`Claims`] would also accept an array.
fn parse_payload(payload: &str) -> Option<Map<String, Value>> {
    let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    if JsonSize::of(&payload).values > MAX_TOKEN_VALUES { None } else { serde_json::from_str(&payload).ok() }
}
