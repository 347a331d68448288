//! Correct clients of both generations on real networks, from the specification alone. The generator knows nothing of the rules.

use std::f64::consts::TAU;
use std::net::SocketAddr;
use std::sync::LazyLock;

use jamjam_core::echo::{DropReason, ObservedDatagram};
use jamjam_core::impairment::splitmix64;
use jamjam_core::time::Time;
use jamjam_measure::check::{CheckedSource, ClientCheck, SignalingCheck};

use super::senders::{on_the_wire, route};

/// Random numbers of one client.
pub(super) struct Random(u64, u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(splitmix64(67, seed), 0)
    }

    /// From 0 to 1.
    fn uniform(&mut self) -> f64 {
        self.1 += 1;
        (splitmix64(self.0, self.1) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.uniform() * (high - low)
    }

    /// Short values are as likely as long ones.
    fn log_between(&mut self, low: f64, high: f64) -> f64 {
        (self.between(low.ln(), high.ln())).exp()
    }

    fn occurs(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[(self.uniform() * values.len() as f64) as usize]
    }
}

/// What a client does while its user is silent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pauses {
    None,
    /// The sequence is consecutive, the timestamp counts on.
    Discontinuous,
    /// Both stand still, as on a host that is stopped.
    StandStill,
    /// Both count on, as if packets were lost.
    CountOn,
    /// The host is stopped, so that nothing is sent at all.
    Stopped,
    /// The microphone is muted: samples of 0.
    Muted,
}

const PAUSES: [Pauses; 6] =
    [Pauses::None, Pauses::Discontinuous, Pauses::StandStill, Pauses::CountOn, Pauses::Stopped, Pauses::Muted];

/// How the client announces its format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Announcement {
    /// January's client.
    Never,
    /// Sent once, but lost.
    Lost,
    Once,
    Every5s,
    /// One channel, as newer clients with a mono microphone do.
    Mono,
}

/// A path. Delays are in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) name: &'static str,
    pub(super) jitter: f64,
    loss: f64,
    /// Probabilities that a burst of losses begins and ends.
    burst: (f64, f64),
    /// Mbit/s, and the longest queue.
    bandwidth: (f64, f64),
    keeps_order: bool,
    duplicates: f64,
    /// Of so many packets, one arrives.
    one_of: u64,
    /// Stalls per second, after which all that waited arrives at once.
    stalls: f64,
    /// The delay sways by so much, as of a queue that other traffic fills.
    sway: f64,
    /// Every second packet takes another path, which is longer by so much.
    detour: f64,
    /// A queue fills by so many seconds per second, up to 0.9 s, and is empty again after 30 s.
    pub(super) fill: f64,
}

const LAN: Path = Path {
    name: "lan",
    jitter: 1.0,
    loss: 0.0,
    burst: (0.0, 1.0),
    bandwidth: (1e6, 1e3),
    keeps_order: true,
    duplicates: 0.0,
    one_of: 1,
    stalls: 0.0,
    sway: 0.0,
    detour: 0.0,
    fill: 0.0,
};

/// The networks of `--network`, then faults that these do not have.
pub(super) const PATHS: [Path; 18] = [
    LAN,
    Path { name: "dsl", jitter: 20.0, ..LAN },
    Path { name: "wifi", jitter: 4.0, burst: (0.005, 0.5), bandwidth: (100.0, 16.0), ..LAN },
    Path { name: "wifi-bad", jitter: 20.0, burst: (0.025, 0.5), bandwidth: (50.0, 16.0), ..LAN },
    Path { name: "lte", jitter: 30.0, burst: (0.01, 0.5), bandwidth: (30.0, 27.0), ..LAN },
    Path { name: "5g", jitter: 11.0, loss: 0.01, ..LAN },
    Path { name: "satellite", jitter: 60.0, burst: (0.01, 0.333), bandwidth: (15.0, 273.0), ..LAN },
    Path { name: "every second packet", one_of: 2, ..LAN },
    Path { name: "every third packet", one_of: 3, jitter: 10.0, ..LAN },
    Path { name: "unordered", jitter: 40.0, keeps_order: false, loss: 0.02, duplicates: 0.03, ..LAN },
    Path { name: "stalls", jitter: 4.0, stalls: 0.3, ..LAN },
    Path { name: "stalls and loss", jitter: 30.0, loss: 0.02, stalls: 1.0, duplicates: 0.01, ..LAN },
    Path { name: "swaying", jitter: 10.0, sway: 200.0, ..LAN },
    Path { name: "two paths", keeps_order: false, detour: 7.0, ..LAN },
    Path { name: "perfect", jitter: 0.0, ..LAN },
    Path { name: "queue that fills", jitter: 4.0, fill: 0.03, ..LAN },
    Path { name: "queue that fills fast", jitter: 20.0, fill: 0.2, loss: 0.01, ..LAN },
    Path { name: "queue that fills slowly", jitter: 1.0, fill: 0.004, ..LAN },
];

/// A correct client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    seed: u64,
    pub(super) is_january: bool,
    /// Samples per channel in a packet.
    frames: u32,
    /// As the preset is called.
    announced_frames: u32,
    rate: u32,
    ppm: f64,
    pub(super) pauses: Pauses,
    pub(super) announcement: Announcement,
    is_sealed: bool,
    /// AUDIO packets that were sent before the server started.
    earlier: u32,
    /// When the client starts again, with a new link if it has one.
    restart_s: f64,
    /// When a NAT gives it another port, if it has no link.
    nat_s: f64,
    /// When another member joins the room.
    join_s: f64,
    /// Whether it answers the KEEPALIVEs of the other member.
    answers: bool,
    seconds: f64,
}

impl Client {
    /// The client number `seed`.
    pub(super) fn new(seed: u64, seconds: f64) -> Self {
        let mut random = Random::new(seed);
        let is_january = random.occurs(0.25);
        let (frames, announced_frames) = random.pick(&[(32, 32), (64, 64), (128, 128), (128, 256), (256, 256)]);
        let announcements = [Announcement::Lost, Announcement::Once, Announcement::Every5s, Announcement::Mono];
        Self {
            seed,
            is_january,
            frames,
            announced_frames,
            rate: if is_january { 48_000 } else { random.pick(&[44_100, 48_000, 48_000, 96_000]) },
            ppm: random.between(-50.0, 50.0),
            pauses: random.pick(&PAUSES),
            announcement: if is_january { Announcement::Never } else { random.pick(&announcements) },
            is_sealed: !is_january && random.occurs(0.5),
            // Some timestamps wrap during the run.
            earlier: match random.uniform() {
                0.0..0.7 => 0,
                0.7..0.9 => random.log_between(1.0, 5e6) as u32,
                _ => u32::MAX / frames - 2_000,
            },
            restart_s: if random.occurs(0.2) { random.between(0.5, seconds) } else { f64::MAX },
            nat_s: if random.occurs(0.2) { random.between(2.0, seconds) } else { f64::MAX },
            join_s: random.between(0.0, seconds),
            answers: random.occurs(0.5),
            seconds,
        }
    }

    fn sent(&self, random: &mut Random) -> Vec<Packet> {
        let Self { is_january, frames, rate, ppm, pauses, earlier, seconds, is_sealed, .. } = *self;
        let mut sent = Vec::new();
        let has_keys = is_sealed && earlier == 0;
        let (mut link, mut counter) = (0, 0);
        let mut push = |at_s: f64, kind: u8, sequence: u32, timestamp: u32, start: usize, len: usize| {
            // The KEEPALIVE before CONTROL is plain.
            let is_sealed = is_sealed && kind != CONTROL && start != PLAIN;
            if kind == CONTROL {
                (link, counter) = (link + 1, 0);
            }
            let packet = Packet { at_s, kind, sequence, timestamp, start, len, is_sealed, link, counter };
            counter += u64::from(is_sealed);
            sent.push(packet);
        };
        // The link settles after 100 ms. Timers run whether or not there is AUDIO.
        let settled = if has_keys { 0.1 } else { 0.0 };
        if has_keys {
            push(0.0, KEEPALIVE, 0, 0, PLAIN, 0);
            push(0.0, CONTROL, 0, 0, 0, 0);
        }
        let mut next_second = settled;
        let is_once = matches!(self.announcement, Announcement::Once | Announcement::Lost);
        let mut next_info = if self.announcement == Announcement::Never || earlier > 0 && is_once {
            f64::MAX
        } else {
            settled + random.between(0.0, if earlier > 0 { 5.0 } else { 0.0 })
        };
        // Two minutes of gaps fit into no run.
        let mut gap = (f64::MAX, 0.0);
        let next_gap = |after: f64, random: &mut Random| {
            let start = after + random.log_between(0.3, 6.0);
            let shortest = if matches!(pauses, Pauses::StandStill | Pauses::Stopped) { 0.051 } else { 0.1 };
            (start, random.log_between(shortest, 30.0))
        };
        if pauses != Pauses::None {
            gap = next_gap(settled, random);
        }
        let sample_s = 1.0 / (f64::from(rate) * (1.0 + ppm / 1e6));
        let channels = if is_january { 1 } else { 2 };
        let (mut sequence, mut timestamp) = (earlier + u32::from(is_january), earlier.wrapping_mul(frames));
        let mut at_s = settled + random.between(0.0, 0.003);
        let mut restart = Some(self.restart_s);
        while at_s < seconds {
            if restart.take_if(|restart_s| at_s >= *restart_s).is_some() {
                (sequence, timestamp) = (u32::from(is_january), 0);
                if has_keys {
                    push(at_s, KEEPALIVE, 0, 0, PLAIN, 0);
                    push(at_s, CONTROL, 0, 0, 0, 0);
                    push(at_s + 0.1, KEEPALIVE, 0, 0, 0, 0);
                    (next_second, next_info) = (next_second.max(at_s + 0.1), at_s + 0.1);
                }
                at_s += 0.1;
            }
            if pauses == Pauses::Stopped && at_s >= gap.0 {
                at_s += gap.1;
                next_second = next_second.max(at_s);
                gap = next_gap(at_s, random);
                continue;
            }
            while next_second <= at_s {
                push(next_second, KEEPALIVE, 0, 0, 0, 0);
                push(next_second, PING, 0, 0, 0, 12);
                next_second += 1.0;
            }
            if next_info <= at_s {
                push(next_info, INFO, 0, 0, 0, 33);
                next_info = if is_once { f64::MAX } else { next_info + 5.0 };
            }
            let samples = if is_january { random.pick(&[32, 64, 96, 128]) } else { frames };
            let is_silent = at_s >= gap.0 && pauses != Pauses::Muted;
            if !is_silent {
                let len = (samples * channels * 4) as usize;
                let start = if at_s >= gap.0 { MUTED } else { timestamp as usize % 48_000 * 4 * channels as usize };
                push(at_s, AUDIO, sequence, timestamp, start, len);
            }
            if !is_silent || pauses == Pauses::CountOn {
                sequence = sequence.wrapping_add(1);
            }
            if !is_silent || pauses != Pauses::StandStill {
                timestamp = timestamp.wrapping_add(samples);
            }
            at_s += f64::from(samples) * sample_s;
            if at_s > gap.0 + gap.1 {
                gap = next_gap(at_s, random);
            }
        }
        sent
    }

    fn latency_info(&self) -> [u8; 33] {
        let mut payload = [0; 33];
        payload[20..24].copy_from_slice(&self.announced_frames.to_be_bytes());
        payload[24..28].copy_from_slice(&self.rate.to_be_bytes());
        payload[28..32].copy_from_slice(b"\x03pcm");
        payload[32] = if self.announcement == Announcement::Mono { 1 } else { 2 };
        payload
    }

    /// What is found about the client after its packets have passed `path` to a server, and to one that relays them to a member, without whose
    /// answer to CONTROL it seals nothing.
    pub(super) fn check(&self, path: Path) -> Vec<CheckedSource> {
        let mut random = Random::new(splitmix64(self.seed, 1));
        let sent = self.sent(&mut random);
        let lengths = sent.iter().map(|packet| {
            let len = packet.len + 12 + if packet.is_sealed { 24 } else { 0 };
            (packet.at_s, len, (packet.kind == AUDIO).then_some(packet.sequence))
        });
        let mut arrived = path.pass(lengths, &mut random);
        if self.announcement == Announcement::Lost {
            arrived.retain(|(_, index)| sent[*index].kind != INFO);
        }
        arrived.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (mut check, mut members) = (ClientCheck::default(), SignalingCheck::default());
        let is_lost = |index: usize| arrived.iter().all(|(_, arrived)| *arrived != index);
        let are_answered = (0..sent.len()).all(|index| sent[index].kind != CONTROL || !is_lost(index));
        let has_keys = self.is_sealed && self.earlier == 0;
        let mut link = 1;
        let mut opened = std::collections::HashSet::new();
        let mut bytes = Vec::new();
        for (at_s, index) in arrived {
            let packet = &sent[index];
            bytes.clear();
            bytes.extend([1, packet.kind]);
            bytes.extend(packet.sequence.to_be_bytes());
            bytes.extend(packet.timestamp.to_be_bytes());
            bytes.extend([0, u8::from(packet.is_sealed)]);
            match packet.kind {
                AUDIO if packet.start == MUTED => bytes.resize(12 + packet.len, 0),
                AUDIO => bytes.extend(&SOUND[packet.start..packet.start + packet.len]),
                PING => bytes.extend(
                    [&((packet.at_s * 1e6) as u64 + 1_700_000_000_000_000).to_be_bytes()[..], &[0; 4]].concat(),
                ),
                INFO => bytes.extend(self.latency_info()),
                CONTROL => bytes.extend([&[1, 1][..], &[7; 32]].concat()),
                _ => bytes.resize(12 + packet.len, 0),
            }
            let at = Time::from_nanos((at_s * 1e9) as u64 + 1_000_000_000);
            let datagram = on_the_wire(&bytes, packet.is_sealed.then_some(packet.counter));
            if packet.kind == KEEPALIVE && self.answers && !packet.is_sealed {
                members.senders.on_datagram(at, [1, 0], &route("Aki#1"), &bytes);
                members.senders.on_datagram(at, [0, 1], &route("Ben#1"), &bytes);
            }
            members.senders.on_datagram(at, [0, 1], &route("Ben#1"), &datagram);
            if at_s > self.join_s && are_answered && !self.is_sealed {
                members.senders.on_datagram(at, [0, 2], &route("Cho#1"), &datagram);
            }
            if packet.is_sealed && packet.link > link {
                link = packet.link;
                opened.clear();
            }
            let is_old = packet.is_sealed && has_keys && packet.link < link;
            let is_replayed = packet.is_sealed && has_keys && !is_old && !opened.insert(packet.counter);
            let is_opened = packet.is_sealed && has_keys && !is_replayed && !is_old;
            if packet.is_sealed && !is_opened {
                bytes.extend([0; 24]);
            }
            let drop_reason = match packet.kind {
                _ if is_replayed => Some(DropReason::Replayed),
                _ if is_old => Some(DropReason::NotOpened),
                KEEPALIVE if has_keys && !packet.is_sealed && !opened.is_empty() => Some(DropReason::Plain),
                AUDIO => None,
                _ => (packet.is_sealed && !has_keys).then_some(DropReason::NoKeys),
            };
            check.on_datagram(ObservedDatagram {
                at,
                source: SocketAddr::from((
                    [192, 0, 2, 7],
                    if at_s > self.nat_s && !self.is_sealed { 40_001 } else { 40_000 },
                )),
                dst_ip: None,
                bytes: &bytes,
                counter: is_opened.then_some(packet.counter),
                drop_reason,
                mistake: None,
            });
        }
        let mut report = check.report();
        assert!(report.sources.len() == 1 || self.nat_s < self.seconds, "{self:?} on {path:?}");
        report.sources.extend(members.report().sources.into_iter().filter(|_| are_answered));
        report.sources
    }
}

const AUDIO: u8 = 1;
const CONTROL: u8 = 3;
const KEEPALIVE: u8 = 4;
const PING: u8 = 5;
const INFO: u8 = 7;

struct Packet {
    at_s: f64,
    kind: u8,
    sequence: u32,
    timestamp: u32,
    start: usize,
    len: usize,
    is_sealed: bool,
    /// Number of the link that sealed it, and its counter.
    link: u32,
    counter: u64,
}

/// Instead of the start of a payload: the packet is never sealed.
const PLAIN: usize = usize::MAX;

/// Instead of the start of a payload: zeros.
const MUTED: usize = usize::MAX - 1;

/// More than a second of sound, from which each packet takes its part.
static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let sample = |n: u32| (f64::from(n) * TAU / 218.0).sin() * 0.3 + (f64::from(n) * TAU / 31.0).cos() * 0.1;
    (0..100_000).flat_map(|n| (sample(n) as f32).to_le_bytes()).collect()
});

impl Path {
    /// Arrival times and indices of packets, some of them twice. Of each packet, `sent` has the time, the length, and the sequence if it is AUDIO.
    pub(super) fn pass(
        self,
        sent: impl Iterator<Item = (f64, usize, Option<u32>)>,
        random: &mut Random,
    ) -> Vec<(f64, usize)> {
        let mut arrived = Vec::new();
        let (mut is_burst, mut free_at, mut last) = (false, 0.0_f64, 0.0_f64);
        let phase = random.between(0.0, TAU);
        let mut stall = (random.between(0.0, 2.0 / self.stalls.max(1e-9)), 0.0);
        for (index, (at, len, audio_sequence)) in sent.enumerate() {
            is_burst = if is_burst { !random.occurs(self.burst.1) } else { random.occurs(self.burst.0) };
            let is_skipped = audio_sequence.is_some_and(|sequence| u64::from(sequence) % self.one_of != 0);
            if is_burst || random.occurs(self.loss) || is_skipped {
                continue;
            }
            let (rate, queue) = self.bandwidth;
            let bits = 8.0 * (len + 28) as f64;
            if free_at - at > queue / 1e3 {
                continue;
            }
            free_at = free_at.max(at) + bits / rate / 1e6;
            let sway = 1.0_f64.midpoint((at * TAU / 20.0 + phase).sin()) * self.sway / 1e3;
            let detour = (index % 2) as f64 * self.detour / 1e3;
            let filled = (at % 30.0 * self.fill).min(0.9);
            let mut arrival = free_at + sway + detour + filled + random.between(0.0, self.jitter / 1e3);
            if at > stall.0 + stall.1 {
                stall = (at + random.between(0.0, 2.0 / self.stalls.max(1e-9)), random.log_between(0.05, 1.5));
            }
            if at > stall.0 {
                arrival = arrival.max(stall.0 + stall.1);
            }
            if self.keeps_order {
                arrival = arrival.max(last);
                last = arrival;
            }
            arrived.push((arrival, index));
            if random.occurs(self.duplicates) {
                arrived.push((arrival + random.between(0.0, 0.005), index));
            }
        }
        arrived
    }
}
