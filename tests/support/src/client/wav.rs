//! WAV files read and written by handwritten code.

use std::path::Path;

/// A parsed WAV file.
#[derive(Debug)]
pub struct Wav {
    /// 1: integers, 3: floats.
    pub tag: u16,
    pub channels: u16,
    pub rate: u32,
    pub bits: u16,
    pub data: Vec<u8>,
}

impl Wav {
    /// Reads a file and checks that all of its length fields are correct.
    pub fn read(path: &Path) -> Self {
        let file = std::fs::read(path).unwrap();
        let short = |at: usize| u16::from_le_bytes(file[at..at + 2].try_into().unwrap());
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        assert_eq!((&file[..4], &file[8..12]), (&b"RIFF"[..], &b"WAVE"[..]));
        assert_eq!(word(4) as usize, file.len() - 8, "the length of the file");
        let (mut at, mut fmt, mut data) = (12, None, None);
        while at < file.len() {
            let length = word(at + 4) as usize;
            match &file[at..at + 4] {
                b"fmt " => fmt = Some((short(at + 8), short(at + 10), word(at + 12), short(at + 22))),
                b"data" => data = Some(file[at + 8..at + 8 + length].to_vec()),
                _ => {}
            }
            at += 8 + length.next_multiple_of(2);
        }
        assert_eq!(at, file.len(), "the last chunk ends at the end of the file");
        let (tag, channels, rate, bits) = fmt.unwrap();
        Self { tag, channels, rate, bits, data: data.unwrap() }
    }

    /// The samples as the protocol defines them: integers are divided by 2^(bits − 1).
    pub fn samples(&self) -> Vec<f32> {
        match (self.tag, self.bits) {
            (1, 16) => self.data.chunks(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0).collect(),
            (1, 24) => {
                let number = |b: &[u8]| i32::from_le_bytes([0, b[0], b[1], b[2]]) >> 8;
                self.data.chunks(3).map(|b| number(b) as f32 / 8_388_608.0).collect()
            }
            (3, 32) => self.data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            other => panic!("{other:?}"),
        }
    }
}

/// Writes 16-bit samples.
pub fn write(path: &Path, rate: u32, channels: u16, samples: &[i16]) {
    let length = samples.len() as u32 * 2;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * u32::from(channels) * 2).to_le_bytes());
    file.extend((channels * 2).to_le_bytes());
    file.extend(b"\x10\0data");
    file.extend(length.to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    std::fs::write(path, file).unwrap();
}

/// Writes 32-bit floats, bit for bit.
pub fn write_floats(path: &Path, rate: u32, channels: u16, samples: &[f32]) {
    let length = samples.len() as u32 * 4;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x03\0");
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * u32::from(channels) * 4).to_le_bytes());
    file.extend((channels * 4).to_le_bytes());
    file.extend(b"\x20\0data");
    file.extend(length.to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    std::fs::write(path, file).unwrap();
}
