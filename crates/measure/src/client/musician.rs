//! A fake musician: a member of a room who sends AUDIO to all other members from one socket, as jamjam clients do, and judges what each of
//! them sends.
//!
//! Each packet is made once, as by `send`, and leaves over the links to the other members. A link is that of a client ([`ClientLink`]) at both
//! ends. AUDIO goes only to addresses from which something has arrived: members name their addresses themselves, which may belong to
//! third parties.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::link::{ClientLink, LinkConfig, LinkSigning, SealingSink};
use super::results::RunResults;
use super::run::ClientNode;
use super::run_config::RunConfig;
use super::sender::{AudioStreamConfig, AudioWorkload, PayloadSource};
use jamjam_core::echo::EntropySource;
use jamjam_core::link::{LinkKey, parse_link_key};
use jamjam_core::node::{Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_core::stats::{Arrivals, Jitter, SequenceArrival, StreamStats};
use jamjam_core::time::{NANOS_PER_SECOND, Time, saturating_nanos};
use jamjam_core::wire::{self, Header, LatencyInfo, PacketType};
use jamjam_signaling::client::{RoomMember, SharedMembers};

/// A link over which nothing was accepted for this long is replaced by a new one, as in a client.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of members, with those that have left, until they make room for others. Further ones are ignored.
const MAX_MEMBERS: usize = 256;

/// The timestamps of a member who plays grow by less than this from packet to packet, in nanoseconds.
const MAX_BREAK_NS: i64 = 100_000_000;

/// Configuration of a [`Musician`].
pub struct MusicianConfig {
    /// The display name.
    pub name: String,
    /// The `peer` is the address of the musician's socket.
    pub run: RunConfig,
    /// The seed of the announced link key. `None` if none is announced: links are then unsigned.
    pub link_key: Option<Zeroizing<[u8; 32]>>,
    /// Whether links to members without a link key are plain. Otherwise, there are none.
    pub allows_plain: bool,
    /// Called for each link.
    pub entropy: EntropySource,
    /// The other members of the room.
    pub members: SharedMembers,
}

/// What a musician has received from one other member.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Packets, gaps, duplicates and reordered packets by sequence number, and when they arrived.
    pub audio: Arrivals,
    /// From arrival times and timestamps.
    pub jitter: Jitter,
    /// The link of the last packet: `signed`, `unsigned` or `plain`.
    pub link: Option<&'static str>,
    /// Length of the AUDIO in nanoseconds, of which a longer break counts as so much.
    played_ns: u64,
    timestamp: u32,
    /// The position of `timestamp` in the stream, in nanoseconds.
    position_ns: i64,
}

impl Heard {
    /// Records AUDIO that arrived at `at`.
    fn on_audio(&mut self, at: Time, header: Header, sample_rate: u32) {
        let arrival = self.audio.record(at, header.sequence);
        if arrival == SequenceArrival::Duplicate {
            return;
        }
        if matches!(arrival, SequenceArrival::Start(_) | SequenceArrival::TooOld) {
            self.jitter.skip();
        }
        let samples = i64::from(header.timestamp.wrapping_sub(self.timestamp).cast_signed());
        let ns = samples * NANOS_PER_SECOND.cast_signed() / i64::from(sample_rate);
        (self.timestamp, self.position_ns) = (header.timestamp, self.position_ns.wrapping_add(ns));
        self.played_ns += ns.clamp(0, MAX_BREAK_NS).cast_unsigned();
        self.jitter.on_transit(at.as_nanos().cast_signed().wrapping_sub(self.position_ns));
    }

    /// Loss and jitter, as if the packets were replies.
    pub fn stats(&self) -> StreamStats {
        let (lost, returned) = (self.audio.sequences.gaps, self.audio.sequences.distinct.into());
        StreamStats { sent: lost + returned, returned, lost, jitter: self.jitter.clone(), ..StreamStats::default() }
    }
}

/// The results of one musician.
pub struct MusicianResults {
    /// The other members, also those that have left, and what was received from each.
    pub heard: Vec<(RoomMember, Heard)>,
    /// The most members at a time that were ignored.
    pub ignored: usize,
    /// The AUDIO that was sent, and what an Echo Bot returned of it. The target is the name of the musician.
    pub run: RunResults,
}

impl MusicianResults {
    /// Why the limits do not apply to a member: nobody heard it, or only for less than half of the time since its first packet.
    pub fn silence_of(&self, heard: &Heard) -> Option<&'static str> {
        let Some((first_at, _)) = heard.audio.times else { return Some("nothing was heard") };
        let end = self.run.evaluated()?.history.started_at? + Duration::from_nanos(self.run.schedule?.actual_ns);
        (heard.played_ns * 2 < saturating_nanos(end.duration_since(first_at))).then_some("the member was mostly silent")
    }
}

/// Another member.
struct Peer {
    member: RoomMember,
    /// The address in use and the link; `None` if the member has left or has no usable address.
    link: Option<(SocketAddr, ClientLink)>,
    heard: Heard,
}

/// Whether a member sends from `address`. A client on this machine names no loopback address, but its port.
fn is_address_of(member: &RoomMember, address: SocketAddr) -> bool {
    let is_local = |named: &SocketAddr| address.ip().is_loopback() && named.port() == address.port();
    member.addresses.iter().any(|named| *named == address || is_local(named))
}

impl Peer {
    /// Handles a datagram from an address of the member. Returns a packet that the link accepts.
    fn on_datagram<'a>(
        &mut self,
        at: Time,
        source: SocketAddr,
        datagram: &'a [u8],
        sample_rate: u32,
    ) -> Option<Cow<'a, [u8]>> {
        let (address, link) = self.link.as_mut()?;
        if link.accepted_at.is_none() {
            *address = source;
        }
        let packet = link.on_datagram(at, datagram)?;
        let header = wire::parse_packet(&packet).ok()?.header;
        if header.packet_type == PacketType::Audio {
            self.heard.link = Some(match (link.results.is_plain, link.results.is_signed) {
                (true, _) => "plain",
                (false, true) => "signed",
                (false, false) => "unsigned",
            });
            self.heard.on_audio(at, header, link.sample_rate.unwrap_or(sample_rate));
        }
        Some(packet)
    }
}

/// Sends each packet of the workload to all members that have sent something over a settled link.
struct RoomSink<'a> {
    peers: &'a mut [Peer],
    /// Index of the member that gets the packet next, if the socket did not accept it.
    next: &'a mut usize,
    now: Time,
    /// Whether the socket did not accept a packet.
    is_blocked: bool,
    sink: &'a mut dyn TransmitSink,
}

impl TransmitSink for RoomSink<'_> {
    fn send(&mut self, offered: Transmit<'_>) -> SendStatus {
        while let Some(peer) = self.peers.get_mut(*self.next) {
            let link = peer.link.as_mut().filter(|(_, link)| link.is_settled() && link.accepted_at.is_some());
            if let Some((destination, link)) = link {
                let mut sink = SealingSink { link, now: self.now, sink: &mut *self.sink };
                if sink.send(Transmit { destination: *destination, ..offered }) == SendStatus::WouldBlock {
                    self.is_blocked = true;
                    return SendStatus::WouldBlock;
                }
            }
            *self.next += 1;
        }
        *self.next = 0;
        SendStatus::Sent
    }
}

/// A member of a room who sends the audio of `S` to the others.
pub struct Musician<S: ?Sized> {
    config: MusicianConfig,
    form: AudioStreamConfig,
    /// Sends the AUDIO, and matches the replies of an Echo Bot.
    client: ClientNode<AudioWorkload<S>>,
    peers: Vec<Peer>,
    next_peer: usize,
    ignored: usize,
}

impl<S: PayloadSource + ?Sized> Musician<S> {
    /// A musician who sends the payloads of `source`.
    pub fn new(config: MusicianConfig, form: AudioStreamConfig, source: Box<S>) -> Self {
        let client = ClientNode::new(config.run.clone(), AudioWorkload::new(form, source), Box::new(()));
        Self { config, form, client, peers: Vec::new(), next_peer: 0, ignored: 0 }
    }

    /// The results of a run that was interrupted at `stopped_at`, unless it had finished.
    pub fn into_results(self, stopped_at: Time) -> MusicianResults {
        let interrupted_at = (!self.client.is_finished()).then_some(stopped_at);
        let run = self.client.into_results(&self.config.name, interrupted_at, &mut ());
        let heard = self.peers.into_iter().map(|peer| (peer.member, peer.heard)).collect();
        MusicianResults { heard, ignored: self.ignored, run }
    }

    /// Replaces the link to a member, who may start the sequence numbers again. The address is the first one.
    fn renew_link(&mut self, index: usize) {
        let (peer, form) = (&mut self.peers[index], self.form);
        let server = peer.member.link_key.as_deref().and_then(parse_link_key);
        let own = self.config.link_key.as_ref().map(|seed| LinkKey::from_seed(seed));
        let is_plain = own.is_some() && server.is_none();
        let signing = own.zip(server).map(|(own, server)| LinkSigning { own, server });
        let config = LinkConfig { entropy: (self.config.entropy)(), signing, timeout: SILENCE_TIMEOUT };
        let latency_info = LatencyInfo::pcm_datagram(form.frame_samples, form.sample_rate, form.channels as u8);
        let mut link = ClientLink::new(config, latency_info, true, true);
        (link.results.is_plain, link.answers_keepalives) = (is_plain, true);
        let address = peer.member.addresses.first().filter(|_| self.config.allows_plain || !is_plain);
        peer.link = address.map(|address| (*address, link));
        peer.heard.audio.restart();
    }

    /// Applies changes in the room.
    fn update_members(&mut self) {
        let Some(members) = self.config.members.take() else { return };
        let has_left = |peer: &Peer| members.iter().all(|member| member.id != peer.member.id);
        self.peers.iter_mut().filter(|peer| has_left(peer)).for_each(|peer| peer.link = None);
        let mut ignored = 0;
        for mut member in members.clone() {
            member.addresses.retain(|address| address.is_ipv4() == self.config.run.peer.is_ipv4());
            let known = self.peers.iter().position(|peer| peer.member.id == member.id);
            if known.is_none() {
                if self.peers.len() == MAX_MEMBERS {
                    let Some(left) = self.peers.iter().position(has_left) else {
                        ignored += 1;
                        continue;
                    };
                    self.peers.remove(left);
                }
                self.peers.push(Peer { member: member.clone(), link: None, heard: Heard::default() });
            }
            let index = known.unwrap_or(self.peers.len() - 1);
            let peer = &mut self.peers[index];
            let address = peer.link.as_ref().filter(|_| peer.member.link_key == member.link_key);
            let keeps_link = address.is_some_and(|(address, _)| is_address_of(&member, *address));
            peer.member = member;
            if !keeps_link {
                self.renew_link(index);
            }
        }
        self.ignored = self.ignored.max(ignored);
    }

    /// Replaces silent links, at the next address of the member, and sends what the links themselves have to send.
    fn poll_links(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        for index in 0..self.peers.len() {
            let Peer { member, link, .. } = &mut self.peers[index];
            let is_over = |(_, link): &(SocketAddr, ClientLink)| {
                let silence = now.duration_since(link.accepted_at.or(link.started_at).unwrap_or(now));
                silence >= SILENCE_TIMEOUT || link.results.failure.is_some()
            };
            if link.as_ref().is_some_and(is_over) {
                member.addresses.rotate_left(1);
                self.renew_link(index);
            }
            if let Some((address, link)) = &mut self.peers[index].link
                && link.poll_transmit(now, *address, false, sink) == SendStatus::WouldBlock
            {
                return;
            }
        }
    }

    /// Index of the member who sends from `source`: the one that names this address, or whose link uses it, or else the only possible one.
    fn sender_at(&self, source: SocketAddr) -> Option<usize> {
        let linked =
            || self.peers.iter().enumerate().filter_map(|(index, peer)| Some((index, peer, peer.link.as_ref()?.0)));
        let named = linked().find(|(_, peer, _)| peer.member.addresses.contains(&source));
        let known = named.or_else(|| linked().find(|(.., used)| *used == source));
        let mut possible = linked().filter(|(_, peer, _)| is_address_of(&peer.member, source));
        known.or_else(|| possible.next().filter(|_| possible.next().is_none())).map(|(index, ..)| index)
    }

    /// Index of the Echo Bot whose replies are matched with the sent packets.
    fn echo_server(&self) -> Option<usize> {
        self.peers.iter().position(|peer| peer.link.is_some() && peer.member.is_echo_server())
    }
}

impl<S: PayloadSource + ?Sized> Node for Musician<S> {
    fn on_datagram(&mut self, now: Time, batch: &[Receive<'_>]) {
        let (echo_server, sample_rate) = (self.echo_server(), self.form.sample_rate);
        for receive in batch {
            let (at, source) = (receive.received_at, receive.source);
            let Some(index) = self.sender_at(source) else { continue };
            for datagram in receive.segments() {
                let packet = self.peers[index].on_datagram(at, source, datagram, sample_rate);
                if let Some(packet) = packet.filter(|_| echo_server == Some(index)) {
                    let (source, contents) = (self.config.run.peer, &*packet);
                    let reply = Receive { source, contents, segment_size: contents.len(), ..*receive };
                    self.client.on_datagram(now, &[reply]);
                }
            }
        }
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        if self.next_peer == 0 {
            self.update_members();
        }
        let (peers, next, is_blocked) = (&mut *self.peers, &mut self.next_peer, false);
        let mut room = RoomSink { peers, next, now, is_blocked, sink: &mut *sink };
        self.client.poll_transmit(now, &mut room);
        if !room.is_blocked {
            self.poll_links(now, sink);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let links = self.peers.iter().filter_map(|peer| Some(peer.link.as_ref()?.1.deadline()));
        Some(self.client.next_deadline()?.min(links.min().unwrap_or(Time::MAX)))
    }
}
