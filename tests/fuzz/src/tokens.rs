//! Tokens: a second implementation of the signature decides which tokens are valid. No other token is accepted, and a changed token is
//! always rejected.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jamjam_dev::signaling::broadcast::BroadcastSettings;
use jamjam_dev::signaling::token::{Audience, Claims, Secret, TokenError, sign, verify, verify_webrtc};
use jamjam_dev::signaling::{BearerToken, Hub, SignalingLimits};
use jamjam_dev::time::{Time, WallClock};
use serde_json::{Map, Value};
use sha2::Sha256;

use crate::input::Input;

const SECRET: &str = "test-secret";
const ROOM: &str = "chat";
const NOW_MS: u64 = 1_700_000_000_000;

/// The first byte selects what the rest is: a token, a payload to be signed, or changes of a valid token.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(4) {
        0 => check(&String::from_utf8_lossy(input.rest())),
        1 => {
            let payload = URL_SAFE_NO_PAD.encode(input.rest());
            check(&signed(&payload));
        }
        2 => {
            let payload = String::from_utf8_lossy(input.rest());
            check(&signed(&payload));
        }
        _ => check_changed_token(&mut input),
    }
}

fn signed(payload: &str) -> String {
    format!("{payload}.{}", signature(payload))
}

fn signature(payload: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length is a key");
    mac.update(payload.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// What the server must decide about a token.
fn expected(token: &str) -> Result<Map<String, Value>, TokenError> {
    let parts: Vec<&str> = token.split('.').collect();
    let [payload, given] = parts[..] else { return Err(TokenError::Malformed) };
    if token.contains(['=', '+', '/']) {
        return Err(TokenError::NotBase64Url);
    }
    if given != signature(payload) {
        return Err(TokenError::InvalidSignature);
    }
    let invalid = |_| TokenError::InvalidPayload;
    let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::InvalidPayload)?;
    let Value::Object(claims) = serde_json::from_slice(&json).map_err(invalid)? else {
        return Err(TokenError::InvalidPayload);
    };
    match claims.get("expiresAt") {
        None | Some(Value::Null) => {}
        Some(Value::Number(at)) if at.as_f64().is_some_and(|at| at > NOW_MS as f64) => {}
        Some(Value::Number(_)) => return Err(TokenError::Expired),
        Some(_) => return Err(TokenError::InvalidPayload),
    }
    let is_audience = claims.get("audience").is_none_or(|audience| audience.is_null() || audience == "broadcast");
    if !is_audience {
        return Err(TokenError::WrongAudience);
    }
    if claims.get("room").and_then(Value::as_str) != Some(ROOM) {
        return Err(TokenError::WrongRoom);
    }
    Ok(claims)
}

/// Whether the payload may have more than 100 values.
fn is_long(token: &str) -> bool {
    let payload = token.split('.').next().and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok()).unwrap_or_default();
    payload.iter().filter(|byte| b",[{".contains(byte)).count() > 100
}

fn check(token: &str) {
    let secret = Secret::new(SECRET);
    let verified = verify(&secret, token, ROOM, NOW_MS);
    match (&verified, expected(token)) {
        (Err(TokenError::InvalidPayload), _) if is_long(token) => {}
        (Ok(claims), Ok(payload)) => {
            let client_id = match payload.get("clientId") {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => String::new(),
            };
            assert_eq!((&claims.client_id, claims.room.as_str()), (&client_id, ROOM));
            assert!(claims.expires_ms().is_none_or(|at| at > NOW_MS));
            // The signed claims may contain more fields than the payload did.
            if !claims.has_too_many_values() {
                let again = verify(&secret, &sign(&secret, claims), ROOM, NOW_MS);
                assert_eq!(again.as_ref(), Ok(claims));
            }
        }
        (Err(error), Err(expected)) => {
            assert_eq!(*error, expected, "{token}");
            assert!(!error.log_reason().is_empty());
        }
        (verified, expected) => panic!("{verified:?}, expected {expected:?}: {token}"),
    }
    assert!(verify(&Secret::new("other"), token, ROOM, NOW_MS).is_err());
    if verified.is_ok() {
        assert_eq!(verify_webrtc(&secret, token, ROOM, "ann", NOW_MS), Err(TokenError::WrongAudience));
        assert_eq!(verify(&secret, token, "other", NOW_MS), Err(TokenError::WrongRoom));
    }
}

/// Changes a token that the server issued.
fn check_changed_token(input: &mut Input<'_>) {
    let seconds = f64::from_bits(input.u64());
    let metadata = Map::from_iter([("n".to_owned(), input.byte().into())]);
    let now = WallClock { monotonic: Time::ZERO, unix_ns: NOW_MS.cast_signed() * 1_000_000 };
    let broadcast = BroadcastSettings { secret: Some(Secret::new(SECRET)), ..BroadcastSettings::default() };
    let hub = Hub::new(SignalingLimits { broadcast, ..SignalingLimits::default() }, [0; 4]);
    let (token, expires_ms) =
        hub.issue_token(now, Audience::Broadcast, "ann", ROOM, metadata.clone(), seconds).expect("a secret");
    assert!((NOW_MS..=NOW_MS + 31_536_000_000).contains(&expires_ms));
    let is_accepted = |token: &str| {
        let header = BearerToken::from_authorization(&format!("Bearer {token}"));
        // There is no token if only spaces are left.
        header.map_or(Err(TokenError::Malformed), |token| hub.authorize(now, ROOM, &token))
    };
    let is_valid = if expires_ms > NOW_MS { Ok(()) } else { Err(TokenError::Expired) };
    assert_eq!(is_accepted(&token), is_valid);
    assert_eq!(sign(&Secret::new(SECRET), &Claims::new("ann", ROOM, metadata, NOW_MS, seconds)), token);

    let mut changed = token.clone().into_bytes();
    while !input.is_empty() {
        let (at, byte) = (usize::from(input.u16()) % changed.len().max(1), input.byte());
        match byte {
            0 if at < changed.len() => drop(changed.remove(at)),
            1..=127 if at < changed.len() => changed[at] = byte,
            // The other case of a letter.
            128..=191 if at < changed.len() => changed[at] ^= 0x20,
            _ => changed.insert(at.min(changed.len()), byte & 0x7f),
        }
    }
    let changed = String::from_utf8_lossy(&changed);
    // Spaces around a token in the header are ignored.
    if changed.trim() != token {
        assert!(is_accepted(&changed).is_err(), "{changed} is accepted instead of {token}");
    }
}
