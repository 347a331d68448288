//! The loop below a peer: it carries bytes between a connection's streams and the peer, and tells it the time.

use std::pin::pin;
use std::time::{Duration, Instant};

use super::streams::{Input, Streams};
use crate::moqt::{Action, Application, Peer, code};
use crate::time::{Time, nanos};

/// Turns after which others have their turn, and the time is told even while more comes.
const TURNS: usize = 64;

/// Counts from a connection's or a run's beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(pub(super) Instant);

impl Clock {
    pub(super) fn now(self) -> Time {
        Time::from_nanos(nanos(self.0.elapsed()))
    }

    /// Waits until then. What is too far away to be told never comes.
    async fn reach(self, then: Option<Time>) {
        // A timer would wait for the end of the millisecond.
        if then.is_some_and(|then| then <= self.now()) {
            return;
        }
        match then.and_then(|then| self.0.checked_add(Duration::from_nanos(then.as_nanos()))) {
            Some(then) => tokio::time::sleep_until(then.into()).await,
            None => std::future::pending().await,
        }
    }
}

/// How a session ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: u32,
    pub(super) reason: String,
    pub(super) by_us: bool,
}

/// Runs a peer until its session is closed by either end. When `stop` is done, it is closed in peace. `observe` is called after each
/// turn, for the last time when all is over, with the number of streams up to now that did not belong to the session.
pub(super) async fn pump<A: Application>(
    mut streams: Streams,
    peer: &mut Peer<A>,
    clock: Clock,
    stop: impl Future<Output = &'static str>,
    mut observe: impl FnMut(&mut Peer<A>, u64),
) -> Ended {
    let mut stop = pin!(stop);
    let mut stopping = false;
    let mut refused = 0;
    let mut turns = 0_usize;
    loop {
        turns = turns.wrapping_add(1);
        while let Some(action) = peer.poll_action() {
            if let Action::Close { code, reason } = action {
                observe(peer, refused);
                streams.close(code, &reason).await;
                return Ended { code, reason, by_us: true };
            }
            streams.act(action);
        }
        observe(peer, refused);
        let (deadline, behind) = (peer.next_deadline(), peer.is_behind());
        if turns.is_multiple_of(TURNS) {
            tokio::task::yield_now().await;
            if deadline.is_some_and(|deadline| deadline <= clock.now()) {
                peer.on_time(clock.now());
                continue;
            }
        }
        tokio::select! {
            biased;
            reason = &mut stop, if !stopping => {
                stopping = true;
                peer.close(clock.now(), code::NONE, reason);
            }
            input = streams.next(!behind) => match input {
                Input::Refused => refused += 1,
                Input::Gone(code, reason) => {
                    let by_us = streams.leave();
                    if by_us {
                        peer.close(clock.now(), code, &reason);
                    } else {
                        peer.on_gone(clock.now(), code, &reason);
                    }
                    observe(peer, refused);
                    return Ended { code, reason, by_us };
                }
                input => tell(peer, clock.now(), input),
            },
            () = clock.reach(deadline) => {
                peer.on_time(clock.now());
                if behind {
                    // Between two of its turns others have theirs.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

fn tell<A: Application>(peer: &mut Peer<A>, now: Time, input: Input) {
    match input {
        Input::Refused | Input::Gone(..) => {}
        Input::Opened(id, kind) => peer.on_open(now, id, kind),
        Input::Bytes(stream, bytes) => peer.on_bytes(now, stream, &bytes),
        Input::Finished(stream) => peer.on_finish(now, stream),
        Input::Reset(stream, code) => peer.on_reset(now, stream, code),
        Input::Stopped(stream, code) => peer.on_stopped(now, stream, code),
        Input::Taken(stream, bytes) => peer.on_taken(now, stream, bytes),
    }
}
