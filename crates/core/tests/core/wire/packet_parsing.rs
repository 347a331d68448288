//! Every datagram is parsed as a packet or as an error that names its fault.

use golden::packet;
use jamjam_core::wire::{
    self, Header, KeepaliveAction, LatencyInfo, Packet, PacketError, PacketType, PingPayload, keepalive_action,
};
use proptest::prelude::*;
use test_support::golden;

use PacketType::{Audio, Control, Fec, Keepalive, LatencyInfo as Info, LatencyPing, LatencyPong};

const KINDS: [PacketType; 7] = [Audio, Fec, Control, Keepalive, LatencyPing, LatencyPong, Info];

/// Parses a packet field by field, as in the header table of `docs/protocol.md`, without the library's parser.
fn parse_by_table(datagram: &[u8]) -> Result<(Header, &[u8]), PacketError> {
    let number = |from: usize, to: usize| datagram[from..to].iter().fold(0, |n, byte| n << 8 | u32::from(*byte));
    if datagram.len() < 12 {
        Err(PacketError::TooShort(datagram.len()))
    } else if datagram[0] != 1 {
        Err(PacketError::Version(datagram[0]))
    } else if datagram[1] < 1 || datagram[1] > 7 {
        Err(PacketError::Type(datagram[1]))
    } else {
        let packet_type = KINDS[usize::from(datagram[1]) - 1];
        let (sequence, timestamp, flags) = (number(2, 6), number(6, 10), number(10, 12) as u16);
        Ok((Header { packet_type, sequence, timestamp, flags }, &datagram[12..]))
    }
}

/// Parses `datagram` and checks all of its fields and its payload.
fn check(datagram: &[u8]) {
    let expected = parse_by_table(datagram);
    let read = wire::parse_packet(datagram);
    assert_eq!(read.map(|packet| (packet.header, packet.payload)), expected, "{datagram:02x?}");
    let Ok(packet) = read else { return };
    let written = [&packet.header.to_bytes()[..], packet.payload].concat();
    assert_eq!(written, datagram, "a parsed packet is serialized to the same bytes");
    match packet.header.packet_type {
        LatencyPing | LatencyPong => check_ping(packet),
        Info => check_info(packet.payload),
        Keepalive => check_keepalive(packet.payload),
        Audio | Fec | Control => {}
    }
}

fn check_ping(packet: Packet<'_>) {
    let (packet_type, len) = (packet.header.packet_type, packet.payload.len());
    match PingPayload::parse(packet) {
        Ok(ping) => assert_eq!(ping.to_bytes()[..], packet.payload[..12]),
        Err(reason) => {
            assert!(len < 12, "{len}");
            assert_eq!(reason, PacketError::Payload { packet_type, len, min_len: 12 });
        }
    }
}

fn check_info(payload: &[u8]) {
    let len = payload.len();
    let min_len = if len < 29 { 29 } else { 29 + usize::from(payload[28]) };
    match LatencyInfo::parse(payload) {
        Ok(info) => {
            assert!(len >= min_len, "{len}");
            assert!(info.codec.capacity() <= len, "{} bytes for a payload of {len}", info.codec.capacity());
            assert_eq!(info.channel_count, payload.get(min_len).copied());
            if let Ok(codec) = std::str::from_utf8(&payload[29..min_len]) {
                assert_eq!(info.codec, codec);
                let standard_len = len.min(min_len + 1);
                assert_eq!(info.to_bytes(), payload[..standard_len]);
            }
        }
        Err(reason) => {
            assert!(len < min_len, "{len}");
            assert_eq!(reason, PacketError::Payload { packet_type: Info, len, min_len });
        }
    }
}

fn check_keepalive(payload: &[u8]) {
    let is_probe = payload.len() == 5;
    let expected = match payload.first() {
        Some(1) if is_probe => KeepaliveAction::EchoWith([2, payload[1], payload[2], payload[3], payload[4]]),
        Some(2) if is_probe => KeepaliveAction::NoReply,
        _ => KeepaliveAction::EchoUnchanged,
    };
    assert_eq!(keepalive_action(payload), expected);
}

#[test]
fn every_truncation_and_bit_flip_of_a_golden_packet_parses_or_gives_its_error() {
    for name in golden::names() {
        let original = packet(&name);
        for len in 0..=original.len() {
            check(&original[..len]);
        }
        for bit in 0..original.len() * 8 {
            let mut flipped = original.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check(&flipped);
        }
    }
}

#[test]
fn invalid_utf8_codec_is_replaced_without_growing() {
    let mut payload = packet("latency-info.hex")[12..28 + 12].to_vec();
    payload.push(255);
    payload.extend([0xff; 253]);
    payload.extend("é".as_bytes());
    let info = LatencyInfo::parse(&payload).unwrap();
    assert_eq!(info.codec, format!("{}é", "?".repeat(253)));
    assert!(info.codec.capacity() <= payload.len(), "{}", info.codec.capacity());
}

#[test]
fn codec_name_that_exceeds_its_length_field_is_truncated() {
    let mut info = LatencyInfo::parse(&packet("latency-info.hex")[12..]).unwrap();
    info.codec = "c".repeat(300);
    info.channel_count = Some(6);
    let read = LatencyInfo::parse(&info.to_bytes()).unwrap();
    assert_eq!((read.codec, read.channel_count), ("c".repeat(255), Some(6)));
}

proptest! {
    /// The header is often valid, so that the payload parsers are reached.
    #[test]
    fn any_datagram_parses_or_gives_its_error(
        version in 0..4_u8,
        kind in 0..10_u8,
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        if let [first, second, ..] = &mut bytes[..] {
            (*first, *second) = (version.max(1), kind);
        }
        check(&bytes);
    }
}
