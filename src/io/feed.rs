//! Reads audio ahead on a thread of its own, so that a slow disk never holds up a packet.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread::JoinHandle;

use crate::audio::playback::Playback;
use crate::audio::wav::WavError;
use crate::flow::{Pull, Source};

/// Packets read ahead: two thirds of a second at 375 a second.
const AHEAD: usize = 256;

/// The supply, for the node that sends.
pub struct Feed {
    /// The first payload, until it is taken.
    first: Option<Vec<u8>>,
    ready: Receiver<Vec<u8>>,
    spent: SyncSender<Vec<u8>>,
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
    let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
        let mut primed = Some(primed);
        for count in 0.. {
            let mut payload = reuse.try_recv().unwrap_or_default();
            payload.clear();
            if !playback.next_payload(&mut payload)? || fill.send(payload).is_err() {
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
    Ok((Feed { first, ready, spent }, Feeder { thread }))
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
                payload.extend_from_slice(&frame);
                // A full channel only means that the buffer is not needed again.
                let _ = self.spent.try_send(frame);
                Pull::Frame
            }
            Err(TryRecvError::Empty) => Pull::NotYet,
            Err(TryRecvError::Disconnected) => Pull::End,
        }
    }
}
