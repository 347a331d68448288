//! In any state, a stop request shuts the echo server down immediately. The server logs a last line.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use test_support::client::start;
use test_support::server::{Client, Server, audio, keepalive, poll_until, program, ready_address};

#[test]
fn flood_does_not_delay_the_shutdown_and_delayed_packets_are_counted() {
    for driver in ["native", "portable"] {
        for signal in ["INT", "TERM"] {
            let server = Server::start(&["--host", "127.0.0.1", "-d", "1h", "--driver", driver]);
            let mut client = Client::connect(server.address);
            let (flooding, sent) = (AtomicBool::new(true), AtomicU64::new(0));
            let stopped = std::thread::scope(|scope| {
                let another = client.socket.try_clone().unwrap();
                let (flooding, sent, datagram) = (&flooding, &sent, audio(1, 256));
                scope.spawn(move || {
                    while flooding.load(Ordering::Relaxed) {
                        // Sending fails when the server has ended.
                        sent.fetch_add(u64::from(another.send(&datagram).is_ok()), Ordering::Relaxed);
                    }
                });
                poll_until("a flood", || (sent.load(Ordering::Relaxed) > 1_000).then_some(()));
                client.sync();
                let stopped = server.stop(signal);
                flooding.store(false, Ordering::Relaxed);
                stopped
            });
            let stats = stopped.stats();
            assert_eq!(stopped.code, Some(0));
            let counts = ["sent", "buffered"].map(|name| stats.count(name));
            assert!(stats.count("received") > 0 && counts == [0, 0], "{stats}");
            assert_eq!(stats.count("received"), stats.count("dropped_at_stop"), "{stats}");
        }
    }
}

#[test]
fn unread_log_delays_neither_the_echo_nor_the_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ready.json");
    let mut program = program(&["echo-server", "-v", "--host", "127.0.0.1", "--port", "0"]);
    program.arg("--ready-file").arg(&file);
    // The other end of the pipe stays open but is not read. A pipe holds a few hundred lines.
    let mut running = start(program.stderr(Stdio::piped()));
    let address = poll_until("a ready file", || ready_address(&file));
    let client = Client::connect(address);
    for sequence in 0..20_000 {
        let keepalive = keepalive(sequence, &[]);
        assert_eq!(client.exchange(&keepalive), keepalive);
    }
    running.signal("TERM");
    assert_eq!(poll_until("the end", || running.0.try_wait().unwrap()).code(), Some(0));
}
