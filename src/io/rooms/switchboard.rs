//! The hub and the queues of all connections, under one lock. Under it nothing is written and nothing is awaited: what the hub
//! says is put into queues ([`super::lines`]), and whoever has no room left in its own is cut off, so that no one waits for it.

mod look;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, mpsc};
use tracing::warn;

use super::budget::{QueueBounds, Shared};
use super::frame::Breach;
use super::lines::{Cut, DEAF, Lines, TRY_AGAIN_LATER, ending};
use super::listeners::{Listening, Mailbox};
use super::queue::{Ending, Queue};
use crate::rooms::{Conn, Counts, EventProducer, Hub, Moment, Outlet, Route, Visitor};
use crate::time::{Time, nanos};

/// The close codes that are said here; the hub says its own.
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;

/// Everybody who is connected.
pub(super) struct Switchboard {
    started: Instant,
    state: Mutex<State>,
    queued: Arc<Shared>,
    /// Told when the hub's next deadline comes sooner than it did.
    sooner: Notify,
}

struct State {
    hub: Hub,
    lines: Lines,
    next: u64,
    /// Everybody who serves a connection has a clone; `None` once no more are taken.
    alive: Option<mpsc::Sender<Infallible>>,
}

/// A connection's end of the switchboard.
pub(super) struct Line {
    pub(super) conn: Conn,
    pub(super) queue: Arc<Queue>,
    /// The longest message that is read of it, in bytes.
    pub(super) longest: usize,
    _alive: Option<mpsc::Sender<Infallible>>,
}

impl Switchboard {
    /// A switchboard for `hub`, and a receiver that ends when all connections have, once no more are taken.
    pub(super) fn new(hub: Hub, bounds: QueueBounds) -> (Arc<Self>, mpsc::Receiver<Infallible>) {
        let (alive, ended) = mpsc::channel(1);
        let state = State { hub, lines: Lines::default(), next: 0, alive: Some(alive) };
        let state = Mutex::new(state);
        (Arc::new(Self { started: Instant::now(), state, queued: Shared::new(bounds), sooner: Notify::new() }), ended)
    }

    /// Somebody connected.
    pub(super) fn connect(&self, from: IpAddr, route: Route) -> Line {
        let queue = Arc::new(Queue::new(Arc::clone(&self.queued)));
        self.act(None, |now, state| {
            let conn = Conn(state.next);
            state.next += 1;
            if state.alive.is_some() {
                state.lines.queues.insert(conn, Arc::clone(&queue));
                state.hub.connect(now, conn, Visitor { from, route }, &mut state.lines);
            } else {
                queue.end(ending(GOING_AWAY, ""));
            }
            let longest = state.hub.longest_message(conn);
            Line { conn, queue, longest, _alive: state.alive.clone() }
        })
        .unwrap_or_else(|| unreachable!("nobody is asked for, so nobody is missing"))
    }

    /// A connection said `text`.
    pub(super) fn text(&self, conn: Conn, text: &str) {
        self.act(Some(conn), |now, state| state.hub.on_text(now, conn, text, &mut state.lines));
    }

    /// A connection sent bytes.
    pub(super) fn binary(&self, conn: Conn) {
        self.act(Some(conn), |now, state| state.hub.on_binary(now, conn, &mut state.lines));
    }

    /// A connection sent what is no message.
    pub(super) fn alive(&self, conn: Conn) {
        self.act(Some(conn), |now, state| state.hub.on_alive(now, conn));
    }

    /// Does what is due later, for as long as it is asked to.
    pub(super) async fn keep_time(&self) {
        loop {
            let next = self.state.lock().unwrap_or_else(PoisonError::into_inner).hub.next_deadline();
            let wait = async {
                match next {
                    Some(at) => tokio::time::sleep_until((self.started + at.since(Time::ZERO)).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => { self.act(None, |now, state| state.hub.on_deadline(now, &mut state.lines)); }
                () = self.sooner.notified() => {}
            }
        }
    }

    /// A connection cannot be read any more.
    pub(super) fn breach(&self, line: &Line, breach: Breach) {
        self.end(line, breach.code(), &breach.to_string(), |counts| match breach {
            Breach::Protocol => counts.closed_protocol += 1,
            Breach::Utf8 => counts.closed_utf8 += 1,
            Breach::TooLong => counts.closed_too_long += 1,
        });
    }

    /// A connection sends more frames than it may.
    pub(super) fn too_many_frames(&self, line: &Line) {
        self.end(line, POLICY, "Rate limit exceeded", |counts| counts.closed_frames += 1);
    }

    /// Too much waits for all together: those for whom the most does are closed until it does not.
    pub(super) fn make_room(&self) {
        self.act(None, |_, state| state.lines.make_room(&self.queued));
    }

    /// Ends a connection for what it has done, if nobody has yet.
    fn end(&self, line: &Line, code: u16, reason: &str, count: impl FnOnce(&mut Counts)) {
        let ended = self.act(Some(line.conn), |now, state| {
            state.hub.count(line.conn, count);
            state.lines.queues.remove(&line.conn);
            state.hub.on_cut(now, line.conn, code, reason, &mut state.lines);
            line.queue.end(ending(code, reason));
        });
        if ended.is_some() {
            warn!("Closed connection {}: {reason}", line.conn.0);
        }
    }

    /// A connection is closed or lost. A second time does nothing.
    pub(super) fn gone(&self, conn: Conn) {
        self.act(Some(conn), |now, state| {
            state.lines.queues.remove(&conn);
            state.hub.on_gone(now, conn, &mut state.lines);
        });
    }

    /// Closes everybody who is connected or still comes, and gives them `patience` to say so too.
    pub(super) fn close(&self, patience: Duration) {
        self.act(None, |_, state| {
            state.alive = None;
            state.lines.listeners.end();
            for (conn, queue) in state.lines.queues.drain() {
                let (code, reason) = state.hub.farewell(conn);
                queue.end(Ending { code: Some(code), reason: reason.to_owned(), patience });
            }
        });
    }

    /// A connection was closed by its client.
    pub(super) fn closed(&self, conn: Conn, code: u16, reason: &str) {
        self.act(Some(conn), |now, state| {
            state.lines.queues.remove(&conn);
            state.hub.on_closed(now, conn, code, reason, &mut state.lines);
        });
    }

    /// Asks the hub something that concerns no one connection.
    pub(super) fn ask<T>(&self, what: impl FnOnce(Moment, &mut Hub, &mut dyn Outlet) -> T) -> T {
        self.act(None, |now, state| what(now, &mut state.hub, &mut state.lines))
            .unwrap_or_else(|| unreachable!("nobody is asked for, so nobody is missing"))
    }

    /// Whoever has this is waited for when the server ends, as connections are.
    pub(super) fn hold(&self) -> Option<mpsc::Sender<Infallible>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).alive.clone()
    }

    /// The program is told what control surfaces do.
    pub(super) fn tell_program(&self, events: EventProducer) {
        self.act(None, |_, state| state.lines.listeners.add_program(events));
    }

    /// A stream is told it, unless there are too many already, or it is over.
    pub(super) fn listen(&self) -> Option<Arc<Mailbox>> {
        self.act(None, |_, state| state.lines.listeners.add_stream(state.alive.is_some()))?
    }

    /// Who listens, and what they missed.
    pub(super) fn listening(&self) -> Listening {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).lines.listeners.listening()
    }

    /// How long it has been there.
    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The counts of each dialect, by its name.
    pub(super) fn census(&self) -> Vec<(&'static str, Counts)> {
        let State { hub, lines, .. } = &*self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut census = hub.census();
        for (conn, queue) in &lines.queues {
            let spoken = hub.spoken(*conn);
            if let Some((_, counts)) = census.iter_mut().find(|(dialect, _)| Some(*dialect) == spoken) {
                counts.queue_bytes += queue.bytes() as u64;
            }
        }
        census
    }

    /// Bytes that wait for all together, those who are closed already among them.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.queued.bytes()
    }

    /// Runs `what` under the lock, if `who` (when it matters) is still connected as far as the hub knows.
    fn act<T>(&self, who: Option<Conn>, what: impl FnOnce(Moment, &mut State) -> T) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if who.is_some_and(|conn| !state.lines.queues.contains_key(&conn)) {
            return None;
        }
        // Read under the lock, so that the hub's time never goes back.
        let at = Time::from_nanos(nanos(self.started.elapsed()));
        let unix_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        let now = Moment { at, unix_us };
        let armed = state.hub.next_deadline();
        let result = what(now, &mut state);
        let State { hub, lines, .. } = &mut *state;
        for (conn, left_out) in lines.left_out.drain(..) {
            hub.count(conn, |counts| counts.updates_left_out += left_out as u64);
        }
        let mut cut = 0_u64;
        // Telling the others may fill another queue, until nobody is left.
        while let Some(Cut { conn, dropped, by_budget }) = lines.cut.pop() {
            hub.count(conn, |counts| {
                counts.slow_closed += 1;
                counts.slow_dropped += dropped as u64;
                counts.budget_closed += u64::from(by_budget);
            });
            hub.on_cut(now, conn, TRY_AGAIN_LATER, DEAF, lines);
            cut += 1;
        }
        let next = hub.next_deadline();
        drop(state);
        if next.is_some_and(|next| armed.is_none_or(|armed| next < armed)) {
            self.sooner.notify_one();
        }
        if cut > 0 {
            warn!(connections = cut, "Closed {cut} connections that do not read what they are sent");
        }
        Some(result)
    }
}
