//! A program with telephones as its control surfaces: it makes a room, prints the code, and lets whoever joins play.
//!
//! ```sh
//! cargo run --example control_surface
//! ```
//!
//! Telephones set `gain`, at a time of their choosing, and trigger `note_on`. An audio thread obeys them without ever waiting
//! for anybody. Back to the telephones go the parameter `notes`, how many there were, and ten times a second what a
//! meter would show. `BIND_ADDR` says where to listen, Ctrl-C ends it.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jamjam_dev::io::rooms::surfaces::{Command, Config, Server};
use jamjam_dev::rooms::{EventConsumer, EventKind, SurfaceEvent, event_queue};
use tokio::sync::{mpsc, oneshot};

/// How long a sound card plays what it is given at a time: 128 samples at 48 kHz.
const PERIOD: Duration = Duration::from_nanos(128 * 1_000_000_000 / 48_000);

/// Events that may wait for their time.
const MOST_WAITING: usize = 256;

/// How far ahead that may be, in microseconds: as far as in the room's own state.
const FARTHEST_US: u64 = 60_000_000;

/// What the audio thread tells the others: numbers that both may touch at any time.
#[derive(Default)]
struct Meter {
    /// The bits of a float.
    gain: AtomicU32,
    notes: AtomicU32,
    ended: AtomicBool,
}

/// What runs in the audio thread. Nothing here waits for anybody, and once made it neither asks for memory nor gives any back.
struct Synth {
    events: EventConsumer,
    /// Those whose time has not come, in the order in which they came.
    waiting: Vec<SurfaceEvent>,
    gain: f32,
    meter: Arc<Meter>,
}

impl Synth {
    fn new(events: EventConsumer, meter: Arc<Meter>) -> Self {
        Self { events, waiting: Vec::with_capacity(MOST_WAITING), gain: 0.0, meter }
    }

    /// Does what is due at `now`, in microseconds since 1970; then the next samples would be made.
    fn period(&mut self, now: u64) {
        while let Some(event) = self.events.pop() {
            let ahead = event.at.map_or(0, |at| at.saturating_sub(now));
            if ahead == 0 || ahead > FARTHEST_US || self.waiting.len() == MOST_WAITING {
                self.obey(&event);
            } else {
                self.waiting.push(event);
            }
        }
        let due = |(_, event): &(usize, &SurfaceEvent)| event.at.is_none_or(|at| at <= now);
        while let Some((first, _)) = self.waiting.iter().enumerate().filter(due).min_by_key(|(_, event)| event.at) {
            let event = self.waiting.remove(first);
            self.obey(&event);
        }
    }

    fn obey(&mut self, event: &SurfaceEvent) {
        match (event.kind, &*event.name, event.value) {
            (EventKind::Param, "gain", Some(gain)) => {
                // Whatever a telephone says, nobody's ears are hurt.
                self.gain = gain.clamp(0.0, 1.0);
                self.meter.gain.store(self.gain.to_bits(), Ordering::Relaxed);
            }
            (EventKind::Trigger, "note_on", _) => _ = self.meter.notes.fetch_add(1, Ordering::Relaxed),
            _ => {}
        }
    }
}

/// The audio thread. A sound card would call [`Synth::period`]; here a clock does.
fn play(mut synth: Synth) -> EventConsumer {
    while !synth.meter.ended.load(Ordering::Relaxed) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        synth.period(now.as_micros() as u64);
        thread::sleep(PERIOD);
    }
    synth.events
}

/// Tells the telephones what they have done, until the server takes no more commands.
async fn show(commands: mpsc::Sender<Command>, meter: Arc<Meter>) -> Result<(), mpsc::error::SendError<Command>> {
    let mut told = 0;
    loop {
        let notes = meter.notes.load(Ordering::Relaxed);
        if notes != told {
            told = notes;
            commands.send(Command::BroadcastParam { name: "notes".to_owned(), value: notes as f32 }).await?;
        }
        let gain = f32::from_bits(meter.gain.load(Ordering::Relaxed));
        commands.send(Command::BroadcastVisualization { data: vec![gain] }).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let (producer, consumer) = event_queue(256);
    let (commands, command_rx) = mpsc::channel(256);
    let mut config = Config::default();
    if let Ok(address) = std::env::var("BIND_ADDR") {
        config.bind_addr = address.parse()?;
    }
    let server = Server::new(config, producer, command_rx)?;

    // The server obeys from now on; who connects is let in once it runs.
    let (response, code) = oneshot::channel();
    commands.send(Command::CreateRoom { response }).await?;
    println!("room {} at ws://{}/", code.await?, server.local_addr()?);

    let meter = Arc::new(Meter::default());
    let synth = Synth::new(consumer, Arc::clone(&meter));
    let audio = thread::Builder::new().name("audio".to_owned()).spawn(move || play(synth))?;
    tokio::spawn(show(commands.clone(), Arc::clone(&meter)));
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            let _ = commands.send(Command::Shutdown).await;
        }
    });
    server.run().await?;

    meter.ended.store(true, Ordering::Relaxed);
    let events = audio.join().map_err(|_| "the audio thread has panicked")?;
    println!("{} notes, {} events lost", meter.notes.load(Ordering::Relaxed), events.lost());
    Ok(())
}
