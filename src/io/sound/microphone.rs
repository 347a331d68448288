//! Sound as a device delivers it, for the node that sends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, StreamConfig};

use super::closing::close;
use super::devices::asked;
use super::quiet::Quiet;
use crate::audio::capture::{self, Block, Captured};
use crate::audio::device_offer::Choice;
use crate::audio::framer::Framer;
use crate::flow::{CaptureRun, Pull, Source};
use crate::heard::Taken;
use crate::io::intake::SharedIntake;
use crate::node::Bell;
use crate::stats::Drift;
use crate::time::{Time, nanos};

/// How long the sender may stand still before sound is dropped.
const RING: Duration = Duration::from_secs(1);

/// The fewest deliveries that the ring holds, however long they are.
const DELIVERIES: usize = 8;

/// A device that has delivered nothing for so long is given up,
const STUCK: Duration = Duration::from_secs(5);

/// or for as long as this many of its deliveries take.
const MISSED: u32 = 4;

/// What the device's thread tells us.
#[derive(Default)]
struct Told {
    /// Nobody wants to hear any more.
    closed: AtomicBool,
    /// Why there is no more.
    broken: OnceLock<String>,
}

/// A device that is listened to.
pub struct Live {
    /// Ends when dropped.
    stream: Option<cpal::Stream>,
    captured: Captured,
    framer: Framer,
    intake: SharedIntake,
    block: Vec<f32>,
    told: Arc<Told>,
    bell: Bell,
    /// What deliveries are timed from.
    origin: Instant,
    /// The last delivery, or the start.
    last: Option<Time>,
    /// How long it may deliver nothing.
    patience: Duration,
    drift: Drift,
    run: CaptureRun,
    ended: bool,
}

impl Live {
    /// Opens `device`, to deliver `buffer` frames at a time.
    pub(super) fn open(
        device: &cpal::Device,
        name: &str,
        choice: Choice,
        buffer: u32,
        mut framer: Framer,
    ) -> Result<Self, cpal::Error> {
        let Choice { format, channels, rate, .. } = choice;
        let room = (RING.as_secs() as usize * rate as usize).max(buffer as usize * DELIVERIES);
        let (mut capture, captured) = capture::ring(format, channels, room);
        let (xruns, told, bell, origin) = (capture.xruns(), Arc::<Told>::default(), Bell::default(), Instant::now());

        let (heard, rope) = (Arc::clone(&told), bell.clone());
        let on_sound = move |data: &cpal::Data, _: &cpal::InputCallbackInfo| {
            if !heard.closed.load(Ordering::Relaxed) {
                capture.deliver(data.bytes(), since(origin));
                rope.ring();
            }
        };
        let (tell, rope) = (Arc::clone(&told), bell.clone());
        let on_error = move |error: cpal::Error| match error.kind() {
            ErrorKind::Xrun => xruns.add(),
            // It goes on all the same.
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied | ErrorKind::DeviceBusy => {}
            kind => {
                let _ = tell.broken.set(match kind {
                    ErrorKind::DeviceNotAvailable => "it has disappeared".to_owned(),
                    _ => error.to_string(),
                });
                rope.ring();
            }
        };
        let config = StreamConfig { channels, sample_rate: rate, buffer_size: BufferSize::Fixed(buffer) };
        let stream = device.build_input_stream_raw(config, asked(format), on_sound, on_error, None)?;
        let run = CaptureRun {
            device: name.to_owned(),
            sample_format: format.name(),
            sample_rate: rate,
            channels,
            buffer_asked: buffer,
            buffer_told: stream.buffer_size().ok(),
            ..CaptureRun::default()
        };
        let intake = SharedIntake::of(framer.input(), framer.replaces_non_finite());
        framer.listen(intake.listener());
        Ok(Self {
            stream: Some(stream),
            captured,
            framer,
            intake,
            block: Vec::new(),
            told,
            bell,
            origin,
            last: None,
            patience: STUCK.max(Duration::from_secs_f64(f64::from(buffer) / f64::from(rate.max(1))) * MISSED),
            drift: Drift::new(rate),
            run,
            ended: false,
        })
    }

    /// How many frames at a time it was asked for, and how many it says.
    pub fn buffer(&self) -> (u32, Option<u32>) {
        (self.run.buffer_asked, self.run.buffer_told)
    }

    fn on_block(&mut self, block: Block) {
        self.last = Some(block.at);
        if block.missing > 0 {
            self.run.first_overrun_at.get_or_insert(self.run.frames);
        }
        if block.after_xrun {
            self.drift.interrupt();
        }
        self.run.frames += u64::from(block.frames) + block.missing;
        self.drift.on_delivery(u64::from(block.frames) + block.missing, block.at);
        let (least, most) = &mut self.run.delivery_frames;
        *least = if *least == 0 { block.frames } else { block.frames.min(*least) };
        *most = block.frames.max(*most);
        self.framer.push(&self.block);
    }

    /// No more is taken; the device's own thread may go on until this is dropped.
    fn end(&mut self) {
        self.ended = true;
        self.told.closed.store(true, Ordering::Relaxed);
        self.framer.finish();
    }

    fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            close(stream);
        }
    }

    fn give_up(&mut self, why: String) {
        self.run.lost = Some(why);
        // A device that is broken may complain without a pause.
        self.close();
        self.end();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.close();
    }
}

impl Source for Live {
    fn next(&mut self, payload: &mut Vec<u8>) -> Pull {
        while !self.ended && !self.framer.has_whole() {
            // Looked at first: what was delivered before it broke is still taken.
            let broken = self.told.broken.get().cloned();
            if let Some(block) = self.captured.next(&mut self.block) {
                self.on_block(block);
                continue;
            }
            let silent = self.last.map_or(Duration::ZERO, |last| since(self.origin).since(last));
            match broken {
                Some(why) => self.give_up(why),
                None if silent > self.patience => {
                    self.give_up(format!("it has delivered nothing for {:?}", self.patience));
                }
                None => return Pull::NotYet,
            }
        }
        if self.framer.next_payload(payload) {
            return Pull::Frame;
        }
        if !self.ended {
            self.end();
        }
        Pull::End
    }

    fn start(&mut self) {
        let _quiet = Quiet::begin();
        self.last = Some(since(self.origin));
        if let Some(stream) = &self.stream
            && let Err(error) = stream.play()
        {
            let _ = self.told.broken.set(format!("it does not start: {error}"));
        }
    }

    fn age(&self) -> Option<Duration> {
        Some(self.last.map_or(Duration::ZERO, |last| since(self.origin).since(last)))
    }

    fn bell(&self) -> Option<&Bell> {
        Some(&self.bell)
    }

    fn capture(&self) -> Option<CaptureRun> {
        let overruns = self.captured.overruns();
        Some(CaptureRun {
            overruns: overruns.count,
            overrun_frames: overruns.frames,
            xruns: self.captured.xruns(),
            drift: self.drift.estimate(),
            drift_span: self.drift.span(),
            ..self.run.clone()
        })
    }

    fn taken(&self) -> Option<Taken> {
        Some(self.intake.taken())
    }
}

/// Now, in nanoseconds since `origin`.
fn since(origin: Instant) -> Time {
    Time::from_nanos(nanos(origin.elapsed()))
}
