//! The life of a link over a bad network, in virtual time: loss, reordering, duplicates, and restarts of either end. The client keeps the
//! timers of the specification. After each event, audio must be back before the client shows a failure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use test_support::link_client::{AUDIO, CONTROL, KEEPALIVE, LinkClient, header};
use test_support::node_driver::{MS, deliver, poll};
use test_support::server::packet::Random;

use jamjam_core::echo::EchoServer;
use jamjam_core::link::LinkKey;

use test_support::echo_link::{LINK_KEY_SEED, SECOND, client_address, server};

const DELAY_MS: u64 = 500;

/// The client repeats CONTROL after this time.
const CONTROL_INTERVAL: u64 = 250 * MS;

/// The client starts a new link after this time without an accepted packet, and gives up after five times this time.
const SILENCE: u64 = 2 * SECOND;

/// Datagrams on their way, by arrival time and number: source, destination, bytes.
type Wire = BTreeMap<(u64, u64), (SocketAddr, SocketAddr, Vec<u8>)>;

/// A network that loses 10% of all datagrams, repeats 5% up to a second later, and delays each by 5 to 40 ms.
struct Network {
    random: Random,
    wire: Wire,
    sent: u64,
}

impl Network {
    fn send(&mut self, now: u64, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let copies = [self.random.below(100) >= 10, self.random.below(100) < 5];
        for (is_sent, spread) in copies.into_iter().zip([35, 1_000]) {
            if is_sent {
                self.sent += 1;
                let at = now + (5 + self.random.below(spread)) * MS;
                self.wire.insert((at, self.sent), (from, to, datagram.to_vec()));
            }
        }
    }
}

struct Client {
    link: LinkClient,
    address: SocketAddr,
    next_control: u64,
    next_keepalive: u64,
    next_sequence: u32,
    accepted_at: u64,
    returned: u32,
}

impl Client {
    fn start(now: u64, address: SocketAddr) -> Self {
        // The signature tells the client which of its keys a late answer belongs to.
        let link = LinkClient::signed(&LinkKey::from_seed(&LINK_KEY_SEED).public());
        Self { link, address, next_control: now, next_keepalive: now, next_sequence: 0, accepted_at: now, returned: 0 }
    }

    /// What the client sends every 10 ms.
    fn poll(&mut self, now: u64) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        if !self.link.is_settled && now >= self.next_control {
            self.next_control = now + CONTROL_INTERVAL;
            sent.push(self.link.control());
            if self.link.has_keys() {
                sent.push(self.link.seal(KEEPALIVE, 1_000_000, 0, b""));
            }
        }
        if now >= self.next_keepalive {
            self.next_keepalive = now + SECOND;
            let has_keys = self.link.has_keys();
            sent.push(if has_keys { self.link.seal(KEEPALIVE, 0, 0, b"") } else { header(KEEPALIVE, 0, 0, 0) });
        }
        if self.link.is_settled {
            sent.push(self.link.seal(AUDIO, self.next_sequence, 480 * self.next_sequence, &[5; 256]));
            self.next_sequence += 1;
        }
        sent
    }

    fn receive(&mut self, now: u64, datagram: &[u8]) {
        if datagram[1] == CONTROL {
            self.link.on_control(datagram);
        } else if self.link.has_keys()
            && let Some((kind, ..)) = self.link.open(datagram)
        {
            self.accepted_at = now;
            self.returned += u32::from(kind == AUDIO);
        } else if !self.link.has_keys() && datagram[11] == 0 {
            self.accepted_at = now;
        }
    }
}

/// Runs until audio has returned. Returns the time.
fn run_until_audio(net: &mut Network, echo: &mut EchoServer, client: &mut Client, mut now: u64, give_up: u64) -> u64 {
    let server = client_address(200);
    let start = client.returned;
    while client.returned == start {
        assert!(now < give_up, "no audio returns");
        while let Some(next) = net.wire.first_entry().filter(|next| next.key().0 <= now) {
            let ((at, _), (from, to, datagram)) = next.remove_entry();
            if to == server {
                deliver(echo, at, from, &datagram);
            } else if to == client.address {
                client.receive(at, &datagram);
            }
        }
        // Replies to a previous address arrive too, but do not open.
        for reply in poll(echo, now) {
            net.send(now, server, client.address, &reply);
        }
        if now - client.accepted_at >= SILENCE {
            *client = Client { returned: start, ..Client::start(now, client.address) };
        }
        for datagram in client.poll(now) {
            net.send(now, client.address, server, &datagram);
        }
        now += 10 * MS;
    }
    now
}

#[test]
fn audio_resumes_after_restarts_and_address_changes_on_a_bad_network() {
    for seed in 0..60 {
        let mut net = Network { random: Random(seed), wire: Wire::new(), sent: 0 };
        let mut echo = server(DELAY_MS);
        let mut client = Client::start(0, client_address(1));
        let mut now = run_until_audio(&mut net, &mut echo, &mut client, 0, 2 * SECOND + DELAY_MS * MS);
        // The client restarts on the same port, then moves to another address, then the server restarts.
        for (event, patience) in [("restart", 2), ("address", 2), ("server", 5), ("restart", 2)] {
            match event {
                "restart" => client = Client::start(now, client.address),
                "address" => client = Client::start(now, client_address(2)),
                // What the old server has sent must not count.
                _ => (echo, net.wire) = (server(DELAY_MS), Wire::new()),
            }
            now = run_until_audio(&mut net, &mut echo, &mut client, now, now + patience * SECOND + DELAY_MS * MS);
            // For a while, the link works. Of ten packets, two are lost on average.
            let (sent, returned) = (client.next_sequence, client.returned);
            for _ in 0..50 {
                now = run_until_audio(&mut net, &mut echo, &mut client, now, now + SECOND);
            }
            let share = f64::from(client.returned - returned) / f64::from(client.next_sequence - sent);
            assert!(share > 0.5, "seed {seed}: {share}");
        }
    }
}
