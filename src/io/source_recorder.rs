//! `echo-server --record`: WAV files of the AUDIO that each source sends, written by the [`Recording`] of `send`.
//!
//! A source has one file until it starts again ([`Placement`]), is silent for a minute, or changes its sample rate.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::recorder::{RETURNED_CHANNEL, Recording};
use crate::address::{canonical_socket_addr, source_network};
use crate::audio::convert::decode_payload;
use crate::audio::placement::{AudioPacket, Basis, PlacedFormat, Placement};
use crate::client::AudioStreamConfig;
use crate::echo::{DropReason, ObservedDatagram};
use crate::time::iso_time;
use crate::wire::{LatencyInfo, PacketType, SAMPLE_RATE, parse_packet};

/// Maximum number of files of a source.
const MAX_FILES: u32 = 16;

/// Maximum number of files that are open at once. A usual limit on open files is 1,024.
const MAX_OPEN_FILES: usize = 256;

/// Maximum number of sources, of which some have no file yet.
const MAX_SOURCES: usize = (MAX_BYTES / FILE_BYTES) as usize + 256;

/// Maximum number of samples of all channels in a file, whose length has 32 bits.
const MAX_SAMPLES: i64 = (u32::MAX as i64 - 1_024) / 4;

/// The files of all sources.
pub struct SourceRecorder {
    folder: PathBuf,
    sources: BTreeMap<SocketAddr, Source>,
    shares: Shares,
    /// Limits that were logged.
    reached: BTreeSet<String>,
    /// Files that could not be written. If there are any, no more files are begun.
    incomplete: Vec<String>,
}

#[derive(Default)]
struct Source {
    /// The format according to LATENCY_INFO.
    announced: Option<PlacedFormat>,
    files: u32,
    file: Option<SourceFile>,
}

impl SourceRecorder {
    /// Writes into `folder`.
    pub fn new(folder: &Path) -> Self {
        let (folder, sources, shares) = (folder.to_owned(), BTreeMap::new(), Shares::default());
        Self { folder, sources, shares, reached: BTreeSet::new(), incomplete: Vec::new() }
    }

    /// Completes the files of sources that have sent no AUDIO for this time.
    pub fn finish_silent(&mut self, silence: Duration) {
        self.finish_files(|file| file.last_packet.elapsed() >= silence);
    }

    /// Completes all files. Returns which are incomplete, and why.
    pub fn finish(mut self) -> Vec<String> {
        self.finish_files(|_| true);
        self.incomplete
    }

    fn finish_files(&mut self, is_over: impl Fn(&SourceFile) -> bool) {
        for source in self.sources.values_mut() {
            finish(source.file.take_if(|file| is_over(file)), &mut self.incomplete);
        }
    }

    fn on_info(&mut self, address: SocketAddr, payload: &[u8]) {
        if let Ok(info) = LatencyInfo::parse(payload)
            && LatencyInfo::SAMPLE_RATES.contains(&info.sample_rate)
            && (self.sources.len() < MAX_SOURCES || self.sources.contains_key(&address))
        {
            let format = PlacedFormat { rate: info.sample_rate, channels: info.channel_count.unwrap_or(2) };
            let source = self.sources.entry(address).or_default();
            let has_changed = source.announced.replace(format).is_some_and(|previous| previous.rate != format.rate);
            finish(source.file.take_if(|_| has_changed), &mut self.incomplete);
            if let Some(file) = &mut source.file {
                file.placement.announced = Some(format);
            }
        }
    }

    fn on_audio(&mut self, address: SocketAddr, packet: AudioPacket, samples: &[f32]) {
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&address) {
            // There are fewer files than sources.
            self.sources.retain(|_, source| source.files > 0);
        }
        let source = self.sources.entry(address).or_default();
        let position = source.file.as_mut().and_then(|file| file.place(packet));
        let has_all_files = position.is_none() && source.files == MAX_FILES;
        let limit = has_all_files.then(|| format!("{MAX_FILES} files of {address}"));
        if let Some(limit) = limit.or_else(|| self.shares.reached(address)) {
            finish(source.file.take(), &mut self.incomplete);
            if !self.reached.contains(&limit) {
                warn!(target: "echo", %limit, "a limit on recordings is reached; restart the server to record more");
                self.reached.insert(limit);
            }
            return;
        }
        if position.is_none() {
            finish(source.file.take(), &mut self.incomplete);
            if !self.incomplete.is_empty() {
                return;
            }
            self.begin(address, packet);
        }
        let Some(file) = self.sources.get_mut(&address).and_then(|source| source.file.as_mut()) else { return };
        file.write(position.unwrap_or(0), samples);
        self.shares.add(address, size_of_val(samples) as u64);
        if file.recording.error.is_some() {
            self.finish_files(|file| file.recording.error.is_some());
        }
    }

    /// Begins a file. If too many are open, the one that has been silent for the longest time is completed first.
    fn begin(&mut self, address: SocketAddr, packet: AudioPacket) {
        let open = self.sources.values().filter_map(|source| source.file.as_ref()).map(|file| file.last_packet);
        if open.clone().count() >= MAX_OPEN_FILES {
            let oldest = open.min();
            self.finish_files(|file| Some(file.last_packet) == oldest);
        }
        let source = self.sources.entry(address).or_default();
        match SourceFile::create(&self.folder, address, packet, source.announced) {
            Ok(file) => {
                source.file = Some(file);
                source.files += 1;
                self.shares.add(address, FILE_BYTES);
            }
            Err(error) => {
                warn!(target: "echo", %error, "no more recordings are begun; the echo goes on");
                self.incomplete.push(format!("no recording of {address}: {error}"));
            }
        }
    }

    /// Records what can be read, even if the server drops it because of a limit: the source has sent it. Plain packets on an encrypted link
    /// may be from others.
    pub fn on_datagram(&mut self, datagram: ObservedDatagram<'_>) {
        let Ok(packet) = parse_packet(datagram.bytes) else { return };
        let is_sealed = packet.header.is_sealed() && datagram.counter.is_none();
        if is_sealed || datagram.drop_reason == Some(DropReason::Plain) {
            return;
        }
        let source = canonical_socket_addr(datagram.source);
        let samples: Vec<f32> = decode_payload(packet.payload).into_iter().flatten().collect();
        match packet.header.packet_type {
            PacketType::LatencyInfo => self.on_info(source, packet.payload),
            PacketType::Audio if !samples.is_empty() => {
                let (sequence, timestamp) = (packet.header.sequence, packet.header.timestamp);
                // A datagram has fewer than 65,536 bytes.
                let packet = AudioPacket { at: datagram.at, sequence, timestamp, samples: samples.len() as u16 };
                self.on_audio(source, packet, &samples);
            }
            _ => {}
        }
    }
}

fn finish(file: Option<SourceFile>, incomplete: &mut Vec<String>) {
    incomplete.extend(file.and_then(SourceFile::finish));
}

/// Maximum number of bytes that are written: 3 h of a stereo client at 48 kHz. A source may take what the other sources of its network (IPv6: /64)
/// leave of half of them, up to half of that, and a network likewise of all. Thus, neither ends the recordings of others.
const MAX_BYTES: u64 = 4 << 30;

/// Each file counts this number of bytes more, so that there are at most 4,096.
const FILE_BYTES: u64 = 1 << 20;

/// The number of bytes written for each source, for each network (with port 0), and for all (`None`).
#[derive(Default)]
struct Shares(BTreeMap<Option<SocketAddr>, u64>);

impl Shares {
    fn owners(source: SocketAddr) -> [Option<SocketAddr>; 3] {
        [Some(source), Some(SocketAddr::new(source_network(source.ip()), 0)), None]
    }

    fn add(&mut self, source: SocketAddr, bytes: u64) {
        for owner in Self::owners(source) {
            *self.0.entry(owner).or_default() += bytes;
        }
    }

    /// The limit that the source has reached, if any.
    fn reached(&self, source: SocketAddr) -> Option<String> {
        let written = |owner| self.0.get(&owner).copied().unwrap_or(0);
        let [own, of_network, of_all] = Self::owners(source).map(written);
        let of_network_reached = || format!("{} GiB of {}", MAX_BYTES >> 31, source_network(source.ip()));
        if of_network + of_all >= MAX_BYTES {
            return Some(format!("{} GiB of all clients", MAX_BYTES >> 30));
        }
        (own + of_network >= MAX_BYTES / 2).then(of_network_reached)
    }
}

/// A file. All samples of a packet count as one channel until the header is written.
struct SourceFile {
    path: PathBuf,
    recording: Recording,
    placement: Placement,
    /// Packets before the first one.
    left_out: u64,
    last_packet: Instant,
}

impl SourceFile {
    fn create(
        folder: &Path,
        source: SocketAddr,
        first: AudioPacket,
        announced: Option<PlacedFormat>,
    ) -> io::Result<Self> {
        // A client may start again within a millisecond. Windows permits no colons.
        let micros = first.at.as_micros();
        let start = iso_time(micros / 1_000).replace(['-', ':'], "").replace('Z', &format!("{:03}Z", micros % 1_000));
        let (ip, port) = (source.ip().to_string().replace(':', "-"), source.port());
        let path = folder.join(format!("{start}_{ip}_{port}.wav"));
        let config = AudioStreamConfig { sample_rate: SAMPLE_RATE, channels: 1, frame_samples: 1, first_sequence: 0 };
        let (recording, placement) = (Recording::of_returned(&path, config)?, Placement::new(first, announced));
        Ok(Self { path, recording, placement, left_out: 0, last_packet: Instant::now() })
    }

    /// The position of a packet. `None` if it belongs to the next file.
    fn place(&mut self, packet: AudioPacket) -> Option<i64> {
        self.placement.place(packet).filter(|position| position + i64::from(packet.samples) <= MAX_SAMPLES)
    }

    fn write(&mut self, position: i64, samples: &[f32]) {
        let PlacedFormat { rate, channels } = self.placement.format();
        self.recording.format = (rate, channels.into());
        self.last_packet = Instant::now();
        match u64::try_from(position) {
            Ok(position) => self.recording.write(position, RETURNED_CHANNEL, samples),
            Err(_) => self.left_out += 1,
        }
    }

    /// Completes the file. Returns why it is incomplete if it could not be written.
    fn finish(self) -> Option<String> {
        let Self { path, mut recording, placement, left_out, .. } = self;
        let PlacedFormat { rate, channels } = placement.format();
        recording.format = (rate, channels.into());
        let seconds = format!("{:.3}", placement.end() as f64 / f64::from(channels) / f64::from(rate));
        let placed_by = match placement.basis() {
            Basis::Timestamp => "timestamp",
            Basis::Sequence => "sequence: the timestamps do not agree with the lengths of the packets",
            Basis::Arrival => "arrival: neither timestamps nor sequences agree with the packets",
        };
        let error = recording.finish(placement.end() as u64).err();
        let file = path.display();
        match &error {
            None => {
                info!(target: "echo", path = %file, %seconds, rate, channels, left_out, placed_by, "source recorded");
            }
            Some(error) => {
                warn!(target: "echo", path = %file, error, "a recording is incomplete, and no more are begun; the echo goes on");
            }
        }
        let name = path.file_name().unwrap_or_default().display();
        error.map(|error| format!("the recording {name} is incomplete: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_and_no_address_takes_more_than_half_of_what_is_left() {
        let mut shares = Shares::default();
        let [one, neighbor, other] = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1"]
            .map(|it| it.parse::<SocketAddr>().expect("an address"));
        let limits = |shares: &Shares| [one, neighbor, other].map(|it| shares.reached(it));
        let [network, all] = ["2 GiB of 2001:db8::", "4 GiB of all clients"].map(|limit| Some(limit.to_owned()));
        // 2 and 4 GiB are documented.
        for (source, mib, expected) in [
            (one, 1_023, [None, None, None]),
            (one, 1, [network.clone(), None, None]),
            (neighbor, 512, [network.clone(), network.clone(), None]),
            (other, 1_023, [network.clone(), network.clone(), None]),
            (other, 1, [all.clone(), all.clone(), Some("2 GiB of 192.0.2.1".to_owned())]),
        ] {
            shares.add(source, mib << 20);
            assert_eq!(limits(&shares), expected, "{source}");
        }
        assert_eq!(shares.reached("198.51.100.1:1".parse().expect("an address")), None);
    }
}
