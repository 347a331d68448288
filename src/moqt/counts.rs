//! What one connection counts. Whoever owns many of them takes the counts of each now and then, and adds them up.

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// How often each thing has happened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counts {
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

counts! {
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
    /// Frames handed to the transport.
    frames_sent,
    /// Bytes of these frames.
    bytes_sent,
    /// Groups dropped whole because their reader was too slow.
    groups_dropped,
    /// Groups dropped whole because too much waited for its time.
    groups_overdue,
    /// Groups for which nobody had subscribed.
    groups_unheard,
    /// Groups that their reader gave up.
    groups_declined,
    /// Streams beyond the limits, refused.
    streams_refused,
    /// Streams of a type that is unknown or not served, refused.
    streams_unknown,
    /// Streams with a malformed message, refused.
    streams_malformed,
    /// Messages that tell nothing that is used here.
    messages_ignored,
}
