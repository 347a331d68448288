//! The loop that runs a node on a socket: read what is there, send what is due, sleep to the next deadline.

use std::io;
use std::time::Duration;

use super::wake::{Plan, Wake};
use crate::io::stop::Stop;
use crate::node::{Bell, Datagram, Node, Outcome, Sink, Transmit};
use crate::stats::{Histogram, Machine};
use crate::time::Time;

/// Batches read before sending what is due: a flood must not hold up what others wait for.
const READS: usize = 4;

/// While spinning, the socket is left alone this shortly before a deadline: a read takes a few microseconds.
const QUIET: Duration = Duration::from_micros(8);

/// A UDP socket as the loop needs it. One implementation a platform.
pub(in crate::io) trait Port {
    /// The monotonic clock.
    fn now(&self) -> Time;
    /// Reads one batch, if any, and hands it to `take` with the time of the read. `true`: there may be more.
    fn recv(&mut self, take: &mut dyn FnMut(Time, &[Datagram<'_>])) -> io::Result<bool>;
    /// Sends. See [`Sink::send`].
    fn send(&mut self, transmit: Transmit<'_>) -> Outcome;
    /// See [`Sink::segments`].
    fn segments(&self, len: usize) -> usize;
    /// How often the peer's system has said that nobody listens on that port.
    fn refused(&self) -> u64;
    /// Hangs up a bell that ends a wait. Where nobody would ring it there is nothing to do.
    fn hang(&mut self, _: &Bell) {}
    /// Sleeps until the socket can be read (or written, with `writable`), a stop is requested, a bell rings, or `until` has come.
    /// `true`: `until` has come and nothing else.
    fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool>;
}

/// What a node without a deadline means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// A server: wait to be spoken to.
    Wait,
    /// A client: the run is over. Its send calls and wake-ups are timed, which a server is spared.
    Finish,
}

/// How the loop ended, and what it has seen itself.
#[derive(Debug)]
pub struct Tally {
    /// How often the peer's system has said that nobody listens on that port (ICMP port unreachable).
    pub refused: u64,
    /// When the loop ended, on the clock that the node was run on.
    pub ended: Time,
    /// Send calls and wake-ups of a client.
    pub machine: Machine,
    /// Whether the socket served to the end.
    pub result: io::Result<()>,
}

struct Outlet<'a, P> {
    port: &'a mut P,
    busy: bool,
    /// Where the time in each call is noted, if anybody wants to know.
    calls: Option<&'a mut Histogram>,
}

impl<P: Port> Sink for Outlet<'_, P> {
    fn send(&mut self, transmit: Transmit<'_>) -> Outcome {
        let outcome = match &mut self.calls {
            None => self.port.send(transmit),
            Some(calls) => {
                let before = self.port.now();
                let outcome = self.port.send(transmit);
                calls.record(self.port.now().signed_since(before));
                outcome
            }
        };
        self.busy |= outcome == Outcome::Busy;
        outcome
    }

    fn segments(&self, len: usize) -> usize {
        self.port.segments(len)
    }
}

/// Runs `node` on `port` until a stop is requested or, with [`Idle::Finish`], the node has no deadline left.
pub(in crate::io) fn run(
    port: &mut impl Port,
    node: &mut (impl Node + ?Sized),
    stop: &Stop,
    idle: Idle,
    spin: u8,
) -> Tally {
    let mut machine = Machine::default();
    if let Some(bell) = node.bell() {
        port.hang(bell);
    }
    let result = turn(port, node, stop, (idle, spin), &mut machine);
    Tally { refused: port.refused(), ended: port.now(), machine, result }
}

fn turn(
    port: &mut impl Port,
    node: &mut (impl Node + ?Sized),
    stop: &Stop,
    (idle, spin): (Idle, u8),
    machine: &mut Machine,
) -> io::Result<()> {
    let timed = idle == Idle::Finish;
    let mut wake = Wake::new(spin);
    let mut readable = true;
    while stop.requested().is_none() {
        let mut more = readable;
        for _ in 0..READS {
            more = more && port.recv(&mut |now, batch| node.on_datagram(now, batch))?;
        }
        let mut outlet = Outlet { port, busy: false, calls: timed.then_some(&mut machine.send_call) };
        let now = outlet.port.now();
        node.poll_transmit(now, &mut outlet);
        let busy = outlet.busy;
        let next = node.next_deadline();
        if next.is_none() && idle == Idle::Finish {
            // Also while more is there to be read: a flood must not keep a run from its end.
            break;
        }
        if more {
            // Not all was read: some systems tell only once that there is something to read.
            continue;
        }

        let Some(deadline) = next else {
            port.wait(None, false)?;
            readable = true;
            continue;
        };
        if busy {
            // The system takes no more: the deadline has passed already, what ends the wait is room.
            port.wait(None, true)?;
            readable = true;
            continue;
        }
        let now = port.now();
        match wake.plan(now, deadline) {
            Plan::Due => readable = true,
            Plan::Sleep(until) => {
                let timed_out = port.wait(Some(until), false)?;
                readable = !timed_out;
                if timed_out {
                    let woken = port.now();
                    wake.slept(until, woken);
                    if timed {
                        machine.wake.record(woken.signed_since(until));
                    }
                }
            }
            Plan::Spin => {
                readable = deadline.since(now) > QUIET;
                std::hint::spin_loop();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::net::{Ipv4Addr, SocketAddr};
    use std::rc::Rc;

    use super::*;

    /// What the loop did to the port and the node, in order.
    type Diary = Rc<RefCell<Vec<String>>>;

    /// A port whose clock stands still but for sleeps and calls.
    #[derive(Default)]
    struct Script {
        diary: Diary,
        now: Time,
        /// How long a send call takes.
        call: Duration,
        /// How much too late a sleep ends.
        late: Duration,
        /// How often the clock was read.
        looks: Cell<u32>,
        /// Batches to read; `true`: there may be more behind.
        reads: Vec<bool>,
        busy: usize,
        stop: Stop,
    }

    impl Port for Script {
        fn now(&self) -> Time {
            self.looks.set(self.looks.get() + 1);
            self.now
        }

        fn recv(&mut self, take: &mut dyn FnMut(Time, &[Datagram<'_>])) -> io::Result<bool> {
            if self.reads.is_empty() {
                return Ok(false);
            }
            let from = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
            take(self.now, &[Datagram { from, to: None, at: self.now, bytes: b"x", stride: 1 }]);
            Ok(self.reads.remove(0))
        }

        fn send(&mut self, _: Transmit<'_>) -> Outcome {
            self.now += self.call;
            if self.busy > 0 {
                self.busy -= 1;
                return Outcome::Busy;
            }
            Outcome::Sent
        }

        fn segments(&self, _: usize) -> usize {
            1
        }

        fn refused(&self) -> u64 {
            3
        }

        fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool> {
            let what = if writable { "for room" } else { "" };
            let how_long = until.map_or("for ever".to_owned(), |until| format!("{} ms", until.as_nanos() / 1_000_000));
            self.diary.borrow_mut().push(format!("wait {how_long} {what}").trim_end().to_owned());
            self.now = until.map_or(self.now, |until| until + self.late);
            if until.is_none() && !writable {
                self.stop.request(crate::io::stop::Reason::Interrupt);
            }
            Ok(until.is_some())
        }
    }

    /// Sends one packet at each of its times.
    struct Timetable {
        diary: Diary,
        times: Vec<Time>,
    }

    impl Node for Timetable {
        fn on_datagram(&mut self, _: Time, batch: &[Datagram<'_>]) {
            self.diary.borrow_mut().push(format!("heard {}", batch.len()));
        }

        fn poll_transmit(&mut self, now: Time, sink: &mut dyn Sink) {
            while self.times.first().is_some_and(|time| *time <= now) {
                let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
                if sink.send(Transmit { to, from: None, bytes: b"x", stride: 1 }) == Outcome::Busy {
                    return;
                }
                self.times.remove(0);
                self.diary.borrow_mut().push(format!("sent {} ms", now.as_nanos() / 1_000_000));
            }
        }

        fn next_deadline(&self) -> Option<Time> {
            self.times.first().copied()
        }
    }

    fn drive(times_ms: &[u64], reads: Vec<bool>, busy: usize, idle: Idle) -> (Vec<String>, Tally) {
        let diary = Diary::default();
        let script = Script { diary: Rc::clone(&diary), reads, busy, ..Script::default() };
        let (_, tally) = follow(script, times_ms, idle);
        (diary.take(), tally)
    }

    /// Runs the timetable on a port from the first millisecond on, and gives the port back.
    fn follow(script: Script, times_ms: &[u64], idle: Idle) -> (Script, Tally) {
        let (mut port, stop) = (Script { now: Time::from_millis(1), ..script }, Stop::default());
        port.stop = stop.clone();
        let times = times_ms.iter().map(|ms| Time::from_millis(*ms)).collect();
        let mut node = Timetable { diary: Rc::clone(&port.diary), times };
        let tally = run(&mut port, &mut node, &stop, idle, 0);
        (port, tally)
    }

    #[test]
    fn it_sleeps_to_each_deadline_and_a_client_without_one_has_finished() {
        let (diary, tally) = drive(&[5, 9], vec![], 0, Idle::Finish);
        assert_eq!(diary, ["wait 5 ms", "sent 5 ms", "wait 9 ms", "sent 9 ms"]);
        assert_eq!((tally.refused, tally.ended), (3, Time::from_millis(9)));
        tally.result.expect("the script does not fail");
    }

    #[test]
    fn a_server_without_a_deadline_waits_to_be_spoken_to_until_it_is_stopped() {
        let (diary, _) = drive(&[], vec![], 0, Idle::Wait);
        assert_eq!(diary, ["wait for ever"]);
    }

    #[test]
    fn what_is_due_leaves_between_reads_and_nothing_is_left_unread_before_a_sleep() {
        // Nine batches wait, more than are read in a row, and the system tells only once that they do.
        let reads = vec![true, true, true, true, true, true, true, true, false];
        let (diary, _) = drive(&[1, 3], reads, 0, Idle::Finish);
        let heard = |times| vec!["heard 1"; times];
        assert_eq!(diary, [heard(4), vec!["sent 1 ms"], heard(5), vec!["wait 3 ms", "sent 3 ms"]].concat());
    }

    #[test]
    fn a_flood_does_not_keep_a_client_from_its_end() {
        let (diary, _) = drive(&[1], vec![true; 100], 0, Idle::Finish);
        assert_eq!(diary, ["heard 1", "heard 1", "heard 1", "heard 1", "sent 1 ms"]);
    }

    #[test]
    fn a_busy_system_is_waited_for_and_the_packet_offered_again() {
        let (diary, _) = drive(&[1], vec![], 2, Idle::Finish);
        assert_eq!(diary, ["wait for ever for room", "wait for ever for room", "sent 1 ms"]);
    }

    #[test]
    fn a_client_is_told_what_its_send_calls_and_wake_ups_cost() {
        let (call, late) = (Duration::from_micros(30), Duration::from_micros(70));
        let (_, tally) = follow(Script { call, late, busy: 1, ..Script::default() }, &[1, 5, 9], Idle::Finish);
        // The first packet takes two calls: one that finds no room. It is due at once; the other two are slept for.
        let Machine { send_call, wake, .. } = tally.machine;
        assert_eq!((send_call.count(), send_call.min(), send_call.max()), (4, Some(30_000), Some(30_000)));
        assert_eq!((wake.count(), wake.min(), wake.max()), (2, Some(70_000), Some(70_000)));
    }

    #[test]
    fn a_server_reads_the_clock_no_more_often_however_much_leaves() {
        let looks = |times: &[u64]| {
            let (port, tally) = follow(Script::default(), times, Idle::Wait);
            assert_eq!((tally.machine.send_call.count(), tally.machine.wake.count()), (0, 0));
            port.looks.get()
        };
        assert_eq!(looks(&[1]), looks(&[1, 1, 1, 1]));
        assert_eq!(looks(&[3]), looks(&[3, 3, 3, 3]));
    }

    #[test]
    fn a_requested_stop_is_obeyed_before_anything_else() {
        let stop = Stop::default();
        stop.request(crate::io::stop::Reason::Terminate);
        let diary = Diary::default();
        let (port_diary, reads) = (Rc::clone(&diary), vec![true]);
        let mut port = Script { diary: port_diary, reads, stop: stop.clone(), ..Script::default() };
        let mut node = Timetable { diary: Rc::clone(&diary), times: vec![Time::ZERO] };
        run(&mut port, &mut node, &stop, Idle::Wait, 100).result.expect("the script does not fail");
        assert_eq!(diary.take(), Vec::<String>::new());
    }
}
