//! One thing that happened, as people see it.

use std::net::IpAddr;

use serde::Serialize;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A text message came.
    Message,
    /// A binary one.
    Binary,
    /// Content was posted over HTTP.
    Post,
    /// Somebody connected.
    Connect,
    /// A connection has ended, or was refused.
    End,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It had its effect.
    Taken,
    /// It had none, and its sender was not told.
    Ignored,
    /// It had none, and its sender was told.
    Refused,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// The first ever is 1, and none is left out.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// What.
    pub what: What,
    /// In which dialect.
    pub dialect: &'static str,
    /// The room's name, or id, if it was in one.
    pub room: Option<String>,
    /// Whether what is said there is only for those who know a password or have a token. Where it is not known, it is.
    pub protected: bool,
    #[serde(skip)]
    pub(super) unsure: bool,
    /// The number of the connection; nobody's if it came over HTTP.
    pub connection: Option<u64>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// The type of the message.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// How long it was.
    pub bytes: usize,
    /// What came of it.
    pub outcome: Outcome,
    /// Why, in our words.
    pub reason: Option<String>,
    /// What it said, as far as it was kept; of an end, its reason in the words of the other side. `None` too where that is not shown.
    pub text: Option<String>,
    /// Whether it said more.
    pub cut: bool,
}
