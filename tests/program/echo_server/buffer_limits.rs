//! Every lost packet is counted, whether the kernel or a limit drops it, and receive errors do not end the server.

use std::fs;
use std::ops::Range;

use test_support::server::{
    Client, Server, as_unprivileged_user, at, audio, can_record_system_calls, poll_until, record_system_calls,
};

#[test]
fn packets_dropped_by_the_kernel_are_counted() {
    for (driver, host) in [("native", "127.0.0.1"), ("portable", "127.0.0.1"), ("native", "::")] {
        let options = ["--host", host, "-d", "0", "--socket-buffer", "4096", "--driver", driver];
        let server = Server::start(&options);
        let mut client = Client::connect(at("127.0.0.1", server.address));
        // The server process is suspended while the burst arrives, so that its socket buffer overflows.
        server.halt();
        for sequence in 0..500 {
            client.send(&audio(sequence, 512));
        }
        server.signal("CONT");
        assert_eq!(client.recv(), audio(0, 512));
        let syncs = client.sync();
        let stats = server.stop("TERM").stats();
        let (received, dropped) = (stats.count("received"), stats.count("kernel_dropped"));
        assert!(dropped > 0, "{stats}");
        assert_eq!((received + dropped, stats.count("sent")), (500, received), "{stats}");
        assert_eq!(stats.arrivals(), 500 + syncs, "{stats}");
    }
}

#[test]
fn receive_buffer_smaller_than_requested_is_logged() {
    let maximum = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
    let maximum: u64 = maximum.trim().parse().unwrap();
    for requested in [maximum + 4_096, maximum] {
        let options = ["--host", "127.0.0.1", "--socket-buffer", &requested.to_string()];
        let mut server = Server::start_with(&options, as_unprivileged_user);
        if requested > maximum {
            let line = server.line();
            assert_eq!(line.level, "WARN");
            assert!(line.message.starts_with("echo: receive buffer smaller than requested"), "{}", line.message);
            let sizes = format!("granted_bytes={maximum} requested_bytes={requested}");
            assert!(line.message.ends_with(&sizes), "{}", line.message);
        }
        assert!(server.line().message.starts_with("Echo server listening on "));
    }
}

/// Sends AUDIO packets of 1,000 bytes, and waits after every 32 until the server has read them, so that the kernel drops none. Returns the
/// number of KEEPALIVEs sent meanwhile.
fn fill(client: &mut Client, range: Range<u32>) -> u64 {
    let mut syncs = 0;
    for sequence in range {
        client.send(&audio(sequence, 988));
        if sequence % 32 == 31 {
            syncs += client.sync();
        }
    }
    syncs + client.sync()
}

#[test]
fn full_buffer_drops_and_counts_audio_packets() {
    let options = "--host 127.0.0.1 -d 1h --max-buffer 2MiB --limit-loopback --max-bitrate-per-source off".split(' ');
    let server = Server::start(&options.collect::<Vec<_>>());
    let mut clients = [Client::connect(server.address), Client::connect(server.address)];
    // Each packet counts as 1,100 bytes. One address may hold half of the limit, 953 packets, because 1,048,576 / 1,100 = 953.25.
    // One client may hold two fifths of the limit, 762 packets.
    let syncs = fill(&mut clients[0], 0..700) + fill(&mut clients[1], 0..260);
    let stopped = server.stop("TERM");
    let warnings = stopped.lines.iter().filter(|line| line.contains(" WARN echo: packets dropped ")).count();
    assert!((1..=7).contains(&warnings), "{:?}", stopped.lines);
    let stats = stopped.stats();
    let counts = ["received", "dropped_buffer_full", "dropped_at_stop"].map(|name| stats.count(name));
    assert_eq!(counts, [953, 7, 953], "{stats}");
    assert_eq!(stats.arrivals(), 960 + syncs, "{stats}");
}

/// A packet of 1,000 bytes counts as 1,100 bytes. A client may have two fifths of the buffer.
#[test]
fn limit_of_a_client_applies_unless_it_is_off() {
    for (limit, dropped) in [("160KiB", 100 - 65_536 / 1_100), ("off", 0)] {
        let server = Server::start(&["--host", "127.0.0.1", "-d", "1h", "--max-buffer", limit]);
        fill(&mut Client::connect(server.address), 0..100);
        let stats = server.stop("TERM").stats();
        let counts = ["dropped_client_buffer_full", "dropped_at_stop"].map(|name| stats.count(name));
        assert_eq!(counts, [dropped, 100 - dropped], "{stats}");
    }
}

/// On Windows, each datagram to a departed client causes an error.
#[test]
fn repeated_receive_errors_cause_pauses_but_do_not_end_the_server() {
    if !can_record_system_calls() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let server = Server::start_with(&["--host", "127.0.0.1", "-d", "0", "--driver", "portable"], |command| {
        let fault = "inject=recvfrom:error=ECONNRESET:when=1..40";
        record_system_calls(command, &record, &["-e", "trace=recvfrom,clock_nanosleep", "-e", fault]);
    });
    let client = Client::connect(server.address);
    assert_eq!(client.exchange(&audio(1, 64)), audio(1, 64));
    // The pauses follow the 16th and the 32nd error.
    let pauses = poll_until("the whole record", || {
        let record = fs::read_to_string(&record).unwrap();
        let before = record.rsplit_once("(INJECTED)")?.0;
        let pauses =
            before.lines().filter_map(|line| Some(line.split_once(" clock_nanosleep(")?.1.split_once("tv_nsec=")?.1));
        let pauses: Vec<String> = pauses.map(|rest| rest.split('}').next().unwrap_or_default().to_owned()).collect();
        (before.matches("(INJECTED)").count() == 39).then_some(pauses)
    });
    assert_eq!(pauses, ["1000000", "2000000"]);
}
