//! The members whose media is relayed, and which socket stands for whom.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::info;

use super::destination::{MemberAddresses, OwnAddresses, usable};
use super::node::MediaRoute;
use crate::address::canonical_socket_addr;
use crate::direction::Direction;
use crate::echo::AdmissionConfig;
use crate::impairment::{Bottleneck, Impairment};
use crate::node::{Receive, Transmit};
use crate::outcome::OutcomeObserver;
use crate::relay::Flow;
use crate::sanitize::sanitize_name;
use crate::time::Time;

/// Maximum number of sockets.
pub const MAX_SOCKETS: usize = 1_024;

/// A socket that is no longer announced forwards until nothing has passed it for this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// After that, the socket is not used for this time, so that what still arrives there reaches nobody else.
const REST: Duration = Duration::from_secs(60);

/// Maximum number of different names in a room. Members with further names count together.
const MAX_NAMES: usize = 1_024;

/// Configuration of the relay of a signaling server.
#[derive(Clone, Debug, Default)]
pub struct MediaRelayConfig {
    /// The impairment of each flow.
    pub impairment: Impairment,
    /// The ports of the sockets.
    pub ports: Vec<u16>,
    /// The address of the sockets for all members; `None`: for each member, the address at which its connection to the server arrived.
    pub announced_ip: Option<Ipv4Addr>,
    /// The addresses of this host. Loopback addresses need not be among them.
    pub own_ips: Vec<IpAddr>,
    /// The limits on what is sent to an address. Those of this host are exempt.
    pub limits: AdmissionConfig,
}

/// From one member to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Way {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Way {
    fn reversed(self) -> Self {
        Self { from: self.to, to: self.from }
    }

    /// Up is from the member that joined first.
    fn direction(self) -> Direction {
        if self.from < self.to { Direction::Up } else { Direction::Down }
    }
}

/// A member of a room, until the last of its sockets rests.
pub(super) struct Member {
    pub(super) room: u64,
    /// The name, and how many members of this name the room has had.
    pub(super) name: Arc<str>,
    announced_ip: Ipv4Addr,
    pub(super) addresses: MemberAddresses,
    has_address: bool,
    is_present: bool,
    /// Holds what all others send to the member.
    pub(super) bottleneck: Bottleneck,
}

/// What passes on one way, and the socket at which it arrives. The socket is announced to the sender and stands for the receiver.
struct MediaFlow {
    socket: usize,
    flow: Flow,
}

enum Socket {
    Free,
    RestsUntil(Time),
    Open(OpenSocket),
}

struct OpenSocket {
    way: Way,
    /// The latest source, and the local address at which it arrived.
    source: Option<(SocketAddr, Option<IpAddr>)>,
    active_at: Option<Time>,
}

/// What the relay knows of a room.
#[derive(Default)]
struct MediaRoom {
    /// Number of members with each name.
    names: HashMap<String, u64>,
    /// When the first AUDIO arrived.
    started_at: Option<Time>,
}

/// Why the relay drops a datagram that is on no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Nobody knows the socket, or no longer.
    UnusedSocket,
    /// From another address than that of the member.
    ForeignSource,
    /// From a socket of the relay.
    OwnSocket,
}

impl Refused {
    /// The name of its counter.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::UnusedSocket => "unused_socket",
            Self::ForeignSource => "foreign_source",
            Self::OwnSocket => "own_socket",
        }
    }
}

/// All members and sockets.
pub(super) struct Pairs {
    pub(super) config: MediaRelayConfig,
    pub(super) own: OwnAddresses,
    sockets: Vec<Socket>,
    /// The sockets that nobody uses, the one that has rested for the longest first.
    free: VecDeque<usize>,
    /// In the order of joining.
    pub(super) members: BTreeMap<u64, Member>,
    flows: HashMap<Way, MediaFlow>,
    rooms: HashMap<u64, MediaRoom>,
    joined: u64,
    /// Whether a member or a socket is gone since the last sweep.
    has_gone: bool,
    /// Numbers of datagrams by outcome or [`Refused`], and of sources that changed.
    counts: BTreeMap<&'static str, u64>,
    pub(super) observer: Box<dyn OutcomeObserver<MediaRoute>>,
}

impl Pairs {
    /// Opens a socket for this way. The flow goes on, if the way had another socket.
    fn open(&mut self, way: Way) {
        let Some(socket) = self.free.pop_front() else { return };
        self.sockets[socket] = Socket::Open(OpenSocket { way, source: None, active_at: None });
        let [from, to] = [way.from, way.to].map(|number| &*self.members[&number].name);
        match self.flows.entry(way) {
            Entry::Occupied(mut flow) => flow.get_mut().socket = socket,
            Entry::Vacant(flow) => {
                // Of the losses of a recorded run, each belongs to one of the ways.
                let impairment = Impairment { direction: Some(way.direction()), ..self.config.impairment.clone() };
                flow.insert(MediaFlow { socket, flow: Flow::new(&impairment, &format!("{from}>{to}")) });
            }
        }
    }

    /// The other members of a room that are there.
    fn others(&self, room: u64, number: u64) -> Vec<u64> {
        let is_other = |(other, member): &(&u64, &Member)| member.room == room && member.is_present && **other != number;
        self.members.iter().filter(is_other).map(|(other, _)| *other).collect()
    }

    /// The way of received datagrams. Their source is now that of the member.
    pub(super) fn accept(&mut self, received: &Receive<'_>) -> Result<Way, Refused> {
        let Some(Socket::Open(open)) = self.sockets.get_mut(received.socket) else { return Err(Refused::UnusedSocket) };
        let (way, source) = (open.way, canonical_socket_addr(received.source));
        let member = self.members.get_mut(&way.from).ok_or(Refused::UnusedSocket)?;
        if self.own.is_relay(source) {
            return Err(Refused::OwnSocket);
        }
        if source.port() == 0 || !member.addresses.accepts(source.ip(), &self.own) {
            return Err(Refused::ForeignSource);
        }
        let has_moved = open.source.is_some_and(|(before, _)| before != source);
        open.source = Some((source, received.dst_ip));
        open.active_at = Some(received.received_at);
        member.addresses.latest = Some(source);
        if let Some(Socket::Open(other)) = self.exit_socket(way).map(|socket| &mut self.sockets[socket]) {
            other.active_at = Some(received.received_at);
        }
        if has_moved {
            self.count("source_changed", 1);
        }
        Ok(way)
    }

    /// What has passed on a way.
    pub(super) fn flow(&mut self, way: Way) -> Option<&mut Flow> {
        Some(&mut self.flows.get_mut(&way)?.flow)
    }

    /// The names of the members of a way.
    pub(super) fn route(&self, way: Way) -> Option<MediaRoute> {
        let name = |number| Some(Arc::clone(&self.members.get(&number)?.name));
        Some(MediaRoute { from: name(way.from)?, to: name(way.to)?, direction: way.direction() })
    }

    /// The name of the member to which a socket is announced.
    pub(super) fn recipient(&self, socket: usize) -> Option<&str> {
        let Socket::Open(open) = self.sockets.get(socket)? else { return None };
        Some(&self.members.get(&open.way.from)?.name)
    }

    pub(super) fn count(&mut self, name: &'static str, count: u64) {
        *self.counts.entry(name).or_default() += count;
    }

    /// Logs what was counted.
    pub(super) fn log_counts(&self) {
        let text: String = self.counts.iter().map(|(name, count)| format!(" {name}={count}")).collect();
        if !text.is_empty() {
            info!(target: "relay", "stats{text}");
        }
    }

    /// The time since time 0 of the sender's room, which its first AUDIO starts.
    pub(super) fn since_start(&mut self, way: Way, at: Time, is_audio: bool) -> Option<Duration> {
        let room = self.rooms.get_mut(&self.members.get(&way.from)?.room)?;
        if is_audio {
            room.started_at.get_or_insert(at);
        }
        room.started_at.map(|started_at| at - started_at)
    }

    /// The socket that stands for the sender and is announced to the receiver.
    fn exit_socket(&self, way: Way) -> Option<usize> {
        Some(self.flows.get(&way.reversed())?.socket)
    }

    /// The socket and the addresses of what leaves on this way.
    pub(super) fn exit(&self, way: Way) -> Option<Transmit<'static>> {
        let socket = self.exit_socket(way)?;
        let (Socket::Open(open), member) = (&self.sockets[socket], self.members.get(&way.to)?) else { return None };
        let destination = member.addresses.destination(open.source.map(|(source, _)| source), &self.own)?;
        let announced_ip = Some(member.announced_ip.into()).filter(|_| self.config.announced_ip.is_none());
        let src_ip = open.source.and_then(|(_, local_ip)| local_ip).or(announced_ip);
        Some(Transmit { socket, src_ip, ..Transmit::datagram(destination, &[]) })
    }

    /// Lets sockets rest that are idle and no longer announced, and forgets who has none left.
    pub(super) fn sweep(&mut self, now: Time) {
        let Self { sockets, free, members, flows, rooms, has_gone, .. } = self;
        let is_present = |number: u64| members.get(&number).is_some_and(|member| member.is_present);
        for (number, socket) in sockets.iter_mut().enumerate() {
            match socket {
                Socket::RestsUntil(until) if now >= *until => {
                    *socket = Socket::Free;
                    free.push_back(number);
                }
                Socket::Open(OpenSocket { way, active_at, .. }) => {
                    let is_current = flows.get(way).is_some_and(|flow| flow.socket == number);
                    if is_current && is_present(way.from) && is_present(way.to) {
                        continue;
                    }
                    if now.duration_since(*active_at.get_or_insert(now)) < IDLE_TIMEOUT {
                        continue;
                    }
                    if is_current {
                        flows.remove(way);
                    }
                    (*has_gone, *socket) = (true, Socket::RestsUntil(now + REST));
                }
                Socket::Free | Socket::RestsUntil(_) => {}
            }
        }
        if std::mem::take(has_gone) {
            let connected: HashSet<u64> = flows.keys().map(|way| way.from).collect();
            members.retain(|number, member| member.is_present || connected.contains(number));
            let used: HashSet<u64> = members.values().map(|member| member.room).collect();
            rooms.retain(|room, _| used.contains(room));
        }
    }
}

/// The rooms whose media is relayed.
#[derive(Clone)]
pub struct MediaRooms(Arc<Mutex<Pairs>>);

impl MediaRooms {
    /// No rooms. Node and signaling server share the result. `observer` receives the outcome of each datagram.
    pub fn new(config: MediaRelayConfig, observer: Box<dyn OutcomeObserver<MediaRoute>>) -> Self {
        let own = OwnAddresses { ips: config.own_ips.clone(), ports: config.ports.iter().copied().collect() };
        let free = (0..config.ports.len()).collect();
        let sockets = config.ports.iter().map(|_| Socket::Free).collect();
        let (members, flows, rooms, joined, has_gone, counts) = <_>::default();
        let pairs = Pairs { config, own, sockets, free, members, flows, rooms, joined, has_gone, counts, observer };
        Self(Arc::new(Mutex::new(pairs)))
    }

    /// A member joins `room`, over a connection from `signaling_ip` to `local_ip`. `None` if there are too few sockets.
    pub fn join(&self, room: u64, name: &str, signaling_ip: IpAddr, local_ip: Ipv4Addr) -> Option<MediaMember> {
        let pairs = &mut *self.lock();
        let (number, others) = (pairs.joined, pairs.others(room, pairs.joined));
        if pairs.free.len() < 2 * others.len() {
            return None;
        }
        pairs.joined += 1;
        let names = &mut pairs.rooms.entry(room).or_default().names;
        let counted = if names.len() < MAX_NAMES || names.contains_key(name) { name } else { "" };
        let count = names.entry(counted.to_owned()).or_default();
        *count += 1;
        let member = Member {
            room,
            name: format!("{}#{count}", sanitize_name(name)).into(),
            announced_ip: pairs.config.announced_ip.unwrap_or(local_ip),
            addresses: MemberAddresses::new(signaling_ip),
            has_address: false,
            is_present: true,
            bottleneck: Bottleneck::default(),
        };
        pairs.members.insert(number, member);
        for other in others {
            let way = Way { from: number, to: other };
            pairs.open(way);
            pairs.open(way.reversed());
        }
        Some(MediaMember { rooms: self.clone(), number })
    }

    /// Numbers of datagrams by outcome, of refused ones by reason, and of sources that changed.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Pairs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member of a room. It leaves when this is dropped; its sockets then forward until they are idle.
pub struct MediaMember {
    rooms: MediaRooms,
    number: u64,
}

impl MediaMember {
    /// The member publishes these addresses: the public one, then the others, the best first. If it keeps none of those before, new sockets
    /// stand for it. False if there are too few.
    pub fn publish(&self, addresses: impl Iterator<Item = SocketAddr>) -> bool {
        let pairs = &mut *self.rooms.lock();
        let published = usable(addresses, &pairs.own);
        let Some(member) = pairs.members.get_mut(&self.number) else { return false };
        member.has_address = !published.is_empty();
        if !member.has_address {
            return true;
        }
        let before = std::mem::replace(&mut member.addresses.published, published);
        let keeps_one = before.iter().any(|address| member.addresses.published.contains(address));
        if before.is_empty() || keeps_one {
            return true;
        }
        let room = member.room;
        let others = pairs.others(room, self.number);
        let has_room = others.len() <= pairs.free.len();
        for other in others.into_iter().filter(|_| has_room) {
            pairs.open(Way { from: other, to: self.number });
        }
        has_room
    }

    /// The address of the socket that stands for this member and is announced to `recipient`, if the member has published an address.
    pub fn address_for(&self, recipient: &Self) -> Option<SocketAddr> {
        let pairs = self.rooms.lock();
        pairs.members.get(&self.number).filter(|member| member.has_address)?;
        let flow = pairs.flows.get(&Way { from: recipient.number, to: self.number })?;
        let announced_ip = pairs.members.get(&recipient.number)?.announced_ip;
        Some(SocketAddr::new(announced_ip.into(), pairs.config.ports[flow.socket]))
    }
}

impl Drop for MediaMember {
    fn drop(&mut self) {
        let pairs = &mut *self.rooms.lock();
        pairs.has_gone = true;
        if let Some(member) = pairs.members.get_mut(&self.number) {
            member.is_present = false;
        }
    }
}
