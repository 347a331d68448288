//! `echo-server --record`: WAV files of the AUDIO that each source sends, written by the [`Recording`] of `send`.
//!
//! A packet is written at the position that its sequence gives, so that gaps are silence. When the format or the sequence changes, when the file
//! is full, or after silence, the file ends, and the next AUDIO of the source begins another one.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::recorder::{RETURNED_CHANNEL, Recording};
use crate::address::canonical_socket_addr;
use crate::audio::convert::decode_payload;
use crate::client::AudioStreamConfig;
use crate::echo::{DropReason, ObservedDatagram, SourceObserver};
use crate::time::Time;
use crate::wire::{Header, LatencyInfo, Packet, PacketType, SAMPLE_RATE, parse_packet};

/// Maximum number of files in a run, and of sources. All files may be open at once, and a usual limit on open files is 1,024.
const MAX_FILES: usize = 256;

/// Maximum total length of all files in a run, which the last packet may exceed: 3 h of a stereo client at 48 kHz.
const MAX_BYTES: i64 = 4 << 30;

/// Maximum length of a file: 46 min of stereo at 48 kHz.
const MAX_FILE_BYTES: i64 = 1 << 30;

/// Maximum length of the silence for a gap: 21 s of stereo at 48 kHz. Wrong sequences then do not fill the disk.
const MAX_GAP_BYTES: i64 = 8 << 20;

/// Maximum number of packets that a packet may be late. After a larger step back, the client has started again.
const MAX_LATE: i64 = 128;

/// A file ends after this time without AUDIO.
const MAX_SILENCE: Duration = Duration::from_secs(10);

/// The files of all sources.
pub struct SourceRecorder {
    folder: PathBuf,
    formats: BTreeMap<SocketAddr, Format>,
    files: BTreeMap<SocketAddr, SourceFile>,
    file_count: usize,
    /// Total length of the files.
    bytes: i64,
    /// Whether no more files are begun: a limit is reached or the disk is full.
    is_over: bool,
}

/// Sample rate, samples per channel in a packet, and channels, according to LATENCY_INFO.
type Format = (u32, u32, Option<u8>);

impl SourceRecorder {
    /// Writes into `folder`.
    pub fn new(folder: &Path) -> Self {
        let (folder, formats, files) = (folder.to_owned(), BTreeMap::new(), BTreeMap::new());
        Self { folder, formats, files, file_count: 0, bytes: 0, is_over: false }
    }

    /// Completes the files of sources that have stopped sending.
    pub fn finish_silent(&mut self) {
        self.files.retain(|_, file| file.last_packet.elapsed() < MAX_SILENCE);
    }

    fn on_info(&mut self, source: SocketAddr, payload: &[u8]) {
        if let Ok(info) = LatencyInfo::parse(payload)
            && self.formats.len() < MAX_FILES
            && LatencyInfo::SAMPLE_RATES.contains(&info.sample_rate)
        {
            let format = (info.sample_rate, info.frame_size, info.channel_count);
            if self.formats.insert(source, format).is_some_and(|previous| previous != format) {
                self.files.remove(&source);
            }
            self.files.entry(source).and_modify(|file| file.format = Some(format));
        }
    }

    fn on_audio(&mut self, at: Time, source: SocketAddr, packet: Packet<'_>, samples: &[f32]) -> io::Result<()> {
        let position = self.files.get(&source).and_then(|file| file.position(packet));
        let limit = || {
            let written = format!("{MAX_FILES} files or {} GiB are written", MAX_BYTES >> 30);
            Err(io::Error::other(written + "; restart the server to record more"))
        };
        if position.is_none() {
            self.files.remove(&source);
            if self.is_over || self.file_count == MAX_FILES {
                return limit();
            }
            let mut file = SourceFile::create(&self.folder, at, source, packet)?;
            file.format = self.formats.get(&source).copied();
            self.files.insert(source, file);
            self.file_count += 1;
        }
        if let Some(file) = self.files.get_mut(&source) {
            self.bytes += file.write(position.unwrap_or(0), packet, samples);
            let error = file.recording.error.as_ref().map(|error| Err(io::Error::other(error.to_string())));
            if self.bytes > MAX_BYTES || error.is_some() {
                self.files.remove(&source);
                return error.unwrap_or_else(limit);
            }
        }
        Ok(())
    }
}

impl SourceObserver for SourceRecorder {
    /// Records what can be read, even if the server drops it because of a limit: the source has sent it. Plain packets on an encrypted link
    /// may be from others.
    fn on_datagram(&mut self, datagram: ObservedDatagram<'_>) {
        let Ok(packet) = parse_packet(datagram.bytes) else { return };
        let is_sealed = packet.header.is_sealed() && !datagram.is_opened;
        if is_sealed || datagram.drop_reason == Some(DropReason::Plain) {
            return;
        }
        let source = canonical_socket_addr(datagram.source);
        let samples: Vec<f32> = decode_payload(packet.payload).into_iter().flatten().collect();
        match packet.header.packet_type {
            PacketType::LatencyInfo => self.on_info(source, packet.payload),
            PacketType::Audio if !samples.is_empty() => {
                if let Err(error) = self.on_audio(datagram.at, source, packet, &samples)
                    && !std::mem::replace(&mut self.is_over, true)
                {
                    warn!(target: "echo", %error, "no more recordings are begun; the echo goes on");
                }
            }
            _ => {}
        }
    }
}

/// A file, which is completed when it is dropped. Its sample rate and its channels are decided then, because clients send LATENCY_INFO after
/// their first AUDIO.
struct SourceFile {
    path: PathBuf,
    recording: Recording,
    format: Option<Format>,
    /// Length of each payload but the last, which may be shorter.
    packet_bytes: i64,
    /// The newest packet, its position in packets, and the length of its payload.
    newest: (Header, i64, i64),
    /// Advance of the timestamp between two packets.
    advance: u32,
    /// Packets before the first one.
    left_out: u64,
    last_packet: Instant,
}

impl SourceFile {
    fn create(folder: &Path, at: Time, source: SocketAddr, first: Packet<'_>) -> io::Result<Self> {
        let start = jiff::Timestamp::from_nanosecond(at.as_nanos().into()).unwrap_or_default();
        // Windows permits no colons.
        let (ip, port) = (source.ip().to_string().replace(':', "-"), source.port());
        // A format may last for less than a millisecond: LATENCY_INFO follows the first AUDIO.
        let path = folder.join(format!("{}_{ip}_{port}.wav", start.strftime("%Y%m%dT%H%M%S%.6fZ")));
        let packet_bytes = first.payload.len() as i64;
        // All samples of a packet count as one channel until the end.
        let (sample_rate, channels, frame_samples) = (SAMPLE_RATE, 1, packet_bytes as u32 / 4);
        let config = AudioStreamConfig { sample_rate, channels, frame_samples, first_sequence: 0 };
        let (recording, newest) = (Recording::of_returned(&path, config)?, (first.header, 0, packet_bytes));
        let (format, last_packet) = (None, Instant::now());
        Ok(Self { path, recording, format, packet_bytes, newest, advance: 0, left_out: 0, last_packet })
    }

    /// The position of a packet, in packets after the first one. `None` if it belongs to the next file.
    fn position(&self, Packet { header, payload }: Packet<'_>) -> Option<i64> {
        let (newest, position, newest_bytes) = self.newest;
        let ahead = i64::from(header.sequence.wrapping_sub(newest.sequence).cast_signed());
        let is_longer = payload.len() as i64 > self.packet_bytes;
        let is_here = (-MAX_LATE..=MAX_GAP_BYTES / self.packet_bytes).contains(&ahead)
            && (position + ahead) * self.packet_bytes < MAX_FILE_BYTES
            && !(is_longer || ahead > 0 && newest_bytes < self.packet_bytes);
        is_here.then_some(position + ahead)
    }

    /// Writes a packet. Returns by how much the file became longer.
    fn write(&mut self, position: i64, Packet { header, payload }: Packet<'_>, samples: &[f32]) -> i64 {
        let ahead = position - self.newest.1;
        self.last_packet = Instant::now();
        if ahead == 1 {
            self.advance = header.timestamp.wrapping_sub(self.newest.0.timestamp);
        }
        if ahead > 0 {
            self.newest = (header, position, payload.len() as i64);
        }
        match u64::try_from(position) {
            Ok(position) => self.recording.write(position, RETURNED_CHANNEL, samples),
            Err(_) => self.left_out += 1,
        }
        ahead.max(0) * self.packet_bytes
    }
}

impl Drop for SourceFile {
    /// Without LATENCY_INFO, the sample rate is 48 kHz, and the advance of the timestamp is the number of samples per channel.
    fn drop(&mut self) {
        let Self { path, recording, format, packet_bytes, newest, advance, left_out, .. } = self;
        let (rate, frame_size, channels) = format.unwrap_or((SAMPLE_RATE, *advance, None));
        let samples = *packet_bytes as u32 / 4;
        let channels = channels.map_or_else(|| samples.checked_div(frame_size).unwrap_or(1), u32::from);
        let channels = Some(channels).filter(|it| (1..256).contains(it) && samples.is_multiple_of(*it)).unwrap_or(1);
        recording.set_format(rate, channels as u16);
        let frames = (newest.1 * *packet_bytes + newest.2) as u64 / u64::from(4 * channels);
        let (path, seconds) = (path.display(), format!("{:.3}", frames as f64 / f64::from(rate)));
        match recording.finish(frames) {
            Ok(_) => info!(target: "echo", %path, %seconds, rate, channels, left_out, "source recorded"),
            Err(error) => warn!(target: "echo", %path, error, "cannot complete the recording of a source"),
        }
    }
}
