//! Compares every packet type with bytes written by hand. The tests cover parsing, serialization, and the replies of an echo server with
//! their times.

mod echoing;

use std::fmt::Write;

use test_support::golden::{self, packet};
use test_support::snapshot::assert_matches;

use jamjam_core::audio::convert::{decode_payload, encode_payload};
use jamjam_core::wire::{self, LatencyInfo, PacketType, PingPayload, keepalive_action};

/// The snapshot lists what the bytes of every fixture mean, except the STUN messages, which `stun.rs` checks.
#[test]
fn golden_packets_have_the_fields_of_their_snapshot() {
    let mut lines = String::new();
    for name in golden::names().iter().filter(|name| !name.starts_with("stun-")) {
        let bytes = packet(name);
        let read = wire::parse_packet(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let payload = read.payload;
        let meaning = match read.header.packet_type {
            PacketType::Audio if name != "audio-sealed.hex" => {
                let samples: Vec<f32> = decode_payload(payload).expect("whole samples").collect();
                let mut serialized = Vec::new();
                encode_payload(&samples, &mut serialized);
                assert_eq!(serialized, payload, "{name}");
                format!("{samples:?}")
            }
            PacketType::LatencyInfo => format!("{:?}", LatencyInfo::parse(payload).expect("a LATENCY_INFO")),
            PacketType::LatencyPing | PacketType::LatencyPong => {
                format!("{:?}", PingPayload::parse(read).expect("a ping"))
            }
            PacketType::Keepalive => format!("{:?}", keepalive_action(payload)),
            PacketType::Audio | PacketType::Fec | PacketType::Control => String::new(),
        };
        writeln!(lines, "{name}: {:?}, {} bytes {meaning}", read.header, payload.len()).expect("memory");
    }
    assert_matches("core/golden_packets", &lines);
}

#[test]
fn ping_and_pong_are_serialized_to_their_golden_bytes() {
    let expected = PingPayload { sent_time_us: 4_294_967_298, sequence: 9 };
    assert_eq!(expected.to_pong_datagram(42)[..], packet("latency-pong.hex"));
    // This program writes the same sequence number into the header and the payload. The golden ping has a different sequence number in its
    // header.
    let mut ours = packet("latency-ping.hex");
    ours[2..6].copy_from_slice(&[0, 0, 0, 9]);
    assert_eq!(expected.to_ping_datagram()[..], ours);
}
