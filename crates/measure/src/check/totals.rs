//! What follows from the totals of a source: violations, or what could not be judged and why.

use crate::document::column::figures;
use jamjam_core::audio::placement::STANDARD_RATES;

use super::pacing::MIN_WINDOW;
use super::rules::{Evidence, RuleId, Severity, Violations};
use super::source::SourceCheck;
use super::stream::{Format, MAX_RATE_ERROR_PPM, StreamCheck, WRONG_STEPS};

/// AUDIO packets for a share of loss, reordering and duplicates.
const MIN_PACKETS: u64 = 1_000;

/// Seconds of the run from which on this drift is a warning, in parts per million.
const MAX_DRIFTS_PPM: [(f64, f64); 2] = [(60.0, 100.0), (0.0, 500.0)];

/// Seconds by which the delay of a path may grow.
const MAX_QUEUE_S: f64 = 1.0;

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
        @skip rules: &'static [RuleId];
    }
}

/// Violations that follow from totals, and what could not be judged. What depends on the length of the run follows only when it `is_over`. A rule
/// may still have found something in a part that is not judged.
#[expect(clippy::too_many_lines, reason = "each part is judged or listed as not judged, once")]
pub(super) fn totals(source: &SourceCheck, is_over: bool) -> (Evidence, Vec<NotJudged>) {
    use RuleId as Id;
    let (mut violations, mut not_judged) = (Evidence::default(), Vec::new());
    let mut found = |rule, count, expected: &str, received: String| {
        violations.add_all(Violations { count, first: None }, rule, expected, received);
    };
    let mut skip = |what, rules, reason: String| not_judged.push(NotJudged { what, reason, rules });
    let SourceCheck { audio, format, replayed, opened, first_sequence, last_control, .. } = source;
    let StreamCheck { packets, agreed, groups, .. } = audio;
    let sequences = &audio.arrivals.sequences;

    if *replayed >= 50 && replayed >= opened {
        let (newest, (least, most)) = (source.link_counters.1, source.replayed_counters.unwrap_or_default());
        let counters = if newest > 1 << 48 {
            ": it is little-endian".to_owned()
        } else if least == most {
            format!(": each one {least}")
        } else {
            let again = if least == 0 { ", so it starts again" } else { "" };
            format!(": {least} to {most} after {newest}{again}")
        };
        let received = format!("{replayed} of {} again or too late{counters}", replayed + opened);
        found(Id::CounterRepeated, *replayed, "each counter once", received);
    }
    // The last lost packets may be those that would have explained it.
    let began_here = *first_sequence == Some(0) && last_control.is_none() && *opened == 0;
    if began_here && source.no_keys > 0 {
        found(Id::NoKeys, source.no_keys, "a key exchange before sealed packets", "a sealed packet".to_owned());
    }
    if *packets == 0 {
        let reason = match (first_sequence, last_control) {
            (Some(_), None) => "all sealed with keys that were not agreed here",
            (Some(_), Some(_)) => "none opens",
            (None, Some(_)) if *opened == 0 => {
                "none was sent after the key exchange, nor any sealed packet that opens: does the client derive the same keys?"
            }
            (None, Some(_)) => "none was sent after the key exchange",
            (None, None) => "none was sent",
        };
        skip(AUDIO, Id::range(Id::FirstSequence, Id::Jitter), reason.to_owned());
        return (violations, not_judged);
    }

    let seconds = audio.duration.as_secs_f64();
    if format.is_some_and(|format| !format.is_pcm) {
        skip("payload of AUDIO", Id::range(Id::TimestampStep, Id::Silence), "codec opus".to_owned());
    } else {
        if audio.pairs < u64::from(WRONG_STEPS) {
            let rules = &[Id::SequenceStep, Id::TimestampStep, Id::PayloadLength];
            skip("sequence and timestamp steps", rules, format!("needs {WRONG_STEPS} times two packets in succession"));
        }
        if !audio.content.is_offset_judged {
            skip("DC offset", &[Id::DcOffset], "needs 10 s of samples".to_owned());
        }
        if seconds < MIN_WINDOW.as_secs_f64() {
            skip("silence", &[Id::Silence], format!("needs {} s", MIN_WINDOW.as_secs()));
        }
    }

    let span = audio.pace(*format).map_or(0.0, |pace| pace.drift.span().as_secs_f64());
    let limit = MAX_DRIFTS_PPM.iter().find(|(from, _)| span >= *from).map_or(f64::MAX, |(_, ppm)| *ppm);
    // What the clock of the client shows as well is the path. Without it, a queue of the path may fill, but not for long.
    let path = source.path_ppm();
    let without_path =
        |[low, high]: [f64; 2]| path.map_or([low, high], |[slow, fast]| [low.min(low - fast), high.max(high - slow)]);
    let (mut rate_error, mut is_doubtful) = (None, false);
    if let Some((rate, interval)) = source.drift() {
        let [low, high] = without_path(interval);
        let (ppm, nearest, farthest) = (low.midpoint(high), low.max(-high), high.max(-low));
        let uncertain = || format!("uncertain, {low:.0} to {high:.0} ppm");
        if nearest > MAX_RATE_ERROR_PPM {
            let factor = 1.0 + ppm / 1e6;
            let channels = format.and_then(|format| format.channels).map_or(1.0, f64::from);
            let is_interleaved = channels > 1.0 && (factor / channels - 1.0).abs() * 1e6 < MAX_RATE_ERROR_PPM;
            let reason = if is_interleaved { ", so the timestamps count the samples of all channels" } else { "" };
            rate_error = Some((nearest, rate.to_string(), format!("{:.0}{reason}", f64::from(rate) * factor)));
        } else if farthest > MAX_RATE_ERROR_PPM {
            skip("packet rate", &[Id::PacketRate], uncertain());
        }
        if nearest > limit && nearest <= MAX_RATE_ERROR_PPM && is_over {
            let source = if format.is_none() { ", the nearest standard rate, without LATENCY_INFO" } else { "" };
            let received = format!("{ppm:.0} ppm (99.9 % interval {low:.0} to {high:.0})");
            found(Id::ClockDrift, 1, &format!("at most ±{limit:.0} ppm of {rate} Hz{source}"), received);
        } else if farthest > limit {
            skip("clock drift", &[Id::ClockDrift], uncertain());
        } else if limit > 100.0 {
            skip("clock drift", &[Id::ClockDrift], "below 500 ppm, needs 60 s".to_owned());
        }
    } else {
        let has_no_rate = format.is_none() && seconds >= 15.0;
        let reason = if has_no_rate { "no standard rate is certain" } else { "needs 12 s without pauses" };
        match audio.wrong_rate().filter(|_| is_over && !(source.counters.is_some() && *opened > 0)) {
            Some((rate, measured)) => {
                let rates = if format.is_some() {
                    rate.to_string()
                } else {
                    STANDARD_RATES.map(|rate| rate.to_string()).join(", ")
                };
                // It is that of a part of the run, to which nothing corresponds if the path has changed.
                let is_steady = path.is_none_or(|ends| ends.iter().all(|ppm| ppm.abs() < MAX_RATE_ERROR_PPM));
                let error = if is_steady { (measured / f64::from(rate) - 1.0).abs() * 1e6 } else { 0.0 };
                rate_error = Some((error, rates, format!("about {measured:.0}")));
            }
            None => skip("packet rate", &[Id::PacketRate], reason.to_owned()),
        }
        skip("clock drift", &[Id::ClockDrift], reason.to_owned());
    }
    if let Some((nearest, expected, received)) = rate_error {
        if nearest <= MAX_RATE_ERROR_PPM {
            skip("packet rate", &[Id::PacketRate], "the delay of the path changes".to_owned());
        } else {
            is_doubtful = path.is_none() && nearest / 1e6 * seconds < MAX_QUEUE_S;
            let other = if is_doubtful { ", or the delay of its path grows" } else { "" };
            found(Id::PacketRate, 1, &format!("{expected} samples per second"), received + other);
        }
    }

    let (jitter, packet_ns) = (audio.jitter.mean().unwrap_or(0.0), audio.packet_ns as f64);
    let pacing_needs = MIN_WINDOW.as_secs_f64() + 0.5;
    if let Some((size, interval)) = groups.found {
        let received = format!("groups of {size} every {:.1} ms", interval.as_secs_f64() * 1e3);
        found(Id::Pacing, 1, &format!("a packet every {:.2} ms", packet_ns / 1e6), received);
    } else if seconds < pacing_needs {
        skip("pacing", &[Id::Pacing], format!("needs {pacing_needs} s"));
    } else if groups.grouped * 2 >= *packets {
        skip("pacing", &[Id::Pacing], "groups at unequal intervals".to_owned());
    } else if jitter > packet_ns * 1.25 {
        // In groups of three, the mean jitter is 4/3 of a packet, or less if each group looks like a pause.
        skip("pacing", &[Id::Pacing], format!("{:.1} ms of jitter", jitter / 1e6));
    }
    if jitter >= 5e6 {
        found(Id::Jitter, 1, "less than 5 ms of jitter", format!("{:.1} ms", jitter / 1e6));
    }

    let presence = source.presence.as_secs_f64();
    let counts = [source.keepalives, source.keepalives - source.answers];
    let [interval, own] = counts.map(|count| presence / count.max(1) as f64);
    if presence < 10.0 {
        skip("KEEPALIVE interval", &[Id::KeepaliveInterval], "needs 10 s".to_owned());
    } else if interval > 2.5 || own < 0.5 {
        let interval = if interval > 2.5 { interval } else { own };
        let received = if source.keepalives == 0 { "none".to_owned() } else { format!("one per {interval:.2} s") };
        found(Id::KeepaliveInterval, 1, "one per second", received);
    } else if own > 2.5 {
        skip("KEEPALIVE interval", &[Id::KeepaliveInterval], "they may answer another member".to_owned());
    }

    if let (Some(Format { frame_size, channels: announced, .. }), Some((size, channels))) = (*format, *agreed) {
        let announced = announced.map_or(channels, u32::from);
        for (rule, announced, of_packets) in
            [(Id::FrameSize, frame_size, size), (Id::ChannelCount, announced, channels)]
        {
            if announced != of_packets {
                found(rule, 1, &announced.to_string(), of_packets.to_string());
            }
        }
    }
    // Whether the link began at this server, and none of its packets is missing.
    let is_whole = last_control.is_some() && source.link_counters.0 == source.link_counters.1 + 1;
    if !source.info_seen && is_whole && seconds >= 10.0 {
        found(Id::LatencyInfoMissing, 1, "one at the start", format!("none in {seconds:.0} s of AUDIO"));
    } else if !source.info_seen {
        let rules = &[Id::LatencyInfoValue, Id::LatencyInfoMissing, Id::FrameSize, Id::ChannelCount];
        skip("LATENCY_INFO", rules, "none was received".to_owned());
    }

    let (distinct, lost) = (u64::from(sequences.distinct), sequences.gaps);
    let shares = [
        (Id::Loss, lost, distinct + lost, "all packets", "missing"),
        (Id::Reordering, sequences.reordered, distinct, "ascending sequences", "late"),
        (Id::Duplicates, sequences.duplicates, *packets, "each once", "duplicates"),
    ];
    if packets + lost < MIN_PACKETS {
        let rules = &[Id::Loss, Id::Reordering, Id::Duplicates];
        skip("loss, reordering and duplicates", rules, format!("needs {MIN_PACKETS} AUDIO packets"));
    } else {
        for (rule, count, of, expected, otherwise) in shares {
            let share = count as f64 / of.max(1) as f64;
            if share >= 0.001 {
                found(rule, count, expected, format!("{:.1} % {otherwise}", share * 100.0));
            }
        }
    }
    if last_control.is_none() && *opened == 0 {
        skip("encrypted link", Id::range(Id::KeyExchange, Id::AudioBeforeLink), "no key exchange".to_owned());
    }
    for (_, finding) in violations.all.iter_mut().filter(|(rule, _)| is_doubtful && *rule == Id::PacketRate) {
        finding.severity = Severity::Warning;
    }
    (violations, not_judged)
}
