//! MOQT sessions: a client and a server that are joined in memory. The input decides which stream delivers how many bytes, and which bytes
//! are lost or changed. Buffers stay within their limits, no action follows a close, and an undisturbed run completes with every frame
//! intact.

use std::time::Duration;

use jamjam_dev::moqt::client::{FramePayload, MoqtClient, MoqtClientConfig, MoqtClientEvent, MoqtRunOutcome};
use jamjam_dev::moqt::echo::{MoqtEcho, MoqtEchoConfig};
use jamjam_dev::moqt::{EndpointRole, MoqtEndpoint, MoqtVersion, SessionLimits, StreamDir, StreamHandle};
use jamjam_dev::time::Time;
use test_support::moqt_in_memory::{Direction, Fault, session};

use crate::input::Input;

/// Limits of a run.
const MAX_STEPS: usize = 400;
const MAX_ACTIONS: usize = 4_000;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut peers = Peers::new(&mut input);
    for _ in 0..MAX_STEPS {
        if input.is_empty() || peers.is_closed {
            break;
        }
        peers.step(&mut input);
    }
    peers.finish();
}

struct Peers {
    client: MoqtEndpoint<MoqtClient>,
    server: MoqtEndpoint<MoqtEcho>,
    to_client: Direction,
    to_server: Direction,
    now: Time,
    is_closed: bool,
    has_fault: bool,
    max_buffered_bytes: usize,
    /// Time that passed while bytes were in flight.
    paused: Duration,
    frames: usize,
    returned: usize,
}

impl Peers {
    fn new(input: &mut Input<'_>) -> Self {
        let config = input.byte();
        let offered_versions = match config & 3 {
            0 => vec![MoqtVersion::Gomoqt202502],
            1 => vec![MoqtVersion::Gomoqt09],
            2 => vec![MoqtVersion::Gomoqt202502, MoqtVersion::Gomoqt09],
            _ if config & 4 == 0 => vec![MoqtVersion::Lite04],
            _ => vec![MoqtVersion::Lite03],
        };
        let path_in_connect = config & 4 != 0;
        let (groups, frames_per_group) = (1 + u64::from(config >> 6), 1 + usize::from(config >> 4 & 3));
        let sending = MoqtClientConfig {
            group_count: Some(groups),
            frames_per_group,
            group_interval: Duration::from_millis(20),
            payload: FramePayload::Random(8 * usize::from(input.byte())),
            ..MoqtClientConfig::default()
        };
        let is_tight = config & 8 != 0;
        let echoing = MoqtEchoConfig {
            delay: Duration::from_millis(u64::from(input.byte())),
            max_buffered_bytes: if is_tight { 3 << 10 } else { 4 << 20 },
        };
        let limits = SessionLimits {
            max_bidi_streams: 4,
            max_incoming_groups: if is_tight { 2 } else { 8 },
            max_announcements: 2,
            max_subscriptions: 2,
            max_reassembly_bytes: if is_tight { 2 << 10 } else { 16 << 10 },
            max_outgoing_groups: if is_tight { 2 } else { 8 },
            max_unsent_group_bytes: if is_tight { 400 } else { 1 << 20 },
            ..SessionLimits::default()
        };
        let path = if config & 0x30 == 0x30 && groups == 4 { "/other" } else { "/echo" };
        let offers = offered_versions.clone();
        let end = EndpointRole::Client { offered_versions, path: path.to_owned(), path_in_connect };
        let client = MoqtEndpoint::new(session(end, SessionLimits::default(), &offers, 1), MoqtClient::new(sending));
        let max_buffered_bytes = echoing.max_buffered_bytes;
        let connect_path = path_in_connect.then(|| path.to_owned());
        let end = EndpointRole::Server { served_path: "/echo".to_owned(), connect_path };
        let server = MoqtEndpoint::new(session(end, limits, &offers, 2), MoqtEcho::new(echoing));
        let mut peers = Self {
            client,
            server,
            to_client: Direction::default(),
            to_server: Direction::default(),
            now: Time::ZERO,
            is_closed: false,
            has_fault: is_tight || path == "/other",
            max_buffered_bytes,
            paused: Duration::ZERO,
            frames: groups as usize * frames_per_group,
            returned: 0,
        };
        peers.advance(Duration::ZERO);
        peers
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let operation = input.byte();
        let (index, len) = (usize::from(operation >> 4), 1 + usize::from(input.byte()));
        match operation & 15 {
            0..=4 => drop(self.deliver(true, index, len, Fault::None)),
            5..=9 => drop(self.deliver(false, index, len, Fault::None)),
            10 => {
                let pause = Duration::from_millis(len as u64 * (1 + index as u64));
                self.paused += pause;
                self.advance(pause);
            }
            11 => self.faulty(index & 1 == 0, index, len, Fault::Truncated),
            12 => self.faulty(index & 1 == 0, index, len, Fault::Changed(input.byte())),
            13 => self.foreign_stream(index, input),
            14 => {
                self.has_fault = true;
                let stream =
                    if index & 1 == 0 { StreamHandle::Local(len as u64) } else { StreamHandle::Remote(len as u64) };
                self.server.update(self.now, |session| session.on_stop_sending(stream, 1));
                self.client.update(self.now, |session| session.on_bytes_written(stream, len));
            }
            _ => {
                while !self.is_closed
                    && (self.deliver(true, 0, len, Fault::None) || self.deliver(false, 0, len, Fault::None))
                {
                }
            }
        }
        self.load();
    }

    fn faulty(&mut self, to_server: bool, index: usize, len: usize, fault: Fault) {
        self.has_fault = true;
        self.deliver(to_server, index, len, fault);
    }

    /// A stream that the client's application did not open, with arbitrary bytes.
    fn foreign_stream(&mut self, index: usize, input: &mut Input<'_>) {
        self.has_fault = true;
        let id = 1_000 + u64::from(input.byte());
        let dir = if index & 1 == 0 { StreamDir::Bi } else { StreamDir::Uni };
        let bytes = input.bytes(4 * index);
        let stream = StreamHandle::Remote(id);
        if index & 2 == 0 {
            self.server.update(self.now, |session| session.on_stream_opened(id, dir));
            self.server.update(self.now, |session| session.on_stream_data(stream, bytes));
            if index & 4 == 0 {
                self.server.update(self.now, |session| session.on_stream_finished(stream));
            }
        } else {
            self.client.update(self.now, |session| session.on_stream_opened(id, dir));
            self.client.update(self.now, |session| session.on_stream_data(stream, bytes));
        }
    }

    fn deliver(&mut self, to_server: bool, index: usize, len: usize, fault: Fault) -> bool {
        self.load();
        if self.is_closed {
            return false;
        }
        let direction = if to_server { &mut self.to_server } else { &mut self.to_client };
        let ready = direction.ready(|_| true);
        if ready.is_empty() {
            return false;
        }
        let selected = (ready[index % ready.len()], |_| len);
        if to_server {
            direction.deliver(self.now, (&mut self.client, &mut self.server), selected, fault);
        } else {
            direction.deliver(self.now, (&mut self.server, &mut self.client), selected, fault);
        }
        self.load();
        true
    }

    /// Exchanges the actions, and checks the state of both ends.
    fn load(&mut self) {
        let closed_by_client = self.to_server.load(&mut self.client);
        let closed_by_server = self.to_client.load(&mut self.server);
        assert!(self.to_server.actions.max(self.to_client.actions) <= MAX_ACTIONS, "too many actions");
        while let Some(event) = self.client.handler.poll_event() {
            if let MoqtClientEvent::FrameReturned { sent_at: Some(_), intact, payload, .. } = event {
                assert!(intact || self.has_fault, "a frame is damaged: {payload:?}");
                self.returned += 1;
            }
        }
        assert!(self.returned <= self.frames);
        assert!(self.server.handler.buffered_bytes() <= self.max_buffered_bytes);
        if let Some((code, reason)) = closed_by_client {
            self.is_closed = true;
            self.server.update(self.now, |session| session.on_connection_closed(code, &reason));
        }
        if let Some((code, reason)) = closed_by_server {
            self.is_closed = true;
            self.client.update(self.now, |session| session.on_connection_closed(code, &reason));
        }
        if self.is_closed {
            assert!(self.client.session.is_closed() && self.server.session.is_closed());
            assert!(self.client.next_deadline().is_none() && self.server.next_deadline().is_none());
        }
    }

    fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut turns = 0;
        while let Some(next) = self.next_deadline().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.load();
            turns += 1;
            assert!(turns < 500, "the deadline {next:?} does not move forward");
        }
        self.now = until;
    }

    fn next_deadline(&self) -> Option<Time> {
        [self.client.next_deadline(), self.server.next_deadline()].into_iter().flatten().min()
    }

    /// Delivers everything, and lets time pass until the run ends.
    fn finish(mut self) {
        self.load();
        for _ in 0..2_000 {
            while !self.is_closed
                && (self.deliver(true, 0, 1 << 20, Fault::None) || self.deliver(false, 0, 1 << 20, Fault::None))
            {
            }
            match self.next_deadline() {
                Some(next) if !self.is_closed => self.advance(next - self.now),
                _ => break,
            }
        }
        assert!(self.is_closed, "the run does not end");
        let is_late = self.paused > Duration::from_secs(1);
        let outcome = self.client.handler.outcome().cloned();
        if !self.has_fault && !is_late {
            assert_eq!((outcome, self.returned), (Some(MoqtRunOutcome::Completed), self.frames));
        } else {
            assert!(outcome.is_some(), "the client has no outcome");
        }
    }
}
