//! From the facts of a run to what a person, a script or a CI job reads.
//!
//! A [`Run`](crate::flow::run::Run) and the [`limits::Limits`] become one [`Report`], once; [`text`], [`json`], [`junit`], [`markdown`] and [`html`]
//! print that and compute nothing. Every number in it is defined in `docs/measuring.md`, its shape in `docs/report.schema.json`.

mod capture;
pub mod caveats;
mod direction;
mod document;
mod heard;
pub mod html;
pub mod json;
pub mod junit;
pub mod limits;
pub mod lines;
mod machine;
pub mod markdown;
mod moqt;
mod names;
mod numbers;
mod order;
mod playback;
mod round_trip;
pub mod text;
mod variation;
pub mod verdict;
mod websocket;
mod wording;

pub use capture::CaptureNumbers;
pub use document::{AudioNumbers, Report, SCHEMA_VERSION, Streams, WaitNumbers};
pub use machine::MachineNumbers;
pub use moqt::MoqtNumbers;
pub use numbers::{BarNumbers, PacingNumbers, StreamNumbers};
pub use order::OrderNumbers;
pub use playback::PlaybackNumbers;
pub use round_trip::RoundTrip;
pub use variation::VariationNumbers;
pub use websocket::{LostWords, SetUpNumbers, WebSocketNumbers};
