//! jamjam packets: the header and the structured payloads. A datagram that is parsed can be encoded again without a change.

use jamjam_dev::wire::{
    HEADER_LEN, KeepaliveAction, LatencyInfo, PING_PAYLOAD_LEN, PROTOCOL_VERSION, Packet, PacketError, PacketType,
    PingPayload, is_loop_check, keepalive_action, loop_check, parse_packet,
};

pub(crate) fn run(data: &[u8]) {
    match parse_packet(data) {
        Ok(packet) => {
            assert_eq!(packet.header.to_bytes(), data[..HEADER_LEN]);
            assert_eq!(packet.payload, &data[HEADER_LEN..]);
            assert!(!packet.header.packet_type.name().is_empty());
            check_ping(packet);
            check_latency_info(packet.payload);
            check_keepalive(packet);
        }
        Err(error) => {
            let expected = match *data {
                [version, packet_type, ..] if data.len() >= HEADER_LEN => {
                    if version == PROTOCOL_VERSION {
                        PacketError::Type(packet_type)
                    } else {
                        PacketError::Version(version)
                    }
                }
                _ => PacketError::TooShort(data.len()),
            };
            assert_eq!(error, expected);
        }
    }
}

fn check_ping(packet: Packet<'_>) {
    let Ok(ping) = PingPayload::parse(packet) else {
        assert!(packet.payload.len() < PING_PAYLOAD_LEN);
        return;
    };
    assert_eq!(ping.to_bytes(), packet.payload[..PING_PAYLOAD_LEN]);
    let pong = ping.to_pong_datagram(packet.header.sequence);
    let answered = parse_packet(&pong).expect("a pong is a packet");
    assert_eq!(
        (answered.header.packet_type, answered.header.sequence),
        (PacketType::LatencyPong, packet.header.sequence)
    );
    assert_eq!(PingPayload::parse(answered), Ok(ping));
    let request = ping.to_ping_datagram();
    let request = parse_packet(&request).expect("a ping is a packet");
    assert_eq!((request.header.packet_type, request.header.sequence), (PacketType::LatencyPing, ping.sequence));
}

fn check_latency_info(payload: &[u8]) {
    let Ok(info) = LatencyInfo::parse(payload) else {
        assert!(payload.get(28).is_none_or(|codec_len| payload.len() < 29 + usize::from(*codec_len)));
        return;
    };
    let codec_len = usize::from(payload[28]);
    let used = 29 + codec_len + usize::from(payload.len() > 29 + codec_len);
    let encoded = info.to_bytes();
    if std::str::from_utf8(&payload[29..29 + codec_len]).is_ok() {
        assert_eq!(encoded, &payload[..used]);
    }
    assert!(encoded.len() <= used, "a replacement made the name longer");
    let again = LatencyInfo::parse(&encoded).expect("an encoded payload is valid");
    assert_eq!(again.to_bytes(), encoded);
}

fn check_keepalive(packet: Packet<'_>) {
    match keepalive_action(packet.payload) {
        KeepaliveAction::EchoWith(reply) => {
            assert_eq!((packet.payload.len(), packet.payload[0], &reply[1..]), (5, 1, &packet.payload[1..]));
            assert_eq!(keepalive_action(&reply), KeepaliveAction::NoReply, "two servers would answer each other");
        }
        KeepaliveAction::NoReply => assert_eq!((packet.payload.len(), packet.payload[0]), (5, 2)),
        KeepaliveAction::EchoUnchanged => {}
    }
    let header = packet.header;
    let token = u64::from(header.sequence) << 32 | u64::from(header.timestamp);
    let bytes = [&header.to_bytes()[..], packet.payload].concat();
    let is_check = header.packet_type == PacketType::Keepalive && header.flags == 0 && packet.payload.is_empty();
    assert_eq!(is_loop_check(&bytes, token), is_check);
    assert!(is_loop_check(&loop_check(token), token) && !is_loop_check(&loop_check(token), !token));
}
