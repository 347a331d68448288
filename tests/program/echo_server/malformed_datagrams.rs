//! Malformed and nearly valid datagrams. The server keeps running. Each datagram increments exactly one of the server's arrival counters.

use std::collections::BTreeMap;
use test_support::server;

use server::client::{Client, at};
use server::packet::{audio, expected_counter, golden};
use server::process::Server;

/// The test waits for the server after this number of datagrams. These datagrams fit in the smallest receive buffer.
const WINDOW: u64 = 32;

/// A server that receives malformed datagrams, and their expected counts.
struct Fuzzer {
    server: Server,
    client: Client,
    expected: BTreeMap<&'static str, u64>,
    sent: u64,
    syncs: u64,
}

impl Fuzzer {
    fn new(driver: &str) -> Self {
        let server = Server::start(&["--host", "127.0.0.1", "-d", "20", "--stats-interval", "off", "--driver", driver]);
        let client = Client::connect(at("127.0.0.1", server.address));
        Self { server, client, expected: BTreeMap::new(), sent: 0, syncs: 0 }
    }

    fn send(&mut self, datagram: &[u8]) {
        self.client.send(datagram);
        *self.expected.entry(expected_counter(datagram)).or_default() += 1;
        self.sent += 1;
        if self.sent.is_multiple_of(WINDOW) {
            self.syncs += self.client.sync();
        }
    }

    /// Sends AUDIO to check that the server still works. Stops the server, and compares its counts with the sent datagrams.
    fn finish(mut self) {
        self.syncs += self.client.sync();
        let last_client = Client::connect(self.server.address);
        assert_eq!(last_client.exchange(&audio(7, 512)), audio(7, 512));
        *self.expected.entry("received").or_default() += 1;
        *self.expected.entry("keepalives").or_default() += self.syncs;
        let stopped = self.server.stop("TERM");
        assert_eq!(stopped.code, Some(0));
        let stats = stopped.stats();
        println!("{} datagrams and {} keepalives: {stats}", self.sent + 1, self.syncs);
        assert_eq!(stats.arrivals(), self.sent + 1 + self.syncs, "{stats}");
        let names = ["received", "keepalives", "pings", "stun_requests", "latency_infos", "ignored"].into_iter();
        for name in names.chain([
            "dropped_short",
            "dropped_version",
            "dropped_type",
            "dropped_payload",
            "dropped_stun",
            "dropped_key_exchange",
            "dropped_no_keys",
        ]) {
            assert_eq!(stats.count(name), self.expected.get(name).copied().unwrap_or(0), "{name}: {stats}");
        }
        // All echoes have been sent, because `last_client` has received its echo, which is sent after all others.
        assert_eq!(stats.count("sent"), stats.count("received"), "{stats}");
        let replies: u64 = ["keepalives", "pings", "stun_requests"].map(|name| stats.count(name)).iter().sum();
        assert_eq!(stats.count("immediate_replies"), replies, "{stats}");
    }
}

#[test]
fn every_truncation_and_bit_flip_is_survived_and_counted() {
    for driver in ["native", "portable"] {
        let mut fuzzer = Fuzzer::new(driver);
        for original in golden() {
            for len in 0..=original.len() {
                fuzzer.send(&original[..len]);
            }
            for bit in 0..original.len() * 8 {
                let mut flipped = original.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                fuzzer.send(&flipped);
            }
        }
        fuzzer.finish();
    }
}
