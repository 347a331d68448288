//! Two peers that are connected in memory. Streams overtake each other, and bytes arrive in chunks of any size. The clock jumps from one
//! deadline to the next, and a reader may be slow.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jamjam_dev::moqt::client::{MoqtClient, MoqtClientConfig as Sending, MoqtClientEvent, MoqtRunOutcome};
use jamjam_dev::moqt::echo::{MoqtEcho, MoqtEchoConfig as Echoing};
use jamjam_dev::moqt::{
    EndpointRole, MoqtEndpoint, MoqtVersion, Session, SessionAction, SessionCounters, SessionHandler, SessionLimits,
    StreamDir, StreamHandle,
};
use jamjam_dev::time::Time;

/// An action that one peer takes on a stream.
enum Piece {
    Bytes(Vec<u8>),
    Finish,
    Reset(u32),
    Stop(u32),
}

/// A stream from its receiver's point of view.
struct StreamQueue {
    /// Set for a stream that the sender opened, until the receiver has been notified.
    unopened: bool,
    kind: StreamDir,
    pieces: VecDeque<Piece>,
}

/// The actions in flight to one peer.
#[derive(Default)]
struct Direction(BTreeMap<StreamHandle, StreamQueue>);

/// Converts between the local and the remote handle of a stream.
fn peer_handle(stream: StreamHandle) -> StreamHandle {
    match stream {
        StreamHandle::Local(id) => StreamHandle::Remote(id),
        StreamHandle::Remote(id) => StreamHandle::Local(id),
    }
}

impl Direction {
    fn stream_queue(&mut self, stream: StreamHandle) -> &mut StreamQueue {
        // The receiver opened this stream itself, so the stream is not reported to the receiver as new.
        let known = StreamQueue { unopened: false, kind: StreamDir::Bi, pieces: VecDeque::new() };
        self.0.entry(peer_handle(stream)).or_insert(known)
    }

    /// Queues the actions of `from`. If one of these actions closes the connection, the function returns the close code and reason.
    fn load<A: SessionHandler>(&mut self, from: &mut MoqtEndpoint<A>) -> Option<(u32, String)> {
        while let Some(action) = from.poll_action() {
            match action {
                SessionAction::OpenStream(stream, kind) => {
                    self.0.insert(peer_handle(stream), StreamQueue { unopened: true, kind, pieces: VecDeque::new() });
                }
                SessionAction::Write(stream, bytes) => {
                    self.stream_queue(stream).pieces.push_back(Piece::Bytes(bytes.to_vec()));
                }
                SessionAction::Finish(stream) => self.stream_queue(stream).pieces.push_back(Piece::Finish),
                SessionAction::Reset(stream, code) => {
                    let stream_queue = self.stream_queue(stream);
                    stream_queue.pieces.clear();
                    stream_queue.pieces.push_back(Piece::Reset(code));
                }
                SessionAction::StopSending(stream, code) => {
                    self.stream_queue(stream).pieces.push_front(Piece::Stop(code));
                }
                SessionAction::Close { code, reason } => return Some((code, reason)),
            }
        }
        None
    }

    /// Delivers the next piece of one stream, which is selected at random. A piece is either data or an event, for example a stream reset.
    /// If the piece contains data, the function delivers the first bytes of the piece. The number of these bytes is random. The remaining
    /// bytes stay at the front of the queue. Returns false if there was no piece to deliver. Groups wait while `held` is set.
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
            .filter(|(_, stream_queue)| {
                !(stream_queue.pieces.is_empty() || held && stream_queue.kind == StreamDir::Uni)
            })
            .map(|(stream, _)| *stream)
            .collect();
        if ready.is_empty() {
            return false;
        }
        let stream = ready[random.below(ready.len())];
        let kind = self.0[&stream].kind;
        // As in QUIC, a new stream also opens all earlier streams of its kind.
        for (earlier, stream_queue) in
            self.0.range_mut(..=stream).filter(|(_, stream_queue)| stream_queue.kind == kind && stream_queue.unopened)
        {
            let StreamHandle::Remote(id) = earlier else { continue };
            stream_queue.unopened = false;
            to.on_stream_opened(now, *id, kind);
        }
        let stream_queue = self.0.get_mut(&stream).unwrap();
        match stream_queue.pieces.pop_front().unwrap() {
            Piece::Bytes(bytes) => {
                let (chunk, rest) = bytes.split_at(1 + random.below(bytes.len()));
                if !rest.is_empty() {
                    stream_queue.pieces.push_front(Piece::Bytes(rest.to_vec()));
                }
                from.on_bytes_written(now, peer_handle(stream), chunk.len());
                to.on_stream_data(now, stream, chunk);
            }
            Piece::Finish => {
                self.0.remove(&stream);
                to.on_stream_finished(now, stream);
            }
            Piece::Reset(code) => {
                self.0.remove(&stream);
                to.on_stream_reset(now, stream, code);
            }
            Piece::Stop(code) => to.on_stop_sending(now, stream, code),
        }
        true
    }
}

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
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) offers: Vec<MoqtVersion>,
    /// Whether the transport is WebTransport, which conveys the path.
    pub(crate) webtransport: bool,
    pub(crate) echoing: Echoing,
    pub(crate) sending: Sending,
    /// The limits of the server.
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

/// The two connected ends.
pub(crate) struct JoinedPeers {
    pub(crate) client: MoqtEndpoint<MoqtClient>,
    pub(crate) server: MoqtEndpoint<MoqtEcho>,
    to_client: Direction,
    to_server: Direction,
    pub(crate) now: Time,
    random: Random,
    /// Whether the client currently reads no groups.
    pub(crate) client_is_slow: bool,
    /// The number of pieces that will still be delivered. When 0 is reached, no more pieces are delivered in either direction.
    pub(crate) left: usize,
    /// The maximum number of bytes buffered in the echo.
    pub(crate) max_buffered_bytes: usize,
    pub(crate) events: Vec<MoqtClientEvent>,
    /// The counters of the server.
    pub(crate) counts: SessionCounters,
}

impl JoinedPeers {
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
            while let Some(event) = self.client.handler().poll_event() {
                self.events.push(event);
            }
            self.counts.add(&self.server.take_counters());
            assert!(self.server.handler().buffered_bytes() <= self.max_buffered_bytes);
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

    /// Advances the time to `to`.
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

    /// Runs until the client is finished.
    pub(crate) fn finish(&mut self) -> MoqtRunOutcome {
        for _ in 0..100_000 {
            self.until(self.now + Duration::from_millis(10));
            if let Some(ending) = self.client.handler().outcome() {
                return ending.clone();
            }
        }
        panic!("the client is not finished after {:?}", self.now)
    }

    /// The group number, frame number and round-trip time of each returned frame, in order of return.
    pub(crate) fn returned(&self) -> Vec<(u64, usize, Duration)> {
        let returned = self.events.iter().filter_map(|event| match *event {
            MoqtClientEvent::FrameReturned { group, frame, sent_at, at, intact, .. } => {
                assert!(intact, "group {group} frame {frame} is damaged");
                Some((group, frame, at - sent_at))
            }
            _ => None,
        });
        returned.collect()
    }

    /// The groups of which no frame returned.
    pub(crate) fn lost(&self) -> Vec<u64> {
        let lost = self.events.iter().filter_map(|event| match *event {
            MoqtClientEvent::GroupLost { group, .. } => Some(group),
            _ => None,
        });
        lost.collect()
    }
}
