//! The sending side: what is sent when, what came back for it, and the raw result of a run.
//!
//! A [`Client`] is a node that follows a script: a [`Sender`] plays audio as a jamjam client does, a [`Prober`] asks
//! small questions at an interval, an [`Asker`] asks a signaling server. All keep the same [`Book`] of facts, from which
//! `stats` computes as they happen.

mod answers;
mod book;
mod capture;
mod client;
mod dialogue;
mod ending;
mod inquiry;
mod ledger;
mod live;
pub mod moqt;
mod observer;
mod opening;
mod playback;
mod prober;
pub mod run;
mod schedule;
mod sender;
mod source;
pub mod websocket;

pub use book::{Book, Terms};
pub use capture::CaptureRun;
pub use client::{Client, Script, Step};
pub use dialogue::{Asker, Asking, ClockOffset, Dialect, Dialogue, Entrance, Refused, WallClock};
pub use ending::GRACE;
pub use inquiry::PATIENCE;
pub use ledger::{Came, WINDOW};
pub use live::Live;
pub use observer::{Fact, Fate, Observer, Sent};
pub use playback::PlaybackRun;
pub use prober::{Prober, Probing, Questions};
pub use schedule::Schedule;
pub use sender::{Form, Sender, Sending};
pub use source::{Pull, Source};
