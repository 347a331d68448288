//! What one connection counts. Whoever owns many of them takes the counts of each now and then, and adds them up.

/// A struct of counts that know their names and what they mean.
macro_rules! counted {
    ($(#[doc = $what:literal])+ $counts:ident { $($(#[doc = $doc:literal])+ $name:ident,)+ }) => {
        $(#[doc = $what])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $counts {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl $counts {
            /// All counts with their names and descriptions, in the order in which a log prints them.
            pub fn fields(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + use<> {
                [$((stringify!($name), concat!($($doc),+).trim_ascii(), self.$name),)+].into_iter()
            }

            /// Adds those of `more`.
            pub fn add(&mut self, more: &Self) {
                $(self.$name += more.$name;)+
            }
        }
    };
}
pub(crate) use counted;

counted! {
/// How often each thing has happened.
Counts {
    /// Sessions set up.
    sessions,
    /// Connections closed by us before a session was set up.
    setups_failed,
    /// Paths that peers announced.
    announcements,
    /// Announcements beyond the limit or with a path that is too long, ignored.
    announcements_refused,
    /// Subscriptions of peers agreed to.
    subscriptions,
    /// Subscriptions of peers refused.
    subscriptions_refused,
    /// Groups that began to come in.
    groups_heard,
    /// Frames that came in.
    frames_heard,
    /// Bytes of these frames.
    bytes_heard,
    /// Groups that broke off while they came in.
    groups_broken,
    /// Groups that name no subscription, refused.
    groups_refused,
    /// Groups that began to go out, once for each subscriber.
    groups_sent,
    /// Frames that the transport took whole.
    frames_sent,
    /// Bytes of these frames.
    bytes_sent,
    /// Groups dropped whole because their reader was too slow.
    groups_dropped,
    /// Groups refused whole, the newest first, because too much waited for its time.
    groups_no_room,
    /// Groups that went to nobody: nobody had subscribed, or no subscriber wanted them.
    groups_unheard,
    /// Groups that their reader gave up.
    groups_declined,
    /// Groups broken off because their reader ended its subscription.
    groups_unwanted,
    /// Streams beyond the limits, refused.
    streams_refused,
    /// Streams of a type that is unknown or not served, refused.
    streams_unknown,
    /// Streams with a malformed message, refused.
    streams_malformed,
    /// Messages that tell nothing that is used here.
    messages_ignored,
}
}

impl Counts {
    /// Groups that were dropped for our reasons, not by their reader's wish: because it was too slow, for want of room, and because
    /// there was nobody to send them to.
    pub fn drops(&self) -> [u64; 3] {
        [self.groups_dropped, self.groups_no_room, self.groups_unheard]
    }
}
