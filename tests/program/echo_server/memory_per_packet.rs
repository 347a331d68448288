//! Measures the resident memory per delayed packet, and checks that this memory is released.

use test_support::client::together;
use test_support::server::{Client, Server, Stats, audio};

const CLIENTS: u32 = 100;
const PACKETS: u32 = 15_000;
const HEADER: f64 = 12.0;

/// Sends `packets` packets, one from each client in turn, slowly enough that none is dropped.
fn fill(clients: &mut [Client], payload: usize, packets: u32) {
    let datagram = audio(1, payload);
    for _ in 0..packets / CLIENTS {
        for few in clients.chunks_mut(10) {
            for client in &*few {
                client.send(&datagram);
            }
            few[0].sync();
        }
    }
}

/// Maximum number of statistics lines, one every 20 ms, in which nothing changes. A packet may wait for 32 s.
const MAX_EQUAL_LINES: usize = 3_000;

/// Reads statistics lines until `is_reached` returns true.
fn until(server: &mut Server, is_reached: impl Fn(&Stats) -> bool) -> Stats {
    let (mut last, mut equal_lines) = ([0; 2], 0);
    while equal_lines < MAX_EQUAL_LINES {
        let stats = Stats::parse(&server.line_starting_with("Stats: "));
        let handled = stats.count("received") + stats.count("keepalives");
        assert_eq!(stats.arrivals(), handled, "packets were dropped: {stats}");
        if is_reached(&stats) {
            return stats;
        }
        let counts = ["received", "buffered"].map(|name| stats.count(name));
        equal_lines = if counts == last { equal_lines + 1 } else { 0 };
        last = counts;
    }
    panic!("nothing changes any more: received and buffered {last:?}");
}

/// Fills and empties the buffer three times. Returns the overhead per packet in bytes, and for each time the growth of the resident memory
/// since the start, in KiB. `None` if the machine needs more time than `delay` to fill the buffer.
fn measure(payload: usize, delay: &str) -> Option<(f64, Vec<i64>)> {
    let mut server = Server::start(&["--host", "127.0.0.1", "-d", delay, "--stats-interval", "20ms"]);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(server.address)).collect();
    // With the first packets, the server allocates its buffers and the table of clients.
    fill(&mut clients, payload, CLIENTS);
    until(&mut server, |stats| stats.count("received") >= u64::from(CLIENTS) && stats.count("buffered") == 0);
    let idle = server.resident_kib();
    let (mut cost, mut left) = (f64::MIN, Vec::new());
    for filled in 1..=3 {
        fill(&mut clients, payload, PACKETS);
        let received =
            until(&mut server, |stats| stats.count("received") >= filled * u64::from(PACKETS) + u64::from(CLIENTS));
        if received.count("buffered") != u64::from(PACKETS) {
            return None;
        }
        let full = server.resident_kib();
        let bytes_per_packet = (full - idle) as f64 * 1_024.0 / f64::from(PACKETS);
        cost = cost.max(bytes_per_packet - HEADER - payload as f64);
        until(&mut server, |stats| stats.count("buffered") == 0);
        left.push(server.resident_kib() as i64 - idle as i64);
    }
    Some((cost, left))
}

#[test]
fn clients_of_one_loopback_address_lose_nothing_and_return_their_memory() {
    together([512, 7_680], |payload| {
        // Up to one datagram of each chunk of 512 KiB remains unused.
        let datagram = HEADER + payload as f64;
        let unused = datagram / (524_288.0 / datagram).floor();
        let is_within_limits = |_| {
            let measured = ["2s", "8s", "32s"].into_iter().find_map(|delay| measure(payload, delay));
            let (cost, left) = measured.expect("the buffer is filled within 32 s");
            eprintln!("{payload}: {cost:.1} bytes per packet, then {left:?} KiB more than at the start");
            cost <= 100.0 + unused && left.iter().all(|kib| *kib <= 2_048)
        };
        // A few servers keep about 100 KiB more from the first packets on, which would count as memory of packets.
        assert!((0..3).any(is_within_limits), "too much memory in three servers");
    });
}
