//! `--record` and `--capture`: what each client really sent. Packets, WAV files and captures are written and read by handwritten code.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use test_support::client::wav::Wav;
use test_support::link_client::{AUDIO, KEEPALIVE, LinkClient, header};
use test_support::server::spoofing::checksum;
use test_support::server::{Client, Server, ServerExit, keepalive, packet, poll_until};

/// Samples per packet in most tests.
const SIZE: u32 = 32;

/// The samples of a packet, which are different in each of 1,000.
fn samples(sequence: u32, count: u32) -> Vec<f32> {
    (0..count).map(|index| (sequence % 1_000 * 1_000 + index) as f32 / 1e6).collect()
}

/// The AUDIO packet with these samples. `advance` is the advance of the timestamp from one packet to the next.
fn audio(sequence: u32, advance: u32, count: u32) -> Vec<u8> {
    let payload = samples(sequence, count).into_iter().flat_map(f32::to_le_bytes);
    header(AUDIO, sequence, sequence.wrapping_mul(advance), 0).into_iter().chain(payload).collect()
}

/// The length of the samples according to the header of a recording, or 0.
fn data_bytes(file: &Path) -> usize {
    fs::read(file).unwrap().get(54..).map_or(0, |header| word(header) as usize)
}

struct Recorded {
    folder: TempDir,
    server: Server,
}

impl Recorded {
    fn start(host: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [record, capture] = ["new/audio", "c.pcapng"].map(|name| folder.path().join(name).display().to_string());
        let options = ["--host", host, "--delay", "0", "--record", &record, "--capture", &capture];
        Self { server: Server::start(&options), folder }
    }

    fn client(&self) -> Client {
        self.client_at("127.0.0.1")
    }

    /// A client at this loopback address.
    fn client_at(&self, host: &str) -> Client {
        Client::bind(host, SocketAddr::new(host.parse().unwrap(), self.server.address.port()))
    }

    /// Stops the server. Returns its log, and the folder with the files.
    fn stop(self) -> (Vec<String>, TempDir) {
        let ServerExit { code, lines, .. } = self.server.stop("INT");
        assert_eq!(code, Some(0), "{lines:#?}");
        (lines, self.folder)
    }
}

/// The files of a client in the order of their start. The names are those of the documentation.
fn recordings(folder: &TempDir, client: SocketAddr) -> Vec<Wav> {
    let entries = fs::read_dir(folder.path().join("new/audio")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let ip = client.ip().to_canonical().to_string().replace(':', "-");
    let end = format!("_{ip}_{}.wav", client.port());
    let of_client = names.iter().filter_map(|name| Some((name, name.strip_suffix(&end)?)));
    let read = |(name, start): (&String, &str)| {
        let shape: String = start.chars().map(|digit| if digit.is_ascii_digit() { '0' } else { digit }).collect();
        assert_eq!(shape, "00000000T000000.000000Z", "{name}");
        let file = folder.path().join("new/audio").join(name);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        Wav::read(&file)
    };
    of_client.map(read).collect()
}

/// Checks channels, sample rate and samples of the files of a client.
#[track_caller]
fn assert_recorded(folder: &TempDir, client: SocketAddr, expected: &[(u16, u32, Vec<f32>)]) {
    let files = recordings(folder, client);
    assert!(files.iter().all(|file| (file.tag, file.bits) == (3, 32)));
    let of_files = files.iter().map(|file| (file.channels, file.rate, file.samples().len())).collect::<Vec<_>>();
    let of_expected = expected.iter().map(|(channels, rate, samples)| (*channels, *rate, samples.len()));
    assert_eq!(of_files, of_expected.collect::<Vec<_>>());
    for (number, (file, (.., samples))) in files.iter().zip(expected).enumerate() {
        let wrong = file.samples().iter().zip(samples).position(|(recorded, sent)| recorded != sent);
        assert_eq!(wrong, None, "index of a wrong sample in file {number}");
    }
}

#[test]
fn recording_has_every_packet_at_its_position_and_silence_in_gaps() {
    let recorded = Recorded::start("::");
    let (mut one, mut two) = (recorded.client(), recorded.client_at("::1"));
    // From sequence 0: 3 is lost, 5 and 4 are swapped, and 6 is doubled. From sequence 1: 4 and 5 are lost, and 0 is late.
    for sequence in [0, 1, 2, 5, 4, 6, 6, 7] {
        one.send(&audio(sequence, SIZE, SIZE));
    }
    for sequence in [1, 0, 2, 3, 6] {
        two.send(&audio(sequence, SIZE, SIZE));
    }
    two.send(&packet(1, 7, &[7; 5]));
    one.sync();
    two.sync();
    let (lines, folder) = recorded.stop();
    let packets = |sequences: &[u32]| sequences.iter().flat_map(|n| samples(*n, SIZE)).collect::<Vec<_>>();
    let size = SIZE as usize;
    let expected = [
        [packets(&[0, 1, 2]), vec![0.0; size], packets(&[4, 5, 6, 7])].concat(),
        [packets(&[1, 2, 3]), vec![0.0; 2 * size], packets(&[6])].concat(),
    ];
    for (client, (samples, left_out)) in [&one, &two].into_iter().zip(expected.into_iter().zip([0, 1])) {
        assert_recorded(&folder, client.address(), &[(1, 48_000, samples)]);
        let line = format!("_{}.wav seconds=0.00", client.address().port());
        let line = lines.iter().find(|text| text.contains(&line)).expect("a line about the file");
        let end = format!("left_out={left_out} placed_by=timestamp");
        assert!(line.contains(" INFO echo: source recorded path=") && line.ends_with(&end), "{line}");
    }
}

#[test]
fn recording_of_a_killed_server_is_readable_up_to_its_last_second() {
    let recorded = Recorded::start("127.0.0.1");
    let mut client = recorded.client();
    let folder = recorded.folder.path().join("new/audio");
    let (mut sequence, mut known) = (0, 0);
    // The header is written again and again.
    for _ in 0..2 {
        known = poll_until("a header", || {
            client.send(&audio(sequence, SIZE, SIZE));
            client.sync();
            sequence += 1;
            let file = fs::read_dir(&folder).unwrap().next()?.unwrap().path();
            Some(data_bytes(&file)).filter(|len| *len > known)
        });
    }
    recorded.server.signal("KILL");
    recorded.server.end();
    let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let len = data_bytes(&file);
    fs::File::options().write(true).open(&file).unwrap().set_len(58 + len as u64).unwrap();
    let expected: Vec<f32> = (0..sequence).flat_map(|sequence| samples(sequence, SIZE)).take(len / 4).collect();
    assert!(Wav::read(&file).samples() == expected);
}

/// A packet of a capture.
struct Captured {
    unix_ns: u128,
    comment: Option<String>,
    addresses: [SocketAddr; 2],
    payload: Vec<u8>,
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

/// The blocks of a pcapng file with their types, as in section 3 of draft-ietf-opsawg-pcapng.
fn blocks(mut file: &[u8]) -> Vec<(u32, &[u8])> {
    let mut blocks = Vec::new();
    while !file.is_empty() {
        let (block, rest) = file.split_at(word(&file[4..]) as usize);
        assert!(block.len() % 4 == 0 && block[4..8] == block[block.len() - 4..]);
        blocks.push((word(block), &block[8..block.len() - 4]));
        file = rest;
    }
    blocks
}

/// Reads the packets of a capture of one raw interface with timestamps in nanoseconds.
fn captured(file: &Path) -> Vec<Captured> {
    let file = fs::read(file).unwrap();
    let blocks = blocks(&file);
    assert_eq!((blocks[0].0, word(blocks[0].1)), (0x0a0d_0d0a, 0x1a2b_3c4d));
    assert_eq!((blocks[1].0, word(blocks[1].1), &blocks[1].1[8..13]), (1, 101, &[9, 0, 1, 0, 9][..]));
    let packets = blocks[2..].iter().map(|(kind, block)| {
        assert_eq!((*kind, word(block), &block[12..16]), (6, 0, &block[16..20]));
        let len = word(&block[12..]) as usize;
        let (packet, options) = block[20..].split_at(len.next_multiple_of(4));
        let comment = options.get(2..4).map(|len| &options[4..][..u16::from_le_bytes(len.try_into().unwrap()).into()]);
        let (header, ips): (usize, [IpAddr; 2]) = match packet[0] >> 4 {
            4 => (20, [12, 16].map(|at| <[u8; 4]>::try_from(&packet[at..][..4]).unwrap().into())),
            _ => (40, [8, 24].map(|at| <[u8; 16]>::try_from(&packet[at..][..16]).unwrap().into())),
        };
        let (addresses_at, udp) = (if header == 20 { 12 } else { 8 }, &packet[header..len]);
        assert!(header == 40 || checksum(&packet[..header]) == 0, "the checksum of IPv4");
        let pseudo_header = [&packet[addresses_at..header], &(udp.len() as u16).to_be_bytes(), &[0, 17]].concat();
        assert_eq!(checksum(&[&pseudo_header, udp].concat()), 0, "the checksum of UDP");
        let port = |at: usize| u16::from_be_bytes(packet[header + at..][..2].try_into().unwrap());
        Captured {
            unix_ns: u128::from(word(&block[4..])) << 32 | u128::from(word(&block[8..])),
            comment: comment.map(|text| String::from_utf8(text.to_vec()).unwrap()),
            addresses: [SocketAddr::new(ips[0], port(0)), SocketAddr::new(ips[1], port(2))],
            payload: packet[header + 8..len].to_vec(),
        }
    });
    packets.collect()
}

fn unix_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

#[test]
fn sealed_packets_are_recorded_and_captured_opened_with_a_comment() {
    let recorded = Recorded::start("127.0.0.1");
    let client = recorded.client();
    let mut link = LinkClient::unsigned();
    let keepalive = header(KEEPALIVE, 0, 0, 0);
    assert_eq!(client.exchange(&keepalive), keepalive);
    let control = link.control();
    assert!(link.on_control(&client.exchange(&control)));
    client.recv();
    let sealed: Vec<_> = (0..3).map(|n| link.seal(AUDIO, n, n * SIZE, &audio(n, SIZE, SIZE)[12..])).collect();
    for sealed in &sealed {
        client.send(sealed);
    }
    // Plain AUDIO on the link may be from others. The damaged packet does not open, and the last one has no keys.
    client.send(&audio(3, SIZE, SIZE));
    let mut damaged = link.seal(AUDIO, 4, 4 * SIZE, &[0; 128]);
    damaged[30] ^= 1;
    client.send(&damaged);
    let mut other = recorded.client();
    other.send(&sealed[0]);
    other.sync();
    let address = client.address();
    let (_, folder) = recorded.stop();
    let expected: Vec<f32> = (0..3).flat_map(|n| samples(n, SIZE)).collect();
    assert_recorded(&folder, address, &[(1, 48_000, expected)]);
    assert_eq!(recordings(&folder, other.address()).len(), 0);
    let packets = captured(&folder.path().join("c.pcapng"));
    let of_client = packets.iter().filter(|packet| packet.addresses[0] == address);
    let seen: Vec<_> = of_client.map(|packet| (packet.payload.clone(), packet.comment.is_some())).collect();
    let mut expected = vec![(keepalive, false), (control, false)];
    expected.extend((0..3).map(|n| (audio(n, SIZE, SIZE), true)));
    expected.extend([(audio(3, SIZE, SIZE), false), (damaged, false)]);
    assert_eq!(seen, expected);
    let comment = packets.iter().find_map(|packet| packet.comment.as_deref());
    assert!(comment.unwrap().starts_with("Sealed packet, opened by jamjam-dev"));
}

#[test]
fn capture_is_complete_at_any_time_with_addresses_and_times() {
    let recorded = Recorded::start("::");
    let clients = ["127.0.0.1", "::1"].map(|host| recorded.client_at(host));
    let start = unix_ns();
    for client in &clients {
        assert_eq!(client.exchange(&keepalive(1, b"odd")), keepalive(1, b"odd"));
        client.send(b"no packet");
    }
    let end = unix_ns();
    let file = recorded.folder.path().join("c.pcapng");
    // SIGKILL would lose nothing from here on. The blocks before the packets have 28 and 32 bytes. That of a packet has 32 bytes more than
    // the packet and its padding.
    let len = 28 + 32 + [28 + 16, 28 + 12, 48 + 16, 48 + 12].map(|packet| 32 + packet).iter().sum::<u64>();
    poll_until("four packets", || (fs::metadata(&file).unwrap().len() == len).then_some(()));
    let packets = captured(&file);
    assert_eq!(packets.len(), 4);
    for (packets, client) in packets.chunks(2).zip(&clients) {
        let [from, to] = [client.socket.local_addr().unwrap(), client.socket.peer_addr().unwrap()];
        for (packet, payload) in packets.iter().zip([keepalive(1, b"odd"), b"no packet".to_vec()]) {
            assert_eq!((packet.addresses, &packet.payload), ([from, to], &payload));
            // The clocks of kernel timestamps may differ by a millisecond.
            assert!((start - 1_000_000..end + 1_000_000).contains(&packet.unix_ns), "{start} {} {end}", packet.unix_ns);
            assert_eq!(packet.comment, None);
        }
    }
    let _ = recorded.stop();
}

#[test]
#[ignore = "needs tshark: .ci/full"]
fn dissector_shows_the_capture_with_valid_checksums() {
    let recorded = Recorded::start("::");
    // The port of a client may be that of another protocol, so it is named too.
    let mut ports = vec![recorded.server.address.port().to_string()];
    for host in ["127.0.0.1", "::1"] {
        let mut client = recorded.client_at(host);
        ports.push(client.socket.local_addr().unwrap().port().to_string());
        for count in 0..70 {
            client.send(&audio(count, count, count));
            client.send(&keepalive(count, &vec![count as u8; count as usize]));
        }
        client.sync();
    }
    let (_, folder) = recorded.stop();
    let script = test_support::repository().join("docs/wireshark/jamjam.lua");
    let mut tshark = Command::new("tshark");
    tshark.args(["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-o"]);
    tshark.arg(format!("jamjam.ports:{}", ports.join(","))).arg("-X").arg(format!("lua_script:{}", script.display()));
    tshark.arg("-r").arg(folder.path().join("c.pcapng")).args(["-T", "fields", "-E", "separator=,"]);
    for field in ["ip.version", "ip.checksum.status", "udp.checksum.status", "jamjam.type", "jamjam.payload_len"] {
        tshark.args(["-e", field]);
    }
    tshark.env("XDG_CONFIG_HOME", folder.path()).env("HOME", folder.path());
    let Ok(output) = tshark.output() else {
        assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "tshark is not installed");
        return;
    };
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The version of IP, both checksums (1: good), and the type and length of the packet.
    let packets = (0..70).flat_map(|n| [(1, 4 * n), (4, n)]).chain([(4, "has it read this far?".len())]);
    let expected = ["4,1", "6,"].into_iter().flat_map(|ip| packets.clone().map(move |packet| (ip, packet)));
    let expected: Vec<_> = expected.map(|(ip, (kind, len))| format!("{ip},1,{kind},{len}")).collect();
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
}

/// Starts a server that checks its clients, and lets `limit` limit it. Then a client sends `packets` packets of 1,024 bytes, which are
/// returned. Returns the log and the report.
fn echo_despite(options: &[&str], limit: impl FnOnce(u32), packets: u32) -> (Vec<String>, String) {
    let folder = tempfile::tempdir().unwrap();
    let markdown = folder.path().join("report.md");
    let fixed = ["--host", "127.0.0.1", "--delay", "0", "--check", "--markdown", markdown.to_str().unwrap()];
    let server = Server::start(&[&fixed, options].concat());
    limit(server.id());
    let mut client = Client::connect(server.address);
    for sequence in 0..packets {
        let audio = audio(sequence, 256, 256);
        assert_eq!(client.exchange(&audio), audio);
    }
    client.sync();
    let ServerExit { code, lines, .. } = server.stop("TERM");
    assert_eq!(code, Some(3), "{lines:#?}");
    (lines, fs::read_to_string(markdown).unwrap())
}

fn warnings(lines: &[String]) -> Vec<&String> {
    let is_of_file = |line: &&String| line.contains(" WARN ") && !line.contains("a client breaks a rule");
    lines.iter().filter(is_of_file).collect()
}

#[test]
fn full_disk_is_named_in_log_and_report_and_the_echo_goes_on() {
    let (lines, report) = echo_despite(&["--capture", "/dev/full"], |_| {}, 10);
    assert!(report.contains("\nthe capture is incomplete: No space left"), "{report}");
    let [warning] = warnings(&lines)[..] else { panic!("{lines:#?}") };
    assert!(warning.contains("no more packets are captured; the echo goes on error=\"No space left"));

    let folder = tempfile::tempdir().unwrap();
    let limit = |id: u32| {
        let limited = Command::new("prlimit").args(["--fsize=100000", "--pid", &id.to_string()]).status().unwrap();
        assert!(limited.success());
    };
    let (lines, report) = echo_despite(&["--record", &folder.path().display().to_string()], limit, 200);
    let [incomplete] = warnings(&lines)[..] else { panic!("{lines:#?}") };
    assert!(
        incomplete.contains("a recording is incomplete, and no more are begun; the echo goes on")
            && incomplete.contains("the file contains the first")
    );
    let mut files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let file = files.next().unwrap();
    let name = file.file_name().unwrap().to_str().unwrap().replace('_', "\\_");
    assert!(report.contains(&format!("\nthe recording {name} is incomplete: File too large")), "{report}");
    // A header of 58 bytes and 97 packets fit.
    let expected: Vec<f32> = (0..97).flat_map(|sequence| samples(sequence, 256)).collect();
    assert!(Wav::read(&file).samples() == expected);
    assert_eq!(files.next(), None);
}

#[test]
fn closed_terminal_completes_recordings_but_not_under_nohup() {
    for (option, is_ignored) in [("--default-signal=HUP", false), ("--ignore-signal=HUP", true)] {
        let folder = tempfile::tempdir().unwrap();
        let options = ["--host", "127.0.0.1", "--delay", "0", "--record", folder.path().to_str().unwrap()];
        let server = Server::start_with(&options, |command| {
            let mut env = Command::new("env");
            env.arg(option).arg(command.get_program()).args(command.get_args());
            env.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            *command = env;
        });
        let mut client = Client::connect(server.address);
        client.send(&audio(0, SIZE, SIZE));
        client.sync();
        server.signal("HUP");
        if is_ignored {
            client.sync();
            server.signal("TERM");
        }
        let exit = server.end();
        assert_eq!(exit.code, Some(0), "{option}: {:#?}", exit.lines);
        exit.stats();
        let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        assert_eq!(Wav::read(&file).samples(), samples(0, SIZE));
    }
}
