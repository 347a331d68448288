//! Tokens of broadcast rooms and WebRTC rooms. The signed texts were made independently, with Python's `hmac` and `base64`.

use jamjam_signaling::token::{Audience, Claims, Secret, sign, verify, verify_webrtc};
use proptest::prelude::*;
use serde_json::{Map, json};

/// `{"clientId":"c1","room":"radio","expiresAt":4102444800000,"metadata":{},"issuedAt":1700000000000}`, signed with `test-secret`.
const TOKEN: &str = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwLCJtZXRhZGF0YSI6e30sImlzc3VlZEF0IjoxNzAwMDAwMDAwMDAwfQ.o7vabBLxNPs31jpLnYpACCElPF0w7JQDMUcrrM96BHg";
/// `{"clientId":"ann","room":"jam","audience":"webrtc","expiresAt":4102444800000,"metadata":{},"issuedAt":1700000000000}`, signed with `test-secret`.
const WEBRTC_TOKEN: &str = "eyJjbGllbnRJZCI6ImFubiIsInJvb20iOiJqYW0iLCJhdWRpZW5jZSI6IndlYnJ0YyIsImV4cGlyZXNBdCI6NDEwMjQ0NDgwMDAwMCwibWV0YWRhdGEiOnt9LCJpc3N1ZWRBdCI6MTcwMDAwMDAwMDAwMH0.MO4VyaB3G1qh3PybGib8czTyCV6rbLXBGsAirBr9i2Q";
/// `{"clientId":5,"room":"jam","audience":"webrtc","expiresAt":4102444800000}`, signed with `test-secret`.
const NUMBER_TOKEN: &str = "eyJjbGllbnRJZCI6NSwicm9vbSI6ImphbSIsImF1ZGllbmNlIjoid2VicnRjIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwfQ.srqfTY3co3OTj6u2eo9Sbw-R9W8O5mGneJLh6a2RiCA";
const NOW: u64 = 1_700_000_000_000;
const END: u64 = 4_102_444_800_000;

fn secret() -> Secret {
    Secret::new("test-secret")
}

fn verified(token: &str) -> Result<Claims, &'static str> {
    verify(Some(&secret()), token, "radio", NOW)
}

#[test]
fn own_token_is_byte_identical() {
    let claims = Claims::new("c1", "radio", Map::new(), NOW, 31_536_000.0 * 1e9);
    // A token is valid for at most a year.
    assert_eq!(claims.expires_ms(), Some(NOW + 31_536_000_000));
    let claims = Claims { expires_at: Some(END.into()), ..claims };
    assert_eq!(sign(&secret(), &claims), TOKEN);
    let other = "W3fRzRi1GspTPpkYcK2qe3YVv29jAC1DmWfYOn6ZXPM";
    assert_eq!(sign(&Secret::new("sécret ☃"), &claims).rsplit_once('.').unwrap().1, other);
}

#[test]
fn foreign_token_yields_client_room_and_expiry() {
    let claims = verified(TOKEN).unwrap();
    assert_eq!((claims.client_id.as_str(), claims.room.as_str(), claims.expires_ms()), ("c1", "radio", Some(END)));
    // ` {"room" : "ä/b", "x":1,\n"clientId":"c 2"} `: order and white space are arbitrary, and a token without `expiresAt` never
    // expires.
    let free =
        "IHsicm9vbSIgOiAiw6QvYiIsICJ4IjoxLAoiY2xpZW50SWQiOiJjIDIifSA.IkA1fdVs1m64pw1U1xyOYwx1xZgRhb1aD8iHHEThhgg";
    let claims = verify(Some(&secret()), free, "ä/b", u64::MAX).unwrap();
    assert_eq!((claims.client_id.as_str(), claims.expires_at), ("c 2", None));
}

/// The payloads are `{"clientId":"c1","room":"radio","exp":4102444800}`, and the same with `"expiresAt":4102444800000`.
#[test]
fn token_with_exp_is_rejected_unless_it_has_expires_at() {
    let exp = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwIjo0MTAyNDQ0ODAwfQ.5I1Aaf5149ah_9IsfJ4tsL8Ew7eL10iaSxMt1ARkpcw";
    let both = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwIjo0MTAyNDQ0ODAwLCJleHBpcmVzQXQiOjQxMDI0NDQ4MDAwMDB9.xcEuEBm_LaPoyHXgNr0uY0qTXOqEmrpaQSO2sn06GMA";
    assert_eq!(verified(exp), Err("token with exp; expiresAt in milliseconds is expected"));
    assert_eq!(verified(both).map(|claims| claims.expires_ms()), Ok(Some(END)));
}

#[test]
fn expired_token_and_wrong_room_are_rejected() {
    assert!(verify(Some(&secret()), TOKEN, "radio", END - 1).is_ok());
    assert_eq!(verify(Some(&secret()), TOKEN, "radio", END), Err("expired token"));
    for room in ["", "Radio", "radio ", "chat", "radio/remotecontrol"] {
        assert_eq!(verify(Some(&secret()), TOKEN, room, NOW), Err("token for another room"));
    }
    // The expiry is checked before the room. `expiresAt` is 1700000000000.
    let expired = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0IjoxNzAwMDAwMDAwMDAwfQ.P-kKD0FBrm7qIKbJuO4EbXNXClyWWPU8zvkuFrhZItE";
    assert_eq!(verify(Some(&secret()), expired, "chat", NOW), Err("expired token"));
}

#[test]
fn malformed_or_wrongly_signed_token_is_rejected_with_its_reason() {
    let (payload, signature) = TOKEN.split_once('.').unwrap();
    // `[1]`, and an object whose `expiresAt` is "soon".
    let list = "WzFd.mJ3wZP_seFiIG2QS3L-grhEUpkMHpKvydIjjSykbic0";
    let soon = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijoic29vbiJ9.4_w9w1X4V-cPx-xgczpcb1uhT2tQhfbbmkpsjhbSvGI";
    let padded = "token with base64 padding or the characters + and /; tokens are unpadded base64url";
    for (token, reason) in [
        (list, "invalid token payload"),
        (soon, "invalid token payload"),
        ("", "malformed token"),
        ("x", "malformed token"),
        (payload, "malformed token"),
        (&format!("{TOKEN}."), "malformed token"),
        (&format!(".{TOKEN}"), "malformed token"),
        (&format!("{payload}..{signature}"), "malformed token"),
        (&format!("{TOKEN}.x"), "malformed token"),
        (".", "invalid token signature"),
        (&format!("{payload}. {signature}"), "invalid token signature"),
        (&format!(" {TOKEN}"), "invalid token signature"),
        (&format!("{TOKEN}="), padded),
        (&format!("{payload}=.{signature}"), padded),
        (&format!("{payload}.+/{signature}"), padded),
    ] {
        assert_eq!(verified(token), Err(reason), "{token}");
    }
    for key in ["test-secret ", ""] {
        assert_eq!(verify(Some(&Secret::new(key)), TOKEN, "radio", NOW), Err("invalid token signature"));
    }
}

proptest! {
    #[test]
    fn unsigned_text_is_rejected_without_a_panic(token in "\\PC*\\.?\\PC*") {
        prop_assert!(verified(&token).is_err());
    }
}

/// Parsed values take much more memory than their text, and a connection keeps them.
#[test]
fn tokens_with_more_than_100_values_are_rejected() {
    // The payload is an object with five fields, `metadata` another object with one field, whose value is a list.
    let token = |values: usize| {
        let metadata = json!({"list": vec![json!([]); values]}).as_object().unwrap().clone();
        let claims = Claims::new("c1", "radio", metadata, NOW, 60.0);
        (sign(&secret(), &claims), claims.has_too_many_values())
    };
    // Each empty list counts as one value, and each comma as one more.
    let ((allowed, false), (rejected, true)) = (token(47), token(48)) else { panic!("the limit has moved") };
    assert!(verified(&allowed).is_ok());
    assert_eq!(verified(&rejected), Err("invalid token payload"));
}

/// The signed text was made independently, with Python's `hmac` and `base64`.
#[test]
fn own_webrtc_token_is_byte_identical_and_names_its_client() {
    let claims = Claims::new("ann", "jam", Map::new(), NOW, 60.0).with_audience(Audience::WebRtc);
    let claims = Claims { expires_at: Some(END.into()), ..claims };
    assert_eq!(sign(&secret(), &claims), WEBRTC_TOKEN);
    let verified = |room, user, now| verify_webrtc(Some(&secret()), WEBRTC_TOKEN, room, user, now);
    assert_eq!((verified("jam", "ann", END - 1), verified("jam", "ann", END)), (Ok(()), Err("expired token")));
    assert_eq!(verified("radio", "ann", NOW), Err("token for another room"));
    assert_eq!(verified("jam", "bob", NOW), Err("token for another client"));
    assert_eq!(verify(Some(&secret()), WEBRTC_TOKEN, "jam", NOW), Err("token for another audience"));
    let claims = Claims::read_unverified(WEBRTC_TOKEN).unwrap();
    assert_eq!((claims.client_id.as_str(), claims.room.as_str()), ("ann", "jam"));
    assert_eq!(Claims::read_unverified("x.y"), None);
    assert_eq!(verify_webrtc(Some(&secret()), WEBRTC_TOKEN, "jam", "bob", NOW), Err("token for another client"));
    // A number and its text are the same client.
    assert_eq!(verify_webrtc(Some(&secret()), NUMBER_TOKEN, "jam", "5", NOW), Ok(()));
    assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
}
