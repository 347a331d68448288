//! WAV files read and written by handwritten code.

use std::path::Path;

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

pub fn write(path: &Path, rate: u32, channels: u16, samples: &[i16]) {
    let samples: Vec<_> = samples.iter().map(|sample| sample.to_le_bytes()).collect();
    write_integers(path, rate, channels, &samples);
}

/// Writes samples of `N` bytes.
pub fn write_integers<const N: usize>(path: &Path, rate: u32, channels: u16, samples: &[[u8; N]]) {
    let (data, size) = (samples.concat(), N as u16);
    let mut file = b"RIFF".to_vec();
    file.extend((36 + data.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0");
    file.extend([1, channels].map(u16::to_le_bytes).concat());
    file.extend([rate, rate * u32::from(channels * size)].map(u32::to_le_bytes).concat());
    file.extend([channels * size, 8 * size].map(u16::to_le_bytes).concat());
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    std::fs::write(path, [file, data].concat()).unwrap();
}
