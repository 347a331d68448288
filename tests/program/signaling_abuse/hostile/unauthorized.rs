//! Clients without access to a broadcast room. The clients send invalid tokens or tokens in the wrong place. Some clients use names and
//! paths that imitate others. All signatures were made independently, with Python's `hmac`, `hashlib` and `base64`.

use super::upgrade_requests::Outcome::{self, Closed, Status, Welcome};
use super::upgrade_requests::{request_websocket, status};
use super::{frame, raw};
use crate::signaling_abuse::server::process::Server;

/// The payload and the signature of a token for room `radio`. The token is valid until 2100 and signed with `test-secret`. The decoded
/// payload is `{"clientId":"c1","room":"radio","expiresAt":4102444800000,"metadata":{},…}`.
const PAYLOAD: &str = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwLCJtZXRhZGF0YSI6e30sImlzc3VlZEF0IjoxNzAwMDAwMDAwMDAwfQ";
const SIGNATURE: &str = "o7vabBLxNPs31jpLnYpACCElPF0w7JQDMUcrrM96BHg";

/// Another valid token, whose signature contains the two characters in which the base64 alphabets differ.
const DASHED: &str = "eyJjbGllbnRJZCI6ImQyIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwfQ.J5xOOFt8d8VQoO-srGUzdlo_axpLpGu-yiqM4vL3qEQ";

/// Like [`PAYLOAD`], but for room `chat`.
const CHAT_PAYLOAD: &str = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6ImNoYXQiLCJleHBpcmVzQXQiOjQxMDI0NDQ4MDAwMDAsIm1ldGFkYXRhIjp7fSwiaXNzdWVkQXQiOjE3MDAwMDAwMDAwMDB9";

fn token() -> String {
    format!("{PAYLOAD}.{SIGNATURE}")
}

fn start() -> Server {
    let options = ["--host", "127.0.0.1", "--port", "0", "--hmac-secret", "test-secret", "--rate-limit-post", "off"];
    Server::start_signaling_as(&options, |command| {
        command.env("RUST_LOG", "trace");
    })
}

/// Stops the server. Checks that the server's log contains neither the given tokens nor the secret. The log must also not contain the
/// payload or the signatures of the valid tokens.
fn assert_log_has_no_secret(server: Server, tokens: &[String]) {
    let log = server.stop("TERM").lines.join("\n");
    assert!(log.contains("signaling: server stopped"), "{log}");
    let signatures = [SIGNATURE, "J5xOOFt8d8VQoO", "test-secret", PAYLOAD].map(str::to_owned);
    for hidden in tokens.iter().filter(|token| token.len() > 20).chain(&signatures) {
        assert!(!log.contains(hidden), "{hidden} is in:\n{log}");
    }
}

#[test]
fn invalid_token_is_rejected_everywhere() {
    let header = |algorithm: &str| format!("{algorithm}.{PAYLOAD}");
    let truncated = |end: usize| token()[..token().len() - end].to_owned();
    let wrong: Vec<(&str, String)> = vec![
        ("signed with another secret", format!("{PAYLOAD}.W3fRzRi1GspTPpkYcK2qe3YVv29jAC1DmWfYOn6ZXPM")),
        ("signed with no secret", format!("{PAYLOAD}.rT2tPXHU-8Bee-IFFvm1f3Kz5hj87nSdt_4XEwf1Wj8")),
        ("signed with `undefined`", format!("{PAYLOAD}.zbm4A4wcel6hOqD8AnxJ9eseCxz_u3uvzs3EK6VDUsk")),
        ("a digest of secret and payload", format!("{PAYLOAD}.SSB2xoinYKsHhchVNxIzOFnbIF0AQeNWBpBADqr5MTU")),
        ("signed before it was encoded", format!("{PAYLOAD}.DH6xbRSmZDdOJESjv14cHPXyRWyooHLCsZBiO2B-IOU")),
        ("signed by SHA-1", format!("{PAYLOAD}.vcCf4Gtakf2nWzDD0TKDpthiQ0o")),
        ("signed in hexadecimal", format!("{PAYLOAD}.a3bbda6c12f134fb37d63a4b9d8a400821253c5d30ec940331472baccf7a0478")),
        ("for another room, under the same signature", format!("{CHAT_PAYLOAD}.{SIGNATURE}")),
        ("expired", "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0IjoxNzAwMDAwMDAwMDAwfQ.P-kKD0FBrm7qIKbJuO4EbXNXClyWWPU8zvkuFrhZItE".to_owned()),
        ("an end in text", "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0IjoiNDEwMjQ0NDgwMDAwMCJ9.b8-0p-UAMNu2HWzPHSpZnAyqCxQyyw4kvjO-Z0Qap5c".to_owned()),
        ("a list of rooms", "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6WyJyYWRpbyJdLCJleHBpcmVzQXQiOjQxMDI0NDQ4MDAwMDB9.Fmab50ErQxfpHvHdOV0r7-xwtqP_2OFoQcq4Kgl96m8".to_owned()),
        ("a JWT without algorithm", header("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0") + "."),
        ("the same without its end", header("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0")),
        ("a JWT with it", header("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9") + ".jKlV2nBrTOvcru4hNecATAOdM7TcEktIY9wYeSfkrPg"),
        ("one character short", truncated(1)),
        ("half a signature", truncated(20)),
        ("no signature", format!("{PAYLOAD}.")),
        ("no dot", PAYLOAD.to_owned()),
        ("no payload", format!(".{SIGNATURE}")),
        ("no beginning", token()[1..].to_owned()),
        ("padded", token() + "="),
        ("a padded payload", format!("{PAYLOAD}==.{SIGNATURE}")),
        // The last of the signature's 43 characters has two unused bits.
        ("the same bytes in other characters", truncated(1) + "h"),
        ("the other alphabet", DASHED.replace('-', "%2B").replace('_', "%2F")),
        ("in capitals", token().to_uppercase()),
        ("with a NUL", token() + "%00"),
        ("with a line's end", token() + "%0A"),
        ("with a space", "%20".to_owned() + &token()),
        ("twice", token() + "." + &token()),
        ("encoded twice", token().replace('.', "%252E")),
    ];
    let server = start();
    for valid in [token(), DASHED.to_owned(), token().replace('.', "%2E")] {
        assert_eq!(
            request_websocket(&server, &format!("/radio?token={valid}"), ""),
            Welcome("radio".to_owned()),
            "{valid}"
        );
    }
    for (what, token) in &wrong {
        let paths = ["/radio", "/rooms/radio", "/rooms/radio/remotecontrol", "/?room=radio"];
        for path in paths {
            let query = if path.contains('?') { '&' } else { '?' };
            assert_eq!(
                request_websocket(&server, &format!("{path}{query}token={token}"), ""),
                Closed(4_002),
                "{what}: {path}"
            );
        }
        if !token.contains('%') {
            let bearer = format!("Authorization: Bearer {token}\r\n");
            assert_eq!(request_websocket(&server, "/radio", &bearer), Closed(4_002), "{what}");
            assert_eq!(status(&server, "POST /radio/postcontent", &bearer, "{}"), 401, "{what}");
            assert_eq!(status(&server, "POST /rooms/radio/post", &bearer, "{}"), 401, "{what}");
        }
    }
    // A token is valid only in its own room.
    for room in ["chat", "lobby", "Radio", "radio%20", "%00", "radi", "radioo"] {
        let wrong = if room == "%00" { 4_005 } else { 4_002 };
        assert_eq!(request_websocket(&server, &format!("/{room}?token={}", token()), ""), Closed(wrong), "{room}");
        let bearer = format!("Authorization: Bearer {}\r\n", token());
        let rejected = status(&server, &format!("POST /{room}/postcontent"), &bearer, "{}");
        assert_eq!(rejected, if room == "%00" { 404 } else { 401 }, "{room}");
    }
    let wrong: Vec<String> = wrong.into_iter().map(|(_, token)| token).collect();
    assert_log_has_no_secret(server, &wrong);
}

#[test]
fn token_is_accepted_only_in_its_defined_places() {
    let (server, token) = (start(), token());
    let other = "eyJ4IjoxfQ.AAAA";
    let welcome = || Welcome("radio".to_owned());
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let cases: Vec<(String, String, Outcome)> = vec![
        // The first non-empty token in the query is used, and the query takes precedence over the header.
        (format!("?token={token}&token={other}"), String::new(), welcome()),
        (format!("?token={other}&token={token}"), String::new(), Closed(4_002)),
        (format!("?token=&token={token}"), String::new(), welcome()),
        (format!("?token={other}"), bearer(&token), Closed(4_002)),
        (format!("?token={token}"), bearer(other), welcome()),
        (String::new(), bearer(&token), welcome()),
        (String::new(), format!("authorization: bEARER   {token}  \r\n"), welcome()),
        (String::new(), bearer(other) + &bearer(&token), Closed(4_002)),
        (format!("?%74oken={token}"), String::new(), welcome()),
        // A token in any other query parameter or header is ignored.
        (format!("?Token={token}"), String::new(), Closed(4_001)),
        (format!("?access_token={token}"), String::new(), Closed(4_001)),
        (format!("?token[]={token}"), String::new(), Closed(4_001)),
        (format!("?x=1;token={token}"), String::new(), Closed(4_001)),
        (String::new(), format!("Cookie: token={token}\r\n"), Closed(4_001)),
        (String::new(), format!("Sec-WebSocket-Protocol: {token}\r\n"), Closed(4_001)),
        (String::new(), format!("X-Authorization: Bearer {token}\r\n"), Closed(4_001)),
        (String::new(), format!("Proxy-Authorization: Bearer {token}\r\n"), Closed(4_001)),
        (String::new(), format!("Authorization: {token}\r\n"), Closed(4_001)),
        (String::new(), format!("Authorization: Token {token}\r\n"), Closed(4_001)),
        (String::new(), format!("Authorization: Basic {token}\r\n"), Closed(4_001)),
    ];
    for (query, headers, outcome) in cases {
        assert_eq!(request_websocket(&server, &format!("/radio{query}"), &headers), outcome, "{query} {headers}");
    }
    let body = format!("{{\"token\":\"{token}\"}}");
    for (query, headers) in [
        (format!("?token={token}"), String::new()),
        (String::new(), format!("Cookie: token={token}\r\n")),
        (String::new(), format!("Authorization: {token}\r\n")),
        (String::new(), bearer(other) + &bearer(&token)),
        (String::new(), format!("X-Forwarded-For: 127.0.0.1\r\nAuthorization: Basic {token}\r\n")),
    ] {
        let request = format!("POST /radio/postcontent{query}");
        assert_eq!(status(&server, &request, &headers, &body), 401, "{query} {headers}");
    }
    assert_eq!(status(&server, "POST /radio/postcontent", &bearer(&token), &body), 200);
    assert_log_has_no_secret(server, &[]);
}

#[test]
fn no_encoding_of_a_path_leads_into_another_room() {
    let server = start();
    let reserved = [
        "health",
        "healthz",
        "readyz",
        "rooms",
        "docs",
        "console",
        "auth",
        "admin",
        "api",
        "v1",
        "ws",
        "metrics",
        "images",
        "favicon.ico",
        "openapi.json",
        "postcontent",
    ];
    for name in reserved {
        // At the top level, a reserved name is not a room. The path is not found, or is an endpoint such as `/ws`. Such an endpoint needs a
        // `room` parameter.
        let bare = request_websocket(&server, &format!("/{name}?token={}", token()), "");
        assert!(matches!(bare, Status(404) | Closed(4_005)), "{name}: {bare:?}");
        let encoded = format!("%{:02x}{}", name.as_bytes()[0], &name[1..]);
        for path in [
            format!("/rooms/{name}"),
            format!("/rooms/{encoded}"),
            format!("/?room={name}"),
            format!("/rooms/{name}/remotecontrol"),
        ] {
            let query = if path.contains('?') { '&' } else { '?' };
            assert_eq!(
                request_websocket(&server, &format!("{path}{query}token={}", token()), ""),
                Closed(4_005),
                "{path}"
            );
        }
        // In upper case, `name` is not reserved and names an ordinary room. The token is invalid for that room.
        let capitals = request_websocket(&server, &format!("/rooms/{}?token={}", name.to_uppercase(), token()), "");
        assert_eq!(capitals, Closed(4_002), "{name}");
    }
    let long = "x".repeat(8_000);
    let cases = [
        ("/%72adi%6F", Welcome("radio".to_owned())),
        ("/radio/", Welcome("radio".to_owned())),
        ("//radio", Status(404)),
        ("/./radio", Status(404)),
        ("/x/../radio", Status(404)),
        ("/rooms/../radio", Status(404)),
        ("/rooms//radio", Status(404)),
        ("/rooms/x/radio", Status(404)),
        ("/rooms/radio/remotecontrol/x", Status(404)),
        ("/rooms/radio/RemoteControl", Status(404)),
        ("/rooms/radio/%72emotecontrol", Status(404)),
        ("/radio%2fremotecontrol", Closed(4_005)),
        ("/rooms/radio%2Fremotecontrol", Closed(4_005)),
        ("/%2e%2e%2fradio", Closed(4_005)),
        ("/radio%00", Closed(4_005)),
        ("/radio%0d%0aX:y", Closed(4_005)),
        ("/%7f", Closed(4_005)),
        ("/%c2%85", Closed(4_005)),
        ("/%ff", Closed(4_005)),
        ("/%c0%af", Closed(4_005)),
        ("/..", Closed(4_002)),
        ("/%2572adio", Closed(4_002)),
        ("/radio%E2%80%AE", Closed(4_002)),
        ("/rad%C4%B1o", Closed(4_002)),
        ("/rooms/", Closed(4_005)),
        (&*format!("/{long}"), Closed(4_005)),
    ];
    for (path, outcome) in cases {
        assert_eq!(request_websocket(&server, &format!("{path}?token={}", token()), ""), outcome, "{path}");
    }
    for (query, outcome) in [
        ("room=radio&room=chat", Welcome("radio".to_owned())),
        ("room=chat&room=radio", Closed(4_002)),
        ("room=radio%00", Closed(4_005)),
        ("room=radio%2f", Closed(4_005)),
        ("room=", Closed(4_005)),
        ("Room=radio", Closed(4_005)),
    ] {
        assert_eq!(request_websocket(&server, &format!("/?{query}&token={}", token()), ""), outcome, "{query}");
    }
    // The path takes precedence over the query, and WebRTC parameters give no access to a broadcast room.
    assert_eq!(request_websocket(&server, &format!("/chat?room=radio&token={}", token()), ""), Closed(4_002));
    assert_eq!(request_websocket(&server, &format!("/?room=radio&token={}&roomId=radio", token()), ""), Closed(1_008));
    assert_log_has_no_secret(server, &[]);
}

#[test]
fn chunked_post_has_the_same_length_limit() {
    let server = start();
    let headers = format!("Authorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n", token());
    let pieces = |count: usize| {
        "100\r\n".to_owned() + &" ".repeat(256) + &("\r\n100\r\n".to_owned() + &" ".repeat(256)).repeat(count - 1)
    };
    let post = |body: &str| status(&server, "POST /radio/postcontent", &headers, body);
    assert_eq!(post(&(pieces(1_023) + "\r\n2\r\n{}\r\n0\r\n\r\n")), 200);
    assert_eq!(post(&(pieces(1_025) + "\r\n0\r\n\r\n")), 413);
    // A body that never ends is rejected as soon as it exceeds the limit.
    assert_eq!(post(&pieces(1_100)), 413);
    // Room members have a higher message limit than other connections. A control channel must not send anything. Therefore, the higher
    // limit does not apply to a control channel.
    let mut control = raw(server.address);
    let head = format!("GET /rooms/radio/remotecontrol?token={} HTTP/1.1\r\n", token());
    let request = super::UPGRADE.replacen("GET / HTTP/1.1\r\n", &head, 1);
    std::io::Write::write_all(&mut control, request.as_bytes()).unwrap();
    std::io::Write::write_all(&mut control, &frame(0x81, &vec![b' '; super::MAX_MESSAGE_LEN + 1])).unwrap();
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut control, &mut answer);
    let close = [&[0x88][..], &[18], &1_009_u16.to_be_bytes(), b"message too long"].concat();
    assert!(answer.ends_with(&close), "{}", String::from_utf8_lossy(&answer));
}
