//! The columns of a report: what a field of a report is called, in which unit it is, what it means, and where it is printed. `figures!` declares
//! a field and all of this once; the JSON schema, the definitions in `docs/measuring.md` and every printer follow from it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::report::quantities::{format_decimals, format_percent, format_time};

/// Where a column is printed, besides the JSON document: the first are printed wherever those after them are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(non_camel_case_types, reason = "written as markers in `figures!`")]
pub enum Place {
    /// Like `short`, but not in a short text if it is 0.
    problem,
    /// In every text.
    short,
    /// In the whole text and on the page.
    full,
    /// Only on the page.
    page,
    /// Names the row.
    subject,
    /// Nowhere: a printer prints it in words.
    json,
    /// Nowhere by itself: its fields, if there are any, stand in place of it in the JSON document.
    flat,
    /// Not even in the JSON document.
    skip,
}

/// A field of a report.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Name in JSON. Its end is the unit.
    pub name: &'static str,
    /// What it means, as lines with a leading space.
    pub description: &'static [&'static str],
    /// Where it is printed.
    pub place: Place,
    /// What it consists of.
    pub shape: Shape,
}

/// What a field consists of.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A value with this JSON schema.
    Value(fn() -> Value),
    /// A row.
    Row(&'static Columns),
    /// Any number of them.
    List(&'static Shape),
    /// One of them, or `null`.
    Optional(&'static Shape),
}

impl Shape {
    /// Whether the values are names that this program gives.
    fn has_names(&self) -> bool {
        match self {
            Self::Value(schema) => schema().get("enum").is_some(),
            Self::Optional(inner) => inner.has_names(),
            Self::Row(_) | Self::List(_) => false,
        }
    }

    /// The columns of its rows, and whether there may be several.
    pub(super) fn rows(&self) -> Option<(&'static Columns, bool)> {
        match self {
            Self::Value(_) => None,
            Self::Row(columns) => Some((columns, false)),
            Self::Optional(inner) => inner.rows(),
            Self::List(inner) => inner.rows().map(|(columns, _)| (columns, true)),
        }
    }
}

/// The columns of a row.
#[derive(Debug)]
pub struct Columns {
    /// Name of the type.
    pub name: &'static str,
    /// What a row is, as lines with a leading space.
    pub description: &'static [&'static str],
    /// The columns in the order of the JSON document.
    pub columns: &'static [Column],
}

/// A row of a report, which `figures!` declares.
pub trait Figures: serde::Serialize {
    /// Its columns.
    const COLUMNS: &'static Columns;
}

/// The type of a field.
pub trait Field {
    /// What it consists of.
    const SHAPE: Shape;
}

impl<T: Figures> Field for T {
    const SHAPE: Shape = Shape::Row(T::COLUMNS);
}

impl<T: Field> Field for Option<T> {
    const SHAPE: Shape = Shape::Optional(&T::SHAPE);
}

impl<T: Field> Field for Vec<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);
}

impl<T: Field, const N: usize> Field for [T; N] {
    const SHAPE: Shape = Shape::List(&T::SHAPE);
}

/// Declares the JSON schema of types. `{"enum": […]}` contains values of the type.
macro_rules! json_types {
    ($($($type:ty),+ => $schema:tt;)*) => {$($(
        impl $crate::document::column::Field for $type {
            const SHAPE: $crate::document::column::Shape =
                $crate::document::column::Shape::Value(|| serde_json::json!($schema));
        }
    )+)*};
}

pub(crate) use json_types;

json_types! {
    u8, u16, u32, u64, usize => {"type": "integer", "minimum": 0};
    i32, i64 => {"type": "integer"};
    f64 => {"type": "number"};
    bool => {"type": "boolean"};
    BTreeMap<&'static str, u64> => {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}};
    Value => true;
    String, &'static str, SocketAddr => {"type": "string"};
}

macro_rules! shape {
    ([skip] $field:ty) => {
        $crate::document::column::Shape::Value(|| serde_json::Value::Null)
    };
    ([$($place:ident)?] $field:ty) => {
        <$field as $crate::document::column::Field>::SHAPE
    };
}

macro_rules! place {
    () => {
        $crate::document::column::Place::full
    };
    ($place:ident) => {
        $crate::document::column::Place::$place
    };
}

/// Declares each row of a report: a struct with its columns, which serializes to a JSON object, and an `impl From` that computes it from the
/// values after `from`, if there are any. A field is `name: type = value;`, with its description above it, and `@` and its [`Place`] before it if
/// that is not `full`. The statements in brackets, if any, are executed once before the values are computed.
macro_rules! figures {
    () => {};
    (
        $(#[doc = $about:literal])* $(#[derive($($derive:ident),*)])?
        $type:ident from $input:tt: $source:ty $([$($prelude:tt)*])? {
            $($(#[doc = $doc:literal])* $(#[serde($serde:ident)])? $(@$place:ident)? $name:ident: $field:ty = $value:expr;)*
        }
        $($rest:tt)*
    ) => {
        $crate::document::column::figures! {
            $(#[doc = $about])* $(#[derive($($derive),*)])?
            $type { $($(#[doc = $doc])* $(#[serde($serde)])? $(@$place)? $name: $field;)* }
        }

        impl From<$source> for $type {
            fn from($input: $source) -> Self {
                $($($prelude)*)?
                Self { $($name: $value,)* }
            }
        }

        $crate::document::column::figures! { $($rest)* }
    };
    (
        $(#[doc = $about:literal])* $(#[derive($($derive:ident),*)])?
        $type:ident {
            $($(#[doc = $doc:literal])* $(#[serde($serde:ident)])? $(@$place:ident)? $name:ident: $field:ty;)*
        }
        $($rest:tt)*
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize $($(, $derive)*)?)]
        pub struct $type {
            $($(#[doc = $doc])* $(#[serde($serde)])? pub $name: $field,)*
        }

        impl $crate::document::column::Figures for $type {
            const COLUMNS: &'static $crate::document::column::Columns = &$crate::document::column::Columns {
                name: stringify!($type),
                description: &[$($about),*],
                columns: &[$($crate::document::column::Column {
                    name: stringify!($name),
                    description: &[$($doc),*],
                    place: $crate::document::column::place!($($place)?),
                    shape: $crate::document::column::shape!([$($place)?] $field),
                }),*],
            };
        }

        $crate::document::column::figures! { $($rest)* }
    };
}

pub(crate) use {figures, place, shape};

impl Column {
    /// What it means, in one line.
    pub fn description(&self) -> String {
        sentence(self.description)
    }

    /// Whether it is a column of a table.
    pub(super) fn is_printed(&self) -> bool {
        self.place <= Place::page
    }

    /// What people call it: its name without the unit.
    pub fn label(&self) -> String {
        let (name, unit) = split_unit(self.name);
        let kind = match unit {
            "_ratio" if name != "loss" => " share",
            "_per_s" => " rate",
            _ => "",
        };
        let word = |word| if ABBREVIATIONS.contains(&word) { word.to_uppercase() } else { word.to_owned() };
        let label = name.split('_').map(word).collect::<Vec<_>>().join(" ") + kind;
        PHRASES.iter().fold(label, |label, (name, phrase)| label.replace(name, phrase))
    }

    /// A value of this column, as people write it.
    pub fn format(&self, value: &Value) -> String {
        let (_, unit) = split_unit(self.name);
        let text = format(value, unit);
        if self.shape.has_names() { text.replace('_', " ") } else { text }
    }
}

impl Columns {
    /// What a row is, in one line.
    pub fn description(&self) -> String {
        sentence(self.description)
    }
}

fn sentence(lines: &[&str]) -> String {
    lines.concat().trim().to_owned()
}

/// Words of names that people write with capitals.
const ABBREVIATIONS: [&str; 8] = ["pdv", "ipdv", "dns", "tcp", "tls", "quic", "rms", "moqt"];

/// Parts of names that people write otherwise.
const PHRASES: [(&str, &str); 9] = [
    ("rtt", "round trip"),
    ("p999", "p99.9"),
    ("packets rate", "packet rate"),
    ("websocket", "WebSocket"),
    ("bytes per flow", "bytes per client"),
    ("non finite", "non-finite"),
    ("IPDV abs", "absolute IPDV"),
    ("gap max", "longest gap"),
    ("overrun first", "first overrun"),
];

/// Units at the end of names, the longest first.
const UNITS: [&str; 13] =
    ["_per_s", "_ratio", "_bytes", "_unix_ms", "_dbfs", "_ppm", "_db", "_hz", "_us", "_ms", "_kb", "_s", "_percent"];

/// A name without the unit, and the unit.
fn split_unit(name: &str) -> (&str, &str) {
    let unit = UNITS.into_iter().find_map(|unit| Some((name.strip_suffix(unit)?, unit)));
    unit.unwrap_or((name, ""))
}

fn format(value: &Value, unit: &str) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(is) => if *is { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(|value| format(value, unit)).collect::<Vec<_>>().join(" "),
        Value::Object(counts) => {
            let count = |(name, count): (&String, &Value)| format!("{name} {}", format(count, unit));
            counts.iter().map(count).collect::<Vec<_>>().join(", ")
        }
        Value::Number(number) => number.as_f64().map_or_else(String::new, |value| format_number(number, value, unit)),
    }
}

fn format_number(number: &serde_json::Number, value: f64, unit: &str) -> String {
    match unit {
        "_us" => format_time(value),
        "_ms" if value == 0.0 => "0 ms".to_owned(),
        "_ms" => format_time(value * 1e3),
        "_ratio" => format_percent(value),
        "_ppm" => format!("{value:+.1} ppm"),
        "_db" => format!("{value:+.1} dB"),
        "_dbfs" => format!("{value:.1} dBFS"),
        "_per_s" => format!("{}/s", format_decimals(value, 1)),
        "_s" => format!("{} s", format_decimals(value, 1)),
        "_hz" => format!("{number} Hz"),
        "_bytes" => format!("{number} bytes"),
        _ if number.is_f64() => format_decimals(value, 3),
        _ => number.to_string(),
    }
}

/// A row as JSON.
pub(super) fn to_object(row: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(row) {
        Ok(Value::Object(object)) => object,
        // A struct is an object.
        _ => Map::new(),
    }
}

/// A value of the figure with this name.
pub(crate) fn format_figure(name: &str, value: f64) -> String {
    format(&json!(value), split_unit(name).1)
}
