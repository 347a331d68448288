//! Audio sources: a WAV file, standard input, a tone or a microphone. Each source is mixed, resampled and split into packets.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::file_arguments::InputFile;
use super::output::{Failure, ensure_usage, print_notice};
use super::run_origin::file_name;
use super::target::parse_udp_target;
use super::values::{duration_in, parse_count};
use crate::audio::convert::{AudioInput, Packetizer, PacketizerConfig, PayloadReader, Tone, default_channels};
use crate::audio::wav::{WavError, WavStream};
use crate::client::{AudioStreamConfig, PayloadSource, RunResults, SourcePoll};
use crate::io::read_ahead::{self, ReaderThread};
use crate::io::sound::config::DeviceConfig;
use crate::io::sound::{self as devices, DeviceDirection, Microphone};
use crate::link::OVERHEAD;
use crate::time::saturating_nanos;
use crate::units::parse_duration;
use crate::wire::{HEADER_LEN, MAX_UDP_PAYLOAD, MAX_UNFRAGMENTED_PAYLOAD, SAMPLE_RATE};

const HEADING_AUDIO: &str = "Audio";

/// Maximum device buffer, in frames: more than one second of audio.
const MAX_DEVICE_BUFFER_FRAMES: i64 = 65_536;

/// Sequence number of the first AUDIO packet.
const FIRST_SEQUENCE: u32 = 1;

/// Maximum memory for the audio of several clients: 87 s of one channel. They repeat the beginning of a longer source.
const MAX_SHARED_BYTES: usize = 16 << 20;

/// Amplitude of a tone: -12 dBFS.
const TONE_AMPLITUDE: f32 = 0.25;

/// Source and packet format of the audio.
#[derive(Clone, clap::Args)]
pub(crate) struct SourceArgs {
    /// WAV file to send, or `-` for standard input
    #[arg(long, value_name = "FILE", help_heading = HEADING_AUDIO)]
    pub wav: Option<InputFile>,

    /// Send a sine tone of this frequency
    #[arg(long, value_name = "HZ", value_parser = parse_frequency, help_heading = HEADING_AUDIO)]
    tone: Option<f64>,

    /// Number of times to send the file, or forever
    #[arg(long, hide_short_help = true, value_name = "N|forever", value_parser = parse_repeat, default_value = "1", conflicts_with = "tone", help_heading = HEADING_AUDIO)]
    repeat: OrForever,

    /// Packet length: samples or time
    #[arg(long, hide_short_help = true, value_name = "SAMPLES|DURATION", value_parser = parse_frame_size, default_value = "128", help_heading = HEADING_AUDIO)]
    frame_size: FrameSize,

    /// Resample the file to 48 kHz before sending, or keep its rate
    #[arg(long, hide_short_help = true, value_name = "MODE", value_enum, default_value_t, conflicts_with = "tone", help_heading = HEADING_AUDIO)]
    resample: Resample,

    /// Set by the command.
    #[arg(skip)]
    pub extent: ExtentArgs,

    /// Whether two channels are sent, whatever the source has.
    #[arg(skip)]
    pub is_stereo: bool,
}

/// How much audio is sent.
#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct ExtentArgs {
    /// Packets to send; 0 sends the whole source
    #[arg(short, long, hide_short_help = true, value_name = "N", value_parser = parse_count, default_value_t = 0, hide_default_value = true, help_heading = HEADING_AUDIO)]
    pub count: u64,

    /// Stop after this much audio
    #[arg(long, value_name = "DURATION", value_parser = duration_in("s", Duration::from_millis(1).., "give 1ms or more"), help_heading = HEADING_AUDIO)]
    pub duration: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Resample {
    /// 48 kHz, the rate that jamjam uses
    #[default]
    #[value(name = "48k")]
    To48k,
    /// The rate of the file
    Native,
}

/// Number of passes over a file, or `forever`, which is `None`. clap treats a field of the type `Option` as an option that may be omitted.
type OrForever = Option<u64>;

fn parse_repeat(text: &str) -> Result<OrForever, &'static str> {
    match (text, text.parse()) {
        ("forever", _) => Ok(None),
        (_, Ok(times @ 1..)) => Ok(Some(times)),
        _ => Err("give a number above 0, or \"forever\""),
    }
}

/// Length of a packet.
#[derive(Clone, Copy, Debug)]
enum FrameSize {
    Samples(u64),
    Time(Duration),
}

fn parse_frame_size(text: &str) -> Result<FrameSize, &'static str> {
    let samples = text.parse().ok().map(FrameSize::Samples);
    let size = samples.or_else(|| parse_duration(text, "").ok().map(FrameSize::Time));
    size.ok_or("give a number of samples such as 128, or a duration such as 2.5ms")
}

impl FrameSize {
    /// Number of samples per channel at `rate`. Returns an error if they do not fit in a datagram.
    fn samples(self, rate: u32, channels: u16) -> Result<u32, Failure> {
        let samples = match self {
            Self::Samples(samples) => samples,
            Self::Time(time) => samples_in(time, rate),
        };
        let max_samples = ((MAX_UDP_PAYLOAD - HEADER_LEN) / (4 * usize::from(channels))) as u64;
        let fits = (1..=max_samples).contains(&samples);
        ensure_usage!(fits, "--frame-size: {samples} samples; a datagram holds 1 to {max_samples}");
        Ok(samples as u32)
    }
}

/// Number of samples at `rate` in a time, rounded down.
fn samples_in(time: Duration, rate: u32) -> u64 {
    u64::try_from(u128::from(rate) * u128::from(saturating_nanos(time)) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// A WAV file or standard input.
type WavReader = Box<dyn Read + Send>;

/// The payloads of a file or a tone.
pub(crate) type FilePayloads = PayloadReader<WavReader>;

/// How audio is split into packets.
pub(crate) struct PacketLayout {
    /// Mixing, resampling and packet length.
    pub packetizer: PacketizerConfig,
    pub form: AudioStreamConfig,
    /// Number of packets, if known.
    pub packets: Option<u64>,
}

impl SourceArgs {
    /// The source of the musician `number` of `count`, from 0: a tone is a semitone higher for each.
    pub(crate) fn for_musician(&self, number: usize, count: usize, is_stereo: bool) -> Result<Self, Failure> {
        let is_stdin = self.path() == Some(Path::new("-"));
        ensure_usage!(count == 1 || !is_stdin, "standard input can be read only once. Give --wav FILE, or --clients 1");
        let tone = |number: usize| self.tone.map(|hz| hz * (number as f64 / 12.0).exp2());
        let is_audible = tone(count - 1).is_none_or(|hz| hz <= f64::from(SAMPLE_RATE / 2));
        ensure_usage!(
            is_audible,
            "--tone: the highest of the tones, a semitone apart, exceeds half of the sample rate"
        );
        Ok(Self { tone: tone(number), is_stereo, ..self.clone() })
    }

    /// Opens the file or prepares the tone, and prints how it is converted.
    pub(crate) fn open(&self) -> Result<(FilePayloads, PacketLayout), Failure> {
        let (input, layout) = match (self.path(), self.tone) {
            (Some(path), _) => self.open_file(path)?,
            (None, hz) => {
                let hz = hz.expect("a file or a tone, as clap requires");
                let channels = self.layout(1);
                let tone = Tone::new(hz, SAMPLE_RATE, channels, TONE_AMPLITUDE);
                let layout = self.packet_layout((SAMPLE_RATE, channels), SAMPLE_RATE, channels, None)?;
                (AudioInput::Tone(tone), layout)
            }
        };
        Ok((PayloadReader::new(input, layout.packetizer).context(self.name())?, layout))
    }

    /// Reads the source, for several clients. With `is_endless`, they repeat it until they are stopped.
    pub(crate) fn open_shared(&self, is_endless: bool) -> Result<(SharedPayloads, PacketLayout), Failure> {
        let (mut reader, layout) = self.open()?;
        let (mut payloads, mut bytes, mut count) = (Vec::new(), 0, layout.packets);
        while bytes < MAX_SHARED_BYTES {
            let mut payload = Vec::new();
            let is_read = reader.next_payload(&mut payload).with_context(|| format!("cannot read {}", self.name()))?;
            if !is_read {
                count = Some(payloads.len() as u64);
                break;
            }
            bytes += payload.len();
            payloads.push(payload);
        }
        if payloads.is_empty() {
            return Err(anyhow!("nothing to send: {} contains no audio", self.name()).into());
        }
        let count = count.filter(|_| !is_endless);
        Ok((SharedPayloads { payloads: payloads.into(), next: 0, count }, layout))
    }

    fn path(&self) -> Option<&Path> {
        self.wav.as_deref()
    }

    /// Name of the source in messages.
    pub(crate) fn name(&self) -> String {
        match self.path() {
            Some(path) if path.as_os_str() == "-" => "standard input".to_owned(),
            Some(path) => path.display().to_string(),
            None => "the tone".to_owned(),
        }
    }

    /// Name of the source in reports, without folders of this machine.
    pub(crate) fn short_name(&self) -> String {
        let is_file = |path: &&Path| path.as_os_str() != "-";
        self.path().filter(is_file).map_or_else(|| self.name(), |path| file_name(&path.to_string_lossy()))
    }

    fn open_file(&self, path: &Path) -> Result<(AudioInput<WavReader>, PacketLayout), Failure> {
        let from_stdin = path.as_os_str() == "-";
        let name = self.name();
        ensure_usage!(
            !from_stdin || self.repeat == Some(1),
            "--repeat needs a file: standard input can be read only once"
        );
        let unreadable = |error: WavError| anyhow!("cannot read {name}: {error}");
        let reader: WavReader = if from_stdin {
            Box::new(io::stdin())
        } else {
            let may_be_host = path.extension() != Some("wav".as_ref()) && parse_udp_target(&name).is_ok();
            let file = File::open(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound if may_be_host => {
                    anyhow!("cannot open {name}: {error}. For a target, give --to {name}")
                }
                _ => anyhow!("cannot open {name}: {error}"),
            });
            Box::new(BufReader::new(file?))
        };
        let mut stream = WavStream::open(reader).map_err(unreadable)?;
        if !from_stdin && path.is_file() {
            stream = stream.check_rest();
        }

        let format = *stream.format();
        let rate = match self.resample {
            Resample::To48k => SAMPLE_RATE,
            Resample::Native => format.sample_rate,
        };
        let channels = self.layout(format.channels);
        print_notice(&format!("{name}: {format}"));
        if format.is_lossy() {
            print_notice("integers of more than 24 bits are rounded to 32-bit floats");
        }
        print_channel_mixing(format.channels, channels);
        if format.sample_rate != rate {
            print_notice(&format!(
                "resampled from {} Hz to {rate} Hz; --resample native keeps the rate",
                format.sample_rate
            ));
        }

        let (mut remaining, path) = (self.repeat, path.to_owned());
        let expected = format;
        let reopen = Box::new(move || {
            if let Some(times) = &mut remaining {
                *times -= 1;
                if *times == 0 {
                    return None;
                }
            }
            let file = File::open(&path).map_err(WavError::from);
            let next = file.and_then(|file| WavStream::open(Box::new(BufReader::new(file)) as WavReader));
            // A file that was replaced between two passes may have a different format.
            Some(next.and_then(|next| if *next.format() == expected { Ok(next) } else { Err(WavError::Replaced) }))
        });
        let input_samples = format.frames.zip(self.repeat).map(|(frames, times)| frames.saturating_mul(times));
        let samples = input_samples.map(|samples| {
            u64::try_from((u128::from(samples) * u128::from(rate)).div_ceil(u128::from(format.sample_rate)))
                .unwrap_or(u64::MAX)
        });
        let layout = self.packet_layout((format.sample_rate, format.channels), rate, channels, samples)?;
        Ok((AudioInput::Wav { stream, reopen }, layout))
    }

    /// How many channels are sent for a source with `channels`.
    pub(crate) fn layout(&self, channels: u16) -> u16 {
        if self.is_stereo { 2 } else { default_channels(channels) }
    }

    /// How an input of this rate and number of channels is split into packets. `samples` is the length of the input in samples
    /// per channel at `output_rate`, if known.
    pub(crate) fn packet_layout(
        &self,
        (input_rate, input_channels): (u32, u16),
        output_rate: u32,
        output_channels: u16,
        samples: Option<u64>,
    ) -> Result<PacketLayout, Failure> {
        let frame_samples = self.frame_size.samples(output_rate, output_channels)?;
        let ExtentArgs { count, duration } = self.extent;
        let max_samples = duration.map(|time| samples_in(time, output_rate));
        // The sample limit of --count, in whole packets.
        let counted_samples = (count > 0).then(|| count.saturating_mul(u64::from(frame_samples)));
        let max_samples = max_samples.into_iter().chain(counted_samples).min();
        let packetizer = PacketizerConfig {
            input_rate,
            input_channels,
            output_rate,
            output_channels,
            frame_samples: frame_samples as usize,
            max_samples,
        };
        let form = AudioStreamConfig {
            sample_rate: output_rate,
            channels: output_channels,
            frame_samples,
            first_sequence: FIRST_SEQUENCE,
        };
        let samples = samples.into_iter().chain(max_samples).min();
        let packets = samples.map(|samples| samples.div_ceil(u64::from(frame_samples)));
        Ok(PacketLayout { packetizer, form, packets })
    }
}

/// An opened source, and the thread that reads the file or generates the tone.
pub(crate) type OpenedSource = (Box<dyn PayloadSource + Send>, Option<ReaderThread>, PacketLayout);

/// Opens a file or a tone.
pub(crate) fn open_payloads(source: &SourceArgs) -> Result<OpenedSource, Failure> {
    let (payloads, layout) = source.open()?;
    let (feed, reader) = read_ahead::spawn(payloads).context("cannot start a thread")?;
    if feed.is_empty() {
        drop(feed);
        return Err(match reader.join() {
            Err(error) => anyhow!("cannot read {}: {error}", source.name()),
            Ok(_) => anyhow!("nothing to send: {} contains no audio", source.name()),
        }
        .into());
    }
    Ok((Box::new(feed), Some(reader), layout))
}

/// The form of the packets over a link, if there is one. Prints a notice if they are fragmented.
pub(crate) fn packet_form(mut form: AudioStreamConfig, has_link: bool) -> Result<AudioStreamConfig, Failure> {
    let payload = form.frame_samples as usize * usize::from(form.channels) * 4;
    let mut datagram = payload + HEADER_LEN;
    if has_link {
        form.first_sequence = 0;
        datagram += OVERHEAD;
    }
    ensure_usage!(
        datagram <= MAX_UDP_PAYLOAD,
        "--frame-size: a sealed packet exceeds a datagram; give a smaller value"
    );
    if datagram > MAX_UNFRAGMENTED_PAYLOAD {
        print_notice(&format!(
            "packets with {payload} payload bytes do not fit in an Ethernet frame and are fragmented. Use a smaller --frame-size"
        ));
    }
    Ok(form)
}

/// The payloads of a source for one of several clients, which share the memory.
#[derive(Clone)]
pub(crate) struct SharedPayloads {
    payloads: Arc<[Vec<u8>]>,
    next: u64,
    /// Number of packets; `None` for no limit.
    pub count: Option<u64>,
}

impl PayloadSource for SharedPayloads {
    fn poll_next(&mut self, payload: &mut Vec<u8>) -> SourcePoll {
        if self.count.is_some_and(|count| self.next >= count) {
            return SourcePoll::End;
        }
        payload.extend_from_slice(&self.payloads[(self.next % self.payloads.len() as u64) as usize]);
        self.next += 1;
        SourcePoll::Ready
    }
}

/// Prints the format of an opened device, whose buffer has `frames` frames instead of the `wanted` ones.
pub(crate) fn print_device_format(name: &str, config: &DeviceConfig, wanted: u32, frames: u32) {
    let DeviceConfig { format, channels, rate, .. } = config;
    let counted = |count: u32, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let (format, channels) = (format.name, counted((*channels).into(), "channel"));
    let [buffer, requested] = [frames, wanted].map(|count| counted(count, "frame"));
    print_notice(&format!("{name}: {format}, {channels}, {rate} Hz, buffer of {buffer}"));
    if frames != wanted {
        print_notice(&format!("the device does not support a buffer of {requested}"));
    }
}

/// Prints how the channels of an input are mixed.
pub(crate) fn print_channel_mixing(input: u16, channels: u16) {
    if input != channels {
        print_notice(&format!("{input} channels are mixed to {channels}"));
    }
}

/// Parses a frequency below half of the sample rate, whose samples would all be 0.
fn parse_frequency(text: &str) -> Result<f64, String> {
    let max_hz = SAMPLE_RATE / 2;
    let is_valid = |hz: &f64| *hz > 0.0 && *hz < f64::from(max_hz);
    let frequency = text.parse().ok().filter(is_valid);
    frequency.ok_or_else(|| format!("give a frequency above 0 and below {max_hz} Hz, such as 440"))
}

/// Group of the options that name what is sent: one of them is given.
pub(crate) const SOURCE_GROUP: &str = "source";

/// Group of the options that use a sound device.
pub(crate) const SOUND_DEVICE_GROUP: &str = "sound_device";

#[derive(clap::Args)]
pub(crate) struct CaptureArgs {
    /// Send the audio of a microphone
    ///
    /// Sends until interrupted or until --duration has passed. DEVICE is a number or a unique part of a name from `jamjam-dev devices`. Without
    /// DEVICE, the default device is used.
    #[arg(long, value_name = "DEVICE", num_args = 0..=1, conflicts_with_all = ["repeat", "resample"], help_heading = HEADING_AUDIO)]
    #[expect(clippy::option_option, reason = "the value of the option is optional")]
    pub mic: Option<Option<String>>,

    /// Device buffer size in frames [default: --frame-size; --play: at least 256]
    #[arg(long, hide_short_help = true, value_name = "FRAMES", requires = SOUND_DEVICE_GROUP, value_parser = clap::value_parser!(u32).range(1..=MAX_DEVICE_BUFFER_FRAMES), help_heading = HEADING_AUDIO)]
    pub device_buffer: Option<u32>,
}

impl CaptureArgs {
    /// Opens the device and prints its format and how its audio is converted.
    pub(crate) fn open(&self, source: &SourceArgs) -> Result<(Microphone, PacketLayout), Failure> {
        let device = self.mic.as_ref().and_then(Option::as_deref).unwrap_or_default();
        let device = devices::select_device(DeviceDirection::Input, device, SAMPLE_RATE).context("--mic")?;
        let (name, config) = (device.name.clone(), device.config);
        let channels = source.layout(config.channels);
        let layout = source.packet_layout((config.rate, config.channels), SAMPLE_RATE, channels, None)?;
        let packetizer = Packetizer::new(layout.packetizer).with_context(|| format!("--mic: {name}"))?;
        let packet_frames = u64::from(layout.form.frame_samples) * u64::from(config.rate);
        let requested = self.device_buffer.unwrap_or(packet_frames.div_ceil(u64::from(SAMPLE_RATE)) as u32);
        let microphone = device.open_microphone(packetizer, requested).context("--mic")?;

        print_device_format(&name, &config, requested, microphone.buffer_frames);
        if config.format.loses_precision() {
            print_notice("samples of more than 24 bits are rounded to 32-bit floats");
        }
        print_channel_mixing(config.channels, channels);
        if config.rate != SAMPLE_RATE {
            print_notice(&format!(
                "the device does not support {SAMPLE_RATE} Hz, so its audio is resampled from {} Hz in blocks. A block has about \
                 1,000 device frames, and all packets of a block leave at once",
                config.rate
            ));
        }
        Ok((microphone, layout))
    }
}

/// An error if the microphone failed during the run.
pub(crate) fn device_lost_error(run: &RunResults) -> Option<anyhow::Error> {
    let capture = run.audio.as_ref()?.capture.as_ref()?;
    let reason = capture.failure.as_ref()?;
    Some(anyhow!("{} was lost: {reason}; the report covers the audio up to then", capture.device))
}
