//! Inputs that are not files.

use std::io::Read;

use jamjam_core::audio::wav::WavStream;

use super::{fixture, saw_tooth};

/// Returns one byte at a time, with an interrupted read before each byte.
struct Trickle<'a>(&'a [u8], bool);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn slow_pipe_yields_the_same_samples() {
    let file = fixture("broken/chunks-in-odd-order.wav");
    let mut stream = WavStream::open(Trickle(&file, false)).unwrap();
    let mut samples = Vec::new();
    assert_eq!(stream.read(999, &mut samples).unwrap(), 999);
    assert_eq!(stream.warning(), None);
    assert_eq!(stream.read(2, &mut samples).unwrap(), 1);
    assert_eq!(stream.read(2, &mut samples).unwrap(), 0);
    assert_eq!(samples, saw_tooth(1_000));
}

#[test]
fn reader_consumes_no_byte_beyond_the_request() {
    let file = fixture("speech-16bit-mono-48k.wav");
    let mut rest = file.as_slice();
    let mut stream = WavStream::open(&mut rest).unwrap();
    assert_eq!(stream.read(128, &mut Vec::new()).unwrap(), 128);
    drop(stream);
    assert_eq!(rest.len(), file.len() - 44 - 256);
}

/// Returns a read error after the last byte.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() { Err(std::io::Error::other("the disk is on fire")) } else { self.0.read(buffer) }
    }
}

#[test]
fn read_error_is_an_error_and_not_the_end() {
    let file = fixture("speech-16bit-mono-48k.wav");
    for length in [0, 3, 12, 30, 44] {
        let failed = WavStream::open(Failing(&file[..length])).and_then(|mut stream| stream.read(8, &mut Vec::new()));
        assert_eq!(failed.unwrap_err().to_string(), "the disk is on fire", "after {length} bytes");
    }
}
