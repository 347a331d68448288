//! The members whose media is relayed, and which socket stands for whom.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tracing::warn;

use super::destination::{MemberAddresses, usable};
use super::links::{self, Link, is_meant};
use super::node::MediaRoute;
use super::recovery::Recovery;
use crate::address::canonical_socket_addr;
use crate::direction::Direction;
use crate::echo::AdmissionConfig;
use crate::impairment::{Bottleneck, Departure, Impairment, Outages};
use crate::impairment_patch::ImpairmentPatch;
use crate::lock::lock;
use crate::log_throttle::LogThrottle;
use crate::node::{DriverWaker, Receive, Transmit};
use crate::outcome::{Outcome, OutcomeEvent, OutcomeObserver};
use crate::recorded_path::RecordedPath;
use crate::relay::Flow;
use crate::sanitize::sanitize_name;
use crate::time::Time;
use crate::transit::InTransit;
use crate::units::InvalidValue;
use crate::wire::PacketType;

/// Maximum number of sockets.
pub const MAX_SOCKETS: usize = 1_024;

/// Half of the sockets, but at least this number: what a room of ten takes when all join again. The members of one room do not take more, nor do
/// those whose connections come from one address of another host.
const MIN_SHARE: usize = 180;

/// A member takes no more sockets: in a room of ten, those of joining once and of publishing other addresses four times.
const MEMBER_SHARE: usize = 54;

/// A socket that is no longer announced forwards until nothing has passed it for this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// After that, the socket is not used for this time, so that what still arrives there reaches nobody else.
const REST: Duration = Duration::from_secs(60);

/// Maximum number of changed paths.
const MAX_LINKS: usize = 1_000;

/// The id and the name of a member, as others see them.
pub type MemberNames = [String; 2];

/// Maximum number of flows that are reported, and of different names in a room. Further flows count, and members with further names together.
const MAX_FLOWS: usize = 4_000;

/// Configuration of the relay of a signaling server.
#[derive(Clone, Debug, Default)]
pub struct MediaRelayConfig {
    /// The impairment of each flow.
    pub impairment: ImpairmentPatch,
    /// Its seed.
    pub seed: u64,
    /// A recorded run, whose loss and delay are added.
    pub recorded: Option<Arc<RecordedPath>>,
    /// The ports of the sockets.
    pub ports: Vec<u16>,
    /// The address of the sockets for all members; `None`: for each member, the address at which its connection to the server arrived.
    pub announced_ip: Option<Ipv4Addr>,
    /// The addresses of this host. Loopback addresses need not be among them.
    pub own_ips: Vec<IpAddr>,
    /// The limits on what is sent to an address. Those of this host are exempt.
    pub limits: AdmissionConfig,
}

impl MediaRelayConfig {
    /// Whether this is an address of this host.
    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.own_ips.contains(&ip)
    }

    /// Whether this is the address of a socket of the relay.
    pub(super) fn is_relay(&self, address: SocketAddr) -> bool {
        self.is_own(address.ip()) && self.ports.contains(&address.port())
    }
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
}

/// What keeps its order: the datagrams on a way. STUN messages, which only outages and the constant delay affect, have an order of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lane {
    pub(super) way: Way,
    pub(super) is_stun: bool,
}

/// A member of a room, until the last of its sockets rests.
struct Member {
    room: u64,
    names: MemberNames,
    /// The name, and how many members of this name the room has had.
    name: Arc<str>,
    announced_ip: Ipv4Addr,
    addresses: MemberAddresses,
    has_address: bool,
    is_present: bool,
    /// Holds what all others send to the member.
    bottleneck: Bottleneck,
}

/// Who takes sockets: the room, the address and the number of a member.
type Taker = (u64, IpAddr, u64);

/// A socket that somebody knows.
struct OpenSocket {
    way: Way,
    taken_by: Taker,
    /// The latest source, and the local address at which it arrived.
    source: Option<(SocketAddr, Option<IpAddr>)>,
    active_at: Option<Time>,
    is_resting: bool,
}

/// What the relay knows of a room.
#[derive(Debug, Default)]
pub struct MediaRoom {
    /// Number of members that the room has had with each name.
    names: HashMap<String, u64>,
    /// When the first AUDIO arrived: time 0 of outages.
    pub started_at: Option<Time>,
    /// When the last member published its first address.
    pub addressed_at: Option<Time>,
    /// Those that have ended: one for each member and each other one that was there at the same time.
    pub flows: Vec<(MediaRoute, Flow)>,
    /// One for each of them.
    pub recoveries: Vec<(MediaRoute, Recovery)>,
}

impl MediaRoom {
    /// Time from the last member's address until AUDIO was forwarded in each flow in which anything arrived: 0 if it was before.
    pub fn completed_after(&self) -> Option<Duration> {
        let attempted = self.flows.iter().filter(|(_, flow)| flow.datagrams > 0);
        let firsts: Option<Vec<Time>> = attempted.map(|(_, flow)| Some(flow.left.times?.0)).collect();
        Some(firsts?.into_iter().max()?.duration_since(self.addressed_at?))
    }

    /// The member that the room lost, if there was only one outage until then, unless one of this name has joined since.
    pub fn lost_for_good<'a>(&self, recovery: &'a Recovery) -> Option<&'a str> {
        let [_] = &*recovery.judged else { return None };
        let lost = recovery.lost.as_deref()?;
        let (name, number) = lost.rsplit_once('#')?;
        (self.names.get(name)?.to_string() == number).then_some(lost)
    }
}

type Task = Box<dyn FnOnce(&mut Pairs) + Send>;

/// All members and sockets.
#[derive(Default)]
pub(super) struct Pairs {
    pub(super) config: MediaRelayConfig,
    sockets: Vec<Option<OpenSocket>>,
    /// The sockets that nobody uses, the one that has rested for the longest first.
    free: VecDeque<usize>,
    /// In the order of joining.
    members: BTreeMap<u64, Member>,
    /// What passes on each way, and the socket at which it arrives. The socket is announced to the sender and stands for the receiver.
    pub(super) flows: HashMap<Way, (usize, Flow, MediaRoute)>,
    /// Those that are used, and those that are reported.
    rooms: BTreeMap<u64, MediaRoom>,
    recoveries: HashMap<Way, Recovery>,
    /// When the node last ran.
    now: Time,
    /// What counts from when the node next runs, because signaling has another clock.
    deferred: Vec<Task>,
    pub(super) waker: DriverWaker,
    /// When AUDIO was last forwarded.
    last_audio: Option<Time>,
    joined: u64,
    links: Vec<Link>,
    /// The senders and receivers of changes that have meant nobody yet.
    unmet: BTreeSet<[String; 2]>,
    /// Members that were severed, as the operator named them.
    severed: BTreeSet<String>,
    foreign_log: LogThrottle,
    full_log: LogThrottle,
    /// Numbers of datagrams by outcome, of dropped ones by reason, and of sources that changed.
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) observer: Option<OutcomeObserver<MediaRoute>>,
    pub(super) has_ended: bool,
}

impl Pairs {
    /// Whether a member can now take this number of sockets. What is not free, or above a share, is taken from the unannounced sockets of the
    /// room, or of the member if the share is its own: first those that rest, then those that have been idle for the longest. `leaving` is
    /// about to leave.
    fn reserve(&mut self, count: usize, (room, ip, member): Taker, leaving: Option<u64>) -> bool {
        let (mut taken, mut own) = (0, 0);
        for (of_room, of_ip, of_member) in self.sockets.iter().flatten().map(|open| open.taken_by) {
            taken += usize::from(of_room == room || of_ip == ip && !self.config.is_own(ip));
            own += usize::from(of_member == member);
        }
        let (share, own_share) = ((self.sockets.len() / 2).max(MIN_SHARE), MEMBER_SHARE.saturating_sub(own));
        let missing = count.saturating_sub(self.free.len().min(share.saturating_sub(taken)).min(own_share));
        let is_usable =
            |open: &OpenSocket| open.taken_by.0 == room && (own_share >= count || open.taken_by.2 == member);
        let age = |number: usize| {
            let open = self.sockets[number].as_ref().filter(|open| is_usable(open))?;
            Some((!open.is_resting, open.active_at.unwrap_or(self.now), number))
        };
        let usable: BTreeSet<_> = self.unannounced(leaving).into_iter().filter_map(age).collect();
        if usable.len() < missing {
            if self.full_log.allow(self.now) {
                warn!(target: "relay", room, "no ports left for a member; a room of ten needs 180 (--relay-ports)");
            }
            return false;
        }
        for (.., number) in usable.into_iter().take(missing) {
            self.end_flow(number);
            self.sockets[number] = None;
            // Whoever keeps what it had in use thus keeps the same ones.
            self.free.push_front(number);
        }
        true
    }

    /// The sockets that nobody knows who is there, or that stand for nobody. `leaving` is about to leave.
    fn unannounced(&self, leaving: Option<u64>) -> Vec<usize> {
        let is_there =
            |number| Some(number) != leaving && self.members.get(&number).is_some_and(|member| member.is_present);
        let is_announced = |number: &usize, way: Way| {
            self.flows.get(&way).is_some_and(|(current, ..)| current == number)
                && is_there(way.from)
                && is_there(way.to)
        };
        let open = (0..).zip(&self.sockets).filter_map(|(number, socket)| Some((number, socket.as_ref()?.way)));
        open.filter(|(number, way)| !is_announced(number, *way)).map(|(number, _)| number).collect()
    }

    /// Ends the flow that arrives at this socket.
    fn end_flow(&mut self, number: usize) {
        let way = self.sockets[number].as_ref().map(|open| open.way);
        let way = way.filter(|way| self.flows.get(way).is_some_and(|(current, ..)| *current == number));
        self.retire(way);
    }

    /// Lets a member take a socket for this way. The flow goes on, if the way had another socket.
    fn open(&mut self, number: u64, way: Way) {
        let Some(socket) = self.free.pop_front() else { return };
        let Member { room, addresses, .. } = &self.members[&number];
        let (room, taken_by) = (*room, (*room, addresses.signaling_ip, number));
        self.sockets[socket] = Some(OpenSocket { way, taken_by, source: None, active_at: None, is_resting: false });
        let [from, to] = [way.from, way.to].map(|number| Arc::clone(&self.members[&number].name));
        match self.flows.entry(way) {
            Entry::Occupied(mut flow) => flow.get_mut().0 = socket,
            Entry::Vacant(flow) => {
                // Of the losses of a recorded run, each belongs to one of the ways.
                let direction = if way.from < way.to { Direction::Up } else { Direction::Down };
                let MediaRelayConfig { impairment, seed, recorded, .. } = &self.config;
                let (seed, recorded, of_way) = (*seed, recorded.clone(), Some(direction));
                let impairment = Impairment { seed, recorded, direction: of_way, ..impairment.clone().impairment() };
                let name = format!("{from}>{to}");
                flow.insert((socket, Flow::new(&impairment, &name), MediaRoute { room, from, to, direction }));
            }
        }
    }

    /// How many members that are there a change means as senders to somebody.
    fn meant(&self, [from, to]: [&str; 2]) -> usize {
        let of = |pattern| {
            self.members.iter().filter(move |(_, member)| member.is_present && is_meant(pattern, &member.names))
        };
        let mut receivers = HashMap::<u64, Vec<&u64>>::new();
        of(to).for_each(|(number, receiver)| receivers.entry(receiver.room).or_default().push(number));
        let has_receiver = |(number, sender): &(&u64, &Member)| {
            to == "*" || receivers.get(&sender.room).is_some_and(|others| others.iter().any(|other| other != number))
        };
        of(from).filter(has_receiver).count()
    }

    /// Gives ways the impairment that the operator has set.
    fn impair_all(&mut self, ways: &[Way]) {
        let patches: Vec<_> = self.links.iter().map(|link| (link, link.patch().unwrap_or_default())).collect();
        let is_of = |pattern: &str, number: u64| {
            self.members.get(&number).is_some_and(|member| is_meant(pattern, &member.names))
        };
        let impairment_of = |way: &Way| {
            let of_way = patches.iter().filter(|(link, _)| is_of(&link.from, way.from) && is_of(&link.to, way.to));
            let changes = of_way.fold(ImpairmentPatch::default(), |earlier, (_, patch)| patch.clone().after(earlier));
            (*way, changes.over(self.config.impairment.clone()).impairment())
        };
        let impairments: Vec<_> = ways.iter().map(impairment_of).collect();
        self.defer(move |pairs| impairments.into_iter().for_each(|(way, impairment)| pairs.impair(way, impairment)));
    }

    /// Gives a way another impairment. Counts and decisions go on.
    fn impair(&mut self, way: Way, impairment: Impairment) {
        let Some((_, flow, route)) = self.flows.get_mut(&way) else { return };
        let outages = if impairment.loss >= 1.0 { Outages::endless() } else { impairment.outages.clone() };
        for way in [way, way.reversed()] {
            let recovery = self.recoveries.entry(way).or_default();
            recovery.change(self.now, route.direction, outages.clone());
        }
        let Impairment { recorded, direction, seed, .. } = flow.impairer.impairment.clone();
        flow.impairer.impairment = Impairment { recorded, direction, seed, ..impairment };
    }

    /// Lets new sockets stand for the members that `pattern` means, an id, a name or `*`.
    fn renumber(&mut self, pattern: &str) -> Result<(), InvalidValue> {
        let is_of = |way: &Way| self.members.get(&way.to).is_some_and(|member| is_meant(pattern, &member.names));
        let ways: Vec<Way> = self.flows.keys().copied().filter(is_of).collect();
        if ways.is_empty() {
            return Err(InvalidValue(format!("`{pattern}` is no member to whom others could send")));
        }
        if ways.len() > self.free.len() {
            return Err(InvalidValue("too few sockets are free".to_owned()));
        }
        for open in self.sockets.iter_mut().flatten().filter(|open| !open.is_resting && ways.contains(&open.way)) {
            (open.is_resting, open.active_at) = (true, None);
        }
        for way in ways {
            self.open(way.to, way);
            self.defer(move |pairs| {
                for way in [way, way.reversed()] {
                    pairs.recoveries.entry(way).or_default().renumber(pairs.now);
                }
            });
        }
        Ok(())
    }

    /// Lets the node do this when it runs.
    fn defer(&mut self, task: impl FnOnce(&mut Self) + Send + 'static) {
        self.deferred.push(Box::new(task));
        self.waker.wake();
    }

    /// The other members of a room that are there.
    fn others(&self, room: u64, number: u64) -> Vec<u64> {
        let of_room = self.members.iter().filter(|(_, member)| member.room == room && member.is_present);
        of_room.map(|(other, _)| *other).filter(|other| *other != number).collect()
    }

    /// The way of received datagrams, whose source is now that of the member, unless they arrived at a former port. `None` if they are dropped.
    pub(super) fn accept(&mut self, received: &Receive<'_>) -> Option<(Way, bool)> {
        let (source, at) = (canonical_socket_addr(received.source), received.received_at);
        let is_current = |open: &OpenSocket| self.flows.get(&open.way).map(|(socket, ..)| *socket == received.socket);
        let is_used = |open: &&mut OpenSocket| !open.is_resting || is_current(open) == Some(false);
        let Some(open) = self.sockets[received.socket].as_mut().filter(is_used) else {
            return self.refuse("unused_socket", received);
        };
        let (way, member) = (open.way, self.members.get_mut(&open.way.from)?);
        if self.config.is_relay(source) {
            return self.refuse("own_socket", received);
        }
        if source.port() == 0 || !member.addresses.accepts(source.ip(), &self.config) {
            if self.foreign_log.allow(at) {
                warn!(target: "relay", %source, member = &*member.name, "datagram of a foreign source dropped");
            }
            return self.refuse("foreign_source", received);
        }
        if open.is_resting {
            return Some((way, true));
        }
        let has_moved = open.source.is_some_and(|(before, _)| before != source);
        (open.source, open.active_at) = (Some((source, received.dst_ip)), Some(at));
        member.addresses.latest = Some(source);
        for way in [way, way.reversed()] {
            if let Some(current) = self.flows.get(&way).and_then(|(socket, ..)| self.sockets[*socket].as_mut()) {
                current.active_at = Some(at);
            }
        }
        if has_moved {
            self.count("source_changed", 1);
        }
        Some((way, false))
    }

    fn refuse<T>(&mut self, reason: &'static str, received: &Receive<'_>) -> Option<T> {
        self.count(reason, received.segments().count() as u64);
        None
    }

    fn count(&mut self, name: &'static str, count: u64) {
        *self.counts.entry(name).or_default() += count;
    }

    /// The time since time 0 of the sender's room, which its first AUDIO starts.
    pub(super) fn since_start(&mut self, way: Way, at: Time, is_audio: bool) -> Option<Duration> {
        let room = self.rooms.get_mut(&self.members.get(&way.from)?.room)?;
        if is_audio {
            room.started_at.get_or_insert(at);
        }
        room.started_at.map(|started_at| at - started_at)
    }

    /// The node runs at `now`.
    pub(super) fn advance(&mut self, now: Time) {
        self.now = now;
        let tasks = std::mem::take(&mut self.deferred).into_iter();
        tasks.for_each(|task| task(self));
    }

    /// Lets sockets rest that are idle and no longer announced, and forgets who has none left.
    pub(super) fn sweep(&mut self, now: Time) {
        for number in self.unannounced(None) {
            let Some(OpenSocket { active_at, is_resting, .. }) = &mut self.sockets[number] else { continue };
            let idle = now.duration_since(*active_at.get_or_insert(now));
            if idle >= IDLE_TIMEOUT {
                *is_resting = true;
                self.end_flow(number);
            }
            if idle >= IDLE_TIMEOUT + REST {
                self.sockets[number] = None;
                self.free.push_back(number);
            }
        }
        let Self { members, flows, rooms, links, .. } = self;
        let before = members.len();
        members.retain(|number, member| {
            let stays = member.is_present || flows.keys().any(|way| way.from == *number);
            if !stays {
                // By its id, nobody else is meant.
                links.retain(|link| ![&link.from, &link.to].contains(&&member.names[0]));
            }
            stays
        });
        if members.len() < before {
            let used: HashSet<u64> = members.values().map(|member| member.room).collect();
            rooms.retain(|number, room| used.contains(number) || !room.flows.is_empty());
        }
    }

    /// Ends flows and the recoveries of their pairs, for the report.
    fn retire(&mut self, ways: impl IntoIterator<Item = Way>) {
        for way in ways {
            let kept: usize = self.rooms.values().map(|room| room.flows.len()).sum();
            let Some((_, flow, route)) = self.flows.remove(&way) else { continue };
            let recovery = self.recoveries.remove(&way);
            let Some(room) = self.rooms.get_mut(&route.room).filter(|_| kept < MAX_FLOWS) else {
                self.count("forgotten_flow", 1);
                continue;
            };
            if let Some(mut recovery) = recovery {
                recovery.close(self.now);
                room.recoveries.push((route.clone(), recovery));
            }
            room.flows.push((route, flow));
        }
    }

    /// Passes a datagram through the queue of its receiver. STUN messages are not limited.
    pub(super) fn bottleneck(&mut self, one: &InTransit<Lane>) -> Option<Departure> {
        let Lane { way, is_stun } = one.flow;
        let flow = self.flows.get(&way).filter(|_| !is_stun);
        let limit = flow.and_then(|(_, flow, _)| flow.impairer.impairment.bandwidth);
        let at_once = Some(Departure { at: one.due, copy_spacing: Duration::ZERO });
        let receiver = self.members.get_mut(&way.to);
        receiver.map_or(at_once, |receiver| {
            receiver.bottleneck.enter(limit, one.due, one.size(), Ipv4Addr::LOCALHOST.into())
        })
    }

    /// Where a datagram leaves, without its bytes: from the socket that stands for the sender and is announced to the receiver.
    pub(super) fn exit_of(&self, way: Way) -> Option<Transmit<'static>> {
        let socket = self.flows.get(&way.reversed())?.0;
        let (open, member) = (self.sockets[socket].as_ref()?, self.members.get(&way.to)?);
        let destination = member.addresses.destination(open.source.map(|(source, _)| source), &self.config)?;
        let announced_ip = Some(member.announced_ip.into()).filter(|_| self.config.announced_ip.is_none());
        let src_ip = open.source.and_then(|(_, local_ip)| local_ip).or(announced_ip);
        Some(Transmit { socket, src_ip, ..Transmit::datagram(destination, &[]) })
    }

    /// A datagram has left, or never will.
    pub(super) fn on_outcome(&mut self, event: OutcomeEvent<Lane>) {
        let (Lane { way, is_stun }, outcome) = (event.route, event.outcome);
        self.count(outcome.name(), 1);
        let Some((_, flow, route)) = self.flows.get_mut(&way).filter(|_| !is_stun) else { return };
        flow.on_outcome(&event);
        let started_at = self.rooms.get(&route.room).and_then(|room| room.started_at);
        if let Some(time_0) = started_at.filter(|_| (event.class, outcome) == (Some(PacketType::Audio), Outcome::Sent))
        {
            self.last_audio = Some(self.now);
            self.recoveries.entry(way).or_default().on_forwarded(self.now, event.received_at, time_0);
        }
        if let Some(observe) = &mut self.observer {
            observe(&event.with_route(route.clone()));
        }
    }
}

/// The rooms whose media is relayed.
#[derive(Clone)]
pub struct MediaRooms {
    pub(super) pairs: Arc<Mutex<Pairs>>,
}

impl MediaRooms {
    /// No rooms. Node and signaling server share the result. `observer` receives the outcome of each datagram.
    pub fn new(config: MediaRelayConfig, observer: Option<OutcomeObserver<MediaRoute>>) -> Self {
        let (sockets, free) = (config.ports.iter().map(|_| None).collect(), (0..config.ports.len()).collect());
        let pairs = Pairs { config, sockets, free, observer, ..Pairs::default() };
        Self { pairs: Arc::new(Mutex::new(pairs)) }
    }

    /// A member joins `room`, over a connection from `signaling_ip` to `local_ip`. It replaces `leaving`, which is about to leave. `None` if
    /// there are too few sockets.
    pub fn join(
        &self,
        room: u64,
        names: MemberNames,
        (signaling_ip, local_ip): (IpAddr, Ipv4Addr),
        leaving: Option<&MediaMember>,
    ) -> Option<MediaMember> {
        let (name, addresses) = (sanitize_name(&names[1]), MemberAddresses::new(signaling_ip));
        let mut locked = lock(&self.pairs);
        let pairs = &mut *locked;
        let (number, leaving) = (pairs.joined, leaving.map(|member| member.number));
        let mut others = pairs.others(room, number);
        others.retain(|other| Some(*other) != leaving);
        if !pairs.reserve(2 * others.len(), (room, addresses.signaling_ip, number), leaving) {
            return None;
        }
        pairs.joined += 1;
        let known = &mut pairs.rooms.entry(room).or_default().names;
        let counted = if known.len() < MAX_FLOWS || known.contains_key(&name) { &*name } else { "" };
        let count = known.entry(counted.to_owned()).or_default();
        *count += 1;
        let member = Member {
            room,
            name: format!("{name}#{count}").into(),
            announced_ip: pairs.config.announced_ip.unwrap_or(local_ip),
            addresses,
            has_address: false,
            is_present: true,
            bottleneck: Bottleneck::default(),
            names,
        };
        pairs.members.insert(number, member);
        let ways = others.into_iter().flat_map(|other| [(number, other), (other, number)]);
        let ways: Vec<_> = ways.map(|(from, to)| Way { from, to }).inspect(|way| pairs.open(number, *way)).collect();
        let unmet = std::mem::take(&mut pairs.unmet).into_iter();
        pairs.unmet = unmet.filter(|[from, to]| pairs.meant([from, to]) == 0).collect();
        pairs.impair_all(&ways);
        Some(MediaMember { rooms: self.clone(), number, is_lost: false })
    }

    /// Changes paths, or nothing if there is an error. Later values win, and hold for members that join later. With `both`, also changes the
    /// opposite direction. With `renumber`, lets new sockets stand for the senders. No message has announced them. The old ones forward nothing.
    /// Returns the number of present members that are meant as senders to somebody. With `require`, 0 is an error. With `sever`, the senders are
    /// also severed.
    pub fn change(&self, link: Link, [both, renumber, require, sever]: [bool; 4]) -> Result<usize, InvalidValue> {
        link.patch()?;
        let restores = !renumber && !sever && link.values.values().all(Value::is_null);
        let mut locked = lock(&self.pairs);
        let pairs = &mut *locked;
        let members = pairs.meant([&link.from, &link.to]);
        if members == 0 && require {
            return Err(InvalidValue(format!("nobody is meant by `{}` to `{}`", link.from, link.to)));
        }
        let mut links = pairs.links.clone();
        if both {
            links::add(&mut links, Link { from: link.to.clone(), to: link.from.clone(), ..link.clone() });
        }
        let names = [link.from.clone(), link.to.clone()];
        links::add(&mut links, link);
        if links.len() > MAX_LINKS {
            return Err(InvalidValue(format!("{MAX_LINKS} paths are changed; restore others first")));
        }
        if renumber {
            pairs.renumber(&names[0])?;
        }
        pairs.links = links;
        if sever && members > 0 && pairs.severed.len() < MAX_LINKS {
            pairs.severed.insert(names[0].clone());
        }
        if members == 0 && !restores && pairs.unmet.len() < MAX_LINKS {
            pairs.unmet.insert(names);
        }
        let ways: Vec<Way> = pairs.flows.keys().copied().collect();
        pairs.impair_all(&ways);
        Ok(members)
    }

    /// The changed paths, each with the number of members that it means now, as in [`MediaRooms::change`].
    pub fn links(&self) -> Vec<(Link, usize)> {
        let pairs = lock(&self.pairs);
        pairs.links.iter().map(|link| (link.clone(), pairs.meant([&link.from, &link.to]))).collect()
    }

    /// The senders and receivers of changes that have never meant anybody.
    pub fn unmet(&self) -> BTreeSet<[String; 2]> {
        lock(&self.pairs).unmet.clone()
    }

    /// The members that were severed at some time, as the operator named them.
    pub fn severed(&self) -> BTreeSet<String> {
        lock(&self.pairs).severed.clone()
    }

    /// Numbers of datagrams by outcome, of dropped ones by reason, and of sources that changed.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.pairs).counts.clone()
    }

    /// The time from the last forwarded AUDIO until the node last ran.
    pub fn silence(&self) -> Option<Duration> {
        let pairs = lock(&self.pairs);
        pairs.last_audio.map(|at| pairs.now.duration_since(at))
    }

    /// The rooms with flows, by number, at the end.
    pub fn take_results(&self) -> BTreeMap<u64, MediaRoom> {
        let pairs = &mut *lock(&self.pairs);
        // Members whom the end of the server disconnects are not lost.
        if !pairs.has_ended {
            pairs.advance(pairs.now);
        }
        let ways: BTreeSet<Way> = pairs.flows.keys().copied().collect();
        pairs.retire(ways);
        std::mem::take(&mut pairs.rooms).into_iter().filter(|(_, room)| !room.flows.is_empty()).collect()
    }
}

/// A member of a room. It leaves when this is dropped; its sockets then forward until they are idle.
pub struct MediaMember {
    rooms: MediaRooms,
    number: u64,
    /// Whether the member will not have left by itself.
    pub is_lost: bool,
}

impl MediaMember {
    /// The member publishes these addresses: the public one, then the others, the best first. If it keeps none of those before, new sockets
    /// stand for it. False if there are too few.
    pub fn publish(&self, addresses: impl Iterator<Item = SocketAddr>) -> bool {
        let pairs = &mut *lock(&self.rooms.pairs);
        let published = usable(addresses, &pairs.config);
        let Some(member) = pairs.members.get_mut(&self.number) else { return false };
        member.has_address = !published.is_empty();
        if !member.has_address {
            return true;
        }
        let (room, ip, before) = (member.room, member.addresses.signaling_ip, &member.addresses.published);
        let (is_first, keeps_one) = (before.is_empty(), before.iter().any(|address| published.contains(address)));
        let others = if is_first || keeps_one { Vec::new() } else { pairs.others(room, self.number) };
        if !pairs.reserve(others.len(), (room, ip, self.number), None) {
            return false;
        }
        let ways = others.into_iter().map(|from| Way { from, to: self.number });
        ways.for_each(|way| pairs.open(self.number, way));
        pairs.members.entry(self.number).and_modify(|member| member.addresses.published = published);
        if is_first {
            pairs.defer(move |pairs| pairs.rooms.entry(room).or_default().addressed_at = Some(pairs.now));
        }
        true
    }

    /// The address of the socket that stands for this member and is announced to `recipient`, if the member has published an address.
    pub fn address_for(&self, recipient: &Self) -> Option<SocketAddr> {
        let pairs = lock(&self.rooms.pairs);
        pairs.members.get(&self.number).filter(|member| member.has_address)?;
        let (socket, ..) = pairs.flows.get(&Way { from: recipient.number, to: self.number })?;
        let announced_ip = pairs.members.get(&recipient.number)?.announced_ip;
        Some(SocketAddr::new(announced_ip.into(), pairs.config.ports[*socket]))
    }
}

impl Drop for MediaMember {
    fn drop(&mut self) {
        let (pairs, number) = (&mut *lock(&self.rooms.pairs), self.number);
        let Some(member) = pairs.members.get_mut(&number) else { return };
        member.is_present = false;
        let lost = self.is_lost.then(|| Arc::clone(&member.name));
        pairs.defer(move |Pairs { recoveries, now, .. }| {
            let of_member = recoveries.iter_mut().filter(|(way, _)| [way.from, way.to].contains(&number));
            for (_, recovery) in of_member.filter(|(_, recovery)| recovery.left_at.is_none()) {
                (recovery.left_at, recovery.lost) = (Some(*now), lost.clone());
            }
        });
    }
}
