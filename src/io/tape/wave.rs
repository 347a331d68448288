//! A WAV file that is written by seeking: each packet at its place in time, in any order, and what is never written stays
//! zero, which is silence.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::audio::pcm_out::{SampleFormat, header};
use crate::flow::Form;

/// A file that is being written.
pub(super) struct Wave {
    file: File,
    format: SampleFormat,
    rate: u32,
    channels: u16,
    /// Samples a channel in each packet but the last.
    frame_samples: u32,
    /// Samples a channel from the start to the end of what was written so far.
    end: u64,
    /// Packets beyond what such a file can hold.
    left_out: u64,
    /// What went wrong first. Nothing is written from then on.
    broken: Option<io::Error>,
    /// What is being written: the samples, and all channels with them among.
    bytes: Vec<u8>,
    woven: Vec<u8>,
}

/// What a finished file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Samples a channel.
    pub samples: u64,
    /// Packets that were left out because such a file holds no more.
    pub left_out: u64,
}

/// A file that did not become what it should.
#[derive(Debug)]
pub struct Unfinished {
    error: io::Error,
    /// Samples a channel that it holds, from the first one on, and how many there are in a second; `None` where its header could
    /// not be made to tell.
    there: Option<(u64, u32)>,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.there {
            Some((samples, rate)) => {
                let seconds = samples as f64 / f64::from(rate);
                write!(f, "{}; the file holds the first {seconds:.3} s, {samples} samples", self.error)
            }
            None => write!(f, "{}; nor can its header, so that the file looks empty", self.error),
        }
    }
}

impl std::error::Error for Unfinished {}

impl Wave {
    /// Creates the file with a header.
    pub(super) fn create(path: &Path, format: SampleFormat, channels: u16, form: Form) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        // A pipe, a terminal or the like fails before anything is measured, though some would take it all.
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no regular file, and packets are written in any order",
            ));
        }
        let Form { sample_rate: rate, frame_samples, .. } = form;
        file.write_all(&header(format, rate, channels, 0))?;
        Ok(Self {
            file,
            format,
            rate,
            channels,
            frame_samples,
            end: 0,
            left_out: 0,
            broken: None,
            bytes: Vec::new(),
            woven: Vec::new(),
        })
    }

    /// Bytes of one sample of every channel.
    fn frame_bytes(&self) -> u64 {
        u64::from(self.channels) * self.format.bytes_per_sample() as u64
    }

    /// Most samples a channel that a WAV file can hold: its lengths are 32 bits wide.
    fn most_samples(&self) -> u64 {
        (u64::from(u32::MAX) - 1_024) / self.frame_bytes()
    }

    /// Writes the samples of a packet, of every channel.
    pub(super) fn put(&mut self, index: u64, samples: &[f32]) {
        self.encode(samples);
        self.at(index, (samples.len() / usize::from(self.channels.max(1))) as u64, |wave, start| {
            wave.file.seek(start)?;
            wave.file.write_all(&wave.bytes)
        });
    }

    /// Writes the samples of one channel of a packet between those of the others.
    pub(super) fn put_channel(&mut self, index: u64, channel: usize, samples: &[f32]) {
        self.encode(samples);
        self.at(index, samples.len() as u64, |wave, start| {
            let (frame, sample) = (wave.frame_bytes() as usize, wave.format.bytes_per_sample());
            let there = samples.len() * frame;
            wave.woven.clear();
            wave.file.seek(start)?;
            (&wave.file).take(there as u64).read_to_end(&mut wave.woven)?;
            wave.woven.resize(there, 0);
            for (woven, bytes) in wave.woven.chunks_exact_mut(frame).zip(wave.bytes.chunks_exact(sample)) {
                woven[channel * sample..][..sample].copy_from_slice(bytes);
            }
            wave.file.seek(start)?;
            wave.file.write_all(&wave.woven)
        });
    }

    fn encode(&mut self, samples: &[f32]) {
        self.bytes.clear();
        self.format.encode(samples, &mut self.bytes);
    }

    /// Has `write` write a packet of so many samples a channel, if the file holds it; it is told where.
    fn at(&mut self, index: u64, samples: u64, write: impl FnOnce(&mut Self, SeekFrom) -> io::Result<()>) {
        let position = index.saturating_mul(u64::from(self.frame_samples));
        if position.saturating_add(samples) > self.most_samples() {
            self.left_out += 1;
        } else if self.broken.is_none() {
            let start = SeekFrom::Start(self.format.header_len() as u64 + position * self.frame_bytes());
            match write(self, start) {
                Ok(()) => self.end = self.end.max(position + samples),
                Err(error) => self.broken = Some(error),
            }
        }
    }

    /// Completes the file for `sent` samples a channel.
    pub(super) fn finish(mut self, sent: u64) -> Result<Kept, Unfinished> {
        let samples = sent.min(self.most_samples());
        let whole = match self.broken.take() {
            Some(error) => Err(error),
            None => self.close(samples),
        };
        match whole {
            Ok(()) => Ok(Kept { samples, left_out: self.left_out }),
            Err(error) => {
                let there = self.end.min(samples);
                Err(Unfinished { error, there: self.close(there).ok().map(|()| (there, self.rate)) })
            }
        }
    }

    fn close(&mut self, samples: u64) -> io::Result<()> {
        let data = samples * self.frame_bytes();
        // An odd number of bytes is followed by one of padding.
        self.file.set_len(self.format.header_len() as u64 + data + data % 2)?;
        self.file.rewind()?;
        self.file.write_all(&header(self.format, self.rate, self.channels, data as u32))?;
        self.file.sync_all()
    }
}
