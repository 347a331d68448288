//! What a listener would notice, as it is printed.

use serde::Serialize;

use crate::flow::run::AudioRun;
use crate::heard::{Alignment, Fit, Gap, Heard, Level};

/// Most gaps that are told one by one.
const TOLD: usize = 1_000;

/// What was heard.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct HeardNumbers {
    pub gaps: u64,
    pub gap_packets: u64,
    pub gap_ms: f64,
    pub gap_ratio: Option<f64>,
    pub gap_longest_ms: Option<f64>,
    pub gap_longest_at_ms: Option<f64>,
    pub gap_packets_beyond: u64,
    pub gap_list: Vec<GapNumbers>,
    pub sent_levels: Vec<LevelNumbers>,
    pub sent_silent: bool,
    pub source_clips: Option<u64>,
    pub source_clipped_samples: Option<u64>,
    pub source_first_clip_at_ms: Option<f64>,
    pub source_silence_ms: Option<f64>,
    pub source_non_finite_samples: Option<u64>,
    pub source_replaced_samples: Option<u64>,
    pub returned_levels: Option<Vec<LevelNumbers>>,
    pub returned_silent: bool,
    pub changed: u64,
    pub alignment: &'static str,
    pub shift_samples: Option<i64>,
    pub similarity: Option<f64>,
    pub gain_db: Option<f64>,
    pub heard_dropped: u64,
}

/// One gap.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct GapNumbers {
    pub at_ms: f64,
    pub ms: f64,
    pub packet: u64,
    pub packets: u64,
}

/// How loud one channel was.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct LevelNumbers {
    pub peak_dbfs: Option<f64>,
    pub rms_dbfs: Option<f64>,
    pub clips: u64,
    pub clipped_samples: u64,
    pub first_clip_at_ms: Option<f64>,
    pub not_numbers: u64,
}

impl HeardNumbers {
    /// Of a run that somebody listened to, if anything was sent in it.
    pub(super) fn of(audio: &AudioRun) -> Option<Self> {
        let heard = audio.heard.as_ref().filter(|heard| heard.samples > 0)?;
        let Heard { shape, gaps, samples, .. } = heard;
        let at_rate = |rate: u32, samples: u64| rounded(samples as f64 * 1e3 / f64::from(rate.max(1)));
        let ms = |samples| at_rate(shape.rate, samples);
        let source = audio.taken;
        let longest = gaps.longest();
        let told = |gap: Gap| GapNumbers {
            at_ms: ms(gap.start),
            ms: ms(gap.length),
            packet: gap.packet,
            packets: gap.packets,
        };
        let level = |level: &Level| LevelNumbers {
            peak_dbfs: decibels(f64::from(level.peak)),
            rms_dbfs: decibels(level.mean_square.sqrt()),
            clips: level.clips,
            clipped_samples: level.clipped,
            first_clip_at_ms: level.first_clip.map(ms),
            not_numbers: level.not_numbers,
        };
        let (alignment, fit) = match heard.alignment {
            Alignment::Nothing => ("nothing", None),
            Alignment::Exact => ("exact", Some(Fit { shift: 0, similarity: 1.0, gain: 1.0 })),
            Alignment::Shifted(fit) => ("shifted", Some(fit)),
            Alignment::Ambiguous(fit) => ("ambiguous", Some(fit)),
            Alignment::Unlike(fit) => ("unlike", Some(Fit { shift: 0, gain: 0.0, ..fit })),
            Alignment::TooLittle => ("too_little", None),
        };
        let is_found = alignment != "unlike";
        Some(Self {
            gaps: gaps.count(),
            gap_packets: gaps.packets(),
            gap_ms: ms(gaps.samples()),
            gap_ratio: returned_or_missing(heard).then(|| gaps.samples() as f64 / *samples as f64),
            gap_longest_ms: longest.map(|gap| ms(gap.length)),
            gap_longest_at_ms: longest.map(|gap| ms(gap.start)),
            gap_packets_beyond: gaps.beyond(),
            gap_list: gaps.iter().take(TOLD).map(told).collect(),
            sent_levels: heard.sent.iter().map(level).collect(),
            sent_silent: heard.sent_is_silent(),
            source_clips: source.map(|taken| taken.clips),
            source_clipped_samples: source.map(|taken| taken.clipped),
            source_first_clip_at_ms: source.and_then(|taken| Some(at_rate(taken.rate, taken.first_clip?))),
            source_silence_ms: source.map(|taken| at_rate(taken.rate, taken.silence)),
            source_non_finite_samples: source.map(|taken| taken.non_finite),
            source_replaced_samples: source.map(|taken| taken.replaced),
            returned_levels: heard.returned.as_ref().map(|levels| levels.iter().map(level).collect()),
            returned_silent: heard.returned_is_silent(),
            changed: heard.changed,
            alignment,
            shift_samples: fit.filter(|_| is_found).map(|fit| fit.shift),
            similarity: fit.map(|fit| rounded(fit.similarity)),
            gain_db: fit.filter(|_| is_found).and_then(|fit| decibels(fit.gain.abs())),
            heard_dropped: audio.heard_dropped,
        })
    }
}

/// Whether the fate of anything is known.
fn returned_or_missing(heard: &Heard) -> bool {
    heard.returned.is_some() || heard.gaps.packets() > 0
}

/// A magnitude as decibels beside 1; `None` for nothing at all.
fn decibels(magnitude: f64) -> Option<f64> {
    (magnitude > 0.0).then(|| rounded(20.0 * magnitude.log10()))
}

/// To three decimals; adding zero turns -0.0 into 0.0.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3 + 0.0
}
