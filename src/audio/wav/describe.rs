//! Names for what a file holds, so that a refusal says more than "unsupported".

use super::head::Fmt;

/// First bytes of files that people take for a WAV, with what they are.
const SIGNATURES: [(usize, &[u8], &str); 16] = [
    (0, b"RIFX", "big-endian WAV (RIFX)"),
    (0, b"RF64", "RF64, the WAV for more than 4 GiB"),
    (0, b"BW64", "BW64, the WAV for more than 4 GiB"),
    (0, b"riff", "Wave64"),
    (0, b"RIFF", "RIFF, but not WAVE"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg (Vorbis, Opus or FLAC)"),
    (0, b"ID3", "MP3"),
    (0, b"FORM", "AIFF"),
    (0, b"caff", "Core Audio (CAF)"),
    (0, b".snd", "Sun audio (AU)"),
    (0, b"wvpk", "WavPack"),
    (0, b"MThd", "MIDI"),
    (0, &[0x1a, 0x45, 0xdf, 0xa3], "Matroska or WebM"),
    (4, b"ftyp", "MP4 or M4A"),
    (0, &[0x1f, 0x8b], "gzip"),
];

/// What a file that does not begin as a RIFF WAVE looks like by its first bytes.
pub(super) fn signature(first: &[u8]) -> String {
    let known = SIGNATURES.iter().find(|(at, magic, _)| first.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    if let Some((_, _, name)) = known {
        return (*name).to_owned();
    }
    match *first {
        // Frame sync, then layer III, I or II, or the AAC transport.
        [0xff, second, ..] if second & 0xe6 == 0xe2 => "MP3".to_owned(),
        [0xff, second, ..] if second & 0xf6 == 0xf0 => "AAC".to_owned(),
        _ if first.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => "text".to_owned(),
        _ => {
            let bytes: Vec<_> = first.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("nothing known (first bytes {})", bytes.join(" "))
        }
    }
}

/// The format in a `fmt ` chunk: `IMA ADPCM (tag 0x0011), 4 bits, 1 channel, 22050 Hz`.
pub(super) fn format(fmt: &Fmt) -> String {
    let name = fmt.known_tag().and_then(tag_name);
    let subformat = match fmt.subformat {
        Some(_) if name.is_some() => " extensible".to_owned(),
        Some(guid) => format!(" extensible, sub-format {}", guid_text(guid)),
        None => String::new(),
    };
    let container = match fmt.container_bits() {
        // Of a compressed format it is the size of a block of many samples.
        Some(container) if container != fmt.bits && matches!(fmt.known_tag(), Some(1 | 3)) => {
            format!(" in {container}")
        }
        _ => String::new(),
    };
    format!(
        "{} (tag {:#06x}{subformat}), {} bits{container}, {}, {} Hz",
        name.unwrap_or("unknown coding"),
        fmt.tag,
        fmt.bits,
        channels(fmt.channels),
        fmt.rate
    )
}

/// `1 channel`, `2 channels`.
pub(super) fn channels(count: u16) -> String {
    if count == 1 { "1 channel".to_owned() } else { format!("{count} channels") }
}

fn tag_name(tag: u16) -> Option<&'static str> {
    Some(match tag {
        0x0001 => "integer PCM",
        0x0002 => "Microsoft ADPCM",
        0x0003 => "float PCM",
        0x0006 => "A-law",
        0x0007 => "mu-law",
        0x0011 => "IMA ADPCM",
        0x0031 => "GSM 6.10",
        0x0040 | 0x0064 => "G.726 ADPCM",
        0x0050 => "MPEG",
        0x0055 => "MP3",
        0x0069 => "Vorbis",
        0x00ff => "AAC",
        0x0161 => "Windows Media Audio",
        0x0270 => "ATRAC3",
        0x2000 => "AC-3",
        0xf1ac => "FLAC",
        _ => return None,
    })
}

/// A GUID as Windows writes it; its first three fields are little-endian.
fn guid_text(guid: [u8; 16]) -> String {
    let big = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let little = |bytes: &[u8]| bytes.iter().rfold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        little(&guid[..4]),
        little(&guid[4..6]),
        little(&guid[6..8]),
        big(&guid[8..10]),
        big(&guid[10..])
    )
}
