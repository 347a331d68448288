//! What could not be judged about a source, and why.

use serde::Serialize;

use super::pacing::MIN_WINDOW;
use super::rules::RuleId;
use super::source::{MIN_PACKETS, SourceCheck};
use super::stream::{MAX_RATE_ERROR_PPM, WRONG_STEPS};

/// What could not be judged about a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotJudged {
    /// A part of what the client does.
    pub what: &'static str,
    /// What would have been needed.
    pub reason: String,
    /// The rules that had no chance to find anything.
    #[serde(skip)]
    pub rules: &'static [RuleId],
}

/// The rules that need a time or another property of the client. `found` are those with findings.
pub(super) fn not_judged(source: &SourceCheck, found: &[RuleId]) -> Vec<NotJudged> {
    use RuleId as Id;
    let SourceCheck { audio, format, .. } = source;
    let seconds = |needed: f64, had: f64| (had < needed).then(|| format!("needs {needed} s"));
    let mut all = Vec::new();
    let mut add = |what, rules: &'static [RuleId], reason: Option<String>| {
        // What has a finding is judged, and what has none because of a more precise one is explained by that.
        let is_found =
            |rule: &RuleId| found.contains(rule) || rule.rule().suppressed_by.iter().any(|by| found.contains(by));
        if let Some(reason) = reason.filter(|_| !rules.iter().any(is_found)) {
            all.push(NotJudged { what, reason, rules });
        }
    };
    let no_audio = match (source.first_sequence, source.last_control) {
        _ if audio.packets > 0 => None,
        (Some(_), None) => Some("sealed with keys that were not agreed here"),
        (Some(_), Some(_)) => Some("does not open"),
        (None, Some(_)) => Some("none was sent after the key exchange"),
        (None, None) => Some("none was sent"),
    };
    add("AUDIO", Id::range(Id::FirstSequence, Id::Silence), no_audio.map(str::to_owned));
    if audio.packets > 0 {
        let is_encoded = format.is_some_and(|format| !format.is_pcm);
        add("payload of AUDIO", Id::range(Id::TimestampStep, Id::Silence), is_encoded.then(|| "codec opus".to_owned()));
        let has_pairs = audio.pairs >= u64::from(WRONG_STEPS);
        add(
            "sequence and timestamp steps",
            &[Id::SequenceStep, Id::TimestampStep, Id::PayloadLength],
            (!has_pairs && !is_encoded).then(|| format!("needs {WRONG_STEPS} times two packets in succession")),
        );
        let window = (!audio.content.is_offset_judged && !is_encoded).then(|| "needs 10 s".to_owned());
        add("DC offset", &[Id::DcOffset], window);
        add("silence", &[Id::Silence], seconds(MIN_WINDOW.as_secs_f64(), audio.duration.as_secs_f64()));
    }
    let drift = source.drift();
    let undecided = |limit: f64| match drift {
        Some((_, [low, high])) if low < -limit || high > limit => Some(format!("uncertain, {low:.0} to {high:.0} ppm")),
        Some(_) => None,
        None if format.is_none() && audio.duration.as_secs() >= 15 => Some("no standard rate".to_owned()),
        None => Some("needs 10 s without pauses".to_owned()),
    };
    add("packet rate", &[Id::PacketRate], undecided(MAX_RATE_ERROR_PPM));
    let is_short = drift.is_some() && source.max_drift_ppm() > 100.0;
    let short = is_short.then(|| "below 500 ppm, needs 60 s".to_owned());
    add("clock drift", &[Id::ClockDrift], undecided(source.max_drift_ppm()).or(short));
    let (jitter, packet_ns) = (audio.jitter.mean().unwrap_or(0.0), audio.packet_ns as f64);
    // In groups of three, the mean jitter is 4/3 of a packet.
    let jitter = (jitter > packet_ns * 1.25).then(|| format!("the path has {:.1} ms of jitter", jitter / 1e6));
    let pacing = seconds(MIN_WINDOW.as_secs_f64() + 0.5, audio.duration.as_secs_f64());
    add("pacing", &[Id::Pacing], pacing.or(jitter));
    add("KEEPALIVE interval", &[Id::KeepaliveInterval], seconds(10.0, source.presence.as_secs_f64()));
    add(
        "LATENCY_INFO",
        &[Id::LatencyInfoValue, Id::LatencyInfoMissing, Id::FrameSize, Id::ChannelCount],
        (!source.info_seen).then(|| "none was received".to_owned()),
    );
    let distinct = u64::from(audio.sequences.distinct()) + audio.sequences.gaps();
    let few = (distinct < MIN_PACKETS).then(|| format!("needs {MIN_PACKETS} AUDIO packets"));
    add("loss, reordering and duplicates", &[Id::Loss, Id::Reordering, Id::Duplicates], few);
    let is_plain = source.last_control.is_none() && source.first_opened.is_none();
    add(
        "encrypted link",
        Id::range(Id::KeyExchange, Id::AudioBeforeLink),
        is_plain.then(|| "no key exchange".to_owned()),
    );
    all
}
