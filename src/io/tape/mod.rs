//! What was sent and what came back, as sound, for whoever listens to both: a recording, say.
//!
//! The node's thread hands each packet over and goes on: a bounded queue, in buffers that come back and are made
//! beforehand, and a packet for which there is no room is dropped and counted. Another thread takes them out, makes samples of
//! them once, and lets its [`Hearers`] hear them one after the other. It looks for them at intervals, so that nobody has to wake it. What a hearer is
//! told comes in the order in which it happened: what was sent by index, what came back in any order.

mod both;
mod recording;
mod wave;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::audio::payload;
use crate::audio::picture::Picture;
use crate::flow::run::StreamKind;
use crate::flow::{Fact, Fate, Form, Observer, Sent};
use crate::heard::{Came, Ear};
use crate::stats::Count;

pub use both::Both;
pub use recording::Recording;
pub use wave::{Kept, Unfinished};

/// Packets on their way, of both sides: at 48 kHz and 128 samples a packet those of 2.7 seconds.
const QUEUE: usize = 2_048;

/// How long the thread sleeps once it has heard everything.
const PAUSE: Duration = Duration::from_millis(5);

/// What is heard of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It was sent.
    Sent,
    /// It came back whole, in time.
    Returned,
    /// It came back whole, after more than `--late-after`.
    Late,
    /// It came back with other bytes.
    Changed,
    /// It will not come back. What was on its way when the run was cut short is not missing.
    Missing,
}

/// Whoever listens: those that are wanted, and the ear.
pub struct Hearers {
    /// `--record`.
    pub recording: Option<Recording>,
    /// `--record-both`.
    pub both: Option<Both>,
    /// `--html`.
    pub picture: Option<Picture>,
    /// For the report.
    pub ear: Ear,
}

impl Hearers {
    /// Of [`Side::Missing`] there are no samples.
    fn hear(&mut self, side: Side, index: u64, samples: &[f32]) {
        if let (Some(recording), Side::Returned | Side::Late) = (&mut self.recording, side) {
            recording.on_returned(index, samples);
        }
        match (&mut self.both, side) {
            (Some(both), Side::Sent) => both.on_sent(index, samples),
            (Some(both), Side::Returned | Side::Late) => both.on_returned(index, samples),
            _ => {}
        }
        match side {
            Side::Sent => self.ear.on_sent(index, samples),
            Side::Returned => self.ear.on_returned(index, samples, Came::Whole),
            Side::Late => self.ear.on_returned(index, samples, Came::Late),
            Side::Changed => self.ear.on_returned(index, samples, Came::Changed),
            Side::Missing => self.ear.on_missing(index),
        }
        let Some(picture) = &mut self.picture else { return };
        match side {
            Side::Sent => picture.on_sent(index, samples),
            Side::Returned => picture.on_returned(index, samples),
            // A listener does not wait.
            Side::Late => {
                picture.on_returned(index, samples);
                picture.on_missing(index);
            }
            // What came back changed is not shown, nor missed.
            Side::Changed => {}
            Side::Missing => picture.on_missing(index),
        }
    }
}

struct Packet {
    side: Side,
    index: u64,
    payload: Vec<u8>,
}

/// What there was no room for, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Of what was sent.
    pub sent: u64,
    /// Of what came back whole.
    pub returned: u64,
    /// Of what came back changed.
    pub changed: u64,
    /// Of what is missing.
    pub missing: u64,
}

#[derive(Default)]
struct Drops {
    sent: Count,
    returned: Count,
    changed: Count,
    missing: Count,
}

impl Drops {
    fn of(&self, side: Side) -> &Count {
        match side {
            Side::Sent => &self.sent,
            Side::Returned | Side::Late => &self.returned,
            Side::Changed => &self.changed,
            Side::Missing => &self.missing,
        }
    }
}

/// The node's end.
pub struct Head {
    queue: SyncSender<Packet>,
    spent: Receiver<Vec<u8>>,
    /// The buffer of what was dropped last.
    spare: Option<Vec<u8>>,
    drops: Arc<Drops>,
}

/// The main thread's end. As an [`Observer`] it takes what is decided when the run is over, and waits where there is no room.
pub struct Tape {
    queue: SyncSender<Packet>,
    drops: Arc<Drops>,
    thread: JoinHandle<Hearers>,
}

/// Starts the thread. `form` is that of the AUDIO packets.
pub fn start(mut hearers: Hearers, form: Form) -> io::Result<(Head, Tape)> {
    let (queue, packets) = mpsc::sync_channel::<Packet>(QUEUE);
    // One packet more is being heard, and one is being refused.
    let (give_back, spent) = mpsc::sync_channel(QUEUE + 2);
    let payload_bytes = form.frame_samples as usize * usize::from(form.channels) * payload::BYTES_PER_SAMPLE;
    for _ in 0..QUEUE + 2 {
        // There is room.
        let _ = give_back.try_send(Vec::with_capacity(payload_bytes));
    }
    let thread = std::thread::Builder::new().name("tape".to_owned()).spawn(move || {
        let mut samples = Vec::new();
        loop {
            match packets.try_recv() {
                Ok(Packet { side, index, payload }) => {
                    samples.clear();
                    samples.extend(payload::decode(&payload).into_iter().flatten());
                    hearers.hear(side, index, &samples);
                    // Of what the main thread sent there may be no room, nor need.
                    let _ = give_back.try_send(payload);
                }
                Err(TryRecvError::Empty) => std::thread::sleep(PAUSE),
                Err(TryRecvError::Disconnected) => return hearers,
            }
        }
    })?;
    let drops = Arc::<Drops>::default();
    Ok((Head { queue: queue.clone(), spent, spare: None, drops: Arc::clone(&drops) }, Tape { queue, drops, thread }))
}

impl Tape {
    /// The hearers, once they have heard all, and what they could not hear. The [`Head`] must be gone.
    ///
    /// # Panics
    /// If the thread did.
    pub fn finish(self) -> (Hearers, Dropped) {
        let Self { queue, drops, thread } = self;
        drop(queue);
        let hearers = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let Drops { sent, returned, changed, missing } = &*drops;
        (
            hearers,
            Dropped { sent: sent.get(), returned: returned.get(), changed: changed.get(), missing: missing.get() },
        )
    }
}

impl Head {
    fn put(&mut self, side: Side, index: u64, bytes: &[u8]) {
        let mut payload = self.spare.take().or_else(|| self.spent.try_recv().ok()).unwrap_or_default();
        payload.clear();
        payload.extend_from_slice(bytes);
        match self.queue.try_send(Packet { side, index, payload }) {
            Ok(()) => {}
            Err(TrySendError::Full(packet) | TrySendError::Disconnected(packet)) => {
                self.spare = Some(packet.payload);
                self.drops.of(side).add(1);
            }
        }
    }
}

/// What a fact says to those who listen, if anything: a further copy is nothing new.
fn side(fact: &Fact<'_>) -> Option<Side> {
    match (fact.stream, fact.fate) {
        (StreamKind::Audio, Fate::Returned) => Some(Side::Returned),
        (StreamKind::Audio, Fate::Late) => Some(Side::Late),
        (StreamKind::Audio, Fate::Damaged) => Some(Side::Changed),
        (StreamKind::Audio, Fate::Lost) => Some(Side::Missing),
        _ => None,
    }
}

impl Observer for Head {
    fn on_sent(&mut self, sent: Sent<'_>) {
        self.put(Side::Sent, sent.index, sent.payload);
    }

    fn on_fact(&mut self, fact: Fact<'_>) {
        if let Some(side) = side(&fact) {
            self.put(side, fact.index, fact.payload);
        }
    }
}

impl Observer for Tape {
    fn on_fact(&mut self, fact: Fact<'_>) {
        if let Some(side) = side(&fact)
            && self.queue.send(Packet { side, index: fact.index, payload: fact.payload.to_vec() }).is_err()
        {
            self.drops.of(side).add(1);
        }
    }
}
