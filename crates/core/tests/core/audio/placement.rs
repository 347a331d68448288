//! Positions of packets in a recording. `jamjam-wire.md` and the newer client's documentation say what correct clients send.

use jamjam_core::audio::placement::{AudioPacket, Basis, PlacedFormat, Placement};
use jamjam_core::time::Time;
use proptest::prelude::*;

/// A packet: when it arrives in microseconds, sequence, timestamp, and samples of all channels.
type Sent = (u64, u32, u32, u16);

fn packet((us, sequence, timestamp, samples): Sent) -> AudioPacket {
    AudioPacket { at: Time::from_nanos(us * 1_000), sequence, timestamp, samples }
}

fn place(sent: impl IntoIterator<Item = Sent>, announced: Option<PlacedFormat>) -> (Vec<Option<i64>>, Placement) {
    let mut packets = sent.into_iter().map(packet);
    let mut placement = Placement::new(packets.next().expect("a packet"), announced);
    let positions = packets.map(|packet| placement.place(packet)).collect();
    (positions, placement)
}

/// 40 packets of 128 stereo frames at 48 kHz, one every 2,667 µs. `headers` returns how much later a packet arrives in ms, sequence and timestamp.
fn stereo(headers: impl Fn(u32) -> (u64, u32, u32)) -> Vec<Sent> {
    let sent = |number: u32| {
        let (late_ms, sequence, timestamp) = headers(number);
        (u64::from(number) * 2_667 + late_ms * 1_000, sequence, timestamp, 256)
    };
    (0..40).map(sent).collect()
}

#[test]
fn recording_is_as_long_as_the_timestamps_of_any_correct_client_say() {
    // A pause of 1 s, which is 375 packets, after 20 packets.
    let paused = |number: u32| u32::from(number >= 20);
    let later = |number: u32| u64::from(paused(number)) * 1_000;
    let after_pause = |number: u32| number * 128 + paused(number) * 48_000;
    let of_48_000 = |seconds: i64| 2 * 48_000 * seconds;
    // The older client sends mono, and its length changes.
    let mono = |number: u32| {
        (u64::from(number) * 1_500, number + 1, number / 2 * 160 + number % 2 * 32, 32 + 96 * (number % 2) as u16)
    };
    let lost = |step: usize| stereo(|n| (0, n, n * 128)).into_iter().step_by(step).collect::<Vec<_>>();
    let whole = 40 * 256;
    for (name, sent, end, channels) in [
        ("no pause", stereo(|n| (0, n, n * 128)), whole, 2),
        ("timestamp counts on", stereo(|n| (later(n), n, after_pause(n))), whole + of_48_000(1), 2),
        ("both stand still", stereo(|n| (later(n), n, n * 128)), whole, 2),
        ("both count on", stereo(|n| (later(n), n + paused(n) * 375, after_pause(n))), whole + of_48_000(1), 2),
        ("both wrap", stereo(|n| (0, n.wrapping_sub(9), (n * 128).wrapping_sub(999))), whole, 2),
        ("both begin anywhere", stereo(|n| (0, n + 77, n * 128 + 1_000_000)), whole, 2),
        ("sequence is little-endian", stereo(|n| (0, n.swap_bytes(), n * 128)), whole, 2),
        ("sequence stands still", stereo(|n| (0, 0, n * 128)), whole, 2),
        ("every second packet arrives", lost(2), 39 * 256, 2),
        ("every third packet arrives", lost(3), whole, 2),
        ("timestamps count the samples of both channels", stereo(|n| (0, n, n * 256)), whole, 1),
        ("mono in packets of 32 and 128", (0..40).map(mono).collect(), 20 * 160, 1),
        ("mono, the 3rd packet of each 3 lost", (0..40).filter(|n| n % 3 < 2).map(mono).collect(), 20 * 160, 1),
    ] {
        let (positions, placement) = place(sent, None);
        assert!(positions.iter().all(Option::is_some), "{name}: {positions:?}");
        assert_eq!((placement.end(), placement.format().channels), (end, channels), "{name}");
        assert_eq!(placement.basis(), Basis::Timestamp, "{name}");
    }
}

#[test]
fn late_packets_come_to_their_place_which_may_be_before_the_first() {
    let at = |sequence: u32| (0, sequence, sequence * 128, 256);
    let (positions, placement) = place([5, 6, 9, 7, 9, 8, 4, 10].map(at), None);
    assert_eq!(positions, [1, 4, 2, 4, 3, -1, 5].map(|packets| Some(packets * 256)));
    assert_eq!(placement.end(), 6 * 256);
    assert_eq!(place([5, 4, 6].map(at), None).0, [Some(-256), Some(256)]);
}

#[test]
fn wrong_timestamps_give_way_to_sequences_and_wrong_sequences_to_arrival() {
    for (name, sent, basis) in [
        ("constant timestamps", stereo(|n| (0, n, 7)), Basis::Sequence),
        ("timestamps twice as fast as the samples", stereo(|n| (0, n, n * 512)), Basis::Sequence),
        ("timestamps in ms", stereo(|n| (0, n, n * 8 / 3)), Basis::Sequence),
        ("little-endian timestamps", stereo(|n| (0, n, (n * 128).swap_bytes())), Basis::Sequence),
        ("all little-endian", stereo(|n| (0, n.swap_bytes(), (n * 128).swap_bytes())), Basis::Arrival),
        ("all constant", stereo(|_| (0, 0, 0)), Basis::Arrival),
    ] {
        let (positions, placement) = place(sent, None);
        let expected: Vec<_> = (1..40).map(|number| Some(number * 256)).collect();
        assert_eq!((positions, placement.basis()), (expected, basis), "{name}");
    }
}

#[test]
fn restart_and_other_channels_begin_another_recording() {
    // 200 packets are enough for a restart not to be a late packet.
    let run = |packets: u32| (0..packets).map(|n| (u64::from(n), n, n * 128, 256));
    let second_last = |sent: &mut Vec<Sent>, last: Sent| {
        sent.push(last);
        place(sent.clone(), None).0.last().copied().flatten()
    };
    for (name, last, expected) in [
        ("restart", (0, 0, 0, 256), None),
        ("restart with any numbers", (0, 1 << 30, 3 << 30, 256), None),
        ("timestamp jumps", (0, 200, 3 << 30, 256), Some(200 * 256)),
        ("sequence jumps", (0, 1 << 30, 200 * 128, 256), Some(200 * 256)),
        ("60 s of silence", (0, 200, 200 * 128 + 60 * 48_000, 256), Some(200 * 256 + 60 * 96_000)),
        ("more than 60 s", (0, 9_999_999, 200 * 128 + 60 * 48_000 + 1, 256), None),
    ] {
        assert_eq!(second_last(&mut run(200).collect(), last), expected, "{name}");
    }
    let mono = (200..220).map(|n| (u64::from(n), n, n * 128, 128));
    let (positions, _) = place(run(200).chain(mono), None);
    // The first mono packet follows a stereo packet, and the eighth step after it is the proof.
    assert_eq!(positions.iter().position(Option::is_none), Some(199 + 8));
}

#[test]
fn rate_is_that_of_the_packets_where_latency_info_is_missing_or_wrong() {
    let of = |rate, channels| Some(PlacedFormat { rate, channels });
    // Speech and pauses in turn, each `speech_ms` and `pause_ms` long, for 10 s. Neither counts on in a pause.
    let send = |rate: u64, advance: u32, speech_ms: u64, pause_ms: u64| {
        (0..rate / 128 * 10).map(move |n| {
            let us = n * 128_000_000 / rate;
            (us + us / (speech_ms * 1_000) * pause_ms * 1_000, n as u32, n as u32 * advance, 256)
        })
    };
    for (sent, announced, expected) in [
        (send(44_100, 128, 20_000, 0), None, of(44_100, 2)),
        (send(96_000, 128, 2_500, 2_500), None, of(96_000, 2)),
        // Too short to be measured, then between two rates.
        (send(96_000, 128, 1_000, 100), None, of(48_000, 2)),
        (send(66_000, 128, 20_000, 0), None, of(48_000, 2)),
        (send(22_050, 128, 20_000, 0), of(22_050, 1), of(22_050, 2)),
        (send(48_000, 128, 20_000, 0), of(44_100, 1), of(44_100, 2)),
        (send(48_000, 256, 20_000, 0), of(48_000, 2), of(96_000, 1)),
        // Without usable timestamps, LATENCY_INFO gives the channels.
        (send(48_000, 0, 20_000, 0), of(48_000, 2), of(48_000, 2)),
        (send(48_000, 0, 20_000, 0), of(48_000, 7), of(96_000, 1)),
    ] {
        assert_eq!(Some(place(sent, announced).1.format()), expected);
    }
}

proptest! {
    /// Correct packets make the timestamps credible again after each wrong one.
    #[test]
    fn hostile_headers_never_make_more_silence_than_time_has_passed(
        steps in prop::collection::vec(
            prop_oneof![
                3 => Just((1, 1, 128, 256)),
                1 => (0..100_u64, 0..200_u32, 0..3_000_000_u32, Just(256)),
                1 => (0..5_000_u64, any::<u32>(), any::<u32>(), 1..4_096_u16),
            ],
            1..300,
        ),
    ) {
        let mut sent: Sent = (0, 0, 0, 256);
        let begin = |sent: Sent| (Placement::new(packet(sent), None), i64::from(sent.3), sent.0, 96_000);
        let (mut placement, mut audio, mut start, mut per_second) = begin(sent);
        for (ms, sequence, timestamp, samples) in steps {
            sent = (sent.0 + ms * 1_000, sent.1.wrapping_add(sequence), sent.2.wrapping_add(timestamp), samples);
            if let Some(position) = placement.place(packet(sent)) {
                audio += i64::from(samples);
                let PlacedFormat { rate, channels } = placement.format();
                per_second = per_second.max(i64::from(rate) * i64::from(channels));
                let seconds = (sent.0 - start).div_ceil(1_000_000) as i64 + 60;
                prop_assert!(position >= -128 * 4_096 && position < placement.end());
                prop_assert!(placement.end() <= audio + seconds * per_second);
            } else {
                (placement, audio, start, per_second) = begin(sent);
            }
        }
    }
}
