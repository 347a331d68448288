//! Reading every kind of WAV file, valid or malformed.

mod fixtures;
mod headers;
mod streams;

use jamjam_core::audio::wav::{WavError, WavFormat, WavStream};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(test_support::repository().join("fixtures/audio").join(name)).unwrap()
}

struct DecodedWav {
    format: WavFormat,
    samples: Vec<f32>,
    warning: Option<String>,
}

fn decode(file: &[u8]) -> Result<DecodedWav, WavError> {
    let mut stream = WavStream::open(file)?.check_rest();
    let mut samples = Vec::new();
    while stream.read(1_000, &mut samples)? > 0 {}
    Ok(DecodedWav { format: *stream.format(), samples, warning: stream.warning() })
}

fn refusal(file: &[u8]) -> String {
    decode(file).err().expect("a refusal").to_string()
}

/// The sawtooth in the malformed fixtures. The samples of the sawtooth can be computed without the generator's output.
fn saw_tooth(samples: usize) -> Vec<f32> {
    (0..samples).map(|n| ((n % 256) as f32 - 128.0) * 64.0 / 32_768.0).collect()
}

const SUPPORTED: &str = "supported: RIFF WAV with 8, 16, 24 or 32-bit integers or 32-bit floats. \
                         To convert the file: ffmpeg -i IN -c:a pcm_s16le OUT.wav";
