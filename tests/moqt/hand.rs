//! One end of a session, with the other end played by hand.

use std::collections::BTreeMap;

use jamjam_dev::moqt::{Action, Application, Counts, Kind, Peer, Stream};
use jamjam_dev::time::Time;

/// One end, and all that it has done.
pub(crate) struct Hand<A> {
    pub(crate) peer: Peer<A>,
    pub(crate) now: Time,
    /// Whether what is written is taken by the transport.
    pub(crate) takes: bool,
    pub(crate) written: BTreeMap<Stream, Vec<u8>>,
    pub(crate) opened: Vec<(Stream, Kind)>,
    pub(crate) finished: Vec<Stream>,
    pub(crate) reset: Vec<(Stream, u32)>,
    pub(crate) stopped: Vec<(Stream, u32)>,
    pub(crate) closed: Option<(u32, String)>,
    pub(crate) counts: Counts,
}

impl<A: Application> Hand<A> {
    pub(crate) fn new(peer: Peer<A>) -> Self {
        let mut hand = Self {
            peer,
            now: Time::ZERO,
            takes: true,
            written: BTreeMap::new(),
            opened: Vec::new(),
            finished: Vec::new(),
            reset: Vec::new(),
            stopped: Vec::new(),
            closed: None,
            counts: Counts::default(),
        };
        hand.act();
        hand
    }

    /// Does what the peer wants done.
    pub(crate) fn act(&mut self) {
        while let Some(action) = self.peer.poll_action() {
            assert_eq!(self.closed, None, "{action:?} after the end");
            match action {
                Action::Open(stream, kind) => self.opened.push((stream, kind)),
                Action::Write(stream, bytes) => {
                    self.written.entry(stream).or_default().extend_from_slice(&bytes);
                    if self.takes {
                        self.peer.on_taken(self.now, stream, bytes.len());
                    }
                }
                Action::Finish(stream) => self.finished.push(stream),
                Action::Reset(stream, code) => self.reset.push((stream, code)),
                Action::Stop(stream, code) => self.stopped.push((stream, code)),
                Action::Close { code, reason } => self.closed = Some((code, reason)),
            }
        }
        self.counts.add(&self.peer.take_counts());
    }

    /// The other end opens a stream and writes to it.
    pub(crate) fn open(&mut self, id: u64, kind: Kind, bytes: &[u8]) -> Stream {
        self.peer.on_open(self.now, id, kind);
        self.say(Stream::Theirs(id), bytes);
        Stream::Theirs(id)
    }

    pub(crate) fn say(&mut self, stream: Stream, bytes: &[u8]) {
        self.peer.on_bytes(self.now, stream, bytes);
        self.act();
    }

    pub(crate) fn finish(&mut self, stream: Stream) {
        self.peer.on_finish(self.now, stream);
        self.act();
    }

    pub(crate) fn reset(&mut self, stream: Stream, code: u32) {
        self.peer.on_reset(self.now, stream, code);
        self.act();
    }

    /// Lets the time pass until `to`, with every deadline on the way kept.
    pub(crate) fn until(&mut self, to: Time) {
        while let Some(deadline) = self.peer.next_deadline().filter(|deadline| *deadline <= to) {
            self.now = self.now.max(deadline);
            self.peer.on_time(self.now);
            self.act();
        }
        self.now = to;
    }

    /// What was written to a stream since this was asked last.
    pub(crate) fn heard(&mut self, stream: Stream) -> Vec<u8> {
        self.written.remove(&stream).unwrap_or_default()
    }

    /// The code with which the connection was closed, and why.
    pub(crate) fn closed(&self) -> (u32, &str) {
        self.closed.as_ref().map(|(code, reason)| (*code, reason.as_str())).expect("it is closed")
    }
}
