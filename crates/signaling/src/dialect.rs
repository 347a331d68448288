//! The signaling dialects, with the facts about each that the server and its clients share. `CONTRIBUTING.md` lists the other places that know a
//! dialect by its name.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::close_code::CloseCode;
use super::limits::SignalingLimits;
use super::message_docs::{ChannelDoc, CloseDoc, Schemas};
use super::{broadcast, control_surface, jamjam, webrtc};

/// The dialects, each with the module that has its `FACTS`.
macro_rules! dialects {
    ($($(#[$attribute:meta])+ $dialect:ident = $module:ident,)+) => {
        /// A signaling dialect.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Dialect {
            $($(#[$attribute])+ $dialect,)+
        }

        impl Dialect {
            /// All dialects.
            pub const ALL: [Self; [$(stringify!($dialect)),+].len()] = [$(Self::$dialect),+];

            /// Everything about the dialect.
            pub const fn facts(self) -> &'static DialectFacts {
                match self {
                    $(Self::$dialect => &$module::FACTS,)+
                }
            }
        }
    };
}

dialects! {
    /// The protocol of the jamjam app.
    Jamjam = jamjam,
    /// Broadcast rooms: each message is relayed to all other members.
    Broadcast = broadcast,
    /// Control surfaces: clients set parameters of a program.
    #[serde(rename = "bbx")]
    ControlSurface = control_surface,
    /// WebRTC signaling: messages are relayed to one participant.
    WebRtc = webrtc,
}

/// What the server and its clients know about a dialect.
pub struct DialectFacts {
    /// The name in options, metrics, `/health` and reports.
    pub(super) name: &'static str,
    /// The description in the man page and the completions.
    pub description: &'static str,
    /// Whether a first message with this type and text selects the dialect. `None` if the URL selects the dialect and the room.
    pub(super) is_selected_by: Option<fn(message_type: &str, text: &str) -> bool>,
    /// An error message with this sentence.
    pub(super) error: fn(sentence: &str) -> String,
    /// The documentation of the messages.
    pub(super) channels: fn(&mut Schemas, &SignalingLimits) -> Vec<ChannelDoc>,
    /// With which codes the server closes connections of this dialect, in addition to those of all dialects.
    pub(super) closes: &'static [&'static [CloseDoc]],
    /// Code and reason with which the server closes connections when it stops.
    pub(super) shutdown_close: (CloseCode, &'static str),
    /// The type of the message with which a prober measures, and the type of the response. Unless the URL selects the dialect or the prober joins
    /// a room first, this message must select the dialect.
    pub probe_types: [&'static str; 2],
    /// How a prober finds the request of a response.
    pub probe_method: ProbeMethod,
    /// The messages with which the first member of a room and the others join it, if the URL does not. `NAME` is the name of the member, and
    /// `ROOM` the code or id of the room, or the name of one that is to be created.
    pub(super) join_messages: [&'static str; 2],
    /// A message to the other members of a room. `TEXT` is text without quotes, and `NUMBER` a number.
    pub(super) load_message: &'static str,
    /// Whether a relayed message contains the name of its sender.
    pub names_senders: bool,
    /// Whether a sender may receive its own message too.
    pub returns_messages: bool,
    /// What limits the number of members of a room, for users who want more.
    pub room_limit: &'static str,
}

/// How a prober finds the request of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeMethod {
    /// Responses arrive in the order of the requests.
    Order,
    /// A response contains the timestamp of its request.
    Timestamp,
    /// A second prober in the room receives the request, which contains a number.
    Relay,
}

impl Dialect {
    /// The name in options, metrics, `/health` and reports.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// Whether the URL selects the dialect and the room. Otherwise, the first message selects the dialect.
    pub const fn is_selected_by_url(self) -> bool {
        self.facts().is_selected_by.is_none()
    }

    /// The message with which a client joins a room, or as its first member creates it. `None` if the URL selects the room.
    pub fn join_message(self, room: &str, name: &str, is_first: bool) -> Option<String> {
        let template = self.facts().join_messages[usize::from(!is_first)];
        let with_name = template.replace("NAME", &json!(name).to_string());
        (!template.is_empty()).then(|| with_name.replace("ROOM", &json!(room).to_string()))
    }

    /// A message to the other members of a room. `text` contains no characters that JSON escapes.
    pub fn load_message(self, text: &str, number: u32) -> String {
        self.facts().load_message.replace("TEXT", text).replace("NUMBER", &number.to_string())
    }
}
