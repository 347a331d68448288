//! STUN messages: the test vectors of RFC 5769, bytes written by hand, and arbitrary bytes.

use std::net::SocketAddr;
use std::time::Duration;
use test_support::golden;
use test_support::stun::append_fingerprint;

use golden::packet;
use jamjam_core::wire::stun::{
    BindingRequest, CountsRequestTime, ReceivedCounts, ReportedPause, ResponseAttributes, ServerReport, StunError,
    StunMessage, binding_request, counts_request, error_response, is_response_to, is_stun, parse_message,
};

/// The fixtures that are requests.
const REQUESTS: [&str; 8] = [
    "stun-server-report-request.hex",
    "stun-server-report-request-during-run.hex",
    "stun-loss-report-request.hex",
    "stun-loss-report-request-during-run.hex",
    "stun-request.hex",
    "stun-request-fingerprint.hex",
    "stun-rfc5769-request.hex",
    "stun-rfc5769-long-term.hex",
];

fn request(bytes: &[u8]) -> BindingRequest {
    match parse_message(bytes) {
        Ok(StunMessage::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn answer(bytes: &[u8], from: &str) -> Vec<u8> {
    request(bytes).respond(from.parse().expect("an address"), None)
}

/// A request with this transaction ID and these attributes, as in the figures of the RFC.
fn with_attributes(transaction: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend(kind.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    [&[0, 1][..], &(body.len() as u16).to_be_bytes(), &[0x21, 0x12, 0xa4, 0x42], transaction, &body].concat()
}

#[test]
fn mapped_addresses_match_the_rfc() {
    // In the test vectors, the address attribute of a response is between the attributes SOFTWARE and MESSAGE-INTEGRITY. This program does
    // not write SOFTWARE and MESSAGE-INTEGRITY. Therefore, the test compares only the address attribute.
    for (vector, from, end) in [
        ("stun-rfc5769-ipv4.hex", "192.0.2.1:32853", 48),
        // A client at a dual-stack socket.
        ("stun-rfc5769-ipv4.hex", "[::ffff:192.0.2.1]:32853", 48),
        ("stun-rfc5769-ipv6.hex", "[2001:db8:1234:5678:11:2233:4455:6677]:32853", 60),
    ] {
        let vector = packet(vector);
        assert_eq!(answer(&with_attributes(&vector[8..20], &[]), from)[20..], vector[36..end], "{from}");
    }
}

#[test]
fn stun_response_is_at_most_24_bytes_longer_than_the_request() {
    let bare = packet("stun-request.hex");
    assert_eq!(binding_request(transaction(&bare))[..], bare);
    assert_eq!((bare.len(), answer(&bare, "192.0.2.1:1").len(), answer(&bare, "[2001:db8::1]:1").len()), (20, 32, 44));
    for unknown in 1..=200 {
        let attributes = vec![(0x0024, &[][..]); unknown];
        let request_bytes = with_attributes(&[7; 12], &attributes);
        let answer = answer(&request_bytes, "[2001:db8::1]:1");
        assert!(answer.len() <= request_bytes.len() + 24, "{unknown} unknown attributes: {} bytes", answer.len());
        // The response contains the header, the error code, and at most sixteen types of unknown attributes.
        assert_eq!(answer.len(), 20 + 8 + 4 + (2 * unknown.min(16)).next_multiple_of(4));
    }
}

#[test]
fn only_unknown_comprehension_required_attributes_are_reported() {
    // CHANGE-REQUEST of RFC 5780 is comprehension-required. 0x8030 and 0xc001 are optional, and USERNAME is supported.
    let attributes: [(u16, &[u8]); 5] =
        [(0x8030, &[1]), (0x0003, &[0; 4]), (0x0006, b"me"), (0xc001, &[]), (0x7fff, &[])];
    let answer = answer(&with_attributes(&[7; 12], &attributes), "192.0.2.1:1");
    assert_eq!(answer[..2], [0x01, 0x11]);
    assert_eq!(answer[20..], [0, 9, 0, 4, 0, 0, 4, 20, 0, 10, 0, 4, 0x00, 0x03, 0x7f, 0xff]);
}

#[test]
fn attributes_after_message_integrity_are_ignored() {
    let [integrity, unknown]: [(u16, &[u8]); 2] = [(0x0008, &[0; 20]), (0x0024, &[0; 4])];
    for (attributes, response) in [([integrity, unknown], [1, 1]), ([unknown, integrity], [1, 0x11])] {
        assert_eq!(answer(&with_attributes(&[7; 12], &attributes), "192.0.2.1:1")[..2], response);
    }
}

#[test]
fn each_fault_has_its_own_error() {
    let bare = packet("stun-request.hex");
    let changed = |at: usize, byte: u8| {
        let mut bytes = bare.clone();
        bytes[at] = byte;
        parse_message(&bytes)
    };
    assert_eq!(parse_message(&bare[..19]), Err(StunError::TooShort(19)));
    assert_eq!(changed(3, 4), Err(StunError::Length { length: 4, found: 0 }));
    assert_eq!(changed(1, 3), Err(StunError::Type(3)));
    assert_eq!(changed(1, 0x11), Ok(StunMessage::Indication));
    let odd = [&[0, 1, 0, 2][..], &bare[4..], &[0, 0]].concat();
    assert_eq!(parse_message(&odd), Err(StunError::Length { length: 2, found: 2 }));
    let mut beyond = with_attributes(&[7; 12], &[(0x8022, b"abcd")]);
    beyond[23] = 5;
    assert_eq!(parse_message(&beyond), Err(StunError::Attribute { attribute_type: 0x8022, len: 5 }));
    let long = with_attributes(&[7; 12], &[(0x8022, &[0; 1_256])]);
    assert_eq!(long.len(), 1_280);
    request(&long);
    assert_eq!(parse_message(&with_attributes(&[7; 12], &[(0x8022, &[0; 1_260])])), Err(StunError::TooLong(1_284)));
    let mut wrong = packet("stun-request-fingerprint.hex");
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(parse_message(&wrong), Err(StunError::Fingerprint));
    let mut more = packet("stun-request-fingerprint.hex");
    more.extend([0x80, 0x22, 0, 0]);
    more[3] += 4;
    assert_eq!(parse_message(&more), Err(StunError::Fingerprint), "an attribute follows the FINGERPRINT");
}

#[test]
fn stun_is_recognized_by_its_first_byte_and_cookie() {
    for name in REQUESTS {
        assert!(is_stun(&packet(name)), "{name}");
    }
    for name in golden::names().iter().filter(|name| !REQUESTS.contains(&name.as_str())) {
        assert!(!is_stun(&packet(name)), "{name}");
    }
    // In RFC 3489, the transaction ID had sixteen bytes and there was no cookie.
    let mut older = packet("stun-request.hex");
    older[4..8].copy_from_slice(&[1, 2, 3, 4]);
    assert!(!is_stun(&older));
}

#[test]
fn truncated_request_is_rejected() {
    for name in REQUESTS {
        let original = packet(name);
        request(&original);
        for len in 0..original.len() {
            assert!(parse_message(&original[..len]).is_err(), "{name}, {len} bytes");
        }
    }
}

#[test]
fn bit_flip_fails_the_fingerprint() {
    for name in ["stun-request-fingerprint.hex", "stun-rfc5769-request.hex"] {
        let original = packet(name);
        let mut hidden = 0;
        for bit in 0..original.len() * 8 {
            let mut flipped = original.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A bit flip in the header of an attribute can hide the FINGERPRINT. The request then counts as a request without FINGERPRINT.
            if let Ok(StunMessage::Request(request)) = parse_message(&flipped) {
                let answer = request.respond(SocketAddr::from(([192, 0, 2, 1], 1)), None);
                assert!(!answer.windows(4).any(|four| four == [0x80, 0x28, 0, 4]), "{name}, bit {bit}");
                hidden += 1;
            }
        }
        assert!(hidden < original.len(), "{name}: {hidden} of {} flips are not detected", original.len() * 8);
    }
}

fn transaction(message: &[u8]) -> [u8; 12] {
    message[8..20].try_into().expect("twelve bytes")
}

fn millis(ended_ago: u64, length: u64) -> ReportedPause {
    ReportedPause { ended_ago: Duration::from_millis(ended_ago), length: Duration::from_millis(length) }
}

/// A client over IPv6.
fn far() -> SocketAddr {
    "[2001:db8::1]:1".parse().expect("an address")
}

#[test]
fn report_request_and_response_match_the_golden_bytes() {
    let request_bytes = packet("stun-server-report-request.hex");
    let during_run = packet("stun-server-report-request-during-run.hex");
    assert_eq!(counts_request(transaction(&request_bytes), CountsRequestTime::RunBoundary)[..], request_bytes);
    assert_eq!(counts_request(transaction(&during_run), CountsRequestTime::DuringRun)[..], during_run);
    assert_eq!(request(&request_bytes).counts_requested(), Some(CountsRequestTime::RunBoundary));
    assert_eq!(request(&during_run).counts_requested(), Some(CountsRequestTime::DuringRun));
    let received = ReceivedCounts { epoch: 10_000_000, audio: 450, ping: 9, keepalive: 8 };
    let (delay, paused) = (Duration::from_micros(3_000_250), Duration::from_millis(5_260));
    let mut report = ServerReport { received, delay, pauses: 3, paused, dropped: 17, ..ServerReport::default() };
    report.recent[..3].copy_from_slice(&[millis(1_500, 5_000), millis(60_000, 200), millis(90_000, 60)]);
    let response = packet("stun-server-report-response-pauses.hex");
    let from = SocketAddr::from(([192, 0, 2, 1], 40_000));
    assert_eq!(request(&request_bytes).respond(from, Some(&report))[..], response);
    assert!(is_response_to(&response, &transaction(&request_bytes)));
    let attributes =
        ResponseAttributes { mapped_address: Some(from), received_counts: Some(received), server: Some(report) };
    assert_eq!(ResponseAttributes::parse(&response), Some(attributes));
    // Over IPv6, the response is as long as its request. Values that do not fit are the maximum.
    let long = ServerReport { delay: Duration::MAX, paused: Duration::MAX, ..report };
    let response = request(&request_bytes).respond(far(), Some(&long));
    assert_eq!((request_bytes.len(), response.len()), (156, 156));
    let parsed = ResponseAttributes::parse(&response).and_then(|answer| answer.server).expect("a report");
    assert_eq!((parsed.delay.as_micros(), parsed.paused.as_millis()), (u32::MAX.into(), u32::MAX.into()));
}

#[test]
fn old_request_gets_the_old_response() {
    let (request_bytes, response) = (packet("stun-loss-report-request.hex"), packet("stun-loss-report-response.hex"));
    let during_run = request(&packet("stun-loss-report-request-during-run.hex"));
    assert_eq!(during_run.counts_requested(), Some(CountsRequestTime::DuringRun));
    let counts = ReceivedCounts { epoch: 10_000_000, audio: 0, ping: 0, keepalive: 0 };
    let from = SocketAddr::from(([192, 0, 2, 1], 40_000));
    assert_eq!(request(&request_bytes).counts_requested(), Some(CountsRequestTime::RunBoundary));
    let whole = ServerReport { received: counts, delay: Duration::from_secs(3), pauses: 1, ..Default::default() };
    assert_eq!(request(&request_bytes).respond(from, Some(&whole))[..], response);
    let expected = ResponseAttributes { mapped_address: Some(from), received_counts: Some(counts), server: None };
    assert_eq!(ResponseAttributes::parse(&response), Some(expected));
    // Over IPv6, the response is as long as its request. A request without the attribute gets no counts.
    assert_eq!((request_bytes.len(), request(&request_bytes).respond(far(), Some(&whole)).len()), (76, 76));
    assert_eq!(request(&packet("stun-request.hex")).counts_requested(), None);
}

#[test]
fn counts_are_omitted_if_the_response_would_exceed_the_request() {
    let received = ReceivedCounts { epoch: 1, audio: 2, ping: 3, keepalive: 4 };
    let counts = ServerReport { received, ..ServerReport::default() };
    // Over IPv4, the response has 20 + 12 + 24 bytes, and 8 more if the request has a FINGERPRINT.
    for (placeholder, has_fingerprint, from, has_counts) in [
        (28, false, "192.0.2.1:1", false),
        (32, false, "192.0.2.1:1", true),
        (40, false, "[::2]:1", false),
        (44, false, "[::2]:1", true),
        (28, true, "192.0.2.1:1", false),
        (32, true, "192.0.2.1:1", true),
    ] {
        let mut request_bytes = with_attributes(&[7; 12], &[(0xc0ec, &vec![0; placeholder])]);
        if has_fingerprint {
            request_bytes[3] += 8;
            append_fingerprint(&mut request_bytes);
        }
        let answer = request(&request_bytes).respond(from.parse().expect("an address"), Some(&counts));
        let found = answer.windows(4).any(|four| four == [0xc0, 0xec, 0, 20]);
        assert_eq!(found, has_counts, "{placeholder} {from}");
        assert!(!has_counts || answer.len() <= request_bytes.len());
    }
}

#[test]
fn responses_of_the_rfc_are_parsed() {
    let assert_parsed = |bytes: &[u8], address: &str| {
        let mapped_address = Some(address.parse().expect("an address"));
        let expected = ResponseAttributes { mapped_address, ..ResponseAttributes::default() };
        assert_eq!(ResponseAttributes::parse(bytes), Some(expected));
    };
    assert_parsed(&packet("stun-rfc5769-ipv4.hex"), "192.0.2.1:32853");
    assert_parsed(&packet("stun-rfc5769-ipv6.hex"), "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
    assert_eq!(ResponseAttributes::parse(&packet("stun-response-unknown.hex")), Some(ResponseAttributes::default()));
    // MAPPED-ADDRESS (section 14.1) counts only without XOR-MAPPED-ADDRESS.
    let mapped = [0, 1, 0x9c, 0x40, 203, 0, 113, 5];
    let masked = [0, 1, 0x9c ^ 0x21, 0x40 ^ 0x12, 0xcb ^ 0x21, 0x12, 0x71 ^ 0xa4, 6 ^ 0x42];
    let all = [(0x0001, &mapped[..]), (0x0020, &masked[..])];
    for (attributes, expected) in [(&all[..1], "203.0.113.5:40000"), (&all[..], "203.0.113.6:40000")] {
        let mut response = with_attributes(&[7; 12], attributes);
        response[..2].copy_from_slice(&[1, 1]);
        assert_parsed(&response, expected);
    }
}

#[test]
fn error_response_has_a_code_and_a_reason() {
    // Section 14.8: the class is the hundreds digit, in the low three bits. The reason may be empty.
    for (value, expected) in [
        (&[0, 0, 3, 0][..], Some((300, ""))),
        (&[0xff, 0xff, 0xfc, 38, b'S', b't', b'a', b'l', b'e'], Some((438, "Stale"))),
        (&[0, 0, 4], None),
    ] {
        let mut response = with_attributes(&[7; 12], &[(0x0009, value)]);
        assert_eq!(error_response(&response), None, "a request");
        response[..2].copy_from_slice(&[1, 0x11]);
        assert_eq!(error_response(&response), expected.map(|(code, reason)| (code, reason.to_owned())));
    }
}

#[test]
fn response_needs_cookie_transaction_and_type_and_no_damage() {
    let request_bytes = packet("stun-server-report-request.hex");
    let response = packet("stun-server-report-response-pauses.hex");
    let transaction = transaction(&request_bytes);
    assert!(!is_response_to(&request_bytes, &transaction), "a request is not a response");
    for byte in 0..response.len() {
        let mut changed = response.clone();
        changed[byte] ^= 0x80;
        let is_response = !matches!(byte, 0..=1 | 4..20);
        assert_eq!(is_response_to(&changed, &transaction), is_response, "byte {byte}");
        let read = ResponseAttributes::parse(&changed).map(|answer| (answer.received_counts, answer.server));
        assert_eq!(read.unwrap_or_default(), (None, None), "byte {byte}");
    }
    for len in 0..response.len() {
        assert_eq!(ResponseAttributes::parse(&response[..len]), None, "{len} bytes");
    }
}
