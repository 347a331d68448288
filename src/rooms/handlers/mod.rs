//! The handlers of broadcast rooms that come with the program.

mod chat;
mod declared;
mod plain;
mod radio;

pub use chat::{BANNED, Chat};
pub use declared::Declared;
pub use plain::Plain;
pub use radio::Radio;

use serde_json::Value;

/// A number that is above 0, written as one or as text.
fn positive(value: Option<&Value>) -> Option<f64> {
    let number = match value? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite() && *number > 0.0)
}
