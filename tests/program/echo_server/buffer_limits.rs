//! Every lost packet is counted, whether the kernel or a limit drops it.

use server::client::Client;
use server::packet::{audio, keepalive, packet};
use server::poll_until;
use server::process::Server;
use test_support::server;

/// The number of datagrams that return, up to `maximum`.
fn returned(client: &Client, maximum: usize) -> usize {
    let mut buffer = [0; 2_000];
    let mut received = 0;
    while received < maximum && client.socket.recv(&mut buffer).is_ok() {
        received += 1;
    }
    received
}

#[cfg(target_os = "linux")]
#[test]
fn packets_dropped_by_the_kernel_are_counted() {
    for (driver, host) in [("native", "127.0.0.1"), ("portable", "127.0.0.1"), ("native", "::")] {
        let options = ["--host", host, "-d", "0", "--socket-buffer", "4096", "--driver", driver];
        let server = Server::start(&options);
        let mut client = Client::connect(server::client::at("127.0.0.1", server.address));
        // The server process is suspended (SIGSTOP) while the burst arrives, so that its socket buffer overflows.
        server.signal("STOP");
        poll_until("a halt", || (server.status("State") == "T").then_some(()));
        for sequence in 0..500 {
            client.send(&audio(sequence, 512));
        }
        server.signal("CONT");
        let first = client.recv();
        assert_eq!(first, audio(0, 512));
        let syncs = client.sync();
        let stats = server.stop("TERM").stats();
        let (received, dropped) = (stats.count("received"), stats.count("kernel_dropped"));
        assert!(dropped > 400, "{stats}");
        assert_eq!(received + dropped, 500, "{stats}");
        assert_eq!(stats.count("sent"), received, "{stats}");
        assert_eq!(stats.arrivals(), 500 + syncs, "{stats}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn receive_buffer_smaller_than_requested_is_logged() {
    use server::process::as_unprivileged_user;
    let maximum = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
    let maximum: u64 = maximum.trim().parse().unwrap();
    let requested = maximum + 4_096;
    let mut server =
        Server::start_with(&["--host", "127.0.0.1", "--socket-buffer", &requested.to_string()], as_unprivileged_user);
    let line = server.line();
    assert_eq!(line.level, "WARN");
    let beginning = "echo: receive buffer smaller than requested";
    assert!(line.message.starts_with(beginning), "{}", line.message);
    assert!(
        line.message.ends_with(&format!("granted_bytes={maximum} requested_bytes={requested}")),
        "{}",
        line.message
    );
    assert!(server.line().message.starts_with("Echo server listening on "));

    let mut server =
        Server::start_with(&["--host", "127.0.0.1", "--socket-buffer", &maximum.to_string()], as_unprivileged_user);
    assert!(server.line().message.starts_with("Echo server listening on "), "an unexpected warning");
}

/// Sends AUDIO packets of 1,000 bytes with the sequence numbers in `range`. After every 32 packets and at the end, waits until the server
/// has read the packets. Therefore, the kernel drops no packets. During each wait, the client sends KEEPALIVEs until the server returns
/// one. The function returns the total number of sent KEEPALIVEs.
fn fill(client: &mut Client, range: std::ops::Range<u32>) -> u64 {
    let mut syncs = 0;
    for sequence in range {
        client.send(&audio(sequence, 988));
        if sequence % 32 == 31 {
            syncs += client.sync();
        }
    }
    syncs + client.sync()
}

// These limits charge 1,100 bytes for a packet of 1,000 bytes. The overhead of each packet is 100 bytes.

#[test]
fn full_buffer_drops_and_counts_audio_packets() {
    let off = ["--limit-loopback", "--max-bitrate-per-source", "off"];
    let server = Server::start(&[&["--host", "127.0.0.1", "-d", "1h", "--max-buffer", "2MiB"], &off[..]].concat());
    let mut clients = [Client::connect(server.address), Client::connect(server.address)];
    // Each packet counts as 1,100 bytes. One address may hold half of the limit, 953 packets, because 1,048,576 / 1,100 = 953.25.
    // One client may hold two fifths of the limit, 762 packets.
    let mut syncs = fill(&mut clients[0], 0..700);
    syncs += fill(&mut clients[1], 0..260);
    let stopped = server.stop("TERM");
    let warnings = stopped.lines.iter().filter(|line| line.contains(" WARN echo: packets dropped ")).count();
    assert!((1..=3).contains(&warnings), "{:?}", stopped.lines);
    let stats = stopped.stats();
    assert_eq!(stats.count("received"), 953, "{stats}");
    assert_eq!(stats.count("dropped_buffer_full"), 7, "{stats}");
    assert_eq!(stats.count("dropped_at_stop"), 953, "{stats}");
    assert_eq!(stats.arrivals(), 960 + syncs, "{stats}");
}

#[test]
fn flood_of_one_client_leaves_the_memory_of_the_others() {
    let server = Server::start(&["--host", "127.0.0.1", "-d", "400ms", "--max-buffer", "160KiB"]);
    let (flood, modest) = (Client::connect(server.address), Client::connect(server.address));
    // Each packet counts as 1,100 bytes. The limit of 64 KiB, two fifths of the total, admits 59 packets, because 65,536 / 1,100 = 59.6.
    for sequence in 0..100 {
        flood.send(&audio(sequence, 988));
    }
    for sequence in 0..20 {
        modest.send(&audio(sequence, 988));
    }
    for sequence in 0..20 {
        assert_eq!(modest.recv(), audio(sequence, 988));
    }
    assert_eq!(returned(&flood, 59), 59);
    // The memory of sent packets is released.
    for sequence in 0..59 {
        flood.send(&audio(sequence, 988));
    }
    assert_eq!(returned(&flood, 59), 59);
    let stats = server.stop("TERM").stats();
    assert_eq!(stats.count("dropped_client_buffer_full"), 41, "{stats}");
    assert_eq!(stats.count("sent"), 20 + 59 + 59, "{stats}");
    assert_eq!(stats.arrivals(), 179, "{stats}");
}

#[cfg(target_os = "linux")]
#[test]
fn batch_is_accepted_up_to_the_limit() {
    use server::batch::BatchClient;
    for driver in ["native", "portable"] {
        let limit = ["--max-buffer", "84000"];
        let server = Server::start(&[&["--host", "127.0.0.1", "-d", "100", "--driver", driver], &limit[..]].concat());
        // 60 packets of 1,000 bytes arrive, and a client may have 30.5 of them.
        let packets: Vec<Vec<u8>> = (0..60).map(|sequence| audio(sequence, 988)).collect();
        let client = BatchClient::connect(server.address);
        client.send(&packets.concat(), 1_000);
        let (received, _) = client.recv(30);
        assert!(received == packets[..30], "other packets returned ({driver})");
        let stats = server.stop("TERM").stats();
        assert_eq!((stats.count("received"), stats.count("dropped_client_buffer_full")), (30, 30), "{stats}");
        assert_eq!(stats.arrivals(), 60, "{stats}");
    }
}

#[test]
fn limit_can_be_disabled() {
    // A packet of 1,000 bytes counts as 1,100 bytes. 70,000 of these packets count as 77 MB. This exceeds the default limit of 64 MiB per
    // client.
    for (options, dropped) in [(&["--max-buffer", "off"][..], 0), (&[][..], 70_000 - 67_108_864 / 1_100)] {
        let server = Server::start(&[&["--host", "127.0.0.1", "-d", "1h"], options].concat());
        fill(&mut Client::connect(server.address), 0..70_000);
        let stats = server.stop("TERM").stats();
        assert_eq!(stats.count("dropped_client_buffer_full"), dropped, "{stats}");
        assert_eq!(stats.count("dropped_at_stop"), 70_000 - dropped, "{stats}");
    }
}

#[test]
fn keepalive_and_ping_are_answered_while_the_buffer_is_full() {
    // A client may have two fifths of the buffer: one packet.
    let server = Server::start(&["--host", "127.0.0.1", "-d", "1h", "--max-buffer", "2750"]);
    let client = Client::connect(server.address);
    client.send(&audio(1, 988));
    client.send(&audio(2, 988));
    assert_eq!(client.exchange(&keepalive(3, &[])), keepalive(3, &[]));
    let payload = [0, 0, 0, 0, 0, 0x12, 0xd6, 0x87, 0, 0, 0, 7];
    assert_eq!(client.exchange(&packet(0x05, 4, &payload)), packet(0x06, 4, &payload));
    let stats = server.stop("TERM").stats();
    assert_eq!((stats.count("received"), stats.arrivals()), (1, 4), "{stats}");
}
