//! Reading every kind of WAV file, valid or malformed. No input causes a panic, invented samples, or an allocation whose size comes only from
//! a header.

mod fixtures;
mod headers;
mod malformed;
mod streams;

use std::io::{self, Read};

use jamjam_core::audio::wav::{WavError, WavFormat, WavStream};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(test_support::repository().join("fixtures/audio").join(name)).unwrap()
}

struct DecodedWav {
    format: WavFormat,
    samples: Vec<f32>,
    warning: Option<String>,
}

/// Records the size of the largest buffer that was requested.
struct Watched<'a> {
    bytes: &'a [u8],
    largest: usize,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.largest = self.largest.max(buffer.len());
        self.bytes.read(buffer)
    }
}

/// Reads all samples and checks the properties that hold for any input.
fn decode(file: &[u8]) -> Result<DecodedWav, WavError> {
    let mut watched = Watched { bytes: file, largest: 0 };
    let result = WavStream::open(&mut watched).and_then(|stream| {
        let (mut stream, mut samples) = (stream.check_rest(), Vec::new());
        while stream.read(usize::MAX, &mut samples)? > 0 {}
        let format = *stream.format();
        assert_eq!(samples.len() % usize::from(format.channels), 0, "only complete frames are returned");
        assert!(samples.len() <= file.len(), "more samples than bytes");
        assert!(samples.capacity() <= 2 * file.len() + 64, "room for {} samples", samples.capacity());
        Ok(DecodedWav { format, samples, warning: stream.warning() })
    });
    assert!(watched.largest <= 256 * 1024, "requested {} bytes at once", watched.largest);
    result.inspect_err(|error| assert!(!error.to_string().contains('\n')))
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
