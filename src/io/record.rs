//! Writes what came back as a WAV file: each packet at its place in time, gaps as silence.
//!
//! A packet's place is its index in sending order, so order of arrival does not matter: the file is written by seeking,
//! and what is never written stays zero.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use crate::audio::payload;
use crate::audio::pcm_out::{SampleFormat, header};
use crate::flow::run::StreamKind;
use crate::flow::{Fact, Fate, Observer};
use crate::stats::Count;

/// Packets on their way to the file.
const QUEUE: usize = 1_024;

/// The form of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How samples are written.
    pub format: SampleFormat,
    /// Samples a second.
    pub rate: u32,
    /// Interleaved channels.
    pub channels: u16,
    /// Samples a channel in each packet but the last.
    pub frame_samples: u32,
}

impl Shape {
    fn frame_bytes(self) -> u64 {
        u64::from(self.channels) * self.format.bytes_per_sample() as u64
    }

    /// Most samples a channel that a WAV file can hold: its lengths are 32 bits wide.
    fn most_samples(self) -> u64 {
        (u64::from(u32::MAX) - 1_024) / self.frame_bytes()
    }
}

/// Takes returned packets from the node's thread.
pub struct Recorder {
    queue: SyncSender<(u64, Vec<u8>)>,
    reuse: Receiver<Vec<u8>>,
    dropped: Arc<Count>,
}

/// The thread that writes.
pub struct Recording {
    shape: Shape,
    /// Packets that the queue had no room for, or that came after the disk failed.
    dropped: Arc<Count>,
    thread: JoinHandle<io::Result<Written>>,
}

/// A finished recording.
struct Written {
    file: File,
    left_out: u64,
}

/// Creates the file and starts to write.
pub fn start(path: &Path, shape: Shape) -> io::Result<(Recorder, Recording)> {
    let mut file = File::create(path)?;
    file.write_all(&header(shape.format, shape.rate, shape.channels, 0))?;
    // A pipe or a terminal fails here, before anything is measured.
    file.rewind()?;
    let (queue, packets) = mpsc::sync_channel::<(u64, Vec<u8>)>(QUEUE);
    let (spent, reuse) = mpsc::sync_channel(QUEUE);
    let thread = std::thread::Builder::new().name("record".to_owned()).spawn(move || {
        let (mut samples, mut bytes, mut left_out) = (Vec::new(), Vec::new(), 0);
        for (index, payload) in packets {
            let position = index * u64::from(shape.frame_samples);
            if position + u64::from(shape.frame_samples) > shape.most_samples() {
                left_out += 1;
                continue;
            }
            samples.clear();
            bytes.clear();
            samples.extend(payload::decode(&payload).into_iter().flatten());
            shape.format.encode(&samples, &mut bytes);
            file.seek(SeekFrom::Start(shape.format.header_len() as u64 + position * shape.frame_bytes()))?;
            file.write_all(&bytes)?;
            // A full channel only means that the buffer is not needed again.
            let _ = spent.try_send(payload);
        }
        Ok(Written { file, left_out })
    })?;
    let dropped = Arc::<Count>::default();
    Ok((Recorder { queue, reuse, dropped: Arc::clone(&dropped) }, Recording { shape, dropped, thread }))
}

impl Recording {
    /// Completes the file for `sent` samples a channel: what has not come back is silence, at the end too. Returns the samples
    /// a channel that the file holds and how many packets it had to leave out. The [`Recorder`] must be gone.
    ///
    /// # Panics
    /// If the thread did.
    pub fn finish(self, sent: u64) -> io::Result<(u64, u64)> {
        let Written { mut file, left_out } =
            self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let Shape { format, rate, channels, .. } = self.shape;
        let samples = sent.min(self.shape.most_samples());
        let data = samples * self.shape.frame_bytes();
        // An odd number of bytes is followed by one of padding.
        file.set_len(format.header_len() as u64 + data + data % 2)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header(format, rate, channels, data as u32))?;
        file.sync_all()?;
        Ok((samples, left_out + self.dropped.get()))
    }
}

impl Observer for Recorder {
    fn on_fact(&mut self, fact: Fact<'_>) {
        if fact.stream != StreamKind::Audio || !matches!(fact.fate, Fate::Returned | Fate::Late) {
            return;
        }
        let mut payload = self.reuse.try_recv().unwrap_or_default();
        payload.clear();
        payload.extend_from_slice(fact.payload);
        if self.queue.try_send((fact.index, payload)).is_err() {
            self.dropped.add(1);
        }
    }
}
