//! What follows from the totals of a source: violations, or what could not be judged and why.

use std::fmt::Display;
use std::time::Duration;

use crate::document::column::figures;

use super::pacing::MIN_WINDOW;
use super::rules::{Evidence, RuleId as Id, Violations};
use super::source::SourceCheck;
use super::stream::{StreamCheck, WRONG_STEPS};

/// AUDIO packets for a share of loss, reordering and duplicates.
const MIN_PACKETS: u64 = 1_000;

/// Groups are found in AUDIO of this length.
const MIN_PACED: Duration = Duration::from_millis(2_500);

/// KEEPALIVEs are counted for this time.
const MIN_PRESENCE: Duration = Duration::from_secs(10);

/// If there is none, this is the only part that is not judged.
pub(super) const AUDIO: &str = "AUDIO";

figures! {
    /// What could not be judged about a source.
    NotJudged {
        /// A part of what the client does.
        what: &'static str;
        /// What would have been needed.
        reason: String;
        /// The rules that had no chance to find anything.
        #[serde(skip)]
        @skip rules: &'static [Id];
    }
}

/// What follows from the totals of a source.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) violations: Evidence,
    /// A rule may still have found something in a part that is not judged. If the reasons differ, the first one counts.
    pub(super) not_judged: Vec<NotJudged>,
}

impl Totals {
    /// What depends on the length of the run follows only when it `is_over`.
    pub(super) fn of(source: &SourceCheck, is_over: bool) -> Self {
        let mut totals = Self::default();
        totals.judge_keys(source);
        if source.audio.packets == 0 {
            totals.skip(AUDIO, Id::range(Id::FirstSequence, Id::Jitter), no_audio(source));
            return totals;
        }
        totals.list_missing_parts(source);
        totals.judge_rate(source, is_over);
        totals.judge_arrivals(source);
        totals.judge_other_types(source);
        totals
    }

    pub(super) fn found(&mut self, rule: Id, count: u64, expected: impl Display, received: impl Display) {
        self.violations.add_all(Violations { count, first: None }, rule, expected, received);
    }

    pub(super) fn skip(&mut self, what: &'static str, rules: &'static [Id], reason: impl Into<String>) {
        if self.not_judged.iter().all(|part| part.what != what) {
            self.not_judged.push(NotJudged { what, reason: reason.into(), rules });
        }
    }

    fn judge_keys(&mut self, source: &SourceCheck) {
        let SourceCheck { replayed, opened, .. } = *source;
        if replayed >= 50 && replayed >= opened {
            let (newest, (least, most)) = (source.link_counters.1, source.replayed_counters.unwrap_or_default());
            let counters = match least {
                _ if newest > 1 << 48 => "it is little-endian".to_owned(),
                _ if least == most => format!("each one {least}"),
                0 => format!("0 to {most} after {newest}, so it starts again"),
                _ => format!("{least} to {most} after {newest}"),
            };
            let received = format_args!("{replayed} of {} again or too late: {counters}", replayed + opened);
            self.found(Id::CounterRepeated, replayed, "each counter once", received);
        }
        // The last lost packets may be those that would have explained it.
        let began_here = source.first_sequence == Some(0) && source.last_control.is_none() && opened == 0;
        if began_here && source.no_keys > 0 {
            self.found(Id::NoKeys, source.no_keys, "a key exchange before sealed packets", "a sealed packet");
        }
    }

    /// Lists the parts of which there is not as much as their rules need.
    fn list_missing_parts(&mut self, source: &SourceCheck) {
        let StreamCheck { packets, pairs, duration, .. } = source.audio;
        let is_opus = !source.audio.is_pcm();
        let has_link = source.last_control.is_some() || source.opened > 0;
        let are_many = packets + source.audio.arrivals.sequences.gaps >= MIN_PACKETS;
        let steps = &[Id::SequenceStep, Id::TimestampStep, Id::PayloadLength];
        let values = &[Id::LatencyInfoValue, Id::LatencyInfoMissing, Id::FrameSize, Id::ChannelCount];
        // The reason is what the first rule needs, unless it is given.
        let parts: [(bool, &'static str, &'static [Id], Option<&str>); 9] = [
            (!is_opus, "payload of AUDIO", Id::range(Id::TimestampStep, Id::Silence), Some("codec opus")),
            (source.info_seen, "LATENCY_INFO", values, Some("none was received")),
            (has_link, "encrypted link", Id::range(Id::KeyExchange, Id::AudioBeforeLink), Some("no key exchange")),
            (is_opus || pairs >= u64::from(WRONG_STEPS), "sequence and timestamp steps", steps, None),
            (is_opus || source.audio.content.is_offset_judged, "DC offset", &[Id::DcOffset], None),
            (is_opus || duration >= MIN_WINDOW, "silence", &[Id::Silence], None),
            (duration >= MIN_PACED, "pacing", &[Id::Pacing], None),
            (source.presence >= MIN_PRESENCE, "KEEPALIVE interval", &[Id::KeepaliveInterval], None),
            (are_many, "loss, reordering and duplicates", Id::range(Id::Loss, Id::Duplicates), None),
        ];
        for (_, what, rules, reason) in parts.into_iter().filter(|(is_enough, ..)| !is_enough) {
            self.skip(what, rules, reason.map_or_else(|| format!("needs {}", rules[0].rule().needs), str::to_owned));
        }
    }

    fn judge_arrivals(&mut self, source: &SourceCheck) {
        let StreamCheck { packets, groups, .. } = &source.audio;
        let (jitter, packet_ns) = (source.audio.jitter.mean().unwrap_or(0.0), source.audio.packet_ns as f64);
        if let Some((size, interval)) = groups.found {
            let received = format_args!("groups of {size} every {:.1} ms", interval.as_secs_f64() * 1e3);
            self.found(Id::Pacing, 1, format_args!("a packet every {:.2} ms", packet_ns / 1e6), received);
        } else if groups.grouped * 2 >= *packets {
            self.skip("pacing", &[Id::Pacing], "groups at unequal intervals");
        } else if jitter > packet_ns * 1.25 {
            // In groups of three, the mean jitter is 4/3 of a packet, or less if each group looks like a pause.
            self.skip("pacing", &[Id::Pacing], format!("{:.1} ms of jitter", jitter / 1e6));
        }
        if jitter >= 5e6 {
            self.found(Id::Jitter, 1, "less than 5 ms of jitter", format_args!("{:.1} ms", jitter / 1e6));
        }
        let sequences = &source.audio.arrivals.sequences;
        let (distinct, lost) = (u64::from(sequences.distinct), sequences.gaps);
        for (rule, count, of, expected, otherwise) in [
            (Id::Loss, lost, distinct + lost, "all packets", "missing"),
            (Id::Reordering, sequences.reordered, distinct, "ascending sequences", "late"),
            (Id::Duplicates, sequences.duplicates, *packets, "each once", "duplicates"),
        ] {
            let share = count as f64 / of.max(1) as f64;
            if packets + lost >= MIN_PACKETS && share >= 0.001 {
                self.found(rule, count, expected, format_args!("{:.1} % {otherwise}", share * 100.0));
            }
        }
    }

    fn judge_other_types(&mut self, source: &SourceCheck) {
        let SourceCheck { audio, keepalives, answers, presence, link_counters, .. } = source;
        let counts = [*keepalives, keepalives - answers];
        let [interval, own] = counts.map(|count| presence.as_secs_f64() / count.max(1) as f64);
        if *presence >= MIN_PRESENCE && (interval > 2.5 || own < 0.5) {
            let interval = if interval > 2.5 { interval } else { own };
            let received = if *keepalives == 0 { "none".to_owned() } else { format!("one per {interval:.2} s") };
            self.found(Id::KeepaliveInterval, 1, "one per second", received);
        } else if own > 2.5 {
            self.skip("KEEPALIVE interval", &[Id::KeepaliveInterval], "they may answer another member");
        }
        if let (Some(format), Some((size, channels))) = (&audio.format, audio.agreed) {
            let announced = format.channel_count.map_or(channels, u32::from);
            if format.frame_size != size {
                self.found(Id::FrameSize, 1, format.frame_size, size);
            }
            if announced != channels {
                self.found(Id::ChannelCount, 1, announced, channels);
            }
        }
        // Whether the link began at this server, and none of its packets is missing.
        let is_whole = source.last_control.is_some() && link_counters.0 == link_counters.1 + 1;
        let seconds = audio.duration.as_secs_f64();
        if !source.info_seen && is_whole && seconds >= 10.0 {
            self.found(Id::LatencyInfoMissing, 1, "one at the start", format_args!("none in {seconds:.0} s of AUDIO"));
        }
    }
}

/// Why there is no AUDIO that can be judged.
fn no_audio(source: &SourceCheck) -> &'static str {
    match (source.first_sequence, source.last_control) {
        (Some(_), None) => "all sealed with keys that were not agreed here",
        (Some(_), Some(_)) => "none opens",
        (None, Some(_)) if source.opened == 0 => {
            "none was sent after the key exchange, nor any sealed packet that opens: does the client derive the same keys?"
        }
        (None, Some(_)) => "none was sent after the key exchange",
        (None, None) => "none was sent",
    }
}
