//! What the echo server says: the seed's log lines to the letter, and why a datagram was dropped.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::{Level, debug, enabled, info, warn};

use super::Counters;
use super::fates::{Fate, Fated};
use super::sources::Source;
use crate::node::Transmit;
use crate::stats::Count;
use crate::time::Time;
use crate::wire::{self, Header, Info, Kind, Malformed, stun};

/// `address` as people write it: an IPv4 client of a dual-stack socket without the `::ffff:`.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Of these AUDIO packets the first `admitted` wait now, the others were refused.
pub(super) fn audio_received<'a>(from: SocketAddr, datagrams: impl Iterator<Item = &'a [u8]>, admitted: usize) {
    if enabled!(Level::DEBUG) {
        for (place, packet) in datagrams.filter_map(|datagram| wire::parse(datagram).ok()).enumerate() {
            let (sequence, from) = (packet.header.sequence, plain(from));
            if place < admitted {
                debug!("Received audio packet seq={sequence} from {from}");
            } else {
                debug!("Refused audio packet seq={sequence} from {from}: no room in the delay line");
            }
        }
    }
}

pub(super) fn source_heard(peer: SocketAddr) {
    info!("Heard {} for the first time", plain(peer));
}

pub(super) fn source_silent(peer: SocketAddr, source: &Source) {
    let (packets, seconds) = (source.packets, source.heard_for().as_secs_f64());
    let (gaps, duplicates) = (source.audio.gaps, source.audio.duplicates);
    let malformed: u64 = source.malformed.by_reason().map(|(_, count)| count).sum();
    let reasons = source.malformed.by_reason().filter(|(_, count)| *count > 0);
    let reasons: Vec<String> = reasons.map(|(reason, count)| format!("{reason}={count}")).collect();
    let wrong = if malformed > 0 { format!(", malformed={malformed} ({})", reasons.join(", ")) } else { String::new() };
    info!(
        packets,
        gaps,
        duplicates,
        malformed,
        "{} has fallen silent after {seconds:.1} s: packets={packets}, gaps={gaps}, duplicates={duplicates}{wrong}",
        plain(peer)
    );
}

pub(super) fn sources_held_back(count: u64) {
    info!("{count} more sources came or fell silent than have a line");
}

/// Why a packet has no answer.
pub(super) fn ignored(from: SocketAddr, packet: Header) {
    let (kind, sequence, from) = (packet.kind, packet.sequence, plain(from));
    let why = match kind {
        Kind::Fec => "an echo server has no use for it",
        Kind::Control => "this server agrees on no keys",
        Kind::LatencyPong => "this server has asked nothing",
        Kind::Keepalive => "it is the reply to a route probe",
        Kind::Audio | Kind::LatencyPing | Kind::LatencyInfo => "it needs no answer",
    };
    debug!("Ignored {} seq={sequence} from {from}: {why}", kind.name());
}

pub(super) fn indication_ignored(from: SocketAddr) {
    debug!("Ignored a STUN indication from {}: it asks for no answer", plain(from));
}

pub(super) fn from_port_zero(from: SocketAddr) {
    debug!("Dropped what came from {}: nothing can be returned to port 0", plain(from));
}

pub(super) fn from_nobody(from: SocketAddr) {
    debug!("Dropped a datagram from {from}: not a valid client address");
}

pub(super) fn not_allowed(from: SocketAddr) {
    debug!("Dropped what came from {}: not one of those that --allow names", plain(from));
}

pub(super) fn strangers(last: SocketAddr, datagrams: u64, all: u64) {
    info!(
        "Not among those that --allow names: {} dropped since the last such line, the last from {} (in all: {all})",
        count(datagrams, "datagram"),
        plain(last)
    );
}

/// `1 packet`, `2 packets`.
fn count(n: u64, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

pub(super) fn above_limits(last: SocketAddr, packets: u64, rate: u64, bits: u64) {
    warn!(
        "Above the limits for one source: {} not answered since the last such line, the last from {} (in all: \
         {rate} by --max-rate-per-source, {bits} by --max-bits-per-source)",
        count(packets, "packet"),
        plain(last)
    );
}

pub(super) fn repeated(last: SocketAddr, packets: u64) {
    warn!("{} sends back what it was sent: another echo server? Packets not answered: {packets}", plain(last));
}

pub(super) fn loop_check(to: SocketAddr) {
    debug!("Queued a loop check to {}: this source repeats a KEEPALIVE, as an echo server does", plain(to));
}

pub(super) fn address_told(by: SocketAddr, address: SocketAddr, before: Option<SocketAddr>) {
    let by = plain(by);
    match before {
        None => info!("Others see this server as {address}, says the STUN server {by}"),
        Some(before) => {
            info!("Others see this server as {address} now, no longer as {before}, says the STUN server {by}");
        }
    }
}

pub(super) fn address_not_told(by: SocketAddr, answered: bool, known: Option<SocketAddr>) {
    let (by, what) = (plain(by), if answered { "answers without a usable address" } else { "does not answer" });
    let known = known.map_or_else(|| "is not known".to_owned(), |known| format!("may be {known} no longer"));
    warn!(
        "The STUN server {by} {what}, so the address under which others see this server {known}; it is asked every 25 s. Is it \
         a STUN server, and does a firewall let UDP through?"
    );
}

pub(super) fn info_received(from: SocketAddr, info: &Info) {
    debug!("Received latency info from {}: {info:?}", plain(from));
}

pub(super) fn echoed(transmit: &Transmit<'_>) {
    if enabled!(Level::DEBUG) {
        for datagram in transmit.bytes.chunks(transmit.stride.max(1)) {
            if let Ok(packet) = wire::parse(datagram) {
                let (to, sequence) = (plain(transmit.to), packet.header.sequence);
                debug!("Echoed packet seq={sequence} to {to}");
            }
        }
    }
}

pub(super) fn answered(transmit: &Transmit<'_>) {
    if enabled!(Level::DEBUG) {
        let to = plain(transmit.to);
        for datagram in transmit.bytes.chunks(transmit.stride.max(1)) {
            // AUDIO is never among the answers: what reads as AUDIO is the beginning of a STUN response.
            match wire::parse(datagram).map(|packet| (packet.header.kind, packet.header.sequence)) {
                Ok((Kind::Keepalive, sequence)) => debug!("Answered with KEEPALIVE seq={sequence} to {to}"),
                Ok((Kind::LatencyPong, sequence)) => debug!("Answered with LATENCY_PONG seq={sequence} to {to}"),
                _ if stun::is_error(datagram) => debug!("Answered a STUN Binding request of {to} with an error"),
                _ => debug!("Answered a STUN Binding request of {to}"),
            }
        }
    }
}

/// What leaves is told when it does.
pub(super) fn impaired(fated: &Fated) {
    if matches!(fated.fate, Fate::Lost(_) | Fate::Queue) {
        let (kind, sequence, fate, to) = (fated.kind.name(), fated.sequence, fated.fate.name(), plain(fated.client));
        debug!("Lost on purpose ({fate}): the answer to {kind} seq={sequence} to {to}");
    }
}

pub(super) fn dropped(from: SocketAddr, bytes: &[u8], reason: Malformed) {
    if enabled!(Level::DEBUG) {
        let mut first = String::new();
        for byte in bytes.iter().take(16) {
            // Writing to a string cannot fail.
            let _ = write!(first, " {byte:02x}");
        }
        debug!("Dropped {} bytes from {}: {reason}; first bytes:{first}", bytes.len(), plain(from));
    }
}

/// Says at most once a second that packets are being refused, with the counts so far.
#[derive(Default)]
pub(super) struct OncePerSecond {
    said: u64,
    next: Time,
}

impl OncePerSecond {
    pub(super) fn warn(&mut self, now: Time, counters: &Counters) {
        let counts =
            [&counters.refused_buffer, &counters.refused_client, &counters.refused_answers, &counters.refused_memory];
        let counts = counts.map(Count::get);
        let refused = counts.iter().sum();
        if refused > self.said && now >= self.next {
            let [buffer, client, answers, memory] = counts;
            warn!(
                "Delay line full: {} refused since the last such line (in all: {buffer} by --max-buffer, \
                 {client} by --max-buffer-per-client, {answers} answers, {memory} by the system)",
                count(refused - self.said, "packet")
            );
            self.said = refused;
            self.next = now + Duration::from_secs(1);
        }
    }
}
