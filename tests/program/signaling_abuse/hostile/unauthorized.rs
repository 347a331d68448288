//! Clients without access to a broadcast room. The clients send invalid tokens or tokens in the wrong place. Some clients use names and
//! paths that imitate others. All signatures were made independently, with Python's `hmac`, `hashlib` and `base64`.

use super::upgrade_requests::Outcome::{self, Closed, Status, Welcome};
use super::upgrade_requests::{request_websocket, status};
use test_support::server::process::Server;

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

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn radio() -> Outcome {
    Welcome("radio".to_owned())
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
    let wrong: Vec<(&str, String)> = vec![
        ("signed with another secret", format!("{PAYLOAD}.W3fRzRi1GspTPpkYcK2qe3YVv29jAC1DmWfYOn6ZXPM")),
        ("for another room, under the same signature", format!("{CHAT_PAYLOAD}.{SIGNATURE}")),
        ("expired", "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0IjoxNzAwMDAwMDAwMDAwfQ.P-kKD0FBrm7qIKbJuO4EbXNXClyWWPU8zvkuFrhZItE".to_owned()),
        ("a JWT without algorithm", format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{PAYLOAD}.")),
        // The last of the signature's 43 characters has two unused bits.
        ("the same bytes in other characters", token()[..token().len() - 1].to_owned() + "h"),
        ("the other alphabet", DASHED.replace('-', "%2B").replace('_', "%2F")),
        ("in capitals", token().to_uppercase()),
        ("with a NUL", token() + "%00"),
        ("with a line's end", token() + "%0A"),
        ("encoded twice", token().replace('.', "%252E")),
    ];
    let server = start();
    for valid in [token(), DASHED.to_owned(), token().replace('.', "%2E")] {
        assert_eq!(request_websocket(&server, &format!("/radio?token={valid}"), ""), radio(), "{valid}");
    }
    for (what, token) in &wrong {
        for path in ["/radio?x", "/rooms/radio?x", "/rooms/radio/remotecontrol?x", "/?room=radio"] {
            let outcome = request_websocket(&server, &format!("{path}&token={token}"), "");
            assert_eq!(outcome, Closed(4_002), "{what}: {path}");
        }
        if !token.contains('%') {
            let bearer = bearer(token);
            assert_eq!(request_websocket(&server, "/radio", &bearer), Closed(4_002), "{what}");
            assert_eq!(status(&server, "POST /radio/postcontent", &bearer, "{}"), 401, "{what}");
            assert_eq!(status(&server, "POST /rooms/radio/post", &bearer, "{}"), 401, "{what}");
        }
    }
    // A token is valid only in its own room.
    for room in ["chat", "lobby", "Radio", "radio%20", "%00", "radi", "radioo"] {
        let wrong = if room == "%00" { 4_005 } else { 4_002 };
        assert_eq!(request_websocket(&server, &format!("/{room}?token={}", token()), ""), Closed(wrong), "{room}");
        let rejected = status(&server, &format!("POST /{room}/postcontent"), &bearer(&token()), "{}");
        assert_eq!(rejected, if room == "%00" { 404 } else { 401 }, "{room}");
    }
    let wrong: Vec<String> = wrong.into_iter().map(|(_, token)| token).collect();
    assert_log_has_no_secret(server, &wrong);
}

#[test]
fn token_is_accepted_only_in_its_defined_places() {
    let (server, token) = (start(), token());
    let other = "eyJ4IjoxfQ.AAAA";
    let cases: Vec<(String, String, Outcome)> = vec![
        // The first non-empty token in the query is used, and the query takes precedence over the header.
        (format!("?token={token}&token={other}"), String::new(), radio()),
        (format!("?token={other}&token={token}"), String::new(), Closed(4_002)),
        (format!("?token=&token={token}"), String::new(), radio()),
        (format!("?token={other}"), bearer(&token), Closed(4_002)),
        (format!("?token={token}"), bearer(other), radio()),
        (String::new(), bearer(&token), radio()),
        (String::new(), format!("authorization: bEARER   {token}  \r\n"), radio()),
        (String::new(), bearer(other) + &bearer(&token), Closed(4_002)),
        (format!("?%74oken={token}"), String::new(), radio()),
        // A token in any other query parameter or header is ignored.
        (format!("?Token={token}"), String::new(), Closed(4_001)),
        (format!("?access_token={token}"), String::new(), Closed(4_001)),
        (format!("?token[]={token}"), String::new(), Closed(4_001)),
        (format!("?x=1;token={token}"), String::new(), Closed(4_001)),
        (String::new(), format!("Cookie: token={token}\r\n"), Closed(4_001)),
        (String::new(), format!("Sec-WebSocket-Protocol: {token}\r\n"), Closed(4_001)),
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
    let reserved = "health healthz readyz rooms docs console auth admin api v1 ws metrics images favicon.ico openapi.json postcontent";
    for name in reserved.split(' ') {
        // At the top level, a reserved name is not a room. The path is not found, or is an endpoint such as `/ws`. Such an endpoint needs a
        // `room` parameter.
        let bare = request_websocket(&server, &format!("/{name}?token={}", token()), "");
        assert!(matches!(bare, Status(404) | Closed(4_005)), "{name}: {bare:?}");
        let encoded = format!("%{:02x}{}", name.as_bytes()[0], &name[1..]);
        // In upper case, `name` is not reserved and names an ordinary room. The token is invalid for that room.
        for (path, code) in [
            (format!("/rooms/{name}?x"), 4_005),
            (format!("/rooms/{encoded}?x"), 4_005),
            (format!("/?room={name}"), 4_005),
            (format!("/rooms/{name}/remotecontrol?x"), 4_005),
            (format!("/rooms/{}?x", name.to_uppercase()), 4_002),
        ] {
            let outcome = request_websocket(&server, &format!("{path}&token={}", token()), "");
            assert_eq!(outcome, Closed(code), "{path}");
        }
    }
    let long = "x".repeat(8_000);
    let cases = [
        ("/%72adi%6F", radio()),
        ("/radio/", radio()),
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
        ("room=radio&room=chat", radio()),
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
    let headers = format!("{}Transfer-Encoding: chunked\r\n", bearer(&token()));
    let chunk = format!("100\r\n{}\r\n", " ".repeat(256));
    let post = |body: &str| status(&server, "POST /radio/postcontent", &headers, body);
    assert_eq!(post(&(chunk.repeat(1_023) + "2\r\n{}\r\n0\r\n\r\n")), 200);
    assert_eq!(post(&(chunk.repeat(1_025) + "0\r\n\r\n")), 413);
    // A body that never ends is rejected as soon as it exceeds the limit.
    assert_eq!(post(&chunk.repeat(1_100)), 413);
}
