//! `docs/wireshark/jamjam.lua`, checked with tshark on captures that these tests write. Expected values come from the
//! comments in `fixtures/wire` and from `docs/protocol.md`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use serde_json::Value;
use test_support::rng::Rng;
use test_support::{golden, snapshot};

use test_support::repository;
use test_support::repository_files::{assert_success, read};

/// A captured datagram: its time in microseconds, source port, destination port and payload. The higher port belongs to the client.
struct Captured(u64, u16, u16, Vec<u8>);

/// A capture file of IPv4 packets without link headers (pcap with nanoseconds; `LINKTYPE_RAW`), truncated to `snapshot_len`.
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

/// Runs tshark with the dissector. Returns standard output.
fn tshark(capture: &[u8], args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.pcap");
    fs::write(&path, capture).unwrap();
    let script = repository().join("docs/wireshark/jamjam.lua");
    let mut command = Command::new("tshark");
    command.args(args).arg("-X").arg(format!("lua_script:{}", script.display())).arg("-r").arg(&path);
    // An empty configuration directory: the user's own settings must not change the result.
    command.env("XDG_CONFIG_HOME", folder.path()).env("HOME", folder.path()).env("LC_ALL", "C.UTF-8");
    let output = command.output().expect("tshark");
    let stdout = assert_success(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("Lua") && !stdout.contains("Lua Error: "), "{stderr}\n{stdout}");
    stdout
}

/// The dissector's fields in a packet without their prefix `jamjam.`, and the expert message as `message`, with commas between values.
type Fields = BTreeMap<String, String>;

/// Adds the fields in `value`, which is called `name`.
fn collect(name: &str, value: &Value, fields: &mut Fields) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| collect(name, value, fields)),
        Value::Array(values) => values.iter().for_each(|value| collect(name, value, fields)),
        Value::String(text) => {
            let name = if name == "_ws.expert.message" { Some("message") } else { name.strip_prefix("jamjam.") };
            let Some(name) = name else { return };
            fields.entry(name.to_owned()).and_modify(|all| all.extend([",", text])).or_insert_with(|| text.clone());
        }
        _ => {}
    }
}

/// The fields of each packet. Two passes, so that requests link to later responses.
fn dissected(packets: &[Captured], snapshot_len: Option<usize>) -> Vec<Fields> {
    let json = tshark(&pcap(packets, snapshot_len), &["-2", "-T", "json", "--no-duplicate-keys"]);
    let packets: Vec<Value> = serde_json::from_str(&json).unwrap();
    let fields = |packet: &Value| {
        let mut fields = Fields::new();
        collect("", &packet["_source"]["layers"]["jamjam"], &mut fields);
        fields
    };
    packets.iter().map(fields).collect()
}

/// The columns Protocol and Info of each packet, separated by a space.
fn columns(capture: &[u8], args: &[&str]) -> Vec<String> {
    let format = r#"gui.column.format:"Protocol","%p","Info","%i""#;
    let shown = tshark(capture, &[&["-o", format], args].concat());
    shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Whether each packet is shown as a jamjam packet.
fn recognized(packets: &[Captured], args: &[&str]) -> Vec<bool> {
    columns(&pcap(packets, None), args).iter().map(|line| line.starts_with("jamjam")).collect()
}

/// Packets of a client, one per millisecond.
fn to_server<T: Into<String>>(packets: impl IntoIterator<Item = (T, Vec<u8>)>) -> Vec<(String, Captured)> {
    (0..).zip(packets).map(|(n, (name, packet))| (name.into(), up(n * 1_000, packet))).collect()
}

/// Compares the columns, fields and expert messages of named packets with a snapshot.
#[track_caller]
fn assert_shown(snapshot: &str, snapshot_len: Option<usize>, packets: Vec<(impl Into<String>, Captured)>) {
    let (names, packets): (Vec<_>, Vec<_>) = packets.into_iter().unzip();
    let all = dissected(&packets, snapshot_len);
    let columns = columns(&pcap(&packets, snapshot_len), &[]);
    assert_eq!((all.len(), columns.len()), (names.len(), names.len()));
    let mut text = String::new();
    for (name, (fields, columns)) in names.into_iter().map(Into::into).zip(all.iter().zip(&columns)) {
        // Wireshark's own dissector summarizes STUN.
        let info = if name.starts_with("stun-") { "" } else { columns };
        _ = writeln!(text, "{name}: {info}");
        for (name, value) in fields {
            _ = writeln!(text, "    {name}={value}");
        }
    }
    snapshot::assert_matches(snapshot, &text);
}

fn golden_packets(names: &[String]) -> Vec<(String, Captured)> {
    to_server(names.iter().map(|name| (name.clone(), golden::packet(name))))
}

/// A datagram with this version, type and payload; sequence, timestamp and flags are 0.
fn datagram(version: u8, packet_type: u8, payload: &[u8]) -> Vec<u8> {
    [&[version, packet_type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], payload].concat()
}

#[test]
#[ignore = "needs tshark: .ci/full"]
fn dissector_shows_every_field_and_what_is_malformed_or_not_captured() {
    assert_shown("repository/wireshark_golden_packets", None, golden_packets(&golden::names()));
    let packets = [
        ("1 byte", vec![1]),
        ("11 bytes", datagram(1, 4, &[])[..11].to_vec()),
        ("version 2", datagram(2, 1, &[0; 4])),
        ("version 0", datagram(0, 1, &[0; 4])),
        ("type 0", datagram(1, 0, &[])),
        ("type 8", datagram(1, 8, &[])),
        ("LATENCY_PING with 11 of 12 bytes", datagram(1, 5, &[0; 11])),
        ("LATENCY_PONG without payload", datagram(1, 6, &[])),
        ("LATENCY_INFO with 28 of 29 bytes", datagram(1, 7, &[0; 28])),
        ("LATENCY_INFO with 4 of 5 bytes of the codec", datagram(1, 7, &[&[0; 28][..], &[5], b"opus"].concat())),
        ("AUDIO with a part of a sample", datagram(1, 1, &[0; 5])),
    ];
    assert_shown("repository/wireshark_malformed_packets", None, to_server(packets));
    let names = ["audio-stereo.hex", "latency-ping.hex", "latency-info.hex"].map(str::to_owned);
    // IP, UDP, the header, and three bytes of the payload; then only five bytes of the header.
    assert_shown("repository/wireshark_truncated_payload", Some(28 + 15), golden_packets(&names));
    assert_shown("repository/wireshark_truncated_header", Some(28 + 5), golden_packets(&names));
}

const CLIENT: u16 = 40_000;
const SERVER: u16 = 5_000;

fn up(time_us: u64, packet: Vec<u8>) -> Captured {
    Captured(time_us, CLIENT, SERVER, packet)
}

fn down(time_us: u64, packet: Vec<u8>) -> Captured {
    Captured(time_us, SERVER, CLIENT, packet)
}

#[test]
#[ignore = "needs tshark: .ci/full"]
fn responses_are_linked_to_their_requests_with_the_time_between() {
    let ping = |n: u8| datagram(1, 5, &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, n]);
    let pong = |n: u8| datagram(1, 6, &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, n]);
    let audio = |n: u8| datagram(1, 1, &[n; 8]);
    let route_probe = |kind: u8| datagram(1, 4, &[kind, 1, 2, 3, 4]);
    let packets = vec![
        ("1, lost", up(0, ping(1))),
        ("2", up(10, ping(2))),
        ("3", up(20, audio(1))),
        ("4, to 2 after 0.25 ms", down(260, pong(2))),
        ("5, equal to 3", up(300, audio(1))),
        ("6", up(400, datagram(1, 4, &[]))),
        ("7, to 6 after 1 ms", down(1_400, datagram(1, 4, &[]))),
        ("8", up(2_000, route_probe(1))),
        ("9, to 8 after 0.5 ms", down(2_500, route_probe(2))),
        ("10, the server's own audio", down(2_600, audio(2))),
        ("11, to 3 after 3 s", down(3_000_020, audio(1))),
        ("12, to 5 after 3 s", down(3_000_300, audio(1))),
        ("13, without a third request", down(3_000_400, audio(1))),
        ("14, to another client", Captured(3_000_500, SERVER, 40_001, pong(1))),
        ("15, too late: the request of 62 s ago belongs to an earlier run", down(62_000_000, pong(1))),
    ];
    assert_shown("repository/wireshark_responses", None, packets);
}

/// An AUDIO packet with this sequence number and payload.
fn audio(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = datagram(1, 1, payload);
    packet[5] = sequence;
    packet
}

#[test]
#[ignore = "needs tshark: .ci/full"]
fn only_packets_combined_by_segmentation_offload_are_separated() {
    let [a, b, c] = [audio(1, &[7; 16]), audio(2, &[8; 16]), audio(4, &[9; 8])];
    let (pong, keepalive) = (datagram(1, 6, &[5; 12]), datagram(1, 4, &[]));
    let packets = vec![
        ("1", up(0, a.clone())),
        ("2", up(1_000, b.clone())),
        ("3", up(2_000, c.clone())),
        ("4", up(3_000, keepalive.clone())),
        ("5, to 1, 2 and 3 after 10, 9 and 8 ms", down(10_000, [a, b, c].concat())),
        ("6, of two types, the second to 4", down(10_030, [pong, keepalive].concat())),
    ];
    assert_shown("repository/wireshark_combined_packets", None, packets);

    // Audio with a payload like a header.
    let mut other_flags = audio(3, &[]);
    other_flags[11] = 2;
    let payloads = [
        ("same sequence", audio(2, &[])),
        ("distant sequence", vec![1, 1, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0]),
        ("other flags", other_flags),
        ("unknown type", datagram(1, 8, &[])),
        ("third segment that is no packet", [audio(3, &[]), vec![0; 12]].concat()),
    ]
    .map(|(name, end)| (name, audio(2, &end)));
    assert_shown("repository/wireshark_not_separated", None, to_server(payloads));
}

#[test]
#[ignore = "needs tshark: .ci/full"]
fn jamjam_packets_are_recognized_on_configured_and_other_ports() {
    let samples: Vec<u8> = (0..32_u8).flat_map(|n| (f32::from(n) / -64.0).to_le_bytes()).collect();
    let golden = ["keepalive-empty", "latency-ping", "latency-pong", "latency-info", "latency-info-channels"];
    let golden = golden.map(|name| golden::packet(&format!("{name}.hex")));
    let recognizable = [datagram(1, 1, &samples), datagram(1, 1, &[0; 512])].into_iter().chain(golden);
    // Each packet has ports of its own, so it is recognized by itself.
    let packets: Vec<Captured> =
        (0..).zip(recognizable).map(|(n, packet)| Captured(0, 41_000 + n, 6_000 + n, packet)).collect();
    assert_eq!(recognized(&packets, &[]), [true; 7]);

    // The preference changes the ports.
    let packets = [5_000, 21_001, 21_005].map(|port| Captured(0, CLIENT, port, golden::packet("control.hex")));
    for (ports, expected) in [("5000", [true, false, false]), ("21001,21003-21006", [false, true, true])] {
        assert_eq!(recognized(&packets, &["-o", &format!("jamjam.ports:{ports}")]), expected, "{ports}");
    }

    // After a recognized packet, opaque packets of the same conversation are dissected too. Before, they are not.
    let conversation = ["control.hex", "keepalive-empty.hex", "control.hex", "fec.hex", "audio-sealed.hex"];
    let packets = conversation.map(|name| Captured(0, 41_000, 6_000, golden::packet(name)));
    assert_eq!(recognized(&packets, &[]), [false, true, true, true, true]);
}

#[test]
#[ignore = "needs tshark: .ci/full"]
fn heuristic_does_not_claim_packets_of_other_protocols() {
    // A DNS query with this transaction ID.
    let dns = |id: u16, name: &str| {
        let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        let header = [id, 0x0100, 1, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes);
        header.chain(labels).chain([0, 0, 1, 0, 1]).collect::<Vec<u8>>()
    };
    // A DHCP request starts with 01 01, like AUDIO, and mostly contains zeros before its magic cookie.
    let dhcp = [&[1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef][..], &[0; 228], &[99, 130, 83, 99, 53, 1, 1, 255], &[0; 4]];
    let mut others = vec![golden::packet("audio-sealed.hex"), dhcp.concat(), vec![1, 1], vec![]];
    // QUIC (long and short header), RTP, NTP, and RADIUS.
    for (start, rest) in
        [(&[0xc3, 0, 0, 0, 1][..], 1_195), (&[0x41], 40), (&[0x80, 0x60], 170), (&[0x23, 2], 46), (&[1, 1, 0, 44], 40)]
    {
        others.push([start, &vec![0xa7; rest]].concat());
    }
    for id in 0x0101..=0x0107 {
        others.extend(["ab.com", "a.example.org", "google", "abcdef.ghi"].map(|name| dns(id, name)));
    }
    // Random bytes after a valid version and type.
    let mut rng = Rng::new(0x5eed);
    let mut random = |_| rng.bits() as u8;
    for n in 0..2_000 {
        let len = 10 + [0, 1, 4, 12, 28, 64, 128, 512][n % 8];
        others.push([1, 1 + n as u8 % 7].into_iter().chain((0..len).map(&mut random)).collect());
        others.push(datagram(1, 1, &(0..64 + 4 * (n % 64)).map(&mut random).collect::<Vec<u8>>()));
    }
    others.extend(golden::names().iter().filter(|name| name.starts_with("stun-")).map(|name| golden::packet(name)));
    let packets = (0..).zip(others).map(|(n, packet)| Captured(0, 30_000 + n, 20_000 + n, packet));
    assert_eq!(tshark(&pcap(&packets.collect::<Vec<_>>(), None), &["-Y", "jamjam", "-x"]), "");
}

#[test]
#[ignore = "needs tshark: .ci/full"]
fn display_filters_of_the_page_find_the_described_packets() {
    let mut packets: Vec<_> = golden_packets(&golden::names()).into_iter().map(|(_, packet)| packet).collect();
    packets.push(up(1_000_000, datagram(1, 5, &[7; 12])));
    packets.push(down(1_006_000, datagram(1, 6, &[7; 12])));
    packets.push(up(1_000_000, datagram(2, 0, &[])));
    let capture = pcap(&packets, None);
    let page = read("docs/wireshark/README.md");
    let filters: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split("` |").next()).collect();
    assert!(filters.len() >= 5, "{filters:?}");
    for filter in filters {
        let found = tshark(&capture, &["-2", "-Y", &filter.replace("\\|", "|")]);
        assert!(!found.is_empty() && found.lines().count() < packets.len(), "{filter}:\n{found}");
    }
}
