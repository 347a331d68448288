//! Two peers connected in memory. Streams overtake each other, bytes arrive in chunks of any size, a reader may be slow, and the clock
//! jumps from one deadline to the next.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_moqt::client::{MoqtClient, MoqtClientConfig as Sending, MoqtClientEvent, MoqtRunOutcome};
use jamjam_moqt::echo::{MoqtEcho, MoqtEchoConfig as Echoing};
use jamjam_moqt::{
    EndpointRole, MoqtEndpoint, MoqtVersion, Session, SessionAction, SessionCounters, SessionHandler, SessionLimits,
    StreamDir, StreamHandle,
};

use crate::rng::Rng;

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
    random: Rng,
    /// Whether some pieces are truncated or changed.
    pub has_faults: bool,
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
        let end = EndpointRole::Client { offered_versions, path: (!webtransport).then(|| path.clone()) };
        let client = MoqtEndpoint::new(session(end, SessionLimits::default(), &offers, 1), MoqtClient::new(sending));
        let end = EndpointRole::Server { served_path: path, path_in_connect: webtransport };
        let server = MoqtEndpoint::new(session(end, limits, &offers, 2), MoqtEcho::new(echoing));
        Self {
            client,
            server,
            to_client: Direction::default(),
            to_server: Direction::default(),
            now: Time::ZERO,
            random: Rng::new(seed),
            has_faults: false,
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
            let (now, slow, to_server_first) = (self.now, self.client_is_slow, self.random.below(2) == 0);
            let (random, has_faults) = (&mut self.random, self.has_faults);
            // Delivers a random part of a random stream. Returns false if there is nothing to deliver. A slow client reads no groups.
            let mut deliver = |to_server: bool| {
                let direction = if to_server { &mut self.to_server } else { &mut self.to_client };
                let ready = direction.ready(|dir| to_server || !slow || dir == StreamDir::Bi);
                if ready.is_empty() {
                    return false;
                }
                let stream = random.pick(&ready);
                if to_server {
                    direction.deliver(now, (&mut self.client, &mut self.server), stream, (&mut *random, has_faults));
                } else {
                    direction.deliver(now, (&mut self.server, &mut self.client), stream, (&mut *random, has_faults));
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
        let next =
            |peers: &Self| [peers.client.next_deadline(), peers.server.next_deadline()].into_iter().flatten().min();
        while let Some(next) = next(self).filter(|next| *next <= to) {
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.settle();
        }
        self.now = to;
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

/// A session that starts now. If the first offered version has no setup, the session is established.
fn session(role: EndpointRole, limits: SessionLimits, offers: &[MoqtVersion], hop_id: u64) -> Session {
    match offers.first().filter(|version| version.rules().session_code.is_none()) {
        Some(version) => Session::established(role, limits, *version, hop_id),
        None => Session::new(Time::ZERO, role, limits),
    }
}

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
    is_unopened: bool,
    dir: StreamDir,
    pieces: VecDeque<Piece>,
}

/// The actions in flight to one peer, by the stream handles of this peer.
#[derive(Default)]
struct Direction {
    streams: BTreeMap<StreamHandle, StreamQueue>,
    has_closed: bool,
}

/// Converts between the local and the remote handle of a stream.
fn peer_handle(stream: StreamHandle) -> StreamHandle {
    match stream {
        StreamHandle::Local(id) => StreamHandle::Remote(id),
        StreamHandle::Remote(id) => StreamHandle::Local(id),
    }
}

impl Direction {
    fn queue(&mut self, stream: StreamHandle) -> &mut StreamQueue {
        // The receiver opened this stream itself, so the stream is not reported to the receiver as new.
        let known = StreamQueue { is_unopened: false, dir: StreamDir::Bi, pieces: VecDeque::new() };
        self.streams.entry(peer_handle(stream)).or_insert(known)
    }

    /// Queues the actions of `from`. If one of these actions closes the connection, the function returns the close code and reason.
    fn load<A: SessionHandler>(&mut self, from: &mut MoqtEndpoint<A>) -> Option<(u32, String)> {
        let mut closed = None;
        while let Some(action) = from.poll_action() {
            assert!(!self.has_closed, "an action follows the close: {action:?}");
            match action {
                SessionAction::OpenStream(stream, dir) => {
                    let queue = StreamQueue { is_unopened: true, dir, pieces: VecDeque::new() };
                    assert!(self.streams.insert(peer_handle(stream), queue).is_none(), "{stream:?} is opened twice");
                }
                SessionAction::Write(stream, bytes) => {
                    self.queue(stream).pieces.push_back(Piece::Bytes(bytes.to_vec()));
                }
                SessionAction::Finish(stream) => self.queue(stream).pieces.push_back(Piece::Finish),
                SessionAction::Reset(stream, code) => {
                    let queue = self.queue(stream);
                    queue.pieces.clear();
                    queue.pieces.push_back(Piece::Reset(code));
                }
                SessionAction::StopSending(stream, code) => self.queue(stream).pieces.push_front(Piece::Stop(code)),
                SessionAction::Close { code, reason } => {
                    self.has_closed = true;
                    closed = Some((code, reason));
                }
            }
        }
        closed
    }

    /// The streams of the selected kinds that have something in flight.
    fn ready(&self, is_selected: impl Fn(StreamDir) -> bool) -> Vec<StreamHandle> {
        let ready = self.streams.iter().filter(|(_, queue)| !queue.pieces.is_empty() && is_selected(queue.dir));
        ready.map(|(stream, _)| *stream).collect()
    }

    /// Delivers the next piece of a stream from [`Direction::ready`]: an event such as a reset, or the first of the bytes in flight. With
    /// faults, the last of these is sometimes changed, or the stream is reset after them.
    fn deliver<A: SessionHandler, B: SessionHandler>(
        &mut self,
        now: Time,
        (from, to): (&mut MoqtEndpoint<B>, &mut MoqtEndpoint<A>),
        stream: StreamHandle,
        (random, has_faults): (&mut Rng, bool),
    ) {
        let dir = self.streams[&stream].dir;
        // As in QUIC, a new stream also opens all earlier streams of its kind.
        for (earlier, queue) in
            self.streams.range_mut(..=stream).filter(|(_, queue)| queue.dir == dir && queue.is_unopened)
        {
            let StreamHandle::Remote(id) = earlier else { continue };
            queue.is_unopened = false;
            to.update(now, |session| session.on_stream_opened(*id, dir));
        }
        let Some(queue) = self.streams.get_mut(&stream) else { return };
        match queue.pieces.pop_front() {
            Some(Piece::Bytes(mut bytes)) => {
                let len = 1 + random.below(bytes.len() as u64) as usize;
                let rest = bytes.split_off(len.min(bytes.len()));
                from.update(now, |session| session.on_bytes_written(peer_handle(stream), bytes.len()));
                let fault = has_faults.then(|| random.below(40));
                if let (Some(0), Some(last)) = (fault, bytes.last_mut()) {
                    *last ^= 1 + random.below(255) as u8;
                }
                if fault == Some(1) {
                    self.streams.remove(&stream);
                    to.update(now, |session| session.on_stream_data(stream, &bytes));
                    to.update(now, |session| session.on_stream_reset(stream, 0));
                    from.update(now, |session| session.on_stop_sending(peer_handle(stream), 0));
                    return;
                }
                if !rest.is_empty() {
                    queue.pieces.push_front(Piece::Bytes(rest));
                }
                to.update(now, |session| session.on_stream_data(stream, &bytes));
            }
            Some(Piece::Finish) => {
                self.streams.remove(&stream);
                to.update(now, |session| session.on_stream_finished(stream));
            }
            Some(Piece::Reset(code)) => {
                self.streams.remove(&stream);
                to.update(now, |session| session.on_stream_reset(stream, code));
            }
            Some(Piece::Stop(code)) => to.update(now, |session| session.on_stop_sending(stream, code)),
            None => {}
        }
    }
}
