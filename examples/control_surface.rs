//! A synthesizer that is controlled from mobile phones. The program creates a room for control surfaces, prints its
//! code and applies their events.
//!
//! ```sh
//! cargo run --example control_surface
//! ```
//!
//! Phones set the parameter `gain`, optionally at a given time, and trigger `note_on`. An audio thread applies these
//! events without blocking. The parameter `notes` counts the notes; the phones receive this parameter when it changes.
//! Ten times per second, the phones also receive the level of a meter. `BIND_ADDR` sets the listen address; Ctrl-C
//! stops the program.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jamjam_dev::io::signaling::control_surface_server::{ServerCommand, WsServer, WsServerConfig};
use jamjam_dev::signaling::{ControlSurfaceEvent, ControlSurfaceEventKind, EventConsumer, event_queue};
use tokio::sync::{mpsc, oneshot};

/// Duration of one audio buffer: 128 samples at 48 kHz.
const PERIOD: Duration = Duration::from_nanos(128 * 1_000_000_000 / 48_000);

/// Maximum number of scheduled events.
const MAX_SCHEDULED: usize = 256;

/// Maximum time that an event is scheduled ahead, in microseconds. The room state has the same limit.
const MAX_AHEAD_US: u64 = 60_000_000;

/// State that the audio thread shares with the other threads.
#[derive(Default)]
struct Meter {
    /// Bits of an `f32`.
    gain: AtomicU32,
    notes: AtomicU32,
    stopped: AtomicBool,
}

/// Runs on the audio thread: never blocks, and neither allocates nor frees memory once created.
struct Synth {
    events: EventConsumer,
    /// Events that are not due yet, in order of arrival.
    scheduled: Vec<ControlSurfaceEvent>,
    gain: f32,
    meter: Arc<Meter>,
}

impl Synth {
    fn new(events: EventConsumer, meter: Arc<Meter>) -> Self {
        Self { events, scheduled: Vec::with_capacity(MAX_SCHEDULED), gain: 0.0, meter }
    }

    /// Applies the events that are due at `now`, in microseconds since 1970. A real synthesizer would then compute the
    /// next samples.
    fn process(&mut self, now: u64) {
        while let Ok(event) = self.events.pop() {
            let ahead = event.at.map_or(0, |at| at.saturating_sub(now));
            if ahead == 0 || ahead > MAX_AHEAD_US || self.scheduled.len() == MAX_SCHEDULED {
                self.apply(&event);
            } else {
                self.scheduled.push(event);
            }
        }
        let due = |(_, event): &(usize, &ControlSurfaceEvent)| event.at.is_none_or(|at| at <= now);
        while let Some((first, _)) = self.scheduled.iter().enumerate().filter(due).min_by_key(|(_, event)| event.at) {
            let event = self.scheduled.remove(first);
            self.apply(&event);
        }
    }

    fn apply(&mut self, event: &ControlSurfaceEvent) {
        match (event.kind, &*event.name, event.value) {
            (ControlSurfaceEventKind::Param, "gain", Some(gain)) => {
                // A client can send any numeric value. Therefore, the value is limited to the range from 0 to 1.
                self.gain = gain.clamp(0.0, 1.0);
                self.meter.gain.store(self.gain.to_bits(), Ordering::Relaxed);
            }
            (ControlSurfaceEventKind::Trigger, "note_on", _) => _ = self.meter.notes.fetch_add(1, Ordering::Relaxed),
            _ => {}
        }
    }
}

/// The audio thread. A sound card would call [`Synth::process`]; in this example a timer calls it.
fn run_audio(mut synth: Synth) {
    while !synth.meter.stopped.load(Ordering::Relaxed) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        synth.process(now.as_micros() as u64);
        thread::sleep(PERIOD);
    }
}

/// Sends the parameter `notes` and the current gain to the connected mobile phones until the server stops.
async fn send_feedback(
    commands: mpsc::Sender<ServerCommand>,
    meter: Arc<Meter>,
) -> Result<(), mpsc::error::SendError<ServerCommand>> {
    let mut last_sent = 0;
    loop {
        let notes = meter.notes.load(Ordering::Relaxed);
        if notes != last_sent {
            last_sent = notes;
            commands.send(ServerCommand::BroadcastParam { name: "notes".to_owned(), value: notes as f32 }).await?;
        }
        let gain = f32::from_bits(meter.gain.load(Ordering::Relaxed));
        commands.send(ServerCommand::BroadcastVisualization { data: vec![gain] }).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let (producer, consumer) = event_queue(256);
    let (commands, command_rx) = mpsc::channel(256);
    let mut config = WsServerConfig::default();
    if let Ok(address) = std::env::var("BIND_ADDR") {
        config.bind_addr = address.parse()?;
    }
    let server = WsServer::new(config, producer, command_rx)?;

    // `WsServer::run` below accepts connections. The server already handles commands before that call.
    let (response, code) = oneshot::channel();
    commands.send(ServerCommand::CreateRoom { response }).await?;
    println!("room {} at ws://{}/", code.await?, server.local_addr()?);

    let meter = Arc::new(Meter::default());
    let synth = Synth::new(consumer, Arc::clone(&meter));
    let audio = thread::Builder::new().name("audio".to_owned()).spawn(move || run_audio(synth))?;
    tokio::spawn(send_feedback(commands.clone(), Arc::clone(&meter)));
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            let _ = commands.send(ServerCommand::Shutdown).await;
        }
    });
    server.run().await?;

    meter.stopped.store(true, Ordering::Relaxed);
    audio.join().map_err(|_| "the audio thread panicked")?;
    println!("{} notes", meter.notes.load(Ordering::Relaxed));
    Ok(())
}
