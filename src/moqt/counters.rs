//! Counters of one session. The owner of a connection regularly takes these counters and adds them to its own totals.

/// Defines a struct of `u64` counters with their names and descriptions.
macro_rules! counters {
    ($(#[doc = $what:literal])+ $counts:ident { $($(#[doc = $doc:literal])+ $name:ident,)+ }) => {
        $(#[doc = $what])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $counts {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl $counts {
            /// Name, description and value of every counter, in the order in which the log prints the counters.
            pub fn metrics(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<> {
                [$((stringify!($name), concat!($($doc),+).trim_ascii(), self.$name),)+].into_iter()
            }

            /// Adds all counters of `more`.
            pub fn add(&mut self, more: &Self) {
                $(self.$name += more.$name;)+
            }
        }
    };
}
pub(crate) use counters;

counters! {
/// Counters of one session.
SessionCounters {
    /// Sessions set up.
    sessions,
    /// Connections that this program closed before a session was set up.
    setups_failed,
    /// Paths announced by peers.
    announcements,
    /// Announcements ignored because there are too many, or because their path is empty or too long.
    announcements_rejected,
    /// Peer subscriptions accepted.
    subscriptions,
    /// Peer subscriptions rejected.
    subscriptions_rejected,
    /// Groups received; a group is counted when it starts to arrive.
    groups_received,
    /// Frames received.
    frames_received,
    /// Bytes in frames received.
    received_bytes,
    /// Groups received that were reset or malformed.
    groups_aborted,
    /// Groups rejected because they belong to no subscription.
    groups_rejected,
    /// Groups sent; a group is counted for each subscriber when its transfer starts.
    groups_sent,
    /// Frames sent; a frame is counted when the transport has accepted all its bytes.
    frames_sent,
    /// Bytes in frames sent.
    sent_bytes,
    /// Groups dropped because their subscriber reads too slowly.
    groups_dropped_slow_reader,
    /// Groups dropped because the delay buffer is full; the newest groups are dropped first.
    groups_dropped_buffer_full,
    /// Groups dropped because they have no subscriber.
    groups_dropped_no_subscriber,
    /// Groups that the subscriber stopped (`STOP_SENDING`) before they were sent completely.
    groups_stopped,
    /// Groups reset because the subscriber unsubscribed before they were sent completely.
    groups_unsubscribed,
    /// Streams rejected because they exceed a limit.
    streams_rejected,
    /// Streams rejected because their type is unknown or unsupported.
    streams_unknown_type,
    /// Streams rejected because of a malformed message.
    streams_malformed,
    /// Messages ignored because they contain nothing that this program uses.
    messages_ignored,
}
}

impl SessionCounters {
    /// Groups that this end dropped because of a slow reader, a full buffer or a missing subscriber.
    pub fn groups_dropped(&self) -> [u64; 3] {
        [self.groups_dropped_slow_reader, self.groups_dropped_buffer_full, self.groups_dropped_no_subscriber]
    }
}
