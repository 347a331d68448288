//! Where the payloads of AUDIO packets come from.

use std::time::Duration;

use super::capture::CaptureRun;
use crate::heard::Taken;
use crate::node::Bell;

/// What a [`Source`] had to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// The payload of the next packet was appended.
    Frame,
    /// The next one is not ready yet.
    NotYet,
    /// There are no more.
    End,
}

/// A supply of payloads, one a packet, each of the stream's frame length; the last may be shorter.
///
/// One that is *live* makes sound at its own pace: a packet is due when its last sample is there, not by a schedule, and one
/// that is not there is not missed.
pub trait Source {
    /// Appends the next payload to `payload`.
    fn next(&mut self, payload: &mut Vec<u8>) -> Pull;

    /// The first packet is due now: a live source begins to listen.
    fn start(&mut self) {}

    /// `Some`: it is live. How long ago the last sample of what [`Source::next`] has just appended was there.
    fn age(&self) -> Option<Duration> {
        None
    }

    /// What rings when a live source has more.
    fn bell(&self) -> Option<&Bell> {
        None
    }

    /// What a live source knows of the device it listens to.
    fn capture(&self) -> Option<CaptureRun> {
        None
    }

    /// What was noticed of the sound before anything was done to it, as far as it is in what [`Source::next`] has appended.
    fn taken(&self) -> Option<Taken> {
        None
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn next(&mut self, payload: &mut Vec<u8>) -> Pull {
        (**self).next(payload)
    }

    fn start(&mut self) {
        (**self).start();
    }

    fn age(&self) -> Option<Duration> {
        (**self).age()
    }

    fn bell(&self) -> Option<&Bell> {
        (**self).bell()
    }

    fn capture(&self) -> Option<CaptureRun> {
        (**self).capture()
    }

    fn taken(&self) -> Option<Taken> {
        (**self).taken()
    }
}
