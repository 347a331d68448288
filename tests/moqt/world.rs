//! Two ends joined in memory: streams that overtake each other, bytes in chunks of any size, a clock that jumps from one
//! deadline to the next, and a reader that may be slow.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jamjam_dev::moqt::client::{Client, Config as Sending, Ending, Fact};
use jamjam_dev::moqt::echo::{Config as Echoing, Echo};
use jamjam_dev::moqt::{Action, Application, Counts, End, Flavour, Kind, Limits, Peer, Session, Stream};
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
    kind: Kind,
    pieces: VecDeque<Piece>,
}

/// What is on its way to one end.
#[derive(Default)]
struct Way(BTreeMap<Stream, Lane>);

/// What is ours for one end is theirs for the other.
fn across(stream: Stream) -> Stream {
    match stream {
        Stream::Ours(id) => Stream::Theirs(id),
        Stream::Theirs(id) => Stream::Ours(id),
    }
}

impl Way {
    fn lane(&mut self, stream: Stream) -> &mut Lane {
        // What the receiver opened is known to it.
        let known = Lane { unopened: false, kind: Kind::Bidi, pieces: VecDeque::new() };
        self.0.entry(across(stream)).or_insert(known)
    }

    /// Puts what `from` wants done on the way, and says whether it closed the connection.
    fn load<A: Application>(&mut self, from: &mut Peer<A>) -> Option<(u32, String)> {
        while let Some(action) = from.poll_action() {
            match action {
                Action::Open(stream, kind) => {
                    self.0.insert(across(stream), Lane { unopened: true, kind, pieces: VecDeque::new() });
                }
                Action::Write(stream, bytes) => self.lane(stream).pieces.push_back(Piece::Bytes(bytes.to_vec())),
                Action::Finish(stream) => self.lane(stream).pieces.push_back(Piece::Finish),
                Action::Reset(stream, code) => {
                    let lane = self.lane(stream);
                    lane.pieces.clear();
                    lane.pieces.push_back(Piece::Reset(code));
                }
                Action::Stop(stream, code) => self.lane(stream).pieces.push_front(Piece::Stop(code)),
                Action::Close { code, reason } => return Some((code, reason)),
            }
        }
        None
    }

    /// Delivers one piece of one stream, or a part of it. Returns whether there was any. Groups wait while they are `held`.
    fn deliver<A: Application, B: Application>(
        &mut self,
        now: Time,
        from: &mut Peer<B>,
        to: &mut Peer<A>,
        held: bool,
        random: &mut Random,
    ) -> bool {
        let ready: Vec<Stream> = self
            .0
            .iter()
            .filter(|(_, lane)| !(lane.pieces.is_empty() || held && lane.kind == Kind::Uni))
            .map(|(stream, _)| *stream)
            .collect();
        if ready.is_empty() {
            return false;
        }
        let stream = ready[random.below(ready.len())];
        let kind = self.0[&stream].kind;
        // A stream opens all before it of its kind, as in QUIC.
        for (earlier, lane) in self.0.range_mut(..=stream).filter(|(_, lane)| lane.kind == kind && lane.unopened) {
            let Stream::Theirs(id) = earlier else { continue };
            lane.unopened = false;
            to.on_open(now, *id, kind);
        }
        let lane = self.0.get_mut(&stream).unwrap();
        match lane.pieces.pop_front().unwrap() {
            Piece::Bytes(bytes) => {
                let (chunk, rest) = bytes.split_at(1 + random.below(bytes.len()));
                if !rest.is_empty() {
                    lane.pieces.push_front(Piece::Bytes(rest.to_vec()));
                }
                from.on_taken(now, across(stream), chunk.len());
                to.on_bytes(now, stream, chunk);
            }
            Piece::Finish => to.on_finish(now, stream),
            Piece::Reset(code) => to.on_reset(now, stream, code),
            Piece::Stop(code) => to.on_stopped(now, stream, code),
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
    pub(crate) offers: Vec<Flavour>,
    /// Whether the transport knows the path.
    pub(crate) webtransport: bool,
    pub(crate) echoing: Echoing,
    pub(crate) sending: Sending,
    /// The server's.
    pub(crate) limits: Limits,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            offers: Flavour::ALL.to_vec(),
            webtransport: false,
            echoing: Echoing::default(),
            sending: Sending::default(),
            limits: Limits::default(),
        }
    }
}

/// The two, joined.
pub(crate) struct World {
    pub(crate) client: Peer<Client>,
    pub(crate) server: Peer<Echo>,
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
    pub(crate) facts: Vec<Fact>,
    /// What the server counted.
    pub(crate) counts: Counts,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let Plan { seed, offers, webtransport, echoing, sending, limits } = plan;
        let path = "/echo".to_owned();
        let end = End::Client { offers, path: path.clone(), asked: webtransport };
        let client = Peer::new(Session::new(Time::ZERO, end, Limits::default()), Client::new(sending));
        let end = End::Server { served: path.clone(), asked: webtransport.then_some(path) };
        let server = Peer::new(Session::new(Time::ZERO, end, limits), Echo::new(echoing));
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
            counts: Counts::default(),
        }
    }

    /// Delivers all that is under way, without any time passing.
    fn settle(&mut self) {
        loop {
            let closed_by_client = self.to_server.load(&mut self.client);
            let closed_by_server = self.to_client.load(&mut self.server);
            while let Some(fact) = self.client.application().poll_fact() {
                self.facts.push(fact);
            }
            self.counts.add(&self.server.take_counts());
            assert!(self.server.application().waiting() <= self.most_waiting);
            if let Some((code, reason)) = closed_by_client {
                self.server.on_gone(self.now, code, &reason);
                return;
            }
            if let Some((code, reason)) = closed_by_server {
                self.client.on_gone(self.now, code, &reason);
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
            self.client.on_time(self.now);
            self.server.on_time(self.now);
            self.settle();
        }
        self.now = to;
    }

    fn next(&self) -> Option<Time> {
        [self.client.next_deadline(), self.server.next_deadline()].into_iter().flatten().min()
    }

    /// Runs until the client is done.
    pub(crate) fn finish(&mut self) -> Ending {
        for _ in 0..100_000 {
            self.until(self.now + Duration::from_millis(10));
            if let Some(ending) = self.client.application().ending() {
                return ending.clone();
            }
        }
        panic!("the client is not done after {:?}", self.now)
    }

    /// Group, frame, and how long it took, of every frame that came, in the order in which they came.
    pub(crate) fn came(&self) -> Vec<(u64, usize, Duration)> {
        let came = self.facts.iter().filter_map(|fact| match *fact {
            Fact::Came { group, frame, sent, at, intact, .. } => {
                assert!(intact, "group {group} frame {frame} is damaged");
                Some((group, frame, at - sent))
            }
            _ => None,
        });
        came.collect()
    }

    /// Groups of which nothing came back.
    pub(crate) fn lost(&self) -> Vec<u64> {
        let lost = self.facts.iter().filter_map(|fact| match *fact {
            Fact::GroupLost { group, .. } => Some(group),
            _ => None,
        });
        lost.collect()
    }
}
