//! The path that a run record becomes with `--like`, as an impairer shows it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jamjam_core::direction::Direction::{self, Down, Up};
use jamjam_core::impairment::{Impairer, Impairment};
use jamjam_core::recorded_path::RecordedPath;
use jamjam_core::stats::StreamStats;
use jamjam_core::time::Time;
use jamjam_core::wire::PacketType;
use jamjam_measure::client::PacketOutcome::{self, Damaged, Duplicate, Excluded, InFlight, Lost, NotSent, Returned};
use jamjam_measure::client::{
    AudioResults, LossReport, RecordedPacket, RunKind, RunResults, StreamKind, WebSocketResults,
};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::run_record::RecordedRun;
use jamjam_signaling::Dialect;

/// When the first packet is sent, in milliseconds.
const START: u64 = 5_000;

/// A record of PINGs, one every 10 ms. Each has this outcome, and a round trip of 40 ms if it returned.
fn record(outcomes: impl IntoIterator<Item = PacketOutcome>) -> RecordedRun {
    let packets = outcomes.into_iter().enumerate().map(|(n, outcome)| packet(n as u32, 40, outcome));
    let (limits, run) = (Limits::default(), RunResults::new(RunKind::Probe, "", StreamKind::Ping));
    RecordedRun { limits, run, error: None, packets: packets.collect() }
}

fn packet(sequence: u32, round_trip: u64, outcome: PacketOutcome) -> RecordedPacket {
    let sent = START + u64::from(sequence) * 10;
    let has_reply = matches!(outcome, Returned | Duplicate | Damaged);
    let received_at = has_reply.then(|| Time::from_millis(sent + round_trip));
    let sent_at = Time::from_millis(sent);
    RecordedPacket { stream: StreamKind::Ping, sequence, due: sent_at, sent_at, received_at, outcome }
}

/// 150 packets with these outcomes of the first ones. The others return.
fn starting_with(outcomes: &[PacketOutcome]) -> RecordedRun {
    record(outcomes.iter().copied().chain(std::iter::repeat(Returned)).take(150))
}

fn path(record: &RecordedRun) -> RecordedPath {
    record.path(7).expect("a path").0
}

/// Whether datagrams are lost that enter every 10 ms from this time on, and the delay of each in microseconds.
fn decisions(path: &RecordedPath, direction: Option<Direction>, from: u64, count: u64) -> Vec<(bool, u128)> {
    let recorded = Some(Arc::new(path.clone()));
    let mut impairer = Impairer::new(Impairment { recorded, direction, ..Impairment::default() });
    let times = (0..count).map(|n| Duration::from_millis(from + n * 10));
    let decisions = times.map(|at| impairer.decide(None, 0, Some(at)));
    decisions.map(|decision| (decision.loss.is_some(), decision.delay.as_micros())).collect()
}

/// The numbers of the first 20 packets that are lost.
fn lost(record: &RecordedRun) -> Vec<usize> {
    let decisions = decisions(&path(record), None, 0, 20);
    decisions.iter().enumerate().filter(|(_, (is_lost, _))| *is_lost).map(|(n, _)| n).collect()
}

#[test]
fn lost_and_damaged_packets_are_lost_and_skipped_ones_take_the_fate_before() {
    assert_eq!(lost(&starting_with(&[Returned, Lost, Returned, Damaged, Returned])), [1, 3]);
    for skipped in [Excluded, NotSent] {
        assert_eq!(lost(&starting_with(&[Returned, Lost, skipped, skipped, Returned, skipped, Lost])), [1, 2, 3, 6]);
    }
    // The first of all is delivered.
    assert_eq!(lost(&starting_with(&[Excluded, Excluded, Lost])), [2]);
    // The time runs from the first packet that was sent.
    assert_eq!(lost(&starting_with(&[NotSent, NotSent, Lost])), [0]);
    let mut interrupted = starting_with(&[]);
    interrupted.packets.extend([packet(150, 0, Lost), packet(151, 0, InFlight), packet(152, 0, InFlight)]);
    let decisions = decisions(&path(&interrupted), None, 1_490, 5);
    assert_eq!(decisions.iter().map(|(is_lost, _)| *is_lost).collect::<Vec<_>>(), [false, true, true, true, false]);
}

#[test]
fn packet_with_an_intact_copy_is_delivered_whatever_else_arrived() {
    let mut record = starting_with(&[]);
    record.packets.insert(3, packet(3, 30, Damaged));
    record.packets.push(packet(3, 90, Duplicate));
    assert_eq!(lost(&record), [0; 0]);
    assert_eq!(decisions(&path(&record), Some(Up), 30, 1), [(false, 20_000)]);
}

#[test]
fn spans_of_excluded_or_unsent_packets_longer_than_50_ms_are_cut_out() {
    // Five packets span 50 ms, and six 60 ms.
    for (skipped, expected) in [(5, &[1, 2, 3, 4, 5, 6, 8][..]), (6, &[1, 3])] {
        for outcome in [Excluded, NotSent] {
            let span = std::iter::repeat_n(outcome, skipped);
            let outcomes: Vec<_> = [Returned, Lost].into_iter().chain(span).chain([Returned, Lost]).collect();
            assert_eq!(lost(&starting_with(&outcomes)), expected, "{skipped} {outcome:?}");
        }
    }
    let length = |outcomes: &[PacketOutcome]| path(&starting_with(outcomes)).length();
    assert_eq!(length(&[]), Duration::from_millis(1_500));
    assert_eq!(
        length(&[Returned, Excluded, NotSent, Excluded, NotSent, Excluded, NotSent]),
        Duration::from_millis(1_440)
    );
}

#[test]
fn record_repeats_after_its_last_packet_plus_one_interval() {
    let path = path(&starting_with(&[Returned, Lost]));
    assert_eq!((path.length(), path.rate()), (Duration::from_millis(1_500), 100.0));
    assert_eq!(decisions(&path, None, 1_500, 3), decisions(&path, None, 0, 3));
    assert!(decisions(&path, None, 1_510, 1)[0].0);
}

/// Numbers of packets that are lost in each direction, without those that are lost in both or none.
fn by_direction(record: &RecordedRun, seed: u64) -> [Vec<u64>; 2] {
    let path = record.path(seed).expect("a path").0;
    let [both, up, down] = [None, Some(Up), Some(Down)].map(|direction| {
        let decisions = decisions(&path, direction, 0, record.packets.len() as u64);
        (0..).zip(decisions).filter(|(_, (is_lost, _))| *is_lost).map(|(n, _)| n).collect::<Vec<u64>>()
    });
    let mut all = [up.clone(), down.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, both);
    [up, down]
}

#[test]
fn each_lost_packet_belongs_to_one_direction_by_seed() {
    let mut record = record((0..1_000).map(|n| if n % 10 == 5 { Lost } else { Returned }));
    let [up, down] = by_direction(&record, 7);
    assert_eq!([up.len(), down.len()], [50, 50]);
    assert_eq!(by_direction(&record, 7), [up.clone(), down]);
    assert_ne!(by_direction(&record, 8)[0], up);
    // A report of 20 and 60 losses.
    record.run.ping = Some(StreamStats { sent: 1_000, lost: 80, ..StreamStats::default() });
    record.run.loss_report = Some(LossReport { received: Some([0, 980, 0]), ..LossReport::default() });
    assert_eq!(by_direction(&record, 7).map(|lost| lost.len()), [25, 75]);
}

#[test]
fn bursts_stay_whole_in_one_direction_and_packets_keep_their_numbers() {
    // Bursts of four in each ten, of which one has two packets that are not settled.
    let outcome = |n: u32| match n {
        23 | 24 => NotSent,
        _ if n % 10 < 6 || n % 10 == 9 && n > 300 => Returned,
        _ => Lost,
    };
    let mut record = record((0..1_000).map(outcome));
    record.packets.iter_mut().for_each(|packet| packet.sequence += 1);
    let path = Arc::new(path(&record));
    let lost = [None, Some(Up), Some(Down)].map(|direction| {
        let recorded = Some(Arc::clone(&path));
        let mut impairer = Impairer::new(Impairment { recorded, direction, ..Impairment::default() });
        // At another time than the recorded one, as after the delay of the other direction.
        let at = |n: u32| Some(Duration::from_millis(u64::from(n) * 10 + 777));
        let is_lost = |n: &u32| impairer.decide(Some(PacketType::Audio), n + 1, at(*n)).loss.is_some();
        (0..1_000).filter(is_lost).collect::<Vec<_>>()
    });
    let [both, up, down] = &lost;
    assert_eq!(*both, (0..1_000).filter(|n| outcome(*n) == Lost).collect::<Vec<_>>());
    assert!(up.iter().chain(down).collect::<BTreeSet<_>>() == both.iter().collect(), "{up:?} {down:?}");
    assert!(up.len() + down.len() == both.len() && up.len().abs_diff(down.len()) < 8, "{up:?} {down:?}");
    let is_whole = |lost: &Vec<u32>| both.iter().all(|n| lost.contains(n) == lost.contains(&(n / 10 * 10 + 6)));
    assert!(is_whole(up) && is_whole(down), "{up:?} {down:?}");
}

#[test]
fn delay_is_half_of_the_round_trip_or_its_excess() {
    let mut record = starting_with(&[Returned, Lost, Returned]);
    record.packets[2] = packet(2, 60, Returned);
    let delays = |direction| decisions(&path(&record), direction, 0, 4).into_iter().map(|(_, delay)| delay / 1_000);
    assert!(delays(Some(Up)).eq([20, 25, 30, 20]));
    assert!(delays(Some(Down)).eq([20, 25, 30, 20]));
    assert!(delays(None).eq([0, 10, 20, 0]));
}

#[test]
fn server_delay_of_audio_is_no_delay_of_the_path() {
    let mut record = starting_with(&[]);
    record.packets.iter_mut().for_each(|packet| packet.stream = StreamKind::Audio);
    // Packets of other streams do not count.
    record.packets.extend((0..150).map(|n| packet(n, 5, Lost)));
    record.run = RunResults::new(RunKind::Send, "", StreamKind::Audio);
    record.run.audio = Some(AudioResults { configured_server_delay_ns: Some(30_000_000), ..AudioResults::default() });
    let (path, is_known) = record.path(7).expect("a path");
    assert_eq!((is_known, decisions(&path, Some(Up), 0, 1)), (true, vec![(false, 5_000)]));
    // Without a known delay, the fastest round trip is the delay.
    record.run.audio = Some(AudioResults::default());
    record.packets[1].received_at = Some(Time::from_millis(START + 10 + 48));
    let (path, is_known) = record.path(7).expect("a path");
    assert_eq!((is_known, decisions(&path, Some(Up), 0, 2)), (false, vec![(false, 0), (false, 4_000)]));
}

#[test]
fn unusable_records_are_rejected_with_their_reason() {
    let reason = |record: RecordedRun| record.path(7).expect_err("no path");
    let mut no_replies = starting_with(&[]);
    no_replies.run.replies_expected = false;
    assert!(reason(no_replies).starts_with("its run expected no replies"));
    let mut websocket = starting_with(&[]);
    websocket.run.websocket = Some(WebSocketResults::new(Dialect::Jamjam));
    assert!(reason(websocket).starts_with("it is not a run over UDP"));
    let few = record(std::iter::repeat_n(Returned, 99).chain([Excluded, InFlight, NotSent]));
    assert_eq!(reason(few), "it has 99 settled packets, but needs 100; record a longer run");
    assert_eq!(reason(record([])), "it has 0 settled packets, but needs 100; record a longer run");
}
