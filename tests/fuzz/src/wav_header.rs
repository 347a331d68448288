//! WAV files: arbitrary headers, and headers that this program writes. Reading in any pieces gives the same samples. The samples never
//! exceed the bytes of the file, and `hound` reads plain files alike.

use std::io::Read;

use jamjam_dev::audio::convert::encode_payload;
use jamjam_dev::audio::wav::{SampleFormat, WavError, WavStream};
use jamjam_dev::audio::wav_writer::{WAV_HEADER_LEN, wav_header};
use jamjam_dev::audio::{MAX_CHANNELS, SAMPLE_RATES};

use crate::input::Input;

/// The first byte selects the origin of the header and the frames per call. The second byte is the number of bytes per read.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (config, piece) = (input.byte(), 1 + usize::from(input.byte()));
    if config & 1 == 1 {
        return check_written_file(&mut input);
    }
    let file = input.rest();
    let whole = read(file, usize::MAX, 1 << 20);
    let pieces = read(file, piece, 1 + usize::from(config >> 1));
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => assert!(whole.samples == pieces.samples && whole.warning == pieces.warning),
        (Err(whole), Err(pieces)) => assert_eq!(whole.to_string(), pieces.to_string()),
        (whole, pieces) => panic!("whole: {}, in pieces: {}", whole.is_ok(), pieces.is_ok()),
    }
    match whole {
        Ok(audio) => check_audio(&audio, file),
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
}

/// The samples as bits, because a file may contain NaN.
struct Audio {
    channels: u16,
    bits: u16,
    encoding: SampleFormat,
    stated_frames: Option<u64>,
    samples: Vec<u32>,
    warning: Option<String>,
}

/// Passes at most `piece` bytes per read.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = buffer.len().min(self.piece);
        self.rest.read(&mut buffer[..len])
    }
}

fn read(file: &[u8], piece: usize, frames_per_call: usize) -> Result<Audio, WavError> {
    let mut stream = WavStream::open(Pieces { rest: file, piece })?.check_rest();
    let format = *stream.format();
    let mut samples = Vec::new();
    loop {
        let before = samples.len();
        let frames = stream.read(frames_per_call, &mut samples)?;
        assert_eq!(samples.len() - before, frames * usize::from(format.channels));
        if frames < frames_per_call {
            break;
        }
        assert_eq!(stream.warning(), None, "there may be more data");
    }
    assert_eq!(stream.read(1, &mut samples)?, 0, "the data has ended");
    assert!(SAMPLE_RATES.contains(&format.sample_rate) && (1..=MAX_CHANNELS).contains(&format.channels));
    assert!(format.to_string().contains(&format.sample_rate.to_string()));
    assert_eq!(format.is_lossy(), format.encoding == SampleFormat::Int && format.bits > 24);
    Ok(Audio {
        channels: format.channels,
        bits: format.bits,
        encoding: format.encoding,
        stated_frames: format.frames,
        samples: samples.into_iter().map(f32::to_bits).collect(),
        warning: stream.warning(),
    })
}

fn check_audio(audio: &Audio, file: &[u8]) {
    let frames = (audio.samples.len() / usize::from(audio.channels)) as u64;
    assert!(audio.samples.len() * usize::from(audio.bits.div_ceil(8)) <= file.len(), "more samples than bytes");
    if let Some(stated) = audio.stated_frames {
        assert!(frames <= stated);
        assert_eq!(audio.warning.as_ref().is_some_and(|warning| warning.contains("ends early")), frames < stated);
    }
    if audio.encoding == SampleFormat::Int {
        assert!(audio.samples.iter().all(|bits| f32::from_bits(*bits).abs() <= 1.0));
    }
    if let Some(samples) = read_with_hound(file) {
        assert_eq!(audio.samples[..samples.len().min(audio.samples.len())], samples);
    }
}

/// The samples that `hound` reads from a plain file: a `fmt ` chunk of 16 bytes and a `data` chunk that ends with the file.
fn read_with_hound(file: &[u8]) -> Option<Vec<u32>> {
    let data_len = u32::from_le_bytes(file.get(40..44)?.try_into().ok()?) as usize;
    if &file[12..20] != b"fmt \x10\0\0\0" || &file[36..40] != b"data" || data_len == 0 || file.len() != 44 + data_len {
        return None;
    }
    let mut reader = hound::WavReader::new(file).ok()?;
    // `hound` reads 12 bits in two bytes as they are; here, they are left-justified. It also believes that samples of 24 bits are padded.
    let spec = reader.spec();
    let frame_bytes = u16::from_le_bytes(file.get(32..34)?.try_into().ok()?);
    if !spec.bits_per_sample.is_multiple_of(8) || frame_bytes != spec.channels * spec.bits_per_sample / 8 {
        return None;
    }
    match spec.sample_format {
        hound::SampleFormat::Float => reader.samples::<f32>().map(|sample| sample.ok().map(f32::to_bits)).collect(),
        hound::SampleFormat::Int => {
            let scale = 0.5_f32.powi(i32::from(spec.bits_per_sample) - 1);
            reader.samples::<i32>().map(|sample| sample.ok().map(|sample| (sample as f32 * scale).to_bits())).collect()
        }
    }
}

/// Writes samples and reads them.
fn check_written_file(input: &mut Input<'_>) {
    let (rate, channels) = (input.u32(), input.u16() % 300);
    let samples: Vec<f32> = input.rest().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let mut bytes = Vec::new();
    encode_payload(&samples, &mut bytes);
    let header = wav_header(rate, channels, bytes.len() as u32);
    assert_eq!(header.len(), WAV_HEADER_LEN);
    let file = [header, bytes].concat();
    let is_supported = SAMPLE_RATES.contains(&rate) && (1..=MAX_CHANNELS).contains(&channels);
    let audio = match read(&file, usize::MAX, 1 << 20) {
        Ok(audio) => audio,
        Err(error) => return assert!(!is_supported, "{error}"),
    };
    let whole = samples.len() - samples.len() % usize::from(channels);
    assert_eq!((audio.channels, audio.samples.len()), (channels, whole));
    let expected = samples.iter().map(|sample| sample.to_bits());
    assert!(expected.zip(&audio.samples).all(|(sample, read)| sample == *read));
}
