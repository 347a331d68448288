//! `docs/wireshark/jamjam.lua`, checked with tshark on captures that these tests write. Expected values are read from the comments in
//! `fixtures/wire` or follow from `docs/protocol.md`. If tshark is not installed, the tests are skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use test_support::golden;

/// A captured datagram: its time in microseconds, source port, destination port and payload. Both hosts have one address each; the
/// higher port belongs to the client.
struct Captured(u64, u16, u16, Vec<u8>);

/// A capture file of IPv4 packets without link headers (pcap with nanoseconds; `LINKTYPE_RAW`). If `snapshot_len` is given, longer packets
/// are truncated.
fn pcap(packets: &[Captured], snapshot_len: Option<usize>) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        file.extend(word.to_le_bytes());
    }
    for Captured(time_us, from, to, payload) in packets {
        let host = |port: &u16| if port == from.max(to) { [192, 0, 2, 1] } else { [192, 0, 2, 2] };
        let mut packet = vec![0x45, 0];
        packet.extend((28 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        packet.extend(host(from));
        packet.extend(host(to));
        for word in [*from, *to, 8 + payload.len() as u16, 0] {
            packet.extend(word.to_be_bytes());
        }
        packet.extend(payload);
        let kept = snapshot_len.unwrap_or(usize::MAX).min(packet.len());
        let seconds = 1_700_000_000 + time_us / 1_000_000;
        for word in [seconds as u32, (time_us % 1_000_000) as u32 * 1_000, kept as u32, packet.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&packet[..kept]);
    }
    file
}

/// Runs tshark with the dissector. Returns standard output, or `None` if tshark is not installed.
fn tshark(capture: &[u8], args: &[&str]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.pcap");
    fs::write(&path, capture).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/wireshark/jamjam.lua");
    let mut command = Command::new("tshark");
    // `-G` must be the first argument.
    command.args(args).arg("-X").arg(format!("lua_script:{}", script.display())).arg("-r").arg(&path);
    // An empty configuration directory: the user's own settings must not change the result.
    command.env("XDG_CONFIG_HOME", folder.path()).env("HOME", folder.path()).env("LC_ALL", "C.UTF-8");
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let missing = "tshark is not installed; sh scripts/setup --tests installs it on Debian";
            assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{missing}");
            // Writing to `stderr()` bypasses the test runner's capture, which hides the output of passing tests.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
            return None;
        }
        Err(error) => panic!("{command:?}: {error}"),
    };
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && !stderr.contains("Lua") && !stdout.contains("Lua Error: "),
        "{stderr}\n{stdout}"
    );
    Some(stdout)
}

/// The names and values of the dissector's fields in a packet, and the expert messages. Several values are separated by commas.
type Fields = BTreeMap<String, String>;

/// Adds the fields in `value`, which is called `name`.
fn collect(name: &str, value: &Value, fields: &mut Fields) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| collect(name, value, fields)),
        Value::Array(values) => values.iter().for_each(|value| collect(name, value, fields)),
        Value::String(text) if name.starts_with("jamjam.") || name == "_ws.expert.message" => {
            fields.entry(name.to_owned()).and_modify(|all| all.extend([",", text])).or_insert_with(|| text.clone());
        }
        _ => {}
    }
}

/// The fields of each packet. Two passes, so that requests link to later responses.
fn dissected(capture: &[u8]) -> Option<Vec<Fields>> {
    let json = tshark(capture, &["-2", "-T", "json", "--no-duplicate-keys"])?;
    let packets: Vec<Value> = serde_json::from_str(&json).unwrap();
    Some(
        packets
            .iter()
            .map(|packet| {
                let mut fields = Fields::new();
                collect("jamjam", &packet["_source"]["layers"]["jamjam"], &mut fields);
                fields
            })
            .collect(),
    )
}

/// The columns Protocol and Info of each packet.
fn columns(capture: &[u8], args: &[&str]) -> Option<Vec<(String, String)>> {
    let format = r#"gui.column.format:"Protocol","%p","Info","%i""#;
    let shown = tshark(capture, &[&["-o", format], args].concat())?;
    Some(
        shown
            .lines()
            .map(|line| {
                line.trim()
                    .split_once(' ')
                    .map_or((line.to_owned(), String::new()), |(p, i)| (p.into(), i.trim().into()))
            })
            .collect(),
    )
}

fn to_server(packets: impl IntoIterator<Item = Vec<u8>>) -> Vec<Captured> {
    (0..).zip(packets).map(|(n, packet)| Captured(n * 1_000, 40_000, 5_000, packet)).collect()
}

/// The expected fields of a golden packet, as `name=value` without the prefix `jamjam.`. The values are those of the comments in the file.
fn golden_fields(name: &str) -> &'static str {
    match name {
        "audio-flags.hex" => {
            "version=1 type=1 sequence=2 timestamp=128 flags=0x8402 flags.encrypted=0 flags.has_fec=1 flags.unknown=1 payload_len=4 \
             payload=cd:cc:cc:3d samples=1"
        }
        "audio-mono.hex" => {
            "version=1 type=1 sequence=1 timestamp=0 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 payload_len=16 \
             payload=00:00:00:00:00:00:80:3f:00:00:00:bf:00:00:80:3e samples=4"
        }
        "audio-sealed.hex" => {
            "version=1 type=1 sequence=0 timestamp=0 flags=0x0001 flags.encrypted=1 flags.has_fec=0 flags.unknown=0 payload_len=23 \
             payload=5e:a1:ed:00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13"
        }
        "audio-stereo.hex" => {
            "version=1 type=1 sequence=375 timestamp=47872 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 payload_len=16 \
             payload=00:00:00:3f:00:00:80:bf:00:00:00:38:00:fe:7f:bf samples=4"
        }
        "audio-wrap.hex" => {
            "version=1 type=1 sequence=4294967295 timestamp=4294967294 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 \
             payload_len=8 payload=00:00:00:80:ff:ff:7f:7f samples=2"
        }
        "control.hex" => {
            "version=1 type=3 sequence=0 timestamp=0 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 payload_len=34 \
             payload=01:01:00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15:16:17:18:19:1a:1b:1c:1d:1e:1f"
        }
        "fec.hex" => {
            "version=1 type=2 sequence=4 timestamp=384 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 payload_len=14 \
             payload=00:00:00:00:02:00:00:04:00:04:12:34:56:78"
        }
        "keepalive-empty.hex" => {
            "version=1 type=4 sequence=5 timestamp=0 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 payload_len=0"
        }
        "keepalive-payload.hex" => {
            "version=1 type=4 sequence=6 timestamp=100000 flags=0x4000 flags.encrypted=0 flags.has_fec=0 flags.unknown=1 payload_len=6 \
             payload=01:68:65:6c:6c:6f"
        }
        "keepalive-probe-reply.hex" => {
            "version=1 type=4 sequence=7 timestamp=0 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 payload_len=5 \
             payload=02:de:ad:be:ef route_probe=2 token=0xdeadbeef"
        }
        "keepalive-probe-request.hex" => {
            "version=1 type=4 sequence=7 timestamp=0 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 payload_len=5 \
             payload=01:de:ad:be:ef route_probe=1 token=0xdeadbeef"
        }
        "latency-info-channels.hex" => {
            "version=1 type=7 sequence=2000000 timestamp=0 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 payload_len=34 \
             payload=3f:80:00:00:40:00:00:00:3e:80:00:00:3f:00:00:00:40:80:00:00:00:00:00:40:00:01:77:00:04:6f:70:75:73:02 \
             capture_ms=1 playback_ms=2 encoding_ms=0.25 decoding_ms=0.5 jitter_buffer_ms=4 frame_size=64 sample_rate=96000 codec_len=4 \
             codec=opus channel_count=2"
        }
        "latency-info.hex" => {
            "version=1 type=7 sequence=3 timestamp=0 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 payload_len=32 \
             payload=40:2a:aa:ab:40:a0:00:00:00:00:00:00:3d:cc:cc:cd:41:20:00:00:00:00:00:80:00:00:bb:80:03:70:63:6d \
             capture_ms=2.66667 playback_ms=5 encoding_ms=0 decoding_ms=0.1 jitter_buffer_ms=10 frame_size=128 sample_rate=48000 \
             codec_len=3 codec=pcm"
        }
        "latency-ping-longer.hex" => {
            "version=1 type=5 sequence=42 timestamp=16909060 flags=0x0002 flags.encrypted=0 flags.has_fec=1 flags.unknown=0 \
             payload_len=14 payload=00:00:00:01:00:00:00:02:00:00:00:09:aa:bb sent_time_us=4294967298 ping_sequence=9 ignored=aa:bb"
        }
        "latency-ping.hex" => {
            "version=1 type=5 sequence=42 timestamp=0 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 payload_len=12 \
             payload=00:00:00:01:00:00:00:02:00:00:00:09 sent_time_us=4294967298 ping_sequence=9"
        }
        "latency-pong.hex" => {
            "version=1 type=6 sequence=42 timestamp=0 flags=0x0000 flags.encrypted=0 flags.has_fec=0 flags.unknown=0 payload_len=12 \
             payload=00:00:00:01:00:00:00:02:00:00:00:09 sent_time_us=4294967298 ping_sequence=9"
        }
        "stun-server-report-response.hex" => {
            "loss_report=response loss_report.since=10000000 loss_report.audio=0 loss_report.latency_ping=0 loss_report.keepalive=0 \
             loss_report.delay_us=1500000 loss_report.pauses=0 loss_report.paused_ms=0 loss_report.dropped=0"
        }
        "stun-server-report-response-pauses.hex" => {
            "loss_report=response loss_report.since=10000000 loss_report.audio=450 loss_report.latency_ping=9 loss_report.keepalive=8 \
             loss_report.delay_us=3000250 loss_report.pauses=3 loss_report.paused_ms=5260 loss_report.dropped=17"
        }
        "stun-loss-report-request.hex" | "stun-server-report-request.hex" => {
            "loss_report=request loss_report.during_run=0"
        }
        "stun-loss-report-request-during-run.hex" | "stun-server-report-request-during-run.hex" => {
            "loss_report=request loss_report.during_run=1"
        }
        "stun-loss-report-response.hex" => {
            "loss_report=response loss_report.since=10000000 loss_report.audio=0 loss_report.latency_ping=0 loss_report.keepalive=0"
        }
        stun if stun.starts_with("stun-") => "",
        other => panic!("{other}: add its fields here"),
    }
}

fn expected(fields: &str) -> Fields {
    let pairs = fields.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (format!("jamjam.{name}"), value.to_owned())).collect()
}

#[test]
fn dissector_shows_every_field_of_every_golden_packet() {
    let names = golden::names();
    let capture = pcap(&to_server(names.iter().map(|name| golden::packet(name))), None);
    let Some(packets) = dissected(&capture) else { return };
    assert_eq!(packets.len(), names.len());
    for (name, fields) in names.iter().zip(&packets) {
        assert_eq!(*fields, expected(golden_fields(name)), "{name}");
    }
}

#[test]
fn info_column_summarizes_each_packet() {
    let names = [
        ("audio-flags.hex", "AUDIO seq=2 ts=128, 1 samples [has_fec, unknown flags]"),
        ("audio-sealed.hex", "AUDIO seq=0 ts=0, 23 bytes [encrypted]"),
        ("control.hex", "CONTROL seq=0, 34 bytes"),
        ("fec.hex", "FEC seq=4 ts=384, 14 bytes"),
        ("keepalive-empty.hex", "KEEPALIVE seq=5"),
        ("keepalive-probe-request.hex", "KEEPALIVE seq=7, route probe request, token 0xdeadbeef"),
        ("latency-info-channels.hex", "LATENCY_INFO seq=2000000, opus 96000 Hz, 64 samples, channels: 2"),
        ("latency-ping.hex", "LATENCY_PING seq=42, ping_sequence=9"),
        ("latency-pong.hex", "LATENCY_PONG seq=42, ping_sequence=9"),
    ];
    let capture = pcap(&to_server(names.iter().map(|(name, _)| golden::packet(name))), None);
    let Some(shown) = columns(&capture, &[]) else { return };
    let expected: Vec<_> = names.iter().map(|(_, info)| ("jamjam".to_owned(), (*info).to_owned())).collect();
    assert_eq!(shown, expected);
}

/// A datagram with this version, type and payload; sequence, timestamp and flags are 0.
fn datagram(version: u8, packet_type: u8, payload: &[u8]) -> Vec<u8> {
    [&[version, packet_type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], payload].concat()
}

#[test]
fn malformed_packets_have_an_expert_message() {
    let mut info = vec![0; 29];
    info[28] = 5;
    info.extend(b"opus");
    let (short, version) = ("Shorter than the 12-byte header", "Unknown version, expected 1");
    let (unknown, payload) = ("Unknown type, expected 1 to 7", "Payload does not fit the type");
    let cases = [
        (vec![1], short, "Malformed: 1 bytes, shorter than the 12-byte header"),
        (datagram(1, 4, &[])[..11].to_vec(), short, "Malformed: 11 bytes, shorter than the 12-byte header"),
        (datagram(2, 1, &[0; 4]), version, "Malformed: version 2, expected 1"),
        (datagram(0, 1, &[0; 4]), version, "Malformed: version 0, expected 1"),
        (datagram(1, 0, &[]), unknown, "Malformed: unknown type 0x00"),
        (datagram(1, 8, &[]), unknown, "Malformed: unknown type 0x08"),
        (datagram(1, 5, &[0; 11]), payload, "Malformed: LATENCY_PING payload of 11 bytes, expected at least 12"),
        (datagram(1, 6, &[]), payload, "Malformed: LATENCY_PONG payload of 0 bytes, expected at least 12"),
        (datagram(1, 7, &[0; 28]), payload, "Malformed: LATENCY_INFO payload of 28 bytes, expected at least 29"),
        (datagram(1, 7, &info), payload, "Malformed: LATENCY_INFO payload of 33 bytes, expected at least 34"),
        (datagram(1, 1, &[0; 5]), "AUDIO payload is not a multiple of 4 bytes", "AUDIO seq=0 ts=0, 5 bytes"),
    ];
    let capture = pcap(&to_server(cases.iter().map(|(bytes, ..)| bytes.clone())), None);
    let (Some(packets), Some(shown)) = (dissected(&capture), columns(&capture, &[])) else { return };
    assert_eq!((packets.len(), shown.len()), (cases.len(), cases.len()));
    for ((bytes, message, info), (fields, columns)) in cases.iter().zip(packets.iter().zip(&shown)) {
        assert_eq!(fields.get("_ws.expert.message").map(String::as_str), Some(*message), "{bytes:?}: {fields:?}");
        assert_eq!(columns.1, *info, "{bytes:?}");
    }
}

#[test]
fn truncated_capture_is_marked_and_not_reported_as_malformed() {
    let packets = to_server(["audio-stereo.hex", "latency-ping.hex", "latency-info.hex"].map(golden::packet));
    // IP, UDP, the header, and three bytes of the payload; then only five bytes of the header.
    for (len, sequences) in [(28 + 15, [Some("375"), Some("42"), Some("3")]), (28 + 5, [None; 3])] {
        let Some(packets) = dissected(&pcap(&packets, Some(len))) else { return };
        for (fields, sequence) in packets.iter().zip(sequences) {
            assert_eq!(fields.get("jamjam.sequence").map(String::as_str), sequence, "{fields:?}");
            assert_eq!(fields["_ws.expert.message"], "The capture does not contain the whole packet");
        }
    }
}

/// The frames and the response time of each response, and of each request the frame of its response.
fn links(packets: &[Captured]) -> Option<Vec<[Option<String>; 3]>> {
    let names = ["jamjam.response_in", "jamjam.response_to", "jamjam.response_time"];
    let packets = dissected(&pcap(packets, None))?;
    Some(packets.iter().map(|fields| names.map(|name| fields.get(name).cloned())).collect())
}

#[test]
fn responses_are_linked_to_their_requests_with_the_time_between() {
    let ping = |n: u8| datagram(1, 5, &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, n]);
    let pong = |n: u8| datagram(1, 6, &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, n]);
    let audio = |n: u8| datagram(1, 1, &[n; 8]);
    let route_probe = |kind: u8| datagram(1, 4, &[kind, 1, 2, 3, 4]);
    let (client, server) = (40_000, 5_000);
    let up = |time_us, packet| Captured(time_us, client, server, packet);
    let down = |time_us, packet| Captured(time_us, server, client, packet);
    let packets = [
        up(0, ping(1)),                   // 1, lost
        up(10, ping(2)),                  // 2
        up(20, audio(1)),                 // 3
        down(260, pong(2)),               // 4: 250 us
        up(300, audio(1)),                // 5: a duplicate of 3
        up(400, datagram(1, 4, &[])),     // 6
        down(1_400, datagram(1, 4, &[])), // 7: 1 ms
        up(2_000, route_probe(1)),        // 8
        down(2_500, route_probe(2)),      // 9: 500 us
        down(2_600, audio(2)),            // 10: the server's own audio
        down(3_000_020, audio(1)),        // 11: the echo of 3, 3 s
        down(3_000_300, audio(1)),        // 12: the echo of 5, 3 s
        down(3_000_400, audio(1)),        // 13: there is no third request
        // From another client: not the response to 1.
        Captured(3_000_500, server, 40_001, pong(1)), // 14
        // Too late: the request of 62 s ago belongs to an earlier run.
        down(62_000_000, pong(1)), // 15
    ];
    let Some(links) = links(&packets) else { return };
    let request = |response: &str| [Some(response.to_owned()), None, None];
    let response = |request: &str, time: &str| [None, Some(request.to_owned()), Some(time.to_owned())];
    let none = [None, None, None];
    let expected = [
        none.clone(),
        request("4"),
        request("11"),
        response("2", "0.000250000"),
        request("12"),
        request("7"),
        response("6", "0.001000000"),
        request("9"),
        response("8", "0.000500000"),
        none.clone(),
        response("3", "3.000000000"),
        response("5", "3.000000000"),
        none.clone(),
        none.clone(),
        none,
    ];
    assert_eq!(links, expected);
}

/// An AUDIO packet with this sequence number and payload.
fn audio(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = datagram(1, 1, payload);
    packet[5] = sequence;
    packet
}

#[test]
fn packets_combined_by_segmentation_offload_are_separated() {
    let (client, server) = (40_000, 5_000);
    let (a, b, c) = (audio(1, &[7; 16]), audio(2, &[8; 16]), audio(4, &[9; 8]));
    let pong = datagram(1, 6, &[5; 12]);
    let keepalive = datagram(1, 4, &[]);
    let packets = [
        Captured(0, client, server, a.clone()),
        Captured(10, client, server, b.clone()),
        Captured(20, client, server, c.clone()),
        Captured(30, client, server, keepalive.clone()),
        Captured(1_020, server, client, [a, b, c].concat()),
        Captured(1_030, server, client, [pong, keepalive].concat()),
    ];
    let Some(dissected) = dissected(&pcap(&packets, None)) else { return };
    let sequences: Vec<&str> = dissected.iter().map(|fields| fields["jamjam.sequence"].as_str()).collect();
    assert_eq!(sequences, ["1", "2", "4", "0", "1,2,4", "0,0"]);
    assert_eq!(dissected[4]["jamjam.payload_len"], "16,16,8");
    assert_eq!(dissected[4]["jamjam.response_to"], "1,2,3");
    assert_eq!(dissected[4]["jamjam.response_time"], "0.001020000,0.001010000,0.001000000");
    assert_eq!(dissected[5]["jamjam.type"], "6,4");
    assert_eq!(dissected[5]["jamjam.response_to"], "4");
    assert!((0..3).all(|n| dissected[n]["jamjam.response_in"] == "5"), "{dissected:?}");
}

#[test]
fn audio_with_a_payload_like_a_header_is_not_separated() {
    // The same sequence, a distant sequence, other flags, an unknown type, and a third segment that is not a packet.
    let mut other_flags = audio(3, &[]);
    other_flags[11] = 2;
    let distant = [1, 1, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0];
    let unlike: [Vec<u8>; 5] =
        [audio(2, &[]), distant.to_vec(), other_flags, datagram(1, 8, &[]), [audio(3, &[]), vec![0; 12]].concat()];
    let payloads = unlike.map(|end| audio(2, &end));
    let lens: Vec<String> = payloads.iter().map(|packet| (packet.len() - 12).to_string()).collect();
    let Some(packets) = dissected(&pcap(&to_server(payloads), None)) else { return };
    let shown: Vec<&String> = packets.iter().map(|fields| &fields["jamjam.payload_len"]).collect();
    assert_eq!(shown, lens.iter().collect::<Vec<_>>());
}

/// Pseudo-random bytes (xorshift).
fn random_bytes(state: &mut u64, len: usize) -> Vec<u8> {
    let mut next = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn heuristic_recognizes_jamjam_packets_on_other_ports() {
    let audio: Vec<u8> = (0..32_u8).flat_map(|n| (f32::from(n) / -64.0).to_le_bytes()).collect();
    let recognizable = [
        datagram(1, 1, &audio),
        datagram(1, 1, &[0; 512]),
        golden::packet("keepalive-empty.hex"),
        golden::packet("latency-ping.hex"),
        golden::packet("latency-pong.hex"),
        golden::packet("latency-info.hex"),
        golden::packet("latency-info-channels.hex"),
    ];
    // Each packet has ports of its own, so it is recognized by itself.
    let packets: Vec<Captured> =
        (0..).zip(recognizable).map(|(n, packet)| Captured(0, 41_000 + n, 6_000 + n, packet)).collect();
    let Some(shown) = columns(&pcap(&packets, None), &[]) else { return };
    assert!(shown.len() == 7 && shown.iter().all(|(protocol, _)| protocol == "jamjam"), "{shown:?}");

    // After a recognized packet, opaque packets of the same conversation are dissected too. Before, they are not.
    let conversation = ["control.hex", "keepalive-empty.hex", "control.hex", "fec.hex", "audio-sealed.hex"];
    let packets: Vec<Captured> =
        conversation.map(|name| Captured(0, 41_000, 6_000, golden::packet(name))).into_iter().collect();
    let Some(shown) = columns(&pcap(&packets, None), &[]) else { return };
    let protocols: Vec<&str> = shown.iter().map(|(protocol, _)| protocol.as_str()).collect();
    assert_eq!(protocols, ["UDP", "jamjam", "jamjam", "jamjam", "jamjam"]);
}

#[test]
fn heuristic_does_not_claim_packets_of_other_protocols() {
    // A DNS query for `name` with this transaction ID and these flags.
    let dns = |id: u16, flags: u16, name: &str| {
        let mut query = [id, flags, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        query
    };
    // A DHCP request starts with 01 01, like AUDIO, and mostly contains zeros.
    let dhcp =
        [&[1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0][..], &[0; 224], &[99, 130, 83, 99, 53, 1, 1, 255], &[0; 4]];
    let mut others: Vec<Vec<u8>> = vec![
        // QUIC: a long header (version 1) and a short header.
        [&[0xc3, 0, 0, 0, 1, 8][..], &[0x5a; 1_194]].concat(),
        [&[0x41][..], &[0x5a; 40]].concat(),
        dhcp.concat(),
        // RTP, NTP, and RADIUS (code 1, identifier 1).
        [&[0x80, 0x60][..], &[0x11; 170]].concat(),
        [&[0x23, 2, 6, 0xe8][..], &[0; 44]].concat(),
        [&[1, 1, 0, 44][..], &[0xa7; 40]].concat(),
        // Encrypted jamjam packets are opaque.
        golden::packet("audio-sealed.hex"),
        vec![1, 1],
        vec![],
    ];
    for id in 0x0101..=0x0107 {
        others.extend(["ab.com", "a.example.org", "google", "abcdef.ghi"].map(|name| dns(id, 0x0100, name)));
        others.push(dns(id, 0, "ab.com"));
    }
    // Random bytes after a valid version and type.
    let mut state = 0x5eed_5eed_5eed_5eed;
    for n in 0..2_000 {
        let packet_type = 1 + n as u8 % 7;
        let len = [0, 1, 4, 12, 28, 64, 128, 512][n % 8];
        others.push([vec![1, packet_type], random_bytes(&mut state, 10 + len)].concat());
        others.push(datagram(1, 1, &random_bytes(&mut state, 64 + 4 * (n % 64))));
    }
    others.extend(golden::names().iter().filter(|name| name.starts_with("stun-")).map(|name| golden::packet(name)));
    let packets: Vec<Captured> =
        (0..).zip(others).map(|(n, packet)| Captured(0, 30_000 + n, 20_000 + n, packet)).collect();
    let Some(claimed) = tshark(&pcap(&packets, None), &["-Y", "jamjam", "-x"]) else { return };
    assert_eq!(claimed, "", "of {} packets", packets.len());
}

#[test]
fn preference_changes_the_ports() {
    let packet = golden::packet("control.hex");
    let packets = [5_000, 21_001, 21_005].map(|port| Captured(0, 40_000, port, packet.clone()));
    for (ports, expected) in [("5000", ["jamjam", "UDP", "UDP"]), ("21001,21003-21006", ["UDP", "jamjam", "jamjam"])] {
        let Some(shown) = columns(&pcap(&packets, None), &["-o", &format!("jamjam.ports:{ports}")]) else { return };
        let protocols: Vec<&str> = shown.iter().map(|(protocol, _)| protocol.as_str()).collect();
        assert_eq!(protocols, expected, "{ports}");
    }
}

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/wireshark/README.md")).unwrap()
}

/// The first cells of the rows of the table below `heading`, without backticks.
fn first_cells(page: &str, heading: &str) -> Vec<String> {
    let (_, section) = page.split_once(&format!("## {heading}\n")).unwrap();
    let rows = section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('`').nth(1).unwrap().replace("\\|", "|")).collect()
}

#[test]
fn page_lists_exactly_the_fields_of_the_dissector() {
    let Some(all) = tshark(&pcap(&[], None), &["-G", "fields"]) else { return };
    let registered: BTreeSet<String> = all
        .lines()
        .filter_map(|line| line.split('\t').nth(2))
        .filter(|name| name.starts_with("jamjam."))
        .map(str::to_owned)
        .collect();
    assert!(registered.len() > 25, "{registered:?}");
    let page = page();
    assert_eq!(first_cells(&page, "Fields").into_iter().collect::<BTreeSet<_>>(), registered);
}

#[test]
fn display_filters_of_the_page_find_the_described_packets() {
    let names = golden::names();
    let mut packets = to_server(names.iter().map(|name| golden::packet(name)));
    let start = 1_000_000;
    packets.push(Captured(start, 40_001, 5_000, datagram(1, 5, &[7; 12])));
    packets.push(Captured(start + 6_000, 5_000, 40_001, datagram(1, 6, &[7; 12])));
    packets.push(Captured(start, 40_001, 5_000, datagram(2, 0, &[])));
    let capture = pcap(&packets, None);
    let page = page();
    let filters = first_cells(&page, "Display filters");
    assert!(filters.len() >= 6, "{filters:?}");
    for filter in filters {
        let Some(found) = tshark(&capture, &["-2", "-Y", &filter]) else { return };
        assert!(!found.is_empty() && found.lines().count() < packets.len(), "{filter}:\n{found}");
    }
}
