//! Two peers that are connected in memory. Streams overtake each other, and bytes arrive in chunks of any size. The clock jumps from one
//! deadline to the next, and a reader may be slow.

use std::time::Duration;

use crate::moqt_in_memory::{Direction, Fault, session};
use jamjam_core::time::Time;
use jamjam_moqt::client::{MoqtClient, MoqtClientConfig as Sending, MoqtClientEvent, MoqtRunOutcome};
use jamjam_moqt::echo::{MoqtEcho, MoqtEchoConfig as Echoing};
use jamjam_moqt::{EndpointRole, MoqtEndpoint, MoqtVersion, SessionCounters, SessionLimits, StreamDir};

/// A random number generator (`xorshift64*`).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }
}

/// How the two ends are connected.
#[derive(Clone)]
pub struct Plan {
    pub seed: u64,
    /// Offered versions. If the first one has no setup, the transport has selected it.
    pub offers: Vec<MoqtVersion>,
    /// Whether the transport is WebTransport, which conveys the path.
    pub webtransport: bool,
    pub echoing: Echoing,
    pub sending: Sending,
    /// The limits of the server.
    pub limits: SessionLimits,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            offers: vec![MoqtVersion::Gomoqt202502, MoqtVersion::Gomoqt09],
            webtransport: false,
            echoing: Echoing::default(),
            sending: Sending::default(),
            limits: SessionLimits::default(),
        }
    }
}

/// The two connected ends.
pub struct JoinedPeers {
    pub client: MoqtEndpoint<MoqtClient>,
    pub server: MoqtEndpoint<MoqtEcho>,
    to_client: Direction,
    to_server: Direction,
    pub now: Time,
    random: Random,
    /// Whether the client currently reads no groups.
    pub client_is_slow: bool,
    /// The number of pieces that will still be delivered. When 0 is reached, no more pieces are delivered in either direction.
    pub left: usize,
    /// The maximum number of bytes buffered in the echo.
    pub max_buffered_bytes: usize,
    pub events: Vec<MoqtClientEvent>,
    /// The counters of the server.
    pub counts: SessionCounters,
}

impl JoinedPeers {
    pub fn new(plan: Plan) -> Self {
        let Plan { seed, offers: offered_versions, webtransport, echoing, sending, limits } = plan;
        let path = "/echo".to_owned();
        let offers = offered_versions.clone();
        let end = EndpointRole::Client { offered_versions, path: path.clone(), path_in_connect: webtransport };
        let client = MoqtEndpoint::new(session(end, SessionLimits::default(), &offers, 1), MoqtClient::new(sending));
        let end = EndpointRole::Server { served_path: path.clone(), connect_path: webtransport.then_some(path) };
        let server = MoqtEndpoint::new(session(end, limits, &offers, 2), MoqtEcho::new(echoing));
        Self {
            client,
            server,
            to_client: Direction::default(),
            to_server: Direction::default(),
            now: Time::ZERO,
            random: Random(seed * 0x9E37_79B9 + 1),
            client_is_slow: false,
            left: usize::MAX,
            max_buffered_bytes: usize::MAX,
            events: Vec::new(),
            counts: SessionCounters::default(),
        }
    }

    /// Delivers everything in flight without advancing the time.
    fn settle(&mut self) {
        loop {
            let closed_by_client = self.to_server.load(&mut self.client);
            let closed_by_server = self.to_client.load(&mut self.server);
            while let Some(event) = self.client.handler.poll_event() {
                self.events.push(event);
            }
            self.counts.add(&self.server.take_counters());
            assert!(self.server.handler.buffered_bytes() <= self.max_buffered_bytes);
            if let Some((code, reason)) = closed_by_client {
                self.server.update(self.now, |session| session.on_connection_closed(code, &reason));
                return;
            }
            if let Some((code, reason)) = closed_by_server {
                self.client.update(self.now, |session| session.on_connection_closed(code, &reason));
                return;
            }
            let Some(left) = self.left.checked_sub(1) else { return };
            self.left = left;
            let (now, slow, random) = (self.now, self.client_is_slow, &mut self.random);
            let to_server_first = random.below(2) == 0;
            // Delivers a random part of a random stream. Returns false if there is nothing to deliver. A slow client reads no groups.
            let mut deliver = |to_server: bool| {
                let direction = if to_server { &mut self.to_server } else { &mut self.to_client };
                let ready = direction.ready(|dir| to_server || !slow || dir == StreamDir::Bi);
                if ready.is_empty() {
                    return false;
                }
                let stream = ready[random.below(ready.len())];
                let selected = (stream, |len| 1 + random.below(len));
                if to_server {
                    direction.deliver(now, (&mut self.client, &mut self.server), selected, Fault::None);
                } else {
                    direction.deliver(now, (&mut self.server, &mut self.client), selected, Fault::None);
                }
                true
            };
            if !deliver(to_server_first) && !deliver(!to_server_first) {
                return;
            }
        }
    }

    /// Advances the time to `to`.
    pub fn until(&mut self, to: Time) {
        self.settle();
        while let Some(next) = self.next().filter(|next| *next <= to) {
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.settle();
        }
        self.now = to;
    }

    fn next(&self) -> Option<Time> {
        [self.client.next_deadline(), self.server.next_deadline()].into_iter().flatten().min()
    }

    /// Runs until the client is finished.
    pub fn finish(&mut self) -> MoqtRunOutcome {
        for _ in 0..100_000 {
            self.until(self.now + Duration::from_millis(10));
            if let Some(ending) = self.client.handler.outcome() {
                return ending.clone();
            }
        }
        panic!("the client is not finished after {:?}", self.now)
    }

    /// The group number, frame number and round-trip time of each returned frame, in order of return.
    pub fn returned(&self) -> Vec<(u64, usize, Duration)> {
        let returned = self.events.iter().filter_map(|event| match *event {
            MoqtClientEvent::FrameReturned { group, frame, sent_at: Some(sent_at), at, intact, .. } => {
                assert!(intact, "group {group} frame {frame} is damaged");
                Some((group, frame, at - sent_at))
            }
            _ => None,
        });
        returned.collect()
    }

    /// The sent groups of which no frame returned.
    pub fn lost(&self) -> Vec<u64> {
        let sent = self.events.iter().filter_map(|event| match *event {
            MoqtClientEvent::FrameSent { group, frame: 0, .. } => Some(group),
            _ => None,
        });
        let returned = self.returned();
        sent.filter(|sent| !returned.iter().any(|(group, ..)| group == sent)).collect()
    }
}
