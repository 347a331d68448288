//! Compares every packet type with bytes written by hand. The tests cover parsing, serialization, and the replies of an echo server with
//! their times.

use test_support::golden;
mod echoing;

use golden::packet;
use jamjam_core::audio::convert::{decode_payload, encode_payload};
use jamjam_core::wire::{self, Header, KeepaliveAction, LatencyInfo, PacketType, PingPayload, keepalive_action};

/// Type, sequence, timestamp, flags and payload length of every fixture except the STUN messages, which `stun.rs` checks.
#[rustfmt::skip]
const HEADERS: &[(&str, PacketType, u32, u32, u16, usize)] = &[
    ("audio-flags.hex",             PacketType::Audio,       2,             128,           0x8402, 4),
    ("audio-mono.hex",              PacketType::Audio,       1,             0,             0,      16),
    ("audio-sealed.hex",            PacketType::Audio,       0,             0,             1,      23),
    ("audio-stereo.hex",            PacketType::Audio,       375,           47_872,        0,      16),
    ("audio-wrap.hex",              PacketType::Audio,       4_294_967_295, 4_294_967_294, 0,      8),
    ("control.hex",                 PacketType::Control,     0,             0,             0,      34),
    ("fec.hex",                     PacketType::Fec,         4,             384,           0,      14),
    ("keepalive-empty.hex",         PacketType::Keepalive,   5,             0,             0,      0),
    ("keepalive-payload.hex",       PacketType::Keepalive,   6,             100_000,       0x4000, 6),
    ("keepalive-probe-reply.hex",   PacketType::Keepalive,   7,             0,             0,      5),
    ("keepalive-probe-request.hex", PacketType::Keepalive,   7,             0,             0,      5),
    ("latency-info-channels.hex",   PacketType::LatencyInfo, 2_000_000,     0,             0,      34),
    ("latency-info.hex",            PacketType::LatencyInfo, 3,             0,             0,      32),
    ("latency-ping-longer.hex",     PacketType::LatencyPing, 42,            16_909_060,    2,      14),
    ("latency-ping.hex",            PacketType::LatencyPing, 42,            0,             0,      12),
    ("latency-pong.hex",            PacketType::LatencyPong, 42,            0,             0,      12),
];

#[test]
fn every_header_matches_its_golden_bytes() {
    let names: Vec<&str> = HEADERS.iter().map(|row| row.0).collect();
    let mut fixtures = golden::names();
    fixtures.retain(|name| !name.starts_with("stun-"));
    assert_eq!(fixtures, names, "a fixture has no row, or a row has no fixture");
    for (name, kind, sequence, timestamp, flags, len) in HEADERS.iter().copied() {
        let bytes = packet(name);
        let read = wire::parse_packet(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read.header, Header { packet_type: kind, sequence, timestamp, flags }, "{name}");
        assert_eq!(read.payload.len(), len, "{name}");
        let written = [&read.header.to_bytes()[..], read.payload].concat();
        assert_eq!(written, bytes, "{name}");
    }
}

#[test]
fn audio_is_little_endian_floats() {
    #[rustfmt::skip]
    let expected: [(&str, &[f32]); 4] = [
        ("audio-mono.hex",   &[0.0, 1.0, -0.5, 0.25]),
        ("audio-stereo.hex", &[0.5, -1.0, 1.0 / 32_768.0, -32_767.0 / 32_768.0]),
        ("audio-flags.hex",  &[0.1]),
        ("audio-wrap.hex",   &[-0.0, f32::MAX]),
    ];
    for (name, samples) in expected {
        let bytes = packet(name);
        let read: Vec<u32> = decode_payload(&bytes[12..]).unwrap().map(f32::to_bits).collect();
        assert_eq!(read, samples.iter().map(|sample| sample.to_bits()).collect::<Vec<_>>(), "{name}");
        let mut written = Vec::new();
        encode_payload(samples, &mut written);
        assert_eq!(written, bytes[12..], "{name}");
    }
}

#[test]
fn ping_and_pong_match_their_golden_bytes() {
    let expected = PingPayload { sent_time_us: 4_294_967_298, sequence: 9 };
    for name in ["latency-ping.hex", "latency-ping-longer.hex", "latency-pong.hex"] {
        assert_eq!(PingPayload::parse(wire::parse_packet(&packet(name)).unwrap()), Ok(expected), "{name}");
    }
    assert_eq!(expected.to_pong_datagram(42)[..], packet("latency-pong.hex"));
    // This program writes the same sequence number into the header and the payload. The golden ping has a different sequence number in its
    // header.
    let mut ours = packet("latency-ping.hex");
    ours[2..6].copy_from_slice(&[0, 0, 0, 9]);
    assert_eq!(expected.to_ping_datagram()[..], ours);
}

#[test]
fn latency_info_matches_its_golden_bytes_with_and_without_channels() {
    let older = LatencyInfo {
        capture_ms: 8.0 / 3.0,
        playback_ms: 5.0,
        encode_ms: 0.0,
        decode_ms: 0.1,
        jitter_buffer_ms: 10.0,
        frame_size: 128,
        sample_rate: 48_000,
        codec: "pcm".to_owned(),
        channel_count: None,
    };
    let newer = LatencyInfo {
        capture_ms: 1.0,
        playback_ms: 2.0,
        encode_ms: 0.25,
        decode_ms: 0.5,
        jitter_buffer_ms: 4.0,
        frame_size: 64,
        sample_rate: 96_000,
        codec: "opus".to_owned(),
        channel_count: Some(2),
    };
    for (name, info) in [("latency-info.hex", older), ("latency-info-channels.hex", newer)] {
        let bytes = packet(name);
        assert_eq!(LatencyInfo::parse(&bytes[12..]), Ok(info.clone()), "{name}");
        assert_eq!(info.to_bytes(), bytes[12..], "{name}");
    }
}

#[test]
fn only_a_route_probe_changes_a_keepalive() {
    let answer = |name: &str| keepalive_action(&packet(name)[12..]);
    assert_eq!(answer("keepalive-empty.hex"), KeepaliveAction::EchoUnchanged);
    assert_eq!(answer("keepalive-payload.hex"), KeepaliveAction::EchoUnchanged);
    assert_eq!(answer("keepalive-probe-request.hex"), KeepaliveAction::EchoWith([2, 0xde, 0xad, 0xbe, 0xef]));
    assert_eq!(answer("keepalive-probe-reply.hex"), KeepaliveAction::NoReply);
    for payload in [&[1, 2, 3, 4][..], &[0, 1, 2, 3, 4], &[3, 1, 2, 3, 4], &[2, 1, 2, 3, 4, 5]] {
        assert_eq!(keepalive_action(payload), KeepaliveAction::EchoUnchanged, "{payload:?}");
    }
}
