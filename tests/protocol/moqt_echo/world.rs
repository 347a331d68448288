//! Two ends joined in memory: streams that overtake each other, bytes in chunks of any size, a clock that jumps from one
//! deadline to the next, and a reader that may be slow.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jamjam_dev::moqt::client::{MoqtClient, MoqtClientConfig as Sending, MoqtClientEvent, MoqtRunOutcome};
use jamjam_dev::moqt::echo::{MoqtEcho, MoqtEchoConfig as Echoing};
use jamjam_dev::moqt::{
    EndpointRole, MoqtEndpoint, MoqtVersion, Session, SessionAction, SessionCounters, SessionHandler, SessionLimits,
    StreamDir, StreamHandle,
};
use jamjam_dev::time::Time;

/// What one end has put on a stream.
enum Piece {
    Bytes(Vec<u8>),
    Finish,
    Reset(u32),
    Stop(u32),
}

/// A stream as its receiver knows it.
struct Lane {
    /// Of one that the sender opened, until the receiver knows.
    unopened: bool,
    kind: StreamDir,
    pieces: VecDeque<Piece>,
}

/// What is on its way to one end.
#[derive(Default)]
struct Way(BTreeMap<StreamHandle, Lane>);

/// What is ours for one end is theirs for the other.
fn across(stream: StreamHandle) -> StreamHandle {
    match stream {
        StreamHandle::Local(id) => StreamHandle::Remote(id),
        StreamHandle::Remote(id) => StreamHandle::Local(id),
    }
}

impl Way {
    fn lane(&mut self, stream: StreamHandle) -> &mut Lane {
        // What the receiver opened is known to it.
        let known = Lane { unopened: false, kind: StreamDir::Bi, pieces: VecDeque::new() };
        self.0.entry(across(stream)).or_insert(known)
    }

    /// Puts what `from` wants done on the way, and says whether it closed the connection.
    fn load<A: SessionHandler>(&mut self, from: &mut MoqtEndpoint<A>) -> Option<(u32, String)> {
        while let Some(action) = from.poll_action() {
            match action {
                SessionAction::OpenStream(stream, kind) => {
                    self.0.insert(across(stream), Lane { unopened: true, kind, pieces: VecDeque::new() });
                }
                SessionAction::Write(stream, bytes) => self.lane(stream).pieces.push_back(Piece::Bytes(bytes.to_vec())),
                SessionAction::Finish(stream) => self.lane(stream).pieces.push_back(Piece::Finish),
                SessionAction::Reset(stream, code) => {
                    let lane = self.lane(stream);
                    lane.pieces.clear();
                    lane.pieces.push_back(Piece::Reset(code));
                }
                SessionAction::StopSending(stream, code) => self.lane(stream).pieces.push_front(Piece::Stop(code)),
                SessionAction::Close { code, reason } => return Some((code, reason)),
            }
        }
        None
    }

    /// Delivers one piece of one stream, or a part of it. Returns whether there was any. Groups wait while they are `held`.
    fn deliver<A: SessionHandler, B: SessionHandler>(
        &mut self,
        now: Time,
        from: &mut MoqtEndpoint<B>,
        to: &mut MoqtEndpoint<A>,
        held: bool,
        random: &mut Random,
    ) -> bool {
        let ready: Vec<StreamHandle> = self
            .0
            .iter()
            .filter(|(_, lane)| !(lane.pieces.is_empty() || held && lane.kind == StreamDir::Uni))
            .map(|(stream, _)| *stream)
            .collect();
        if ready.is_empty() {
            return false;
        }
        let stream = ready[random.below(ready.len())];
        let kind = self.0[&stream].kind;
        // A stream opens all before it of its kind, as in QUIC.
        for (earlier, lane) in self.0.range_mut(..=stream).filter(|(_, lane)| lane.kind == kind && lane.unopened) {
            let StreamHandle::Remote(id) = earlier else { continue };
            lane.unopened = false;
            to.on_stream_opened(now, *id, kind);
        }
        let lane = self.0.get_mut(&stream).unwrap();
        match lane.pieces.pop_front().unwrap() {
            Piece::Bytes(bytes) => {
                let (chunk, rest) = bytes.split_at(1 + random.below(bytes.len()));
                if !rest.is_empty() {
                    lane.pieces.push_front(Piece::Bytes(rest.to_vec()));
                }
                from.on_bytes_written(now, across(stream), chunk.len());
                to.on_stream_data(now, stream, chunk);
            }
            Piece::Finish => to.on_stream_finished(now, stream),
            Piece::Reset(code) => to.on_stream_reset(now, stream, code),
            Piece::Stop(code) => to.on_stop_sending(now, stream, code),
        }
        true
    }
}

/// `xorshift64*`.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }
}

/// How the two are joined.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) offers: Vec<MoqtVersion>,
    /// Whether the transport knows the path.
    pub(crate) webtransport: bool,
    pub(crate) echoing: Echoing,
    pub(crate) sending: Sending,
    /// The server's.
    pub(crate) limits: SessionLimits,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            offers: MoqtVersion::ALL.to_vec(),
            webtransport: false,
            echoing: Echoing::default(),
            sending: Sending::default(),
            limits: SessionLimits::default(),
        }
    }
}

/// The two, joined.
pub(crate) struct World {
    pub(crate) client: MoqtEndpoint<MoqtClient>,
    pub(crate) server: MoqtEndpoint<MoqtEcho>,
    to_client: Way,
    to_server: Way,
    pub(crate) now: Time,
    random: Random,
    /// Whether the client reads no groups for now.
    pub(crate) client_is_slow: bool,
    /// Pieces that are still delivered; then both vanish for each other, without a word.
    pub(crate) left: usize,
    /// Bytes that may wait in the echo at a time.
    pub(crate) most_waiting: usize,
    pub(crate) facts: Vec<MoqtClientEvent>,
    /// What the server counted.
    pub(crate) counts: SessionCounters,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let Plan { seed, offers: offered_versions, webtransport, echoing, sending, limits } = plan;
        let path = "/echo".to_owned();
        let end = EndpointRole::Client { offered_versions, path: path.clone(), path_in_connect: webtransport };
        let client =
            MoqtEndpoint::new(Session::new(Time::ZERO, end, SessionLimits::default()), MoqtClient::new(sending));
        let end = EndpointRole::Server { served_path: path.clone(), connect_path: webtransport.then_some(path) };
        let server = MoqtEndpoint::new(Session::new(Time::ZERO, end, limits), MoqtEcho::new(echoing));
        Self {
            client,
            server,
            to_client: Way::default(),
            to_server: Way::default(),
            now: Time::ZERO,
            random: Random(seed * 0x9E37_79B9 + 1),
            client_is_slow: false,
            left: usize::MAX,
            most_waiting: usize::MAX,
            facts: Vec::new(),
            counts: SessionCounters::default(),
        }
    }

    /// Delivers all that is under way, without any time passing.
    fn settle(&mut self) {
        loop {
            let closed_by_client = self.to_server.load(&mut self.client);
            let closed_by_server = self.to_client.load(&mut self.server);
            while let Some(fact) = self.client.handler().poll_event() {
                self.facts.push(fact);
            }
            self.counts.add(&self.server.take_counters());
            assert!(self.server.handler().buffered_bytes() <= self.most_waiting);
            if let Some((code, reason)) = closed_by_client {
                self.server.on_connection_closed(self.now, code, &reason);
                return;
            }
            if let Some((code, reason)) = closed_by_server {
                self.client.on_connection_closed(self.now, code, &reason);
                return;
            }
            let Some(left) = self.left.checked_sub(1) else { return };
            self.left = left;
            let (now, slow, random) = (self.now, self.client_is_slow, &mut self.random);
            let to_server_first = random.below(2) == 0;
            let mut deliver = |to_server: bool| {
                if to_server {
                    self.to_server.deliver(now, &mut self.client, &mut self.server, false, random)
                } else {
                    self.to_client.deliver(now, &mut self.server, &mut self.client, slow, random)
                }
            };
            if !deliver(to_server_first) && !deliver(!to_server_first) {
                return;
            }
        }
    }

    /// Lets the time pass until `to`.
    pub(crate) fn until(&mut self, to: Time) {
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

    /// Runs until the client is done.
    pub(crate) fn finish(&mut self) -> MoqtRunOutcome {
        for _ in 0..100_000 {
            self.until(self.now + Duration::from_millis(10));
            if let Some(ending) = self.client.handler().outcome() {
                return ending.clone();
            }
        }
        panic!("the client is not done after {:?}", self.now)
    }

    /// Group, frame, and how long it took, of every frame that came, in the order in which they came.
    pub(crate) fn came(&self) -> Vec<(u64, usize, Duration)> {
        let came = self.facts.iter().filter_map(|fact| match *fact {
            MoqtClientEvent::FrameReturned { group, frame, sent_at, at, intact, .. } => {
                assert!(intact, "group {group} frame {frame} is damaged");
                Some((group, frame, at - sent_at))
            }
            _ => None,
        });
        came.collect()
    }

    /// Groups of which nothing came back.
    pub(crate) fn lost(&self) -> Vec<u64> {
        let lost = self.facts.iter().filter_map(|fact| match *fact {
            MoqtClientEvent::GroupLost { group, .. } => Some(group),
            _ => None,
        });
        lost.collect()
    }
}
