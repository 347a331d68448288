//! The loop that runs a node on its sockets: receives, sends due packets, and sleeps until the next deadline.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::early_wake::{EarlyWake, WakePlan};
use super::socket::read_drops;
use crate::address::canonical_socket_addr;
use crate::io::stop::StopToken;
use crate::node::{DriverWaker, Node, Receive, SendStatus, Transmit, TransmitSink};
use crate::stats::{AddressChange, HostTiming};
use crate::time::{MIN_PAUSE, Pause, Time};

/// Maximum number of batches received before due packets are sent. Otherwise, a flood could delay the due packets.
const MAX_READS_PER_TURN: usize = 4;

/// During this last part of a busy-wait, the driver only reads the clock. Reading the socket takes a few microseconds and polling the node
/// about one, which would delay the packets that are due at the deadline.
const SPIN_READ_GUARD: Duration = Duration::from_micros(8);

/// Maximum time that a node may continue after a stop request. Ctrl-C must end a run at once.
const MAX_STOP_DELAY: Duration = Duration::from_millis(200);

/// Time without a reply after which the driver checks whether this host's address has changed. After a refused send, it checks at once, but
/// not more often than at this interval.
const ADDRESS_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum number of different send errors and, on average, of address changes of a socket that are kept.
const MAX_NOTES: usize = 8;

/// The unused places of a batch.
pub(super) const NOTHING_RECEIVED: Receive<'_> = Receive {
    socket: 0,
    source: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    dst_ip: None,
    received_at: Time::ZERO,
    contents: &[],
    segment_size: 0,
};

/// The operations on the sockets of a node that the loop needs. One implementation per platform.
pub(in crate::io) trait DriverIo {
    /// The monotonic clock.
    fn now(&self) -> Time;
    /// Receives one batch from the next readable socket, if any, and passes it to `take` with the time of the read. Several sockets take turns.
    /// Returns whether more datagrams may be waiting.
    fn recv(&mut self, take: &mut dyn FnMut(Time, &[Receive<'_>])) -> io::Result<bool>;
    /// Sends. See [`TransmitSink::send`]. An error means [`SendStatus::Failed`].
    fn send(&mut self, transmit: Transmit<'_>) -> io::Result<SendStatus>;
    /// See [`TransmitSink::max_segments`]. The limit of socket 0 applies to all: the system rejects what exceeds that of another socket.
    fn max_segments(&self, _len: usize) -> usize {
        1
    }
    /// Returns and removes a socket for which the system has reported an ICMP port unreachable error, if any.
    fn next_port_unreachable(&mut self) -> Option<usize> {
        None
    }
    /// Connects a connected socket again, if the system would now choose another local address. Returns the change.
    fn follow_address(&mut self, _socket: usize) -> io::Result<Option<AddressChange>> {
        Ok(None)
    }
    /// Registers a waker that ends a wait. The default does nothing, for nodes without a waker.
    fn register_waker(&mut self, _: &DriverWaker) {}
    /// Sleeps until a socket is readable, a stop is requested, the waker is called, or `until` is reached. With `writable`, a single socket
    /// also ends the sleep when it is writable. Returns true only if `until` was reached.
    fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool>;
}

/// Behavior when a node has no deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    /// For a server: wait for packets.
    Wait,
    /// For a client: end the run. The driver measures the duration of send calls and the timer error only with this policy. These
    /// measurements need additional clock reads.
    Finish,
}

/// Implementation of the system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The fastest implementation on this system.
    #[default]
    Native,
    /// The implementation with plain system calls that exist on every system.
    Portable,
}

/// Driver options.
#[derive(Clone, Copy, Debug)]
pub struct DriverOptions {
    /// Behavior when the node has no deadline.
    pub idle: IdlePolicy,
    /// Maximum share of one core, in percent, for spinning before deadlines.
    pub spin_percent: u8,
    /// Implementation of the system calls.
    pub backend: Backend,
    /// Whether a connected socket is connected again if this host's address changes; false if the address is given (`--bind`).
    pub follow_address: bool,
}

impl DriverOptions {
    /// The options of a server.
    pub fn server(spin_percent: u8, backend: Backend) -> Self {
        Self { idle: IdlePolicy::Wait, spin_percent, backend, follow_address: false }
    }

    /// The options of a client.
    pub fn client(spin_percent: u8, backend: Backend, follow_address: bool) -> Self {
        Self { idle: IdlePolicy::Finish, spin_percent, backend, follow_address }
    }
}

/// Statistics of the driver.
#[derive(Debug)]
pub struct DriverStats {
    /// Time when the loop ended, on the clock of the node.
    pub ended_at: Time,
    /// The durations of the send calls, and the timer errors. For a server, both histograms are empty. Overflows and changes of address are
    /// those of all sockets.
    pub host_timing: HostTiming,
    /// [`HostTiming::kernel_dropped`] of each socket.
    pub kernel_dropped: Vec<Option<u64>>,
    /// [`HostTiming::address_changes`], each with its socket.
    pub address_changes: Vec<(usize, AddressChange)>,
    /// The error that ended the loop, if any.
    pub result: io::Result<()>,
}

struct TimedSink<'a, P> {
    io: &'a mut P,
    now: Time,
    busy: bool,
    /// Whether send calls are timed, and when the latest one ended.
    timed: bool,
    sent_at: Option<Time>,
    host_timing: &'a mut HostTiming,
    /// For each socket.
    address_checks: &'a mut [AddressCheck],
}

impl<P: DriverIo> TransmitSink for TimedSink<'_, P> {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        let before = self.timed.then(|| self.io.now());
        let result = self.io.send(transmit);
        if let Some(before) = before {
            let sent_at = *self.sent_at.insert(self.io.now());
            self.host_timing.send_call.record(sent_at.signed_nanos_since(before));
        }
        self.busy |= matches!(result, Ok(SendStatus::WouldBlock));
        let address_check = &mut self.address_checks[transmit.socket];
        if !matches!(result, Ok(SendStatus::WouldBlock)) {
            address_check.unanswered_since.get_or_insert(self.now);
        }
        result.unwrap_or_else(|error| {
            address_check.refused = true;
            // Keeps and logs the first error of each kind.
            let (errors, name) = (&mut self.host_timing.send_errors, error_name(&error));
            if errors.len() < MAX_NOTES && !errors.contains(&name) {
                let to = canonical_socket_addr(transmit.destination);
                tracing::warn!(target: "echo", %to, error = name, "send refused by this host");
                errors.push(name);
            }
            SendStatus::Failed
        })
    }

    fn max_segments(&self, len: usize) -> usize {
        self.io.max_segments(len)
    }

    fn sent_at(&self) -> Option<Time> {
        self.sent_at
    }
}

/// `EPERM: Operation not permitted`. Systems other than Linux report no name.
fn error_name(error: &io::Error) -> String {
    #[cfg(target_os = "linux")]
    if let Some(code) = error.raw_os_error() {
        return nix::errno::Errno::from_raw(code).to_string();
    }
    error.to_string()
}

/// Decides when the driver checks the local address of a socket.
#[derive(Clone, Debug, Default)]
struct AddressCheck {
    /// When the first packet after the last received packet was sent or refused. A successful check resets this time.
    unanswered_since: Option<Time>,
    /// Whether a send was refused since the last check.
    refused: bool,
    /// There is no check before this time.
    next: Time,
}

impl AddressCheck {
    /// Returns whether a check is due.
    fn is_due(&mut self, now: Time) -> bool {
        let is_silent = self.unanswered_since.is_some_and(|since| now >= since + ADDRESS_CHECK_INTERVAL);
        let is_due = now >= self.next && (is_silent || self.refused);
        if is_due {
            (self.refused, self.next) = (false, now + ADDRESS_CHECK_INTERVAL);
        }
        is_due
    }
}

/// Runs `node` on `io` until a stop is requested. With [`IdlePolicy::Finish`], the run also ends when the node has no deadline left. `inodes` are
/// those of the sockets, if the system counts what it drops there (see [`read_drops`]).
pub(in crate::io) fn run(
    io: &mut impl DriverIo,
    node: &mut (impl Node + ?Sized),
    stop: &StopToken,
    options: DriverOptions,
    inodes: &[Option<String>],
) -> DriverStats {
    if let Some(waker) = node.waker() {
        io.register_waker(waker);
    }
    let (wake, host_timing) = (EarlyWake::new(options.spin_percent), HostTiming::default());
    let (address_checks, address_changes) = (vec![AddressCheck::default(); inodes.len()], Vec::new());
    let mut driver = Driver { io, node, options, wake, address_checks, next_check: 0, host_timing, address_changes };
    let result = driver.run_loop(stop);
    let Driver { io, mut host_timing, address_changes, .. } = driver;
    let (ended_at, kernel_dropped) = (io.now(), read_drops(inodes));
    host_timing.kernel_dropped = kernel_dropped.iter().copied().sum();
    host_timing.address_changes = address_changes.iter().map(|(_, change)| *change).collect();
    DriverStats { ended_at, host_timing, kernel_dropped, address_changes, result }
}

struct Driver<'a, P, N: ?Sized> {
    io: &'a mut P,
    node: &'a mut N,
    options: DriverOptions,
    wake: EarlyWake,
    /// For each socket.
    address_checks: Vec<AddressCheck>,
    /// Modulo the number of sockets: the socket whose address is checked next.
    next_check: usize,
    host_timing: HostTiming,
    address_changes: Vec<(usize, AddressChange)>,
}

impl<P: DriverIo, N: Node + ?Sized> Driver<'_, P, N> {
    fn run_loop(&mut self, stop: &StopToken) -> io::Result<()> {
        let (mut readable, mut end) = (true, None);
        while !self.is_over(stop, &mut end) {
            let more = self.receive(readable)?;
            let now = self.io.now();
            let busy = self.send(now);
            self.follow_address(now);
            let deadline = self.node.next_deadline();
            if deadline.is_none() && self.options.idle == IdlePolicy::Finish {
                // Ends even if there are unread packets: a flood must not prolong a run.
                break;
            }
            // Some systems report readiness only once, so the driver must read everything before it waits.
            readable = more || self.wait(deadline, busy)?;
        }
        Ok(())
    }

    /// Whether the run ends because of a stop request. The first call after the request sets the `end`.
    fn is_over(&mut self, stop: &StopToken, end: &mut Option<Time>) -> bool {
        if stop.signal().is_none() {
            return false;
        }
        let now = self.io.now();
        now >= *end.get_or_insert_with(|| if self.node.on_stop() { now + MAX_STOP_DELAY } else { now })
    }

    /// Receives what arrived on `readable` sockets. Returns whether more datagrams may be waiting.
    fn receive(&mut self, readable: bool) -> io::Result<bool> {
        let mut more = readable;
        for _ in 0..MAX_READS_PER_TURN {
            more = more
                && self.io.recv(&mut |now, batch| {
                    self.address_checks[batch.first().map_or(0, |first| first.socket)].unanswered_since = None;
                    self.node.on_datagram(now, batch);
                })?;
        }
        Ok(more)
    }

    /// Sends the due packets. Returns whether the send buffer of a socket is full.
    fn send(&mut self, now: Time) -> bool {
        let Self { io, node, options, address_checks, host_timing, .. } = self;
        while let Some(socket) = io.next_port_unreachable() {
            node.on_port_unreachable(now, socket);
        }
        let timed = options.idle == IdlePolicy::Finish;
        let mut sink = TimedSink { io: *io, now, busy: false, timed, sent_at: None, host_timing, address_checks };
        node.poll_transmit(now, &mut sink);
        sink.busy
    }

    /// Checks the address of one socket if that is due. The sockets take turns, so that each is looked at about as often as it sends.
    fn follow_address(&mut self, now: Time) {
        let socket = self.next_check % self.address_checks.len();
        self.next_check += 1;
        let address_check = &mut self.address_checks[socket];
        if !self.options.follow_address || !address_check.is_due(now) {
            return;
        }
        let start = address_check.unanswered_since.unwrap_or(now);
        // Fails without a route to the peer. The error of the next send then names the reason.
        let Ok(change) = self.io.follow_address(socket) else { return };
        address_check.unanswered_since = None;
        let Some(change) = change else { return };
        self.node.on_address_changed(socket, Pause { start, end: now });
        if self.address_changes.len() < MAX_NOTES * self.address_checks.len() {
            self.address_changes.push((socket, change));
        }
    }

    /// Waits for the deadline or a socket. Returns whether a socket may be readable.
    fn wait(&mut self, deadline: Option<Time>, busy: bool) -> io::Result<bool> {
        // If the send buffer of the only socket is full, the socket must become writable, whatever the deadline. With several sockets, a
        // group of nodes has a deadline for its next attempt.
        let is_blocked = busy && self.address_checks.len() == 1;
        let Some(deadline) = deadline.filter(|_| !is_blocked) else {
            return self.io.wait(None, is_blocked).map(|_| true);
        };
        let now = self.io.now();
        match self.wake.plan(now, deadline) {
            WakePlan::Due => Ok(true),
            WakePlan::Sleep(until) => self.sleep(until),
            WakePlan::Spin => Ok(self.spin(now, deadline)),
        }
    }

    fn sleep(&mut self, until: Time) -> io::Result<bool> {
        let timed_out = self.io.wait(Some(until), false)?;
        let woken = self.io.now();
        // The time of a pause is not a timer error.
        if !timed_out || woken > until + MIN_PAUSE {
            return Ok(true);
        }
        self.wake.on_slept(until, woken);
        if self.options.idle == IdlePolicy::Finish {
            self.host_timing.timer_error.record(woken.signed_nanos_since(until));
        }
        Ok(false)
    }

    fn spin(&self, now: Time, deadline: Time) -> bool {
        let readable = deadline.duration_since(now) > SPIN_READ_GUARD;
        std::hint::spin_loop();
        while !readable && self.io.now() < deadline {
            std::hint::spin_loop();
        }
        readable
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::rc::Rc;

    use super::*;
    use crate::node_group::NodeGroup;

    /// The waits, received batches and sent packets of the driver loop, in order.
    type CallLog = Rc<RefCell<Vec<String>>>;

    /// A `DriverIo` whose clock advances only in sleeps and send calls.
    #[derive(Default)]
    struct ScriptedIo {
        log: CallLog,
        now: Time,
        /// Duration of a send call.
        send_duration: Duration,
        /// Timer error of a sleep.
        oversleep: Duration,
        /// Results of the receive calls, all at socket 0.
        reads: Vec<bool>,
        /// Number of sends from socket 0 that would block.
        busy: usize,
        /// Number of further sockets.
        more_sockets: usize,
        /// Sockets of ICMP errors.
        unreachable: Vec<usize>,
        /// Times at which a send is refused.
        refused: Vec<Time>,
        /// Results of the checks of the address, the last first.
        checks: Vec<io::Result<Option<AddressChange>>>,
        stop: StopToken,
        reported_errors: u64,
    }

    impl DriverIo for ScriptedIo {
        fn now(&self) -> Time {
            self.now
        }

        fn recv(&mut self, take: &mut dyn FnMut(Time, &[Receive<'_>])) -> io::Result<bool> {
            if self.reads.is_empty() {
                return Ok(false);
            }
            let source = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
            let (received_at, contents) = (self.now, b"x");
            take(self.now, &[Receive { socket: 0, source, dst_ip: None, received_at, contents, segment_size: 1 }]);
            Ok(self.reads.remove(0))
        }

        fn send(&mut self, transmit: Transmit<'_>) -> io::Result<SendStatus> {
            self.now += self.send_duration;
            if self.busy > 0 && transmit.socket == 0 {
                self.busy -= 1;
                return Ok(SendStatus::WouldBlock);
            }
            if self.refused.contains(&self.now) { Err(io::Error::from_raw_os_error(1)) } else { Ok(SendStatus::Sent) }
        }

        fn follow_address(&mut self, socket: usize) -> io::Result<Option<AddressChange>> {
            let which = if self.more_sockets > 0 { format!(" {socket}") } else { String::new() };
            self.log.borrow_mut().push(format!("check address{which}"));
            self.checks.pop().unwrap_or(Ok(None))
        }

        fn next_port_unreachable(&mut self) -> Option<usize> {
            self.unreachable.pop()
        }

        fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool> {
            let event = if writable { "until writable" } else { "" };
            let duration = until.map_or("forever".to_owned(), |until| format!("{} ms", until.as_nanos() / 1_000_000));
            self.log.borrow_mut().push(format!("wait {duration} {event}").trim_end().to_owned());
            self.now = until.map_or(self.now, |until| until + self.oversleep);
            if until.is_none() && !writable {
                self.stop.request(crate::client::StopSignal::Interrupt);
            }
            Ok(until.is_some())
        }
    }

    /// A node that sends one packet at each time in `times`.
    struct TimetableNode {
        log: CallLog,
        times: Vec<Time>,
        port_unreachable: u64,
    }

    impl Node for TimetableNode {
        fn on_datagram(&mut self, _: Time, batch: &[Receive<'_>]) {
            self.log.borrow_mut().push(format!("received {}", batch.len()));
        }

        fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
            while self.times.first().is_some_and(|time| *time <= now) {
                let destination = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
                if sink.send(Transmit::datagram(destination, b"x")) == SendStatus::WouldBlock {
                    return;
                }
                self.times.remove(0);
                self.log.borrow_mut().push(format!("sent {} ms", now.as_nanos() / 1_000_000));
            }
        }

        fn next_deadline(&self) -> Option<Time> {
            self.times.first().copied()
        }

        fn on_port_unreachable(&mut self, _: Time, _: usize) {
            self.port_unreachable += 1;
        }

        fn on_address_changed(&mut self, _: usize, silence: Pause) {
            let [start, end] = [silence.start, silence.end].map(|at| at.as_nanos() / 1_000_000);
            self.log.borrow_mut().push(format!("silent from {start} to {end} ms"));
        }
    }

    /// Runs a [`TimetableNode`] that sends at `times_ms`. The scripted clock starts at 1 ms. Returns the calls of the driver, the
    /// [`ScriptedIo`] after the run, and the statistics of the driver.
    fn run_timetable(script: ScriptedIo, times_ms: &[u64], idle: IdlePolicy) -> (Vec<String>, ScriptedIo, DriverStats) {
        let mut node = timetable(&script, times_ms);
        let (calls, mut io, stats) = run_node(script, &mut node, idle);
        io.reported_errors = node.port_unreachable;
        (calls, io, stats)
    }

    fn timetable(script: &ScriptedIo, times_ms: &[u64]) -> TimetableNode {
        let times = times_ms.iter().map(|ms| Time::from_millis(*ms)).collect();
        TimetableNode { log: Rc::clone(&script.log), times, port_unreachable: 0 }
    }

    fn run_node(script: ScriptedIo, node: &mut impl Node, idle: IdlePolicy) -> (Vec<String>, ScriptedIo, DriverStats) {
        let stop = script.stop.clone();
        let mut io = ScriptedIo { now: Time::from_millis(1), ..script };
        let options = DriverOptions { idle, spin_percent: 0, backend: Backend::Native, follow_address: true };
        let inodes = vec![None; 1 + io.more_sockets];
        let stats = run(&mut io, node, &stop, options, &inodes);
        (io.log.take(), io, stats)
    }

    /// Runs a group of two nodes. Each sends at its times, in milliseconds.
    fn run_two(script: ScriptedIo, times_ms: [&[u64]; 2]) -> (Vec<String>, Vec<TimetableNode>, DriverStats) {
        let script = ScriptedIo { more_sockets: 1, ..script };
        let mut group = NodeGroup::new(times_ms.iter().map(|times| timetable(&script, times)).collect(), ());
        let (calls, _, stats) = run_node(script, &mut group, IdlePolicy::Finish);
        (calls, group.into_nodes().0, stats)
    }

    #[test]
    fn client_sleeps_to_each_deadline_and_finishes() {
        let script = ScriptedIo { unreachable: vec![0; 3], ..ScriptedIo::default() };
        let (calls, io, stats) = run_timetable(script, &[5, 9], IdlePolicy::Finish);
        assert_eq!(calls, ["wait 5 ms", "sent 5 ms", "wait 9 ms", "sent 9 ms"]);
        assert_eq!((io.reported_errors, stats.ended_at), (3, Time::from_millis(9)));
        stats.result.expect("the script does not fail");
    }

    #[test]
    fn idle_server_waits_until_it_is_stopped() {
        let (calls, ..) = run_timetable(ScriptedIo::default(), &[], IdlePolicy::Wait);
        assert_eq!(calls, ["wait forever"]);
    }

    #[test]
    fn due_packets_are_sent_between_reads() {
        // Nine batches are available, but one turn of the loop reads at most four batches. The socket reports readiness only once.
        // Therefore, the loop must read the remaining batches before it waits.
        let reads = vec![true, true, true, true, true, true, true, true, false];
        let script = ScriptedIo { reads, ..ScriptedIo::default() };
        let (calls, ..) = run_timetable(script, &[1, 3], IdlePolicy::Finish);
        let received = |times| vec!["received 1"; times];
        assert_eq!(calls, [received(4), vec!["sent 1 ms"], received(5), vec!["wait 3 ms", "sent 3 ms"]].concat());
    }

    #[test]
    fn client_finishes_during_a_flood() {
        let script = ScriptedIo { reads: vec![true; 100], ..ScriptedIo::default() };
        let (calls, ..) = run_timetable(script, &[1], IdlePolicy::Finish);
        assert_eq!(calls, ["received 1", "received 1", "received 1", "received 1", "sent 1 ms"]);
    }

    #[test]
    fn flood_at_one_socket_does_not_delay_due_packets_of_another() {
        let script = ScriptedIo { reads: vec![true; 100], ..ScriptedIo::default() };
        let (calls, ..) = run_two(script, [&[1_000], &[1]]);
        assert_eq!(calls[..6], ["received 1", "received 1", "received 1", "received 1", "sent 1 ms", "received 1"]);
    }

    #[test]
    fn busy_socket_does_not_delay_packets_of_another() {
        let script = ScriptedIo { busy: 2, ..ScriptedIo::default() };
        let (mut calls, ..) = run_two(script, [&[2], &[3, 9]]);
        calls.retain(|call| !call.starts_with("wait"));
        assert_eq!(calls, ["sent 3 ms", "sent 4 ms", "sent 9 ms"]);
    }

    #[test]
    fn each_socket_has_its_own_address_and_errors() {
        let change = AddressChange { from: Ipv4Addr::LOCALHOST.into(), to: Ipv4Addr::BROADCAST.into() };
        let (refused, checks) = (vec![Time::from_millis(4)], vec![Ok(Some(change))]);
        let script = ScriptedIo { unreachable: vec![0, 1, 1], refused, checks, ..ScriptedIo::default() };
        let (mut calls, nodes, stats) = run_two(script, [&[1, 3, 10], &[4, 11]]);
        calls.retain(|call| !call.starts_with("wait"));
        let sends = ["sent 1 ms", "sent 3 ms", "sent 4 ms", "sent 10 ms"];
        let expected = [&sends[..], &["check address 1", "silent from 4 to 10 ms", "sent 11 ms"]].concat();
        assert_eq!(calls, expected);
        assert_eq!(nodes.iter().map(|node| node.port_unreachable).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((stats.address_changes, stats.host_timing.address_changes), (vec![(1, change)], vec![change]));
    }

    #[test]
    fn busy_send_is_retried_when_writable() {
        let script = ScriptedIo { busy: 2, ..ScriptedIo::default() };
        let (calls, ..) = run_timetable(script, &[1], IdlePolicy::Finish);
        assert_eq!(calls, ["wait forever until writable", "wait forever until writable", "sent 1 ms"]);
    }

    #[test]
    fn client_send_calls_and_wake_ups_are_timed() {
        let (send_duration, oversleep) = (Duration::from_micros(30), Duration::from_micros(70));
        let script = ScriptedIo { send_duration, oversleep, busy: 1, ..ScriptedIo::default() };
        let (.., stats) = run_timetable(script, &[1, 5, 9], IdlePolicy::Finish);
        // The first packet is due at once. The first send call would block, so this packet takes two send calls. The driver sleeps before
        // the second and before the third packet.
        let HostTiming { send_call, timer_error, .. } = stats.host_timing;
        assert_eq!((send_call.count(), send_call.min(), send_call.max()), (4, Some(30_000), Some(30_000)));
        assert_eq!((timer_error.count(), timer_error.min(), timer_error.max()), (2, Some(70_000), Some(70_000)));
    }

    #[test]
    fn stop_request_ends_the_loop_first() {
        let script = ScriptedIo { reads: vec![true], ..ScriptedIo::default() };
        script.stop.request(crate::client::StopSignal::Terminate);
        let (calls, _, stats) = run_timetable(script, &[0], IdlePolicy::Wait);
        stats.result.expect("the script does not fail");
        assert_eq!(calls, Vec::<String>::new());
    }

    #[test]
    fn address_is_checked_after_refused_sends_and_silence() {
        let mut check = AddressCheck::default();
        let mut is_due = |ms, refused, unanswered_since: Option<u64>| {
            check.refused |= refused;
            check.unanswered_since = check.unanswered_since.or(unanswered_since.map(Time::from_millis));
            let is_due = check.is_due(Time::from_millis(ms));
            if is_due {
                check.unanswered_since = None;
            }
            is_due
        };
        assert!(is_due(1_000, true, None));
        assert!(!is_due(1_199, true, None));
        assert!(is_due(1_200, false, None));
        assert!(!is_due(1_500, false, None));
        assert!(!is_due(3_199, false, Some(3_000)));
        assert!(is_due(3_200, false, None));
        assert!(!is_due(3_500, false, None));
    }

    #[test]
    fn silence_before_a_new_address_includes_failed_checks() {
        // The first check after a refused send finds no route.
        let refused = [3, 100].map(Time::from_millis).to_vec();
        let change = Some(AddressChange { from: Ipv4Addr::LOCALHOST.into(), to: Ipv4Addr::BROADCAST.into() });
        let checks = vec![Ok(None), Ok(change), Err(io::ErrorKind::NetworkUnreachable.into())];
        let script = ScriptedIo { refused, checks, ..ScriptedIo::default() };
        let (mut calls, ..) = run_timetable(script, &[3, 100, 300, 400, 700], IdlePolicy::Finish);
        calls.retain(|call| call.starts_with("silent"));
        assert_eq!(calls, ["silent from 3 to 300 ms"]);
    }

    #[test]
    fn refused_sends_are_named_once_and_only_then_is_the_address_checked() {
        let refused = [1, 3, 400].map(Time::from_millis).to_vec();
        let script = ScriptedIo { refused, ..ScriptedIo::default() };
        let (calls, _, stats) = run_timetable(script, &[1, 3, 400], IdlePolicy::Finish);
        let checks = calls.iter().filter(|call| *call == "check address").count();
        // Error 1 of Linux is EPERM (errno(3)).
        #[cfg(target_os = "linux")]
        assert_eq!(stats.host_timing.send_errors, ["EPERM: Operation not permitted"]);
        assert_eq!((stats.host_timing.send_errors.len(), checks), (1, 2));
    }
}
