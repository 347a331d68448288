//! STUN messages as a server and as a client receives them. A second, simpler parser determines what the server must answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use jamjam_dev::wire::stun::{
    CountsRequestTime, HEADER_LEN, MAX_MESSAGE_LEN, ReceivedCounts, ResponseAttributes, ServerReport, StunMessage,
    TransactionId, is_error_response, is_response_to, is_stun, parse_message,
};
use test_support::stun::attributes;

use crate::input::Input;

/// Maximum length of a response in bytes: header, IPv6 address, report and FINGERPRINT.
const MAX_RESPONSE_LEN: usize = 20 + 24 + 104 + 8;

/// Comprehension-required attributes of RFC 8489.
const KNOWN: [u32; 11] = [1, 6, 8, 9, 10, 0x14, 0x15, 0x1c, 0x1d, 0x1e, 0x20];

/// The first bytes of an input select the source address and whether the server has counts. The rest is the datagram.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (config, port) = (input.byte(), input.u16());
    let source = match config & 3 {
        0 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, config)),
        1 => IpAddr::V6(Ipv4Addr::new(192, 0, 2, config).to_ipv6_mapped()),
        _ => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, config.into())),
    };
    let source = SocketAddr::new(source, port);
    let received = ReceivedCounts { epoch: 1, audio: 2, ping: u32::from(port), keepalive: 4 };
    let report = (config & 4 != 0).then_some(ServerReport { received, pauses: 5, ..ServerReport::default() });
    let datagram = input.rest();
    if is_stun(datagram) {
        check_server(datagram, source, report.as_ref());
    }
    check_client(datagram);
}

/// What a request contains.
#[derive(Default)]
struct Expected {
    unknown: Vec<u32>,
    counts_requested: Option<CountsRequestTime>,
    report_requested: bool,
    has_fingerprint: bool,
}

/// Parses a request; `None` if it is malformed.
fn parse_again(datagram: &[u8]) -> Option<Expected> {
    let (attributes, has_fingerprint) = attributes(datagram).filter(|_| datagram.len() <= MAX_MESSAGE_LEN)?;
    let mut expected = Expected { has_fingerprint, ..Expected::default() };
    for (kind, value) in attributes {
        if kind == 0xc0ec {
            let during_run = value.first() == Some(&1);
            let times = [CountsRequestTime::RunBoundary, CountsRequestTime::DuringRun];
            expected.counts_requested = Some(times[usize::from(during_run)]);
            expected.report_requested = value.get(1) == Some(&2);
        }
        if kind < 0x8000 && !KNOWN.contains(&kind) {
            expected.unknown.push(kind);
        }
        // Attributes after a MESSAGE-INTEGRITY are ignored.
        if kind == 8 || kind == 0x1c {
            break;
        }
    }
    Some(expected)
}

fn check_server(datagram: &[u8], source: SocketAddr, report: Option<&ServerReport>) {
    let parsed = parse_message(datagram);
    let kind = u16::from_be_bytes([datagram[0], datagram[1]]);
    let expected = parse_again(datagram).filter(|_| kind == 1 || kind == 0x11);
    let (request, expected) = match (parsed, expected) {
        (Err(_), None) => return,
        (Ok(StunMessage::Indication), Some(_)) if kind == 0x11 => return,
        (Ok(StunMessage::Request(request)), Some(expected)) if kind == 1 => (request, expected),
        (parsed, expected) => panic!("{parsed:?}, expected to be valid: {}", expected.is_some()),
    };
    let transaction: TransactionId = datagram[8..HEADER_LEN].try_into().expect("12 bytes");
    let response = &request.respond(source, report)[..];
    assert!(response.len() <= MAX_RESPONSE_LEN && response.len().is_multiple_of(4));
    assert!(is_response_to(response, &transaction));
    let mut changed = transaction;
    changed[11] ^= 1;
    assert!(!is_response_to(response, &changed));
    assert_eq!(parse_again(response).map(|parsed| parsed.has_fingerprint), Some(expected.has_fingerprint));
    assert_eq!(is_error_response(response), !expected.unknown.is_empty());
    assert_eq!(request.counts_requested(), expected.counts_requested.filter(|_| expected.unknown.is_empty()));
    let attributes = ResponseAttributes::parse(response).expect("the response is valid");
    if expected.unknown.is_empty() {
        let canonical = SocketAddr::new(source.ip().to_canonical(), source.port());
        assert_eq!(attributes.mapped_address, Some(canonical));
        let (received, counts) = (attributes.received_counts, report.map(|report| report.received));
        assert!(received.is_none() || (received == counts && response.len() <= datagram.len()));
        assert_eq!(attributes.server.as_ref(), report.filter(|_| received.is_some() && expected.report_requested));
        if expected.has_fingerprint {
            let report_len = if expected.report_requested { 104 } else { 24 };
            let with_report = HEADER_LEN + if canonical.is_ipv4() { 12 } else { 24 } + report_len + 8;
            assert_eq!(received, counts.filter(|_| with_report <= datagram.len()));
        }
    } else {
        assert_eq!(attributes, ResponseAttributes::default());
        let listed = expected.unknown.len().min(16);
        let value = &response[HEADER_LEN + 8 + 4..][..2 * listed];
        let list: Vec<u32> = value.as_chunks().0.iter().map(|kind| u16::from_be_bytes(*kind).into()).collect();
        assert_eq!(list, expected.unknown[..listed]);
    }
}

fn check_client(datagram: &[u8]) {
    let transaction: TransactionId = datagram.get(8..HEADER_LEN).and_then(|id| id.try_into().ok()).unwrap_or_default();
    if !is_response_to(datagram, &transaction) {
        return;
    }
    let attributes = ResponseAttributes::parse(datagram);
    let expected = parse_again(datagram);
    assert_eq!(attributes.is_some(), expected.is_some());
    if let (Some(attributes), Some(expected)) = (attributes, expected) {
        assert!(attributes.received_counts.is_none() || expected.has_fingerprint);
    }
}
