//! Impaired sending in virtual time: which AUDIO packets leave, how often, in which order and when. The decision about each packet is that of
//! [`Impairer`], and the send times follow from the rules in `docs/tasks/client.md`.

use std::time::Duration;

use jamjam_core::impairment::{DEFAULT_REORDER_DELAY, Impairer, Impairment};
use jamjam_core::time::Time;
use jamjam_core::wire::PacketType;
use jamjam_measure::client::{
    AudioSender, AudioStreamConfig, AudioWorkload, ClientNode, ImpairedPath, PayloadSource, RunConfig, SentImpairment,
    SourcePoll, StreamKind,
};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::{Report, text};
use test_support::node_driver::MS;

use super::link::{client, link_config, settle};
use super::{Source, follow, run_config};

const PACKETS: u32 = 500;

/// The first sequence number. The numbers wrap during the run.
const FIRST: u32 = u32::MAX - 99;

fn impairment() -> Impairment {
    let jitter = Duration::from_millis(20);
    Impairment {
        loss: 0.1,
        jitter,
        reorder: Some((0.05, DEFAULT_REORDER_DELAY)),
        duplicate: 0.02,
        seed: 7,
        ..Impairment::default()
    }
}

/// A sender of [`PACKETS`] packets, one every 2 ms, whose AUDIO is impaired.
fn sender(impairment: Impairment) -> AudioSender<impl PayloadSource> {
    let mut left = PACKETS;
    let source = Source(move |payload: &mut Vec<u8>| {
        if left == 0 {
            return SourcePoll::End;
        }
        left -= 1;
        payload.resize(payload.len() + 384, 1);
        SourcePoll::Ready
    });
    let path = ImpairedPath::new((impairment, Box::new(|_| {})));
    let form = AudioStreamConfig { sample_rate: 48_000, channels: 1, frame_samples: 96, first_sequence: FIRST };
    let config = RunConfig { replies_expected: false, ..run_config(StreamKind::Audio) };
    ClientNode::new(config, AudioWorkload::new(form, Box::new(source)), Box::new(())).with_impaired_path(Some(path))
}

/// The send time and the sequence number of each AUDIO datagram.
fn audio(left: &[(u64, Vec<u8>)]) -> Vec<(u64, u32)> {
    let audio = left.iter().filter(|(_, bytes)| bytes[1] == 1);
    audio.map(|(at, bytes)| (*at, u32::from_be_bytes(bytes[2..6].try_into().expect("four bytes")))).collect()
}

/// What must leave, and what impairment did.
fn predicted(impairment: &Impairment) -> (Vec<(u64, u32)>, SentImpairment) {
    let (mut impairer, mut last) = (Impairer::new(impairment.clone()), 0);
    let (mut left, mut done) = (Vec::new(), SentImpairment { lost: 0, duplicated: 0, reordered: 0, refused: 0 });
    for index in 0..PACKETS {
        let sequence = FIRST.wrapping_add(index);
        let decision = impairer.decide(Some(PacketType::Audio), sequence, None);
        if decision.loss.is_some() {
            done.lost += 1;
            continue;
        }
        // Jitter keeps the order, except that a packet that is held back lets others pass.
        let at = last.max(u64::from(index) * 2 * MS + decision.delay.as_nanos() as u64);
        if decision.reorder_delay.is_some() {
            done.reordered += 1;
        } else {
            last = at;
        }
        done.duplicated += u64::from(decision.copies) - 1;
        left.push((at, index, decision));
    }
    // A packet that is held back leaves after the delay and directly after a later packet, or at the end.
    let mut leaving: Vec<((u64, u32, bool), u32, u8)> = Vec::new();
    for (at, index, decision) in left.into_iter().rev() {
        let delay = decision.reorder_delay.map_or(0, |delay| delay.as_nanos() as u64);
        let later = leaving.iter().map(|(order, ..)| *order).min();
        let order = match later {
            _ if decision.reorder_delay.is_none() => (at, index, false),
            Some((passed, ..)) if passed < at + delay => (at + delay, index, false),
            Some((passed, by, _)) if passed < at + delay.max(1_000 * MS) => (passed, by, true),
            _ => (at + delay.max(1_000 * MS), index, false),
        };
        leaving.push((order, FIRST.wrapping_add(index), decision.copies));
    }
    leaving.reverse();
    leaving.sort_by_key(|(order, ..)| *order);
    let copies = leaving.into_iter().flat_map(|((at, ..), sequence, copies)| (0..copies).map(move |_| (at, sequence)));
    (copies.collect(), done)
}

#[test]
fn impaired_audio_leaves_exactly_as_the_seed_decides() {
    let mut node = sender(impairment());
    let left = follow(&mut node, 0, 2_000 * MS);
    let (expected, done) = predicted(&impairment());
    assert!(done.lost > 25 && done.duplicated > 2 && done.reordered > 10, "{done:?}");
    assert_eq!(audio(&left), expected);
    // Other packets are not impaired: KEEPALIVE leaves at 0 s and, because the audio ends before, not at 1 s.
    let keepalives: Vec<u64> = left.iter().filter(|(_, bytes)| bytes[1] == 4).map(|(at, _)| *at).collect();
    assert_eq!(keepalives, [0]);
    let run = node.into_results("", None, &mut ());
    let text = text::summary(&Report::new(&run, &Limits::default()), false);
    let SentImpairment { lost, duplicated, reordered, .. } = done;
    let row = format!("impairment            {lost} dropped, {duplicated} sent twice, {reordered} held back\n");
    assert!(text.contains(&row), "{text}");
    let audio = run.audio.expect("AUDIO was sent");
    assert_eq!((audio.stats.sent, audio.stats.not_sent, audio.impairment), (u64::from(PACKETS), 0, Some(done)));
    // Pacing is measured before the impairment.
    assert_eq!(run.pacing.expect("packets were sent").all.max(), Some(0));
}

#[test]
fn run_lasts_until_the_last_delayed_packet_has_left() {
    let slow = Impairment { reorder: Some((1.0, Duration::from_secs(5))), ..Impairment::default() };
    let mut node = sender(slow.clone());
    let left = audio(&follow(&mut node, 0, 60_000 * MS));
    assert!(node.is_finished());
    assert_eq!(left, predicted(&slow).0);
    assert_eq!(left.last(), Some(&(5_998 * MS, FIRST.wrapping_add(PACKETS - 1))));
}

#[test]
fn packets_still_delayed_at_an_interrupt_count_as_lost() {
    let slow = Impairment { reorder: Some((1.0, Duration::from_secs(5))), ..Impairment::default() };
    let mut node = sender(slow);
    let left = audio(&follow(&mut node, 0, 5_100 * MS));
    let stopped_at = Some(Time::from_nanos(5_100 * MS));
    let done = node.into_results("", stopped_at, &mut ()).audio.and_then(|audio| audio.impairment);
    // At 5.1 s, the packets of the first 100 ms have left.
    assert_eq!((left.len(), done.map(|done| (done.lost, done.reordered))), (51, Some((449, 500))));
}

#[test]
fn sealed_copy_is_the_same_datagram_and_lost_packets_use_counters() {
    let impairment = Impairment { loss: 0.3, duplicate: 1.0, seed: 7, ..Impairment::default() };
    let path = ImpairedPath::new((impairment.clone(), Box::new(|_| {})));
    let mut node = client(link_config(3, None)).with_impaired_path(Some(path));
    let mut server = settle(&mut node);
    let left = follow(&mut node, MS, 200 * MS);
    let sealed: Vec<&Vec<u8>> = left.iter().map(|(_, bytes)| bytes).filter(|bytes| bytes[1] == 1).collect();
    let mut impairer = Impairer::new(impairment);
    let kept: Vec<u32> =
        (0..10).filter(|n| impairer.decide(Some(PacketType::Audio), *n, None).loss.is_none()).collect();
    assert!((1..10).contains(&kept.len()) && sealed.len() == 2 * kept.len(), "{kept:?}");
    let sequence = |bytes: &[u8]| u32::from_be_bytes(bytes[2..6].try_into().expect("four bytes"));
    assert!(sealed.chunks(2).map(|copies| sequence(copies[0])).eq(kept.iter().copied()));
    assert!(sealed.chunks(2).all(|copies| copies[0] == copies[1]));
    let counters = sealed.iter().map(|bytes| u64::from_be_bytes(bytes[12..20].try_into().expect("eight bytes")));
    let counters: Vec<u64> = counters.step_by(2).collect();
    // Between two packets of the workload, the link may seal packets of its own.
    let distances = counters.windows(2).zip(kept.windows(2)).map(|(counter, n)| (counter[1] - counter[0], n[1] - n[0]));
    assert!(distances.clone().all(|(counters, packets)| counters >= u64::from(packets)), "{counters:?} {kept:?}");
    assert_eq!(distances.map(|(_, packets)| packets).max(), Some(2));
    assert!(sealed.iter().step_by(2).all(|bytes| server.open(bytes).is_some()));
}
