//! Impairment options as text: the options of a command, the words of a direction, and the members of a JSON object.

use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, IntoDeserializer};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::impairment::{
    BandwidthLimit, DEFAULT_MAX_QUEUE_DELAY, DEFAULT_REORDER_DELAY, GilbertModel, Impairment, Outages, SequenceSet,
};
use crate::units::{InvalidValue, parse_bit_rate, parse_duration, parse_ratio};

/// A network, the options for which it stands, and its delay. `docs/tasks/client.md` names the sources.
type NetworkOptions = (&'static str, &'static str, Duration);

/// The networks that an option can name.
pub const NETWORKS: [NetworkOptions; 7] = [
    ("lan", "--jitter 1ms", Duration::ZERO),
    ("dsl", "--jitter 20ms", Duration::from_millis(20)),
    ("wifi", "--loss 0.5%,50% --jitter 4ms --bandwidth 100mbit,16ms", Duration::from_millis(3)),
    ("wifi-bad", "--loss 2.5%,50% --jitter 20ms --bandwidth 50mbit,16ms", Duration::from_millis(5)),
    ("lte", "--loss 1%,50% --jitter 30ms --bandwidth 30mbit,27ms", Duration::from_millis(35)),
    ("5g", "--loss 1% --jitter 11ms", Duration::from_millis(7)),
    ("satellite", "--loss 1%,33.3% --jitter 60ms --bandwidth 15mbit,273ms", Duration::from_millis(270)),
];

/// The value of an option.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Setting<T> {
    /// The option is not given.
    #[default]
    Absent,
    /// The value of the options below these.
    Restored,
    /// This value.
    Given(T),
}

impl<T> Setting<T> {
    fn given(self) -> Option<T> {
        if let Self::Given(value) = self { Some(value) } else { None }
    }
}

impl<'de, T: FromStr<Err = InvalidValue>> Deserialize<'de> for Setting<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let text = match Value::deserialize(value)? {
            Value::Null => return Ok(Self::Restored),
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            other => return Err(D::Error::custom(format_args!("{other} is neither text, a number nor null"))),
        };
        text.parse().map(Self::Given).map_err(D::Error::custom)
    }
}

/// Declares the options.
macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $value:ty,)+) => {
        /// Impairment options, which lie over others. As a JSON object, each member is text as on a command line, a number in percent or
        /// milliseconds, or null, which restores the value of the options below these.
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub struct ImpairmentPatch {
            $($(#[$doc])* pub $name: Setting<$value>,)+
        }

        impl ImpairmentPatch {
            /// These options after earlier ones on the same level.
            #[must_use]
            pub fn after(self, earlier: Self) -> Self {
                Self { $($name: if self.$name == Setting::Absent { earlier.$name } else { self.$name },)+ }
            }

            /// These options over those of another level, which null restores.
            #[must_use]
            pub fn over(self, below: Self) -> Self {
                Self { $($name: if let Setting::Given(_) = self.$name { self.$name } else { below.$name },)+ }
            }
        }
    };
}

options! {
    /// The network whose options hold where none is given.
    network: Network,
    /// Random loss, or loss in bursts.
    loss: Loss,
    /// Sequence numbers of AUDIO packets that are lost.
    drop_packets: SequenceSet,
    /// When everything is lost.
    outage: Outages,
    /// The constant delay.
    delay: Milliseconds,
    /// The maximum of the random delay.
    jitter: Milliseconds,
    /// Share and delay of packets that others overtake.
    reorder: Reorder,
    /// Share of packets that are sent twice.
    duplicate: Ratio,
    /// The bottleneck.
    bandwidth: BandwidthLimit,
}

/// A network, by its index in [`NETWORKS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(usize);

impl FromStr for Network {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let names = || NETWORKS.map(|(name, ..)| name).join(", ");
        let found = NETWORKS.iter().position(|(name, ..)| *name == text);
        found.map(Self).ok_or_else(|| InvalidValue(format!("`{text}` is no network; give one of {}", names())))
    }
}

/// A duration. A number without a unit is in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Milliseconds(pub Duration);

impl FromStr for Milliseconds {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        parse_duration(text, "ms").map(Self)
    }
}

/// A ratio from 0 to 1, written in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ratio(pub f64);

impl FromStr for Ratio {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        parse_ratio(text).map(Self)
    }
}

/// The ratio of random loss, and the model of loss in bursts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss(f64, Option<GilbertModel>);

impl FromStr for Loss {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Ok(match text.split_once(',') {
            Some((start, end)) => Self(0.0, Some(GilbertModel::new(parse_ratio(start)?, parse_ratio(end)?)?)),
            None => Self(parse_ratio(text)?, None),
        })
    }
}

/// The ratio of packets that are held back, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reorder(f64, Duration);

impl FromStr for Reorder {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (ratio, delay) = split_duration(text, DEFAULT_REORDER_DELAY)?;
        if delay.is_zero() {
            return Err(InvalidValue("a duration of 0 reorders nothing; give a duration such as 10ms".to_owned()));
        }
        parse_ratio(ratio).map(|ratio| Self(ratio, delay))
    }
}

impl FromStr for BandwidthLimit {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (rate, max_queue_delay) = split_duration(text, DEFAULT_MAX_QUEUE_DELAY)?;
        match parse_bit_rate(rate)? {
            0 => Err(InvalidValue("0 would block all replies; give a bit rate such as 2Mbit".to_owned())),
            bits_per_second => Ok(Self { bits_per_second, max_queue_delay }),
        }
    }
}

/// Splits `VALUE` or `VALUE,TIME`.
fn split_duration(text: &str, otherwise: Duration) -> Result<(&str, Duration), InvalidValue> {
    let Some((value, time)) = text.split_once(',') else { return Ok((text, otherwise)) };
    Ok((value, parse_duration(time, "ms")?))
}

impl ImpairmentPatch {
    /// The options with these names and values.
    pub fn new(values: impl IntoIterator<Item = (String, Value)>) -> Result<Self, InvalidValue> {
        values.into_iter().try_fold(Self::default(), |earlier, (name, value)| {
            let one = Map::from_iter([(name.clone(), value)]).into_deserializer();
            let error = |error: serde_json::Error| InvalidValue(format!("{name}: {error}"));
            Self::deserialize(one).map_err(error).map(|one| one.after(earlier))
        })
    }

    /// The options in words, such as `loss 1%,40% delay 10ms`.
    pub fn from_words(text: &str) -> Result<Self, InvalidValue> {
        let (mut values, mut words) = (Map::new(), text.split_whitespace());
        while let Some(name) = words.next() {
            let Some(value) = words.next().filter(|_| !name.starts_with('-') && !name.contains('=')) else {
                return Err(InvalidValue(
                    "give names without dashes and their values, such as \"loss 1% delay 30ms\"".to_owned(),
                ));
            };
            if values.insert(name.to_owned(), value.into()).is_some() {
                return Err(InvalidValue(format!("{name} is given twice")));
            }
        }
        Self::new(values)
    }

    /// The impairment, with the options of the network that are not given.
    pub fn impairment(self) -> Impairment {
        let network = self.network.clone().given().map(|Network(index)| NETWORKS[index]);
        let (_, options, delay) = network.unwrap_or_default();
        let given = self.over(Self::from_words(&options.replace("--", "")).unwrap_or_default());
        let Loss(loss, burst_loss) = given.loss.given().unwrap_or_default();
        Impairment {
            loss,
            burst_loss,
            dropped_sequences: given.drop_packets.given().unwrap_or_default(),
            outages: given.outage.given().unwrap_or_default(),
            delay: given.delay.given().map_or(delay, |Milliseconds(delay)| delay),
            jitter: given.jitter.given().unwrap_or_default().0,
            reorder: given
                .reorder
                .given()
                .map(|Reorder(ratio, delay)| (ratio, delay))
                .filter(|(ratio, _)| *ratio > 0.0),
            duplicate: given.duplicate.given().unwrap_or_default().0,
            bandwidth: given.bandwidth.given(),
            ..Impairment::default()
        }
    }
}
