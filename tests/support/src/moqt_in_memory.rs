//! The streams between two MOQT endpoints in memory. The test selects which stream delivers next, how much of it, and which fault occurs.

use std::collections::{BTreeMap, VecDeque};

use jamjam_core::time::Time;
use jamjam_moqt::{
    EndpointRole, MoqtEndpoint, MoqtVersion, Session, SessionAction, SessionHandler, SessionLimits, StreamDir,
    StreamHandle,
};

/// A session that starts now. If the first offered version has no setup, the session is established.
pub fn session(role: EndpointRole, limits: SessionLimits, offers: &[MoqtVersion], hop_id: u64) -> Session {
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

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The rest of the piece is lost, and the stream is reset.
    Truncated,
    /// The last byte is changed.
    Changed(u8),
}

/// The actions in flight to one peer, by the stream handles of this peer.
#[derive(Default)]
pub struct Direction {
    streams: BTreeMap<StreamHandle, StreamQueue>,
    pub actions: usize,
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
    pub fn load<A: SessionHandler>(&mut self, from: &mut MoqtEndpoint<A>) -> Option<(u32, String)> {
        let mut closed = None;
        while let Some(action) = from.poll_action() {
            assert!(!self.has_closed, "an action follows the close: {action:?}");
            self.actions += 1;
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
    pub fn ready(&self, is_selected: impl Fn(StreamDir) -> bool) -> Vec<StreamHandle> {
        let ready = self.streams.iter().filter(|(_, queue)| !queue.pieces.is_empty() && is_selected(queue.dir));
        ready.map(|(stream, _)| *stream).collect()
    }

    /// Delivers the next piece of a stream from [`Direction::ready`]. A piece is either data or an event, for example a stream reset. Of
    /// data with `n` bytes, the first `len(n)` are delivered, at least one. The remaining bytes stay at the front of the queue.
    pub fn deliver<A: SessionHandler, B: SessionHandler>(
        &mut self,
        now: Time,
        (from, to): (&mut MoqtEndpoint<B>, &mut MoqtEndpoint<A>),
        (stream, len): (StreamHandle, impl FnOnce(usize) -> usize),
        fault: Fault,
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
                let rest = bytes.split_off(bytes.len().min(len(bytes.len()).max(1)));
                from.update(now, |session| session.on_bytes_written(peer_handle(stream), bytes.len()));
                if let (Fault::Changed(by), Some(last)) = (fault, bytes.last_mut()) {
                    *last ^= by;
                }
                if fault == Fault::Truncated {
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
