//! The audio path with arbitrary floats and rates: mixing, resampling, packets, and the formats of devices. Resampled and averaged audio is
//! finite, copied audio keeps its bits, and no device gets a sample above full scale.

use std::io::Cursor;

use jamjam_dev::audio::convert::{
    AudioInput, Mixer, Packetizer, PacketizerConfig, PayloadReader, Resampler, Tone, decode_payload, default_channels,
    encode_payload, map_to_device,
};
use jamjam_dev::audio::devices::DeviceSampleFormat;
use jamjam_dev::audio::quality::SourceMeter;
use jamjam_dev::audio::wav::WavStream;
use jamjam_dev::audio::wav_writer::{WAV_HEADER_LEN, wav_header};
use jamjam_dev::audio::{MAX_CHANNELS, SAMPLE_RATES};

use crate::input::Input;

/// Common rates, which are resampled in short blocks.
const RATES: [u32; 8] = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000];

/// Maximum frames of a filter block. Longer blocks would make the target slow.
const MAX_BLOCK_FRAMES: u32 = 2_048;

/// Maximum number of input samples.
const MAX_SAMPLES: usize = 512;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let is_slow_input = input.is_one_in(3);
    match input.below(8) {
        0 => check_devices(&mut input),
        1 => check_tone(&mut input),
        2 => check_limits(&mut input),
        3 => check_file(&mut input),
        _ => check_packets(&mut input, is_slow_input),
    }
}

fn samples_of(input: &mut Input<'_>) -> Vec<f32> {
    let samples = input.rest().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    samples.take(MAX_SAMPLES).collect()
}

/// Two rates. Arbitrary rates are used only if their blocks are short.
fn rates_of(input: &mut Input<'_>) -> (u32, u32) {
    let rates = (input.pick(&RATES), input.pick(&RATES));
    let is_arbitrary = input.flag();
    let arbitrary = (1 + input.u32() % 800_000, 1 + input.u32() % 800_000);
    if is_arbitrary && block_frames(arbitrary) <= MAX_BLOCK_FRAMES { arbitrary } else { rates }
}

/// Maximum frames of a filter block; 0 if the rates are not supported.
fn block_frames((from, to): (u32, u32)) -> u32 {
    if !SAMPLE_RATES.contains(&from) || !SAMPLE_RATES.contains(&to) {
        return 0;
    }
    let (mut a, mut b) = (from, to);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    let (from, to) = (from / a, to / a);
    1_024_u32.div_ceil(from.min(to)).next_multiple_of(2).saturating_mul(from.max(to))
}

fn check_packets(input: &mut Input<'_>, is_slow_input: bool) {
    let (input_rate, output_rate) = rates_of(input);
    // Resampling takes most of the time.
    let output_rate = if is_slow_input { output_rate } else { input_rate };
    let input_channels = 1 + u16::from(input.byte()) % 9;
    let output_channels = if input.flag() { 1 } else { 2 };
    let frame_samples = 1 + usize::from(input.byte());
    let max_samples = if input.flag() { None } else { Some(u64::from(input.u16())) };
    let pieces = [1 + usize::from(input.byte()), 1 + usize::from(input.byte())];
    let config =
        PacketizerConfig { input_rate, input_channels, output_rate, output_channels, frame_samples, max_samples };
    let frames = samples_of(input);
    let frames = &frames[..frames.len() - frames.len() % usize::from(input_channels)];
    let Ok(mut packetizer) = Packetizer::new(config) else {
        assert!(!SAMPLE_RATES.contains(&input_rate) || !SAMPLE_RATES.contains(&output_rate));
        return;
    };
    let mixer = Mixer::new(input_channels, output_channels);
    let is_copy = input_rate == output_rate && mixer.is_copy();

    let channels = usize::from(output_channels);
    let (mut sent, mut rest, mut turn) = (Vec::new(), frames, 0);
    let mut take = |packetizer: &mut Packetizer, only_whole: bool| {
        while packetizer.has_payload() || !only_whole {
            let mut payload = Vec::new();
            if !packetizer.next_payload(&mut payload) {
                break;
            }
            let samples: Vec<f32> = decode_payload(&payload).expect("whole samples").collect();
            assert!(samples.len() <= frame_samples * channels && samples.len().is_multiple_of(channels));
            let mut again = Vec::new();
            encode_payload(&samples, &mut again);
            assert_eq!(payload, again);
            sent.extend(samples);
        }
    };
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(pieces[turn % 2] * usize::from(input_channels)));
        (rest, turn) = (later, turn + 1);
        packetizer.push(piece);
        take(&mut packetizer, true);
    }
    packetizer.finish();
    take(&mut packetizer, false);

    let quality = packetizer.source_quality();
    let replaced_samples = if is_copy { 0 } else { quality.non_finite_samples };
    assert_eq!((quality.rate, quality.replaced_samples), (input_rate, replaced_samples));
    let input_frames = (frames.len() / usize::from(input_channels)) as u64;
    let converted = (input_frames * u64::from(output_rate)).div_ceil(u64::from(input_rate));
    let expected = converted.min(max_samples.unwrap_or(u64::MAX));
    assert_eq!((sent.len() / channels) as u64, expected, "{config:?}");
    if is_copy {
        let copied = frames.iter().flat_map(|sample| {
            std::iter::repeat_n(*sample, if usize::from(input_channels) == channels { 1 } else { channels })
        });
        assert!(copied.zip(&sent).all(|(before, after)| before.to_bits() == after.to_bits()));
    } else {
        assert!(sent.iter().all(|sample| sample.is_finite()), "{config:?}");
    }
}

/// Sends a file twice. The payloads are those of the samples twice in a row.
fn check_file(input: &mut Input<'_>) {
    let channels = 1 + u16::from(input.byte()) % 3;
    let output_channels = if input.flag() { 1 } else { 2 };
    let (frame_samples, rate) = (1 + usize::from(input.byte()), input.pick(&RATES));
    let config = PacketizerConfig {
        input_rate: rate,
        input_channels: channels,
        output_rate: rate,
        output_channels,
        frame_samples,
        max_samples: None,
    };
    let cut = input.below(4);
    let samples = samples_of(input);
    let mut bytes = Vec::new();
    encode_payload(&samples, &mut bytes);
    let mut file = [wav_header(rate, channels, bytes.len() as u32), bytes].concat();
    file.truncate(file.len() - cut.min(file.len() - WAV_HEADER_LEN));
    let whole = (file.len() - WAV_HEADER_LEN) / 4;
    let has_partial_frame = whole < samples.len() || !whole.is_multiple_of(channels.into());
    let whole = whole - whole % usize::from(channels);
    let stream = WavStream::open(Cursor::new(file.clone())).expect("a supported format");
    let mut second_pass = Some(file);
    let reopen = move || second_pass.take().map(|file| WavStream::open(Cursor::new(file)));
    let mut reader =
        PayloadReader::new(AudioInput::Wav { stream, reopen: Box::new(reopen) }, config).expect("equal rates");
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    while reader.next_payload(&mut sent).expect("the file is readable") {}
    let mut mixed = Vec::new();
    Mixer::new(channels, output_channels).mix(&[&samples[..whole], &samples[..whole]].concat(), &mut mixed);
    encode_payload(&mixed, &mut expected);
    assert!(sent == expected);
    let mut meter = SourceMeter::new(rate, channels, !Mixer::new(channels, output_channels).is_copy());
    meter.add_samples(&samples[..whole]);
    meter.add_samples(&samples[..whole]);
    assert_eq!(reader.source_quality(), meter.source_quality());
    assert_eq!(reader.warning().is_some(), has_partial_frame);
}

/// Creates resamplers and mixers with arbitrary parameters.
fn check_limits(input: &mut Input<'_>) {
    let (from, to, channels) = (input.u32(), input.u32(), input.u16());
    let is_supported =
        SAMPLE_RATES.contains(&from) && SAMPLE_RATES.contains(&to) && (1..=MAX_CHANNELS).contains(&channels);
    if !is_supported {
        let error = Resampler::new(from, to, channels).expect_err("not supported").to_string();
        assert!(error.contains(&from.to_string()) && error.contains(&to.to_string()));
    }
    let layout = default_channels(channels);
    let mut mixed = Vec::new();
    let samples = samples_of(input);
    let mixer = Mixer::new(channels, layout);
    mixer.mix(&samples, &mut mixed);
    assert_eq!(mixed.len(), samples.len() / usize::from(channels.max(1)) * usize::from(layout));
    assert!(mixer.is_copy() || mixed.iter().all(|sample| sample.is_finite()));
}

/// Encodes samples for a device and decodes what a device captured.
fn check_devices(input: &mut Input<'_>) {
    let format = input.pick(&DeviceSampleFormat::ALL);
    let (of, channels) = (if input.flag() { 1 } else { 2 }, input.u16() % 10);
    let bytes = input.rest();
    let size = format.bytes_per_sample;
    let mut captured = vec![0.0; bytes.len() / size];
    format.decode(bytes, captured.iter_mut());
    let is_float = matches!(format, DeviceSampleFormat::F32 | DeviceSampleFormat::F64);
    assert!(is_float || captured.iter().all(|sample| sample.abs() <= 1.0), "{}", format.name);

    if bytes.first().is_some_and(|first| first & 1 == 1) {
        // Arbitrary floats instead, as they arrive in packets.
        captured = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    }
    let mapped: Vec<f32> = map_to_device(&captured, of, channels).take(MAX_SAMPLES).collect();
    let frames = captured.len() / usize::from(of);
    assert_eq!(mapped.len(), (frames * usize::from(channels)).min(MAX_SAMPLES));
    let mut device = vec![0xa5; mapped.len() * size];
    format.encode(mapped.iter().copied(), &mut device);
    let mut played = vec![f32::NAN; mapped.len()];
    format.decode(&device, played.iter_mut());
    for (sample, played) in mapped.iter().zip(&played) {
        let expected = if sample.is_nan() { 0.0 } else { sample.clamp(-1.0, 1.0) };
        assert!(played.is_finite() && played.abs() <= 1.0, "{}: {sample} is played as {played}", format.name);
        assert!((played - expected).abs() <= 1.0 / 128.0, "{}: {sample} is played as {played}", format.name);
        assert!(size < 4 || (played - expected).abs() <= 1.0 / 8_388_608.0, "{}: {sample}", format.name);
    }
}

fn check_tone(input: &mut Input<'_>) {
    let rate = 1_000 + input.u32() % 767_000;
    let hz = f64::from(input.u16()) / 65_535.0 * f64::from(rate) / 2.0;
    let (channels, amplitude) = (input.u16() % 5, f32::from(input.byte()) / 255.0);
    let (start, frames) = (input.u64(), usize::from(input.byte()));
    let tone = Tone::new(hz, rate, channels, amplitude);
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    let mut first = tone.clone();
    first.seek(start % (u64::MAX / 2));
    let mut second = first.clone();
    first.fill(frames, &mut whole);
    second.fill(frames / 3, &mut parts);
    second.fill(frames - frames / 3, &mut parts);
    assert_eq!(whole, parts);
    assert_eq!(whole.len(), frames * usize::from(channels));
    assert!(whole.iter().all(|sample| sample.abs() <= amplitude));
}
