//! Sample formats of audio devices, and their conversion to and from `f32`.

/// Sample format of a device, in native byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSampleFormat {
    /// Name in lists and reports.
    pub name: &'static str,
    /// Bytes per sample of one channel.
    pub bytes_per_sample: usize,
    /// Valid bits. In a longer sample, they are the low bits, and the others are ignored.
    bits: u32,
    kind: SampleKind,
}

use SampleKind::{Float, Signed, Unsigned};

impl DeviceSampleFormat {
    /// All formats, the preferred format first: `F32` needs no conversion, `I32`, `I24` and `I16` follow in order of resolution, and rare
    /// formats come last. The silence of an unsigned format is half its range.
    pub const ALL: [Self; 12] = [
        Self::new("F32", 4, 32, Float),
        Self::new("I32", 4, 32, Signed),
        // In the low three bytes of four; the high byte is ignored.
        Self::new("I24", 4, 24, Signed),
        Self::new("I16", 2, 16, Signed),
        Self::new("F64", 8, 64, Float),
        Self::new("U32", 4, 32, Unsigned),
        Self::new("U24", 4, 24, Unsigned),
        Self::new("U16", 2, 16, Unsigned),
        Self::new("U8", 1, 8, Unsigned),
        Self::new("I8", 1, 8, Signed),
        Self::new("I64", 8, 64, Signed),
        Self::new("U64", 8, 64, Unsigned),
    ];

    const fn new(name: &'static str, bytes_per_sample: usize, bits: u32, kind: SampleKind) -> Self {
        Self { name, bytes_per_sample, bits, kind }
    }

    /// The format with this name, in upper or lower case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name.eq_ignore_ascii_case(name))
    }

    /// Whether conversion to `f32` rounds samples.
    pub fn loses_precision(self) -> bool {
        self.bits > 24 && self.name != "F32"
    }

    /// Converts the samples in `bytes` to `f32` and stops when either `bytes` or `out` ends. Integers are divided by half their range, and
    /// floats are unchanged, even beyond full scale. Samples that an `f32` cannot represent are rounded once.
    pub fn decode<'a>(self, bytes: &[u8], out: impl Iterator<Item = &'a mut f32>) {
        let Self { bytes_per_sample, bits, kind, .. } = self;
        let scaled = |integer: i64| {
            let integer = integer << (64 - bits);
            // Inverting the highest bit and reading the result as a signed integer subtracts half the range.
            let signed = if kind == Unsigned { integer ^ i64::MIN } else { integer };
            // Division by a power of two is exact.
            signed as f32 / 9_223_372_036_854_775_808.0
        };
        match (kind, bytes_per_sample) {
            (Float, 4) => decode_samples(bytes, out, f32::from_ne_bytes),
            (Float, _) => decode_samples(bytes, out, |b| f64::from_ne_bytes(b) as f32),
            (_, 1) => decode_samples(bytes, out, |b| scaled(i8::from_ne_bytes(b).into())),
            (_, 2) => decode_samples(bytes, out, |b| scaled(i16::from_ne_bytes(b).into())),
            (_, 4) => decode_samples(bytes, out, |b| scaled(i32::from_ne_bytes(b).into())),
            _ => decode_samples(bytes, out, |b| scaled(i64::from_ne_bytes(b))),
        }
    }

    /// Converts `samples` to `bytes` and stops at the end of the shorter of the two. Samples are rounded to nearest and saturate at full
    /// scale. NaN becomes silence.
    pub fn encode(self, samples: impl Iterator<Item = f32>, bytes: &mut [u8]) {
        let samples = samples.map(|sample| if sample.is_nan() { 0.0 } else { f64::from(sample.clamp(-1.0, 1.0)) });
        let Self { bytes_per_sample, bits, kind, .. } = self;
        let (min, max) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
        let integer = |sample: f64| {
            // Casts from float to integer saturate.
            let signed = ((sample * -(min as f64)).round() as i64).min(max);
            if kind == Unsigned { signed.wrapping_sub(min) } else { signed }
        };
        match (kind, bytes_per_sample) {
            (Float, 4) => encode_samples(samples, bytes, |s| (s as f32).to_ne_bytes()),
            (Float, _) => encode_samples(samples, bytes, f64::to_ne_bytes),
            (_, 1) => encode_samples(samples, bytes, |s| (integer(s) as i8).to_ne_bytes()),
            (_, 2) => encode_samples(samples, bytes, |s| (integer(s) as i16).to_ne_bytes()),
            (_, 4) => encode_samples(samples, bytes, |s| (integer(s) as i32).to_ne_bytes()),
            _ => encode_samples(samples, bytes, |s| integer(s).to_ne_bytes()),
        }
    }
}

/// How a device stores samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SampleKind {
    Float,
    Signed,
    Unsigned,
}

fn encode_samples<const N: usize>(
    samples: impl Iterator<Item = f64>,
    bytes: &mut [u8],
    value: impl Fn(f64) -> [u8; N],
) {
    bytes.as_chunks_mut::<N>().0.iter_mut().zip(samples).for_each(|(bytes, sample)| *bytes = value(sample));
}

fn decode_samples<'a, const N: usize>(
    bytes: &[u8],
    out: impl Iterator<Item = &'a mut f32>,
    value: impl Fn([u8; N]) -> f32,
) {
    for (bytes, slot) in bytes.as_chunks::<N>().0.iter().zip(out) {
        *slot = value(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(name: &str) -> DeviceSampleFormat {
        DeviceSampleFormat::by_name(name).expect("a format")
    }

    fn decoded(format: DeviceSampleFormat, bytes: &[u8]) -> Vec<f32> {
        let mut samples = vec![9.0; bytes.len() / format.bytes_per_sample];
        format.decode(bytes, samples.iter_mut());
        samples
    }

    /// Asserts for each pair `number => sample` that the bytes of the number decode to the sample.
    macro_rules! assert_decodes {
        ($format:ident: $($number:expr => $sample:expr),+ $(,)?) => {
            let bytes = [$($number.to_ne_bytes().as_slice()),+].concat();
            assert_eq!(decoded(format(stringify!($format)), &bytes), [$($sample),+], stringify!($format));
        };
    }

    #[test]
    fn integers_are_scaled_by_half_their_range() {
        assert_decodes!(I8: -128_i8 => -1.0, -1_i8 => -0.007_812_5, 0_i8 => 0.0, 64_i8 => 0.5, 127_i8 => 0.992_187_5);
        assert_decodes!(U8: 0_u8 => -1.0, 127_u8 => -0.007_812_5, 128_u8 => 0.0, 192_u8 => 0.5, 255_u8 => 0.992_187_5);
        // 1/32768 = 0.000030517578125.
        assert_decodes!(I16: i16::MIN => -1.0, -1_i16 => -0.000_030_517_578, 1_i16 => 0.000_030_517_578, 16_384_i16 => 0.5,
            i16::MAX => 0.999_969_5);
        assert_decodes!(U16: 0_u16 => -1.0, 32_767_u16 => -0.000_030_517_578, 32_768_u16 => 0.0, 49_152_u16 => 0.5,
            u16::MAX => 0.999_969_5);
        // 1/8388608 = 1.1920928955078125e-7, which is also the distance of the largest value from full scale.
        assert_decodes!(I24: -8_388_608_i32 => -1.0, -1_i32 => -1.192_092_9e-7, 1_i32 => 1.192_092_9e-7, 4_194_304_i32 => 0.5,
            8_388_607_i32 => 1.0 - 1.192_092_9e-7);
        assert_decodes!(U24: 0_u32 => -1.0, 8_388_607_u32 => -1.192_092_9e-7, 8_388_608_u32 => 0.0, 12_582_912_u32 => 0.5,
            16_777_215_u32 => 1.0 - 1.192_092_9e-7);
        // 2^-31 = 4.656612873077393e-10; `i32::MAX` and `u32::MAX` are rounded up to full scale.
        assert_decodes!(I32: i32::MIN => -1.0, -1_i32 => -4.656_613e-10, 1_i32 => 4.656_613e-10, 1_i32 << 30 => 0.5, i32::MAX => 1.0);
        assert_decodes!(U32: 0_u32 => -1.0, (1_u32 << 31) - 1 => -4.656_613e-10, 1_u32 << 31 => 0.0, 3_u32 << 30 => 0.5, u32::MAX => 1.0);
        assert_decodes!(I64: i64::MIN => -1.0, 0_i64 => 0.0, 1_i64 << 62 => 0.5, i64::MAX => 1.0);
        assert_decodes!(U64: 0_u64 => -1.0, 1_u64 << 63 => 0.0, 3_u64 << 62 => 0.5, u64::MAX => 1.0);
    }

    #[test]
    fn unused_byte_of_24_bit_samples_is_ignored() {
        // Some devices leave zero in the high byte of negative samples, others leave garbage.
        assert_decodes!(I24: 0x00FF_FFFF_u32 => -1.192_092_9e-7, 0x7F00_0001_u32 => 1.192_092_9e-7, 0x0080_0000_u32 => -1.0);
        assert_decodes!(U24: 0xAB80_0000_u32 => 0.0, 0xFFFF_FFFF_u32 => 1.0 - 1.192_092_9e-7);
    }

    #[test]
    fn floats_beyond_full_scale_are_unchanged() {
        assert_decodes!(F32: 0.1_f32 => 0.1, -1.5_f32 => -1.5, f32::MIN_POSITIVE => f32::MIN_POSITIVE);
        assert!(decoded(format("F32"), &f32::NAN.to_ne_bytes())[0].is_nan());
        // 0.1 as `f64` rounds to 0.1 as `f32`; 1 + 2^-25 rounds to 1.
        assert_decodes!(F64: 0.1_f64 => 0.1, -1.5_f64 => -1.5, 1.000_000_029_802_322_4_f64 => 1.0);
    }

    #[test]
    fn integers_of_32_bits_round_to_nearest_even() {
        // The value 2^24 + 1 is halfway between two floats and rounds to the even float, 2^24. The value 2^24 + 3 rounds to 2^24 + 4.
        assert_decodes!(I32: 16_777_217_i32 => 16_777_216.0 / 2_147_483_648.0, 16_777_219_i32 => 16_777_220.0 / 2_147_483_648.0);
    }

    #[test]
    fn encoding_reverses_decoding() {
        // Samples with at most 24 significant bits, which an `f32` represents exactly.
        macro_rules! assert_round_trip {
            ($($format:ident: $($number:expr),+);+) => {
                $(let bytes = [$($number.to_ne_bytes().as_slice()),+].concat();
                let mut back = vec![0xAA; bytes.len()];
                format(stringify!($format)).encode(decoded(format(stringify!($format)), &bytes).into_iter(), &mut back);
                assert_eq!(back, bytes, stringify!($format));)+
            };
        }
        assert_round_trip!(I8: -128_i8, -1_i8, 0_i8, 1_i8, 127_i8; U8: 0_u8, 127_u8, 128_u8, 129_u8, 255_u8;
            I16: i16::MIN, -1_i16, 0_i16, 1_i16, i16::MAX; U16: 0_u16, 32_767_u16, 32_768_u16, u16::MAX;
            I24: -8_388_608_i32, -1_i32, 0_i32, 1_i32, 8_388_607_i32; U24: 0_u32, 8_388_607_u32, 8_388_608_u32, 16_777_215_u32;
            I32: i32::MIN, -256_i32, 0_i32, 256_i32, 1_i32 << 30; U32: 0_u32, 1_u32 << 31, 3_u32 << 30;
            I64: i64::MIN, 0_i64, 1_i64 << 62; U64: 0_u64, 1_u64 << 63, 3_u64 << 62;
            F32: -1.0_f32, 0.1_f32, 1.0_f32; F64: -1.0_f64, 0.5_f64, 1.0_f64);
    }

    #[test]
    fn samples_beyond_full_scale_saturate_and_nan_is_silence() {
        let loud = [9.0, -9.0, f32::INFINITY, f32::NAN, 1.0];
        let mut bytes = [0; 10];
        format("I16").encode(loud.into_iter(), &mut bytes);
        let found: Vec<_> = bytes.as_chunks().0.iter().map(|b| i16::from_ne_bytes(*b)).collect();
        assert_eq!(found, [i16::MAX, i16::MIN, i16::MAX, 0, i16::MAX]);
        let mut bytes = [0; 20];
        format("U24").encode(loud.into_iter(), &mut bytes);
        let found: Vec<_> = bytes.as_chunks().0.iter().map(|b| u32::from_ne_bytes(*b)).collect();
        assert_eq!(found, [0xFF_FFFF, 0, 0xFF_FFFF, 0x80_0000, 0xFF_FFFF]);
        format("F32").encode(loud.into_iter(), &mut bytes);
        assert_eq!(decoded(format("F32"), &bytes), [1.0, -1.0, 1.0, 0.0, 1.0]);
        // Samples of 0.4 and -0.6 quantization steps are rounded to 0 and -1.
        let mut bytes = [0; 2];
        format("I8").encode([0.4 / 128.0, -0.6 / 128.0].into_iter(), &mut bytes);
        assert_eq!(bytes, [0, 255]);
    }

    #[test]
    fn incomplete_samples_are_ignored() {
        assert_eq!(decoded(format("I16"), &[0, 0, 1]), [0.0]);
        let mut one = [7.0];
        format("U8").decode(&[128, 255], one.iter_mut());
        assert_eq!(one, [0.0]);
    }
}
