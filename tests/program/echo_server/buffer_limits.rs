//! Every lost packet is counted, whether the kernel or a limit drops it.

use std::fs;

use test_support::server::{Client, Server, as_unprivileged_user, at, audio};

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

/// A packet of 1,000 bytes counts as 1,100 bytes. A client may have two fifths of the buffer.
#[test]
fn limit_of_a_client_applies_unless_it_is_off() {
    for (limit, dropped) in [("160KiB", 100 - 65_536 / 1_100), ("off", 0)] {
        let server = Server::start(&["--host", "127.0.0.1", "-d", "1h", "--max-buffer", limit]);
        let mut client = Client::connect(server.address);
        let mut syncs = 0;
        for sequence in 0..100 {
            client.send(&audio(sequence, 988));
            // The kernel drops none of the packets if the server reads them in between.
            if sequence % 32 == 31 {
                syncs += client.sync();
            }
        }
        syncs += client.sync();
        let stopped = server.stop("TERM");
        let is_warned = stopped.lines.iter().any(|line| line.contains(" WARN echo: packets dropped "));
        let stats = stopped.stats();
        let counts = ["dropped_client_buffer_full", "dropped_at_stop"].map(|name| stats.count(name));
        assert_eq!((counts, is_warned), ([dropped, 100 - dropped], dropped > 0), "{stats}");
        assert_eq!(stats.arrivals(), 100 + syncs, "{stats}");
    }
}
