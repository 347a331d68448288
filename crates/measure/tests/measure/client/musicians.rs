//! Fake musicians in virtual time: what each reports of the others is what the path did.

use super::Source;
use crate::schema::assert_schema;
use crate::simulation::net::{Host, Machine, Net, intact};
use crate::simulation::participants::Participant;
use serde_json::json;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use test_support::echo_link;
use test_support::link_client::{AUDIO, CONTROL, KEEPALIVE, LATENCY_PING};
use test_support::node_driver::{MS, deliver, header, poll, pong};
use test_support::recording_sink::RecordingSink;
use test_support::rng::Rng;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jamjam_core::echo::EchoServer;
use jamjam_core::link::LinkKey;
use jamjam_core::node::{Node, SendStatus};
use jamjam_core::time::Time;
use jamjam_measure::client::{
    AudioStreamConfig, Heard, Musician, MusicianConfig, MusicianResults, PayloadSource, RunConfig, SourcePoll,
    StopSignal, StreamKind,
};
use jamjam_measure::document::{Document, Outcome};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::musicians;
use jamjam_signaling::client::{RoomMember, SharedMembers};
use zeroize::Zeroizing;

const SECOND: u64 = 1_000 * MS;

/// Time on the way in each direction.
const LATENCY: u64 = 5 * MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    Plain,
    Unsigned,
    Signed,
}

type TestMusician = Musician<dyn PayloadSource>;

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number as u8], 5_000))
}

fn seed(number: usize) -> [u8; 32] {
    [number as u8 + 1; 32]
}

fn member(number: usize, links: Links) -> RoomMember {
    let link_key = (links == Links::Signed).then(|| STANDARD.encode(LinkKey::from_seed(&seed(number)).public()));
    let (id, name) = (format!("id-{number}"), format!("Musician {number}"));
    RoomMember { id, name, addresses: vec![address(number)], link_key }
}

/// The musician with this number, who sends `packets` of 480 samples, one every 10 ms, and is told of `others`.
fn musician(number: usize, links: Links, packets: u32, others: &[RoomMember], generation: u8) -> Box<TestMusician> {
    musician_of(number, links, packets, &members(others), generation)
}

fn members(others: &[RoomMember]) -> SharedMembers {
    let members = SharedMembers::default();
    members.publish(others);
    members
}

/// The same with members that change.
fn musician_of(
    number: usize,
    links: Links,
    packets: u32,
    members: &SharedMembers,
    generation: u8,
) -> Box<TestMusician> {
    let mut left = 0..packets;
    let source: Box<dyn PayloadSource> = Box::new(Source(move |payload: &mut Vec<u8>| {
        let Some(number) = left.next() else { return SourcePoll::End };
        payload.extend(number.to_le_bytes().repeat(480));
        SourcePoll::Ready
    }));
    let mut keys = 0;
    let entropy = move || {
        keys = u8::wrapping_add(keys, 1);
        Zeroizing::new([&[9; 29][..], &[number as u8, generation, keys]].concat().try_into().expect("32 bytes"))
    };
    let config = MusicianConfig {
        name: format!("Musician {number}"),
        run: RunConfig::new(address(number), StreamKind::Audio, Duration::from_secs(2)),
        link_key: (links != Links::Unsigned).then(|| Zeroizing::new(seed(number))),
        allows_plain: true,
        entropy: Box::new(entropy),
        members: members.clone(),
    };
    let form = AudioStreamConfig { sample_rate: 48_000, channels: 1, frame_samples: 480, first_sequence: 0 };
    Box::new(Musician::new(config, form, source))
}

/// Musicians who are told of each other. `delays` decides about a datagram, from one to another: after which times its copies arrive.
struct World<'a> {
    net: Net<'a>,
    members: Vec<SharedMembers>,
}

impl<'a> World<'a> {
    fn new(
        count: usize,
        links: Links,
        packets: u32,
        delays: impl FnMut(u64, [usize; 2], &[u8]) -> Vec<u64> + 'a,
    ) -> Self {
        let mut net = Net::new(Rng::new(0), intact(delays));
        let all: Vec<RoomMember> = (0..count).map(|number| member(number, links)).collect();
        let others = |number| -> Vec<RoomMember> {
            all.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, member)| member.clone()).collect()
        };
        let members: Vec<SharedMembers> = (0..count).map(|number| members(&others(number))).collect();
        for (number, members) in members.iter().enumerate() {
            let node = Participant::Musician(musician_of(number, links, packets, members, 0));
            net.hosts.push(Host::new(address(number), node, Machine::default(), 0, true));
        }
        Self { net, members }
    }

    /// What all musicians report.
    fn results(self) -> Vec<MusicianResults> {
        let now = Time::from_nanos(self.net.now);
        let results = self.net.hosts.into_iter().map(|host| match host.node {
            Participant::Musician(node) => node.into_results(now),
            _ => panic!("a musician"),
        });
        results.collect()
    }

    /// What each musician has heard from each other one at the end, by (from, to).
    fn heard(mut self) -> HashMap<(usize, usize), Heard> {
        self.net.run();
        let number = |member: &RoomMember| member.id.trim_start_matches("id-").parse().expect("a number");
        let results = self.results().into_iter().enumerate();
        results
            .flat_map(|(to, results)| {
                results.heard.into_iter().map(move |(member, heard)| ((number(&member), to), heard))
            })
            .collect()
    }
}

/// What the path did to the AUDIO of one direction.
#[derive(Default)]
struct Injected {
    delivered: u64,
    duplicates: u64,
    /// Losses between two delivered packets, and since the last one.
    lost: u64,
    lost_since: u64,
}

#[test]
fn counts_are_those_of_the_path_over_each_kind_of_link() {
    for (links, count) in [(Links::Plain, 3), (Links::Unsigned, 2), (Links::Signed, 4), (Links::Plain, 8)] {
        let mut injected: HashMap<(usize, usize), Injected> = HashMap::new();
        let mut rng = Rng::new(count as u64);
        let path = |_, [from, to]: [usize; 2], datagram: &[u8]| {
            if datagram[1] != AUDIO {
                return vec![LATENCY];
            }
            let direction = injected.entry((from, to)).or_default();
            if rng.happens(0.05) && direction.delivered > 0 {
                direction.lost_since += 1;
                return Vec::new();
            }
            direction.lost += std::mem::take(&mut direction.lost_since);
            direction.delivered += 1;
            // A copy of a sealed packet is a replay, which no link accepts.
            if links == Links::Plain && rng.happens(0.02) {
                direction.duplicates += 1;
                return vec![LATENCY, LATENCY + 15 * MS];
            }
            vec![LATENCY]
        };
        let heard = World::new(count, links, 600, path).heard();
        assert_eq!((heard.len(), injected.len()), (count * (count - 1), count * (count - 1)));
        for (direction, heard) in &heard {
            let Injected { delivered, duplicates, lost, .. } = injected[direction];
            let audio = heard.audio.sequences;
            let counts = (audio.received, audio.duplicates, audio.gaps, audio.reordered);
            assert_eq!(counts, (delivered + duplicates, duplicates, lost, 0), "{links:?} {direction:?}");
            assert!(delivered > 500 && lost > 10, "{delivered} {lost}");
            let jitter = heard.jitter.max().expect("jitter");
            assert!(jitter < 10.0, "a constant delay has no jitter: {jitter} ns");
            assert_eq!(heard.link, Some(format!("{links:?}").to_lowercase()).as_deref());
        }
    }
}

#[test]
fn jitter_is_that_of_the_path() {
    // Every other packet is 1 ms late, so that the estimate approaches 1 ms.
    let mut audio = 0;
    let path = |_, _, datagram: &[u8]| {
        audio += u64::from(datagram[1] == AUDIO);
        vec![LATENCY + audio / 2 % 2 * MS]
    };
    for heard in World::new(2, Links::Plain, 1_000, path).heard().values() {
        let estimate = heard.jitter.estimate;
        assert!((0.99e6..1.01e6).contains(&estimate), "{estimate}");
    }
}

#[test]
fn lost_packets_of_a_key_exchange_are_repeated() {
    for (links, lost_type, lost) in [
        (Links::Signed, CONTROL, 3),
        (Links::Unsigned, CONTROL, 5),
        (Links::Signed, KEEPALIVE, 4),
        (Links::Plain, KEEPALIVE, 3),
    ] {
        let mut left = lost;
        let path = |_, _, datagram: &[u8]| {
            let is_lost = datagram[1] == lost_type && left > 0;
            left -= u32::from(is_lost);
            if is_lost { Vec::new() } else { vec![LATENCY] }
        };
        for (direction, heard) in World::new(2, links, 500, path).heard() {
            assert!(
                heard.audio.sequences.received > 100 && heard.audio.sequences.gaps == 0,
                "{links:?} {direction:?} {heard:?}"
            );
        }
    }
}

#[test]
fn ten_seconds_of_silence_open_a_new_link() {
    for (silence, controls) in [(9 * SECOND, 0), (11 * SECOND, 2)] {
        let mut later_controls = 0;
        let path = |now, _, datagram: &[u8]| {
            let is_cut = (5 * SECOND..5 * SECOND + silence).contains(&now);
            later_controls += u32::from(now > 5 * SECOND && datagram[1] == CONTROL);
            if is_cut { Vec::new() } else { vec![LATENCY] }
        };
        for heard in World::new(2, Links::Signed, 3_000, path).heard().values() {
            // Each second has 100 packets. The gap of a link that lasts is counted; a new link starts again.
            assert!(heard.audio.sequences.received > 1_700, "{heard:?}");
            assert_eq!(heard.audio.sequences.gaps > 800, controls == 0, "{heard:?}");
        }
        assert!(
            later_controls >= controls && (controls > 0 || later_controls == 0),
            "{later_controls} CONTROL packets"
        );
    }
}

#[test]
fn restarted_member_is_heard_again() {
    for links in [Links::Plain, Links::Signed] {
        let mut world = World::new(2, links, 4_000, |_, _, _| vec![LATENCY]);
        for (generation, at) in [(1, 8), (2, 20)] {
            world.net.run_until(at * SECOND);
            let node = musician(1, links, 2_000, &[member(0, links)], generation);
            world.net.restart(1, Participant::Musician(node));
        }
        let heard = &world.heard()[&(1, 0)];
        let audio = heard.audio.sequences;
        assert!(audio.received > 1_700 && (audio.gaps, audio.duplicates) == (0, 0), "{links:?} {heard:?}");
    }
}

#[test]
fn member_who_never_answers_gets_no_audio() {
    for links in [Links::Plain, Links::Unsigned, Links::Signed] {
        let mut types: HashMap<u8, u64> = HashMap::new();
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let path = |_, _, datagram: &[u8]| {
            *types.entry(datagram[1]).or_default() += 1;
            if datagram[1] == CONTROL && keys.last().is_none_or(|last| *last != datagram) {
                keys.push(datagram.to_vec());
            }
            Vec::new()
        };
        let world = World::new(1, links, 2_500, path);
        world.members[0].publish(&[member(1, links)]);
        let heard = &world.heard()[&(1, 0)];
        assert_eq!((heard.audio.sequences.received, heard.link, types.get(&AUDIO)), (0, None, None), "{links:?}");
        // One KEEPALIVE each second for 27 s.
        assert!((25..=31).contains(&types[&KEEPALIVE]), "{links:?} {types:?}");
        assert_eq!(keys.len(), if links == Links::Plain { 0 } else { 3 }, "a new key every 10 s");
    }
}

#[test]
fn member_who_left_gets_nothing_and_keeps_its_figures() {
    let mut after_leaving = 0;
    let path = |now, [from, _]: [usize; 2], _: &[u8]| {
        after_leaving += u32::from(from == 0 && now > 3 * SECOND);
        vec![LATENCY]
    };
    let mut world = World::new(2, Links::Plain, 600, path);
    world.net.run_until(2 * SECOND);
    world.members[0].publish(&[]);
    let heard = world.heard().remove(&(1, 0)).expect("figures of the member");
    assert!((150..=200).contains(&heard.audio.sequences.received), "{heard:?}");
    assert_eq!(after_leaving, 0);
}

/// A musician whose plain links to `others` members are settled at 10 ms.
fn settled(others: usize) -> Box<TestMusician> {
    let members: Vec<RoomMember> = (1..=others).map(|number| member(number, Links::Plain)).collect();
    let mut node = musician(0, Links::Plain, 1_000, &members, 0);
    poll(&mut *node, 0);
    for number in 1..=others {
        deliver(&mut *node, 10 * MS, address(number), &header(KEEPALIVE, 1 << 30, 0));
    }
    poll(&mut *node, 10 * MS);
    node
}

#[test]
fn packet_that_the_socket_refuses_is_sent_once_to_each_member() {
    let mut node = settled(3);
    for blocked in 0..4 {
        let mut sink = RecordingSink::new();
        sink.plan.extend([SendStatus::Sent; 3].into_iter().take(blocked).chain([SendStatus::WouldBlock]));
        let now = Time::from_millis(20 + 10 * blocked as u64);
        node.poll_transmit(now, &mut sink);
        node.poll_transmit(now, &mut sink);
        let audio = sink.sent.iter().filter(|sent| sent.bytes[1] == AUDIO);
        let to: Vec<SocketAddr> = audio.map(|sent| sent.to).collect();
        assert_eq!(to, [1, 2, 3].map(address), "blocked after {blocked}");
    }
}

/// A client on this machine names the addresses of its network cards, but sends from the loopback address.
#[test]
fn client_on_this_machine_is_known_by_its_port() {
    let others = members(&[member(1, Links::Plain)]);
    let mut node = musician_of(0, Links::Plain, 1_000, &others, 0);
    poll(&mut *node, 0);
    let mut audio_after = |from: SocketAddr, ms| -> Vec<SocketAddr> {
        deliver(&mut *node, ms * MS, from, &header(KEEPALIVE, 1 << 30, 0));
        others.publish(&[member(1, Links::Plain)]);
        let mut sink = RecordingSink::new();
        node.poll_transmit(Time::from_millis(ms), &mut sink);
        sink.sent.iter().filter(|sent| sent.bytes[1] == AUDIO).map(|sent| sent.to).collect()
    };
    let at_port = |ip: [u8; 4], port| SocketAddr::from((ip, port));
    for stranger in [at_port([127, 0, 0, 1], 5_001), at_port([198, 51, 100, 1], 5_000)] {
        assert_eq!(audio_after(stranger, 10), []);
    }
    let loopback = at_port([127, 0, 0, 1], 5_000);
    assert_eq!([20, 30].map(|ms| audio_after(loopback, ms)), [vec![loopback], vec![loopback]]);
}

#[test]
fn loopback_source_belongs_to_who_names_it_or_to_the_only_member_with_its_port() {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 5_000));
    let named = RoomMember { addresses: vec![loopback], ..member(2, Links::Plain) };
    let other_port = RoomMember { addresses: vec![SocketAddr::from(([192, 0, 2, 2], 5_001))], ..named.clone() };
    for (second, sender) in [(named, Some("id-2")), (other_port, Some("id-1")), (member(2, Links::Plain), None)] {
        let mut node = musician(0, Links::Plain, 1_000, &[member(1, Links::Plain), second], 0);
        poll(&mut *node, 0);
        deliver(&mut *node, 10 * MS, loopback, &[header(AUDIO, 1, 0), vec![0; 512]].concat());
        let heard = node.into_results(Time::from_millis(10)).heard;
        let senders =
            heard.iter().filter(|(_, heard)| heard.audio.sequences.received > 0).map(|(member, _)| &*member.id);
        assert_eq!(senders.collect::<Vec<_>>(), Vec::from_iter(sender));
    }
}

#[test]
fn pings_and_keepalives_of_members_are_answered() {
    let mut node = settled(1);
    let ping = [header(LATENCY_PING, 7, 0), vec![0; 8], vec![0, 0, 0, 7]].concat();
    let probe = |kind: u8| [header(KEEPALIVE, 8, 0), vec![kind, 1, 2, 3, 4]].concat();
    let keepalive = header(KEEPALIVE, 9, 0);
    let mut answers = |source, datagram: &[u8]| -> Vec<Vec<u8>> {
        deliver(&mut *node, 11 * MS, source, datagram);
        poll(&mut *node, 11 * MS)
    };
    assert_eq!(answers(address(1), &ping), [pong(&ping)]);
    assert_eq!(answers(address(1), &probe(1)), [probe(2)]);
    assert_eq!(answers(address(1), &probe(2)), [b""; 0]);
    assert_eq!(answers(address(1), &keepalive), std::slice::from_ref(&keepalive));
    // The answer comes back from an echo server, and from another musician.
    assert_eq!(answers(address(1), &keepalive), [b""; 0]);
    assert_eq!(answers(address(1), &header(KEEPALIVE, 1 << 30, 0)), [b""; 0]);
    // Not a member.
    assert_eq!(answers(address(2), &ping), [b""; 0]);
}

/// The report of two musicians, one of whom is an Echo Bot that returns AUDIO 50 ms later than anything else.
fn report_with_echo_bot(limits: &Limits) -> Document {
    let bot = RoomMember { name: "Echo Bot".to_owned(), ..member(1, Links::Plain) };
    let mut world = World::new(1, Links::Plain, 500, |_, _, _| vec![LATENCY]);
    world.members[0].publish(&[bot]);
    let server = Participant::Echo(Box::new(EchoServer::new(echo_link::config(50))));
    world.net.hosts.push(Host::new(address(1), server, Machine::default(), 0, false));
    world.net.run();
    world.net.hosts.truncate(1);
    musicians::document("jam", &world.results(), None, limits)
}

#[test]
fn echo_bot_is_judged_by_round_trip_and_each_direction_by_loss_and_jitter() {
    let report = report_with_echo_bot(&Limits::default());
    let directions = report.body["directions"].as_array().expect("directions");
    let [direction] = &directions[..] else { panic!("{directions:?}") };
    // The delay of the server is not part of the round trip.
    assert_eq!(
        ["rtt_p50_us", "lost", "from"].map(|name| &direction[name]),
        [&json!(10_000.0), &json!(0), &json!("Echo Bot")]
    );
    assert_eq!(report.head.verdict.result.exit_code(), 0);
    let ms = |ms| Some(Duration::from_millis(ms));
    for (limits, code) in [
        (Limits { max_p50: ms(11), ..Limits::default() }, 0),
        (Limits { max_p50: ms(9), ..Limits::default() }, 1),
        (Limits { max_p99: ms(9), ..Limits::default() }, 1),
        (Limits { max_loss: Some(0.0), max_jitter: ms(1), ..Limits::default() }, 0),
    ] {
        let report = report_with_echo_bot(&limits);
        assert_eq!(report.head.verdict.result.exit_code(), code, "{limits:?} {:?}", report.head.verdict);
    }
    assert!(report_with_echo_bot(&Limits::default()).text(false, false, None).contains("1 of 1 directions heard"));
}

#[test]
fn limits_do_not_apply_to_a_member_who_was_mostly_silent() {
    // Of three musicians who play for 2 s, the AUDIO of the last one reaches only these, in this part of the time in milliseconds.
    let report = |listeners: &[usize], part: std::ops::Range<u64>, limits: &Limits| {
        let path = |now, [from, to]: [usize; 2], datagram: &[u8]| {
            let is_heard = from != 2 || datagram[1] != AUDIO || listeners.contains(&to) && part.contains(&(now / MS));
            if is_heard { vec![LATENCY] } else { Vec::new() }
        };
        let mut world = World::new(3, Links::Plain, 200, path);
        world.net.run();
        musicians::document("jam", &world.results(), None, limits)
    };
    let limits = Limits { max_loss: Some(0.0), ..Limits::default() };
    for (listeners, part, code) in [
        (&[0, 1][..], 0..9_000, 0),
        (&[0, 1], 0..1_200, 0),
        (&[0, 1], 0..800, 4),
        // A late joiner, and one from whom a member hears nothing.
        (&[0, 1], 1_400..9_000, 0),
        (&[0], 0..9_000, 4),
        (&[], 0..9_000, 4),
    ] {
        let report = report(listeners, part.clone(), &limits);
        assert_eq!(report.head.verdict.result.exit_code(), code, "{listeners:?} {part:?} {:?}", report.head.verdict);
    }
    let silent = report(&[], 0..0, &limits);
    let reasons = [0, 1]
        .map(|to| format!("Musician {to} from Musician 2: --max-loss 0 % not judged: no data (nothing was heard)"));
    assert_eq!(silent.head.verdict.reasons, reasons);
    assert!(silent.text(false, false, None).ends_with("NOT MEASURED: 3 musicians in `jam`, 4 of 6 directions heard\n"));
    assert_eq!(report(&[], 0..0, &Limits::default()).head.verdict.result.exit_code(), 0);
}

#[test]
fn members_that_left_make_room_and_one_that_is_ignored_is_not_measured() {
    // Of 256 members, the first one is heard and leaves. Of two that come, there is room for one.
    let all: Vec<RoomMember> = (1..=258)
        .map(|number| RoomMember { id: format!("id-{number}"), ..member(number % 250, Links::Plain) })
        .collect();
    let known = members(&all[..256]);
    let mut node = musician_of(0, Links::Plain, 100, &known, 0);
    poll(&mut *node, 0);
    known.publish(&all[1..257]);
    poll(&mut *node, MS);
    let results = |node: Box<TestMusician>| node.into_results(Time::from_millis(2));
    let code = |results: &[MusicianResults]| -> Outcome {
        musicians::document("jam", results, None, &Limits::default()).head.verdict
    };
    let ids = |results: &MusicianResults| results.heard.iter().map(|(member, _)| member.id.clone()).collect::<Vec<_>>();
    known.publish(&all[1..]);
    poll(&mut *node, 2 * MS);
    let results = [results(node)];
    assert_eq!(
        (ids(&results[0])[0].as_str(), ids(&results[0])[255].as_str(), results[0].ignored),
        ("id-2", "id-257", 1)
    );
    assert!(code(&results).reasons.contains(&"no member heard anybody".to_owned()));
    let mut heard = results;
    heard[0].heard[0].1.audio.record(Time::ZERO, 0);
    assert_eq!(
        (code(&heard).result.exit_code(), code(&heard).reasons),
        (4, vec!["Musician 0: 1 member ignored".to_owned()])
    );
}

#[test]
fn document_of_musicians_fits_the_schema() {
    let without_address = RoomMember { addresses: Vec::new(), ..member(1, Links::Plain) };
    let mut node = musician(0, Links::Plain, 1, &[without_address], 0);
    poll(&mut *node, 0);
    let interrupted = Some(StopSignal::Interrupt);
    let results = [node.into_results(Time::from_millis(1))];
    let silent = musicians::document("jam", &results, interrupted, &Limits::default());
    assert_eq!((&silent.body["directions"][0]["packets"], silent.head.verdict.result.exit_code()), (&json!(0), 1));
    assert_eq!(silent.head.verdict.reasons, ["no member heard anybody"]);
    let documents = [("silent", silent), ("heard", report_with_echo_bot(&Limits::default()))];
    assert_schema(&documents.map(|(name, report)| (name.to_owned(), report.to_json().into())));
}
