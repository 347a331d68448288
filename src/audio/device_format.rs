//! The forms in which sound devices deliver and take samples, and what they are on the wire.

/// How a device stores one sample, in this machine's byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceFormat {
    /// 32-bit floats.
    F32,
    /// 32-bit integers.
    I32,
    /// 24-bit integers in the lower bytes of four; the fourth means nothing.
    I24,
    /// 16-bit integers.
    I16,
    /// 64-bit floats.
    F64,
    /// 32-bit integers without a sign: silence is 2^31.
    U32,
    /// 24-bit integers without a sign, in the lower bytes of four: silence is 2^23.
    U24,
    /// 16-bit integers without a sign: silence is 2^15.
    U16,
    /// 8-bit integers without a sign: silence is 128.
    U8,
    /// 8-bit integers.
    I8,
    /// 64-bit integers.
    I64,
    /// 64-bit integers without a sign: silence is 2^63.
    U64,
}

impl DeviceFormat {
    /// Every format, the one to ask a device for first: what needs no conversion, then what has the most to tell, then what is rare.
    pub const ALL: [Self; 12] = [
        Self::F32,
        Self::I32,
        Self::I24,
        Self::I16,
        Self::F64,
        Self::U32,
        Self::U24,
        Self::U16,
        Self::U8,
        Self::I8,
        Self::I64,
        Self::U64,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::I32 => "I32",
            Self::I24 => "I24",
            Self::I16 => "I16",
            Self::F64 => "F64",
            Self::U32 => "U32",
            Self::U24 => "U24",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::I8 => "I8",
            Self::I64 => "I64",
            Self::U64 => "U64",
        }
    }

    /// Bytes of one sample of one channel.
    pub const fn bytes_per_sample(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::I24 | Self::U32 | Self::U24 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// Whether it can tell apart what a 32-bit float cannot, so that samples are rounded to the nearest one.
    pub const fn is_rounded(self) -> bool {
        matches!(self, Self::I32 | Self::U32 | Self::F64 | Self::I64 | Self::U64)
    }

    /// Writes the samples in `bytes` to `out`, as far as both go: integers over half their range, so that full scale is −1.0 up
    /// to almost 1.0; floats as they are, also beyond full scale. Each is rounded once, where a 32-bit float does not hold it.
    pub fn decode<'a>(self, bytes: &[u8], out: impl Iterator<Item = &'a mut f32>) {
        // Dividing by a power of two is exact.
        match self {
            Self::F32 => each(bytes, out, f32::from_ne_bytes),
            Self::F64 => each(bytes, out, |b| f64::from_ne_bytes(b) as f32),
            Self::I8 => each(bytes, out, |b| f32::from(i8::from_ne_bytes(b)) / 128.0),
            Self::U8 => each(bytes, out, |[b]| (f32::from(b) - 128.0) / 128.0),
            Self::I16 => each(bytes, out, |b| f32::from(i16::from_ne_bytes(b)) / 32_768.0),
            Self::U16 => each(bytes, out, |b| (f32::from(u16::from_ne_bytes(b)) - 32_768.0) / 32_768.0),
            Self::I24 => each(bytes, out, |b| (i32::from_ne_bytes(b) << 8 >> 8) as f32 / 8_388_608.0),
            Self::U24 => each(bytes, out, |b| ((u32::from_ne_bytes(b) & 0xFF_FFFF) as f32 - 8_388_608.0) / 8_388_608.0),
            Self::I32 => each(bytes, out, |b| i32::from_ne_bytes(b) as f32 / 2_147_483_648.0),
            // Turning the highest bit over takes half the range off.
            Self::U32 => {
                each(bytes, out, |b| (u32::from_ne_bytes(b) ^ 1 << 31).cast_signed() as f32 / 2_147_483_648.0);
            }
            Self::I64 => each(bytes, out, |b| i64::from_ne_bytes(b) as f32 / 9_223_372_036_854_775_808.0),
            Self::U64 => each(bytes, out, |b| {
                (u64::from_ne_bytes(b) ^ 1 << 63).cast_signed() as f32 / 9_223_372_036_854_775_808.0
            }),
        }
    }

    /// The reverse: writes `samples` to `bytes`, as far as both go. Each is rounded to the nearest that there is; beyond full scale
    /// it is full scale, and what is no number is silence.
    pub fn encode(self, samples: impl Iterator<Item = f32>, bytes: &mut [u8]) {
        let samples = samples.map(|sample| if sample.is_nan() { 0.0 } else { f64::from(sample.clamp(-1.0, 1.0)) });
        // Casts stop at the ends of a type's range.
        let steps = |half: f64| move |sample: f64| (sample * half).round();
        let (of_8, of_16, of_32) = (steps(128.0), steps(32_768.0), steps(2_147_483_648.0));
        let of_24 = |sample| steps(8_388_608.0)(sample).min(8_388_607.0) as i32;
        let of_64 = |sample| steps(9_223_372_036_854_775_808.0)(sample) as i64;
        match self {
            Self::F32 => put(samples, bytes, |s| (s as f32).to_ne_bytes()),
            Self::F64 => put(samples, bytes, f64::to_ne_bytes),
            Self::I8 => put(samples, bytes, |s| (of_8(s) as i8).to_ne_bytes()),
            Self::U8 => put(samples, bytes, |s| [(of_8(s) + 128.0) as u8]),
            Self::I16 => put(samples, bytes, |s| (of_16(s) as i16).to_ne_bytes()),
            Self::U16 => put(samples, bytes, |s| ((of_16(s) + 32_768.0) as u16).to_ne_bytes()),
            Self::I24 => put(samples, bytes, |s| of_24(s).to_ne_bytes()),
            Self::U24 => put(samples, bytes, |s| (of_24(s) + 8_388_608).to_ne_bytes()),
            Self::I32 => put(samples, bytes, |s| (of_32(s) as i32).to_ne_bytes()),
            Self::U32 => put(samples, bytes, |s| ((of_32(s) + 2_147_483_648.0) as u32).to_ne_bytes()),
            Self::I64 => put(samples, bytes, |s| of_64(s).to_ne_bytes()),
            Self::U64 => put(samples, bytes, |s| (of_64(s).cast_unsigned() ^ 1 << 63).to_ne_bytes()),
        }
    }
}

fn put<const N: usize>(samples: impl Iterator<Item = f64>, bytes: &mut [u8], value: impl Fn(f64) -> [u8; N]) {
    bytes.as_chunks_mut::<N>().0.iter_mut().zip(samples).for_each(|(bytes, sample)| *bytes = value(sample));
}

fn each<'a, const N: usize>(bytes: &[u8], out: impl Iterator<Item = &'a mut f32>, value: impl Fn([u8; N]) -> f32) {
    for (bytes, slot) in bytes.as_chunks::<N>().0.iter().zip(out) {
        *slot = value(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(format: DeviceFormat, bytes: &[u8]) -> Vec<f32> {
        let mut samples = vec![9.0; bytes.len() / format.bytes_per_sample()];
        format.decode(bytes, samples.iter_mut());
        samples
    }

    /// Each number's bytes, and what it is on the wire.
    macro_rules! samples {
        ($format:ident: $($number:expr => $sample:expr),+ $(,)?) => {
            let bytes = [$($number.to_ne_bytes().as_slice()),+].concat();
            assert_eq!(decoded(DeviceFormat::$format, &bytes), [$($sample),+], stringify!($format));
        };
    }

    #[test]
    fn integers_become_the_same_number_over_half_their_range() {
        samples!(I8: -128_i8 => -1.0, -1_i8 => -0.007_812_5, 0_i8 => 0.0, 64_i8 => 0.5, 127_i8 => 0.992_187_5);
        samples!(U8: 0_u8 => -1.0, 127_u8 => -0.007_812_5, 128_u8 => 0.0, 192_u8 => 0.5, 255_u8 => 0.992_187_5);
        // 1/32768 = 0.000030517578125.
        samples!(I16: i16::MIN => -1.0, -1_i16 => -0.000_030_517_578, 1_i16 => 0.000_030_517_578, 16_384_i16 => 0.5,
            i16::MAX => 0.999_969_5);
        samples!(U16: 0_u16 => -1.0, 32_767_u16 => -0.000_030_517_578, 32_768_u16 => 0.0, 49_152_u16 => 0.5,
            u16::MAX => 0.999_969_5);
        // 1/8388608 = 1.1920928955078125e-7, which is also how far the largest is from full scale.
        samples!(I24: -8_388_608_i32 => -1.0, -1_i32 => -1.192_092_9e-7, 1_i32 => 1.192_092_9e-7, 4_194_304_i32 => 0.5,
            8_388_607_i32 => 1.0 - 1.192_092_9e-7);
        samples!(U24: 0_u32 => -1.0, 8_388_607_u32 => -1.192_092_9e-7, 8_388_608_u32 => 0.0, 12_582_912_u32 => 0.5,
            16_777_215_u32 => 1.0 - 1.192_092_9e-7);
        // 2^-31 = 4.656612873077393e-10; the largest of 31 bits rounds up to full scale.
        samples!(I32: i32::MIN => -1.0, -1_i32 => -4.656_613e-10, 1_i32 => 4.656_613e-10, 1_i32 << 30 => 0.5, i32::MAX => 1.0);
        samples!(U32: 0_u32 => -1.0, (1_u32 << 31) - 1 => -4.656_613e-10, 1_u32 << 31 => 0.0, 3_u32 << 30 => 0.5, u32::MAX => 1.0);
        samples!(I64: i64::MIN => -1.0, 0_i64 => 0.0, 1_i64 << 62 => 0.5, i64::MAX => 1.0);
        samples!(U64: 0_u64 => -1.0, 1_u64 << 63 => 0.0, 3_u64 << 62 => 0.5, u64::MAX => 1.0);
    }

    #[test]
    fn the_unused_byte_of_24_bits_means_nothing() {
        // As some devices leave it: zero where the number is negative, garbage elsewhere.
        samples!(I24: 0x00FF_FFFF_u32 => -1.192_092_9e-7, 0x7F00_0001_u32 => 1.192_092_9e-7, 0x0080_0000_u32 => -1.0);
        samples!(U24: 0xAB80_0000_u32 => 0.0, 0xFFFF_FFFF_u32 => 1.0 - 1.192_092_9e-7);
    }

    #[test]
    fn floats_stay_as_they_are_beyond_full_scale_too() {
        samples!(F32: 0.1_f32 => 0.1, -1.5_f32 => -1.5, f32::MIN_POSITIVE => f32::MIN_POSITIVE);
        assert!(decoded(DeviceFormat::F32, &f32::NAN.to_ne_bytes())[0].is_nan());
        // 0.1 as a float of 64 bits rounds to 0.1 as one of 32; 1 + 2^-25 to 1.
        samples!(F64: 0.1_f64 => 0.1, -1.5_f64 => -1.5, 1.000_000_029_802_322_4_f64 => 1.0);
    }

    #[test]
    fn integers_of_32_bits_are_rounded_once_to_the_nearest_even_float() {
        // 2^24 + 1 lies halfway between two floats and goes to the even one, 2^24; 2^24 + 3 to 2^24 + 4.
        samples!(I32: 16_777_217_i32 => 16_777_216.0 / 2_147_483_648.0, 16_777_219_i32 => 16_777_220.0 / 2_147_483_648.0);
    }

    #[test]
    fn what_a_device_takes_is_what_it_would_deliver() {
        // Numbers of at most 24 bits, so that a float holds them.
        macro_rules! and_back {
            ($($format:ident: $($number:expr),+);+) => {
                $(let bytes = [$($number.to_ne_bytes().as_slice()),+].concat();
                let mut back = vec![0xAA; bytes.len()];
                DeviceFormat::$format.encode(decoded(DeviceFormat::$format, &bytes).into_iter(), &mut back);
                assert_eq!(back, bytes, stringify!($format));)+
            };
        }
        and_back!(I8: -128_i8, -1_i8, 0_i8, 1_i8, 127_i8; U8: 0_u8, 127_u8, 128_u8, 129_u8, 255_u8;
            I16: i16::MIN, -1_i16, 0_i16, 1_i16, i16::MAX; U16: 0_u16, 32_767_u16, 32_768_u16, u16::MAX;
            I24: -8_388_608_i32, -1_i32, 0_i32, 1_i32, 8_388_607_i32; U24: 0_u32, 8_388_607_u32, 8_388_608_u32, 16_777_215_u32;
            I32: i32::MIN, -256_i32, 0_i32, 256_i32, 1_i32 << 30; U32: 0_u32, 1_u32 << 31, 3_u32 << 30;
            I64: i64::MIN, 0_i64, 1_i64 << 62; U64: 0_u64, 1_u64 << 63, 3_u64 << 62;
            F32: -1.0_f32, 0.1_f32, 1.0_f32; F64: -1.0_f64, 0.5_f64, 1.0_f64);
    }

    #[test]
    fn what_is_too_loud_for_a_device_is_full_scale_and_what_is_no_number_silence() {
        let loud = [9.0, -9.0, f32::INFINITY, f32::NAN, 1.0];
        let mut bytes = [0; 10];
        DeviceFormat::I16.encode(loud.into_iter(), &mut bytes);
        let found: Vec<_> = bytes.as_chunks().0.iter().map(|b| i16::from_ne_bytes(*b)).collect();
        assert_eq!(found, [i16::MAX, i16::MIN, i16::MAX, 0, i16::MAX]);
        let mut bytes = [0; 20];
        DeviceFormat::U24.encode(loud.into_iter(), &mut bytes);
        let found: Vec<_> = bytes.as_chunks().0.iter().map(|b| u32::from_ne_bytes(*b)).collect();
        assert_eq!(found, [0xFF_FFFF, 0, 0xFF_FFFF, 0x80_0000, 0xFF_FFFF]);
        DeviceFormat::F32.encode(loud.into_iter(), &mut bytes);
        assert_eq!(decoded(DeviceFormat::F32, &bytes), [1.0, -1.0, 1.0, 0.0, 1.0]);
        // 0.4 and 0.6 of a step.
        let mut bytes = [0; 2];
        DeviceFormat::I8.encode([0.4 / 128.0, -0.6 / 128.0].into_iter(), &mut bytes);
        assert_eq!(bytes, [0, 255]);
    }

    #[test]
    fn what_is_no_whole_sample_and_what_has_no_room_is_left() {
        assert_eq!(decoded(DeviceFormat::I16, &[0, 0, 1]), [0.0]);
        let mut one = [7.0];
        DeviceFormat::U8.decode(&[128, 255], one.iter_mut());
        assert_eq!(one, [0.0]);
    }
}
