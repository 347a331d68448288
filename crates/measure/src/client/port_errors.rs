//! Detects a port on which no program receives, from ICMP errors.

use std::time::Duration;

use jamjam_core::time::Time;

/// Minimum number of errors of a dead port. A host may send only one error per second.
const MIN_PORT_ERRORS: u64 = 3;

/// The first error of a dead port arrives within this time. A later first error shows that packets were accepted before.
const FIRST_PORT_ERROR_TIME: Duration = Duration::from_secs(1);

/// A run ends if its first packets are answered by nothing but ICMP port unreachable for this time.
const DEAD_PORT_TIME: Duration = Duration::from_secs(2);

/// ICMP port unreachable errors since the start of counting.
#[derive(Default)]
pub(super) struct PortErrors {
    /// All errors, also before counting started.
    pub(super) total: u64,
    /// Errors before counting started, for example while a client waited for its server.
    pub(super) before_run: u64,
    pub(super) count: u64,
    pub(super) first_at: Time,
    pub(super) last_at: Time,
    /// Whether a datagram has arrived. Then, the port is not dead.
    pub(super) datagram_received: bool,
}

impl PortErrors {
    /// Returns whether the new error shows that the port has been dead since `started`. `sent` is the number of sent packets. The firewall of
    /// this host may cause an error for each packet that it refuses.
    pub(super) fn on_error(&mut self, now: Time, started: Option<Time>, sent: u64) -> bool {
        self.total += 1;
        let Some(started) = started else {
            self.before_run = self.total;
            return false;
        };
        if self.count == 0 {
            self.first_at = now;
        }
        self.last_at = now;
        self.count = (self.count + 1).min(sent);
        !self.datagram_received
            && self.count >= MIN_PORT_ERRORS
            && self.first_at <= started + FIRST_PORT_ERROR_TIME
            && now >= started + DEAD_PORT_TIME
    }
}
