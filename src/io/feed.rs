//! Reads audio ahead on a thread of its own, so that a slow disk never holds up a packet.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread::JoinHandle;

use super::intake::SharedIntake;
use crate::audio::playback::Playback;
use crate::audio::wav::WavError;
use crate::flow::{Pull, Source};
use crate::heard::Taken;

/// Packets read ahead: two thirds of a second at 375 a second.
const AHEAD: usize = 256;

/// A payload, and what had been read of the source when it was made.
struct Frame {
    payload: Vec<u8>,
    taken: Taken,
}

/// The supply, for the node that sends.
pub struct Feed {
    /// The first payload, until it is taken.
    first: Option<Frame>,
    ready: Receiver<Frame>,
    spent: SyncSender<Vec<u8>>,
    /// That of the last payload that was taken.
    taken: Taken,
}

/// The thread that reads.
pub struct Feeder {
    thread: JoinHandle<Result<Option<String>, WavError>>,
}

/// Starts to read `playback` ahead, and returns once the supply is full or at its end.
pub fn start<R: Read + Send + 'static>(mut playback: Playback<R>) -> io::Result<(Feed, Feeder)> {
    let (fill, ready) = mpsc::sync_channel(AHEAD);
    let (spent, reuse) = mpsc::sync_channel::<Vec<u8>>(AHEAD);
    let (primed, is_primed) = mpsc::channel::<()>();
    let intake = SharedIntake::of(playback.input(), playback.replaces_non_finite());
    let taken = intake.taken();
    playback.listen(intake.listener());
    let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
        let mut primed = Some(primed);
        for count in 0.. {
            let mut payload = reuse.try_recv().unwrap_or_default();
            payload.clear();
            if !playback.next_payload(&mut payload)? || fill.send(Frame { payload, taken: intake.taken() }).is_err() {
                break;
            }
            if count + 1 == AHEAD {
                primed = None;
            }
        }
        drop(primed);
        Ok(playback.warning().map(str::to_owned))
    })?;
    // Ends when the sender of this channel is dropped: at a full supply, the end of the audio, or an error.
    let _ = is_primed.recv();
    let first = ready.recv().ok();
    Ok((Feed { first, ready, spent, taken }, Feeder { thread }))
}

impl Feed {
    /// Whether there is nothing left, not even a first payload. To be asked before the first is taken.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl Feeder {
    /// What is to be said of the audio at its end: a warning, or why it could not be read on. The [`Feed`] must be gone.
    ///
    /// # Panics
    /// If the thread did.
    pub fn join(self) -> Result<Option<String>, WavError> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Source for Feed {
    fn next(&mut self, payload: &mut Vec<u8>) -> Pull {
        match self.first.take().map_or_else(|| self.ready.try_recv(), Ok) {
            Ok(frame) => {
                payload.extend_from_slice(&frame.payload);
                self.taken = frame.taken;
                // A full channel only means that the buffer is not needed again.
                let _ = self.spent.try_send(frame.payload);
                Pull::Frame
            }
            Err(TryRecvError::Empty) => Pull::NotYet,
            Err(TryRecvError::Disconnected) => Pull::End,
        }
    }
    fn taken(&self) -> Option<Taken> {
        Some(self.taken)
    }
}
