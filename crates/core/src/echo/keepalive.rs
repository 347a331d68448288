//! Decides about KEEPALIVEs. Finds sources that are echo servers themselves, and ends reply loops with them.

use std::hash::{Hash, Hasher};

use super::admission::{Admission, KeyedDigests, Source};
use super::loop_detection::{Repetition, RepetitionLimit};
use super::observer::DropReason;
use crate::time::Time;
use crate::wire::{self, HEADER_LEN};

/// Length of the periods, in seconds, each of which has a different token for loop checks. A token is valid in its own period and the next.
const LOOP_CHECK_TOKEN_PERIOD_SECONDS: u64 = 64;

/// The purpose of a source digest.
#[derive(Clone, Copy, Hash)]
enum DigestPurpose {
    /// The token of a loop check. The value is the number of the token period.
    LoopCheckToken(u64),
    /// Loop checks sent to the source.
    LoopCheck,
    /// The source has returned a loop check.
    EchoServer,
    /// Limit on the replies to repeated KEEPALIVEs from the source.
    RepeatedKeepalives,
}

impl Admission {
    /// Decides whether the server echoes a KEEPALIVE whose normal reply is an unchanged echo (`None`), or replies with a loop check instead of
    /// the echo, so that it never sends more than it receives. An error is the reason to drop it. An address and port that returns a loop check is an
    /// echo server, and its KEEPALIVEs are not answered for a minute. Without this check, a loop with a round-trip time of one second would look like
    /// a client that repeats a KEEPALIVE every second.
    pub(super) fn admit_keepalive(
        &mut self,
        source: &Source,
        now: Time,
        bytes: &[u8],
    ) -> Result<Option<[u8; HEADER_LEN]>, DropReason> {
        if !source.path.is_limited {
            return Ok(None);
        }
        let digests = &source.digests;
        let (echo_server, loop_check) =
            (digests.for_purpose(DigestPurpose::EchoServer), digests.for_purpose(DigestPurpose::LoopCheck));
        let period = now.as_nanos() / 1_000_000_000 / LOOP_CHECK_TOKEN_PERIOD_SECONDS;
        let check_of = |period| wire::loop_check(digests.for_purpose(DigestPurpose::LoopCheckToken(period)));
        let is_returned_check = self.keepalive_sources.contains(now, loop_check)
            && [period, period.wrapping_sub(1)].into_iter().any(|period| bytes == check_of(period));
        if is_returned_check {
            self.keepalive_sources.admit(now, echo_server, RepetitionLimit::ECHO_SERVER);
        }
        if is_returned_check || self.keepalive_sources.contains(now, echo_server) {
            return Err(DropReason::Repeated);
        }
        // A repeated datagram without a reply is not charged to the rate limit. A datagram above the rate limit is not counted as received.
        let (datagram, repeats) = (digests.for_datagram(bytes), digests.for_purpose(DigestPurpose::RepeatedKeepalives));
        let repetition = self.keepalive_repetitions.repetition(now, datagram, RepetitionLimit::KEEPALIVE);
        let of_source = self.keepalive_sources.repetition(now, repeats, RepetitionLimit::REPEATED_KEEPALIVES);
        let is_repeated = repetition != Repetition::First;
        if repetition == Repetition::Exceeded || is_repeated && of_source == Repetition::Exceeded {
            return Err(DropReason::Repeated);
        }
        self.admit_immediate(source, bytes.len())?;
        self.keepalive_repetitions.count(now, datagram, RepetitionLimit::KEEPALIVE);
        if is_repeated {
            self.keepalive_sources.count(now, repeats, RepetitionLimit::REPEATED_KEEPALIVES);
        }
        if repetition == Repetition::Later && self.keepalive_sources.admit(now, loop_check, RepetitionLimit::LOOP_CHECK)
        {
            return Ok(Some(check_of(period)));
        }
        Ok(None)
    }
}

impl KeyedDigests {
    /// Digest of the address and port, different for each purpose.
    fn for_purpose(&self, purpose: DigestPurpose) -> u64 {
        let mut hasher = self.0.clone();
        // `usize::MAX` keeps these digests distinct from datagram digests, which hash the datagram length at this position.
        hasher.write_usize(usize::MAX);
        purpose.hash(&mut hasher);
        hasher.finish()
    }
}
