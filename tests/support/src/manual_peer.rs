//! One end of a MOQT session; the test acts as the other end.

use std::collections::BTreeMap;

use jamjam_core::time::Time;
use jamjam_moqt::{MoqtEndpoint, SessionAction, SessionCounters, SessionHandler, StreamDir, StreamHandle};

/// One end of a session, and a record of everything that it has done.
pub struct ManualPeer<A> {
    pub peer: MoqtEndpoint<A>,
    pub now: Time,
    /// Whether the transport accepts written bytes.
    pub accepts_writes: bool,
    pub written: BTreeMap<StreamHandle, Vec<u8>>,
    pub opened: Vec<(StreamHandle, StreamDir)>,
    pub finished: Vec<StreamHandle>,
    pub reset: Vec<(StreamHandle, u32)>,
    pub stopped: Vec<(StreamHandle, u32)>,
    pub closed: Option<(u32, String)>,
    pub counts: SessionCounters,
}

impl<A: SessionHandler> ManualPeer<A> {
    pub fn new(peer: MoqtEndpoint<A>) -> Self {
        let mut manual_peer = Self {
            peer,
            now: Time::ZERO,
            accepts_writes: true,
            written: BTreeMap::new(),
            opened: Vec::new(),
            finished: Vec::new(),
            reset: Vec::new(),
            stopped: Vec::new(),
            closed: None,
            counts: SessionCounters::default(),
        };
        manual_peer.act();
        manual_peer.until(Time::ZERO);
        manual_peer
    }

    pub fn act(&mut self) {
        while let Some(action) = self.peer.poll_action() {
            assert_eq!(self.closed, None, "{action:?} after the end");
            match action {
                SessionAction::OpenStream(stream, kind) => self.opened.push((stream, kind)),
                SessionAction::Write(stream, bytes) => {
                    self.written.entry(stream).or_default().extend_from_slice(&bytes);
                    if self.accepts_writes {
                        self.peer.update(self.now, |session| session.on_bytes_written(stream, bytes.len()));
                    }
                }
                SessionAction::Finish(stream) => self.finished.push(stream),
                SessionAction::Reset(stream, code) => self.reset.push((stream, code)),
                SessionAction::StopSending(stream, code) => self.stopped.push((stream, code)),
                SessionAction::Close { code, reason } => self.closed = Some((code, reason)),
            }
        }
        self.counts.add(&self.peer.take_counters());
    }

    /// The other end opens a stream and sends bytes on it.
    pub fn open(&mut self, id: u64, kind: StreamDir, bytes: &[u8]) -> StreamHandle {
        self.peer.update(self.now, |session| session.on_stream_opened(id, kind));
        self.deliver(StreamHandle::Remote(id), bytes);
        StreamHandle::Remote(id)
    }

    pub fn deliver(&mut self, stream: StreamHandle, bytes: &[u8]) {
        self.peer.update(self.now, |session| session.on_stream_data(stream, bytes));
        self.act();
    }

    pub fn finish(&mut self, stream: StreamHandle) {
        self.peer.update(self.now, |session| session.on_stream_finished(stream));
        self.act();
    }

    pub fn reset(&mut self, stream: StreamHandle, code: u32) {
        self.peer.update(self.now, |session| session.on_stream_reset(stream, code));
        self.act();
    }

    /// Handles every deadline up to `to`, then sets the time to `to`.
    pub fn until(&mut self, to: Time) {
        while let Some(deadline) = self.peer.next_deadline().filter(|deadline| *deadline <= to) {
            self.now = self.now.max(deadline);
            self.peer.handle_timeout(self.now);
            self.act();
        }
        self.now = to;
    }

    pub fn take_written(&mut self, stream: StreamHandle) -> Vec<u8> {
        self.written.remove(&stream).unwrap_or_default()
    }

    pub fn closed(&self) -> (u32, &str) {
        self.closed.as_ref().map(|(code, reason)| (*code, reason.as_str())).expect("the connection is closed")
    }
}
