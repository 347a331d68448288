//! `jamjam-dev send`: plays audio to an echo server as a jamjam client does, or says texts to a MOQT one, and judges what comes back.

use anyhow::{Context, anyhow};
use bytes::Bytes;

use super::Failure;
use super::args::{Colour, Millis};
use super::client::{ClientArgs, Embedded, HEADING_LIMITS, Peer, Session};
use super::distinct::refuse_one_file_twice;
use super::lines;
use super::mic::{self, Capturing, MicArgs};
use super::moqt_session::SessionArgs;
use super::output::note;
use super::play::{self, PlayArgs};
use super::sound::{Cut, Sound, SoundArgs};
use super::tape::TapeArgs;
use super::target::{MoqtTarget, SendTarget};
use super::texts::{self, TextArgs};
use crate::flow::run::{Command, Run, StreamKind};
use crate::flow::{Client, Form, Sending, Source, Terms};
use crate::io::feed::{self, Feeder};
use crate::io::stop::Stop;
use crate::report::limits::HeardLimits;
use crate::wire::{HEADER_LEN, WHOLE_DATAGRAM};

const HEADING_TARGET: &str = "Target";

/// Send a WAV file, a tone or a microphone as paced AUDIO packets, or texts over MOQT, and judge what comes back
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    /// Echo server or client to send to, or for --text the URL of a MOQT echo server, moqt:// (raw QUIC) or https:// (WebTransport)
    #[arg(long, value_name = "HOST[:PORT]|URL", help_heading = HEADING_TARGET)]
    to: Option<SendTarget>,

    /// The target does not answer: send, and expect nothing back
    #[arg(long, conflicts_with = "ask_server", help_heading = HEADING_TARGET)]
    no_echo: bool,

    #[command(flatten)]
    text: TextArgs,

    #[command(flatten)]
    session: SessionArgs,

    #[command(flatten)]
    sound: SoundArgs,

    #[command(flatten)]
    mic: MicArgs,

    #[command(flatten)]
    play: PlayArgs,

    #[command(flatten)]
    tape: TapeArgs,

    /// Most gaps in what comes back: stretches of sound of which nothing comes, or too late (--late-after)
    #[arg(long, value_name = "N", help_heading = HEADING_LIMITS)]
    max_gaps: Option<u64>,

    /// Most clipped stretches in the sound that is sent, as its file or device has it: samples at full scale in a row
    #[arg(long, value_name = "N", help_heading = HEADING_LIMITS)]
    max_clips: Option<u64>,

    /// Longest stretch of digital silence in the sound that is sent, as its file or device has it: a microphone that is on delivers none
    #[arg(long, value_name = "TIME", help_heading = HEADING_LIMITS)]
    max_silence: Option<Millis>,

    #[command(flatten)]
    client: ClientArgs,
}

impl Args {
    /// Sends until done or `stop` is requested.
    pub fn run(mut self, colour: Colour, stop: &Stop) -> Result<u8, Failure> {
        self.client.heard_limits = HeardLimits {
            max_gaps: self.max_gaps,
            max_clips: self.max_clips,
            max_silence: self.max_silence.map(|Millis(time)| time),
        };
        if let Some(code) = self.mic.list(self.client.json())? {
            return Ok(code);
        }
        let to = match &self.to {
            Some(SendTarget::Moqt(target)) => return self.say(Some(target), colour, stop),
            None if self.session.embedded().is_some() => return self.say(None, colour, stop),
            Some(SendTarget::Udp(target)) => Some(target),
            None => None,
        };
        if self.text.is_given() {
            return Err(SessionArgs::in_vain("--text"));
        }
        self.session.refuse_in_vain()?;
        if let Some(code) = self.client.instead()? {
            return Ok(code);
        }
        // All that can be wrong is found before the first packet leaves.
        self.client.refuse_no_target(to)?;
        refuse_one_file_twice(self.sound.file().into_iter().chain(self.tape.written()).chain(self.client.written()))?;
        if self.no_echo {
            self.client.refuse_limits_without_answers()?;
        }
        let Supply { source, feeder, form, packets } = self.supply()?;
        let payload = form.frame_samples as usize * usize::from(form.channels) * 4;
        if payload + HEADER_LEN > WHOLE_DATAGRAM {
            note(&format!(
                "packets of {payload} payload bytes do not fit an Ethernet frame and travel in fragments; a shorter \
                 --frame avoids it"
            ));
        }
        self.tape.prepare()?;
        let peer = self.client.connect(to, "send", stop)?;
        let (returning, speaker) = self.play.start(form)?.unzip();
        let (head, mut tape) = self.tape.start(form)?;
        let (queue, mut printer) = self.client.json_lines.then(lines::channel).unzip();

        let client = Client::new(self.terms(&peer), Sending::new(form, source), Box::new(((head, returning), queue)));
        let mut ended = self.client.conduct(client, peer, packets, printer.as_mut(), &mut tape, stop)?;

        play::finish(speaker, &mut ended, stop);
        let lost = mic::lost(&ended.run);
        self.tape.finish(tape, self.sent_name(&ended.run), &mut ended);
        let broken = &mut ended.broken;
        // After Ctrl-C nobody waits for a pipe that may never end.
        let feeder = feeder.filter(|_| ended.run.interrupted.is_none());
        match feeder.map_or(Ok(None), Feeder::join) {
            Ok(None) => {}
            Ok(Some(warning)) => note(&format!("{}: {warning}", self.sound.name())),
            Err(error) => *broken = Some(anyhow!("cannot read on in {}: {error}", self.sound.name())),
        }
        *broken = lost.or(broken.take());
        self.client.report(ended, colour)
    }

    /// What was sent, as a person would call it.
    fn sent_name(&self, run: &Run) -> String {
        let capture = run.audio.as_ref().and_then(|audio| audio.capture.as_ref());
        capture.map_or_else(|| self.sound.name(), |capture| capture.device.clone())
    }

    /// Opens what is to be sent.
    fn supply(&self) -> Result<Supply, Failure> {
        if self.mic.is_wanted() {
            let Capturing { live, cut: Cut { form, packets, .. } } = self.mic.open(&self.sound)?;
            return Ok(Supply { source: Box::new(live), feeder: None, form, packets });
        }
        let Sound { playback, form, packets } = self.sound.open()?;
        let (feed, feeder) = feed::start(playback).context("cannot start a thread").map_err(Failure::unusable)?;
        if feed.is_empty() {
            drop(feed);
            return Err(Failure::unusable(match feeder.join() {
                Err(error) => anyhow!("cannot read {}: {error}", self.sound.name()),
                Ok(_) => anyhow!("nothing to send: {} holds no sound", self.sound.name()),
            }));
        }
        Ok(Supply { source: Box::new(feed), feeder: Some(feeder), form, packets })
    }

    /// Sends texts to a MOQT echo server, the embedded one unless there is a target, and prints what comes back.
    fn say(&self, to: Option<&MoqtTarget>, colour: Colour, stop: &Stop) -> Result<u8, Failure> {
        if !self.text.is_given() {
            return Err(Failure::usage(
                "nothing to send: give --text TEXT, or --text - for the lines of standard input; audio goes over UDP, to HOST[:PORT]",
            ));
        }
        self.client.refuse_over_moqt()?;
        let offers = self.session.offers()?;
        let config = self.session.config();
        let embedded = Embedded::start(&self.session, &config.prefix)?;
        let config = self.text.config(config)?;
        let mut print = |text: &Bytes| texts::print(text, stop);
        let print: Option<&mut dyn FnMut(&Bytes)> = if self.client.is_for_machines() { None } else { Some(&mut print) };
        let session = Session { command: Command::Send, to, embedded, offers, config, print };
        let ended = self.client.hold_session(session, stop)?;
        self.client.report_aside(ended, colour)
    }

    fn terms(&self, peer: &Peer) -> Terms {
        Terms {
            peer: peer.address,
            judged: StreamKind::Audio,
            hold: self.client.known_hold(),
            first_echo: self.client.first_echo(),
            timeout: self.client.timeout.0,
            late_after: self.client.late_after.map(|Millis(late)| late),
            answers_expected: !self.no_echo,
            wait_for: self.client.wait_for.map(|wait| wait.0),
            ask: self.client.ask.random(),
        }
    }
}

/// What is sent, opened.
struct Supply {
    source: Box<dyn Source + Send>,
    /// Who reads it, if it is read from a file.
    feeder: Option<Feeder>,
    form: Form,
    packets: Option<u64>,
}
