//! The client and the echo joined in memory, with streams that overtake each other and bytes in chunks of any size.

use test_support::hand;
mod bound;
mod run;
mod world;

use std::time::Duration;

use hand::Hand;
use jamjam_dev::moqt::client::{
    FramePayload, MoqtClient, MoqtClientConfig as Sending, MoqtClientEvent, MoqtRunOutcome, TextQueue,
};
use jamjam_dev::moqt::echo::MoqtEchoConfig as Echoing;
use jamjam_dev::moqt::{
    EndpointRole, MoqtEndpoint, MoqtVersion, Session, SessionLimits, StreamDir, StreamHandle, error_code,
};
use jamjam_dev::time::Time;
use world::{Plan, World};

const MS: Duration = Duration::from_millis(1);

/// 50 groups of two frames.
fn fifty(group_interval: Duration, frame_interval: Duration) -> Sending {
    Sending { group_count: Some(50), frames_per_group: 2, group_interval, frame_interval, ..Sending::default() }
}

/// Every frame of `groups` groups of two, in order.
fn all_of(groups: u64) -> Vec<(u64, usize)> {
    (1..=groups).flat_map(|group| [(group, 0), (group, 1)]).collect()
}

fn places(came: &[(u64, usize, Duration)]) -> Vec<(u64, usize)> {
    came.iter().map(|(group, frame, _)| (*group, *frame)).collect()
}

#[test]
fn fifty_groups_of_two_come_back_in_order_in_twenty_sessions() {
    for seed in 0..20 {
        let offers = vec![MoqtVersion::ALL[seed as usize % 2]];
        let sending = fifty(10 * MS, 3 * MS);
        let mut world =
            World::new(Plan { seed, offers: offers.clone(), webtransport: seed % 3 == 0, sending, ..Plan::default() });
        assert_eq!(world.finish(), MoqtRunOutcome::Completed, "seed {seed}");
        assert_eq!(places(&world.came()), all_of(50), "seed {seed}");
        assert!(world.client.session().is_closed() && world.server.session().is_closed());
        let established = world.facts.iter().find(|fact| matches!(fact, MoqtClientEvent::Established { .. }));
        assert_eq!(established, Some(&MoqtClientEvent::Established { at: Time::ZERO, version: offers[0] }));
        let counts = (
            world.counts.sessions,
            world.counts.groups_received,
            world.counts.frames_received,
            world.counts.frames_sent,
        );
        assert_eq!(counts, (1, 50, 100, 100), "seed {seed}");
        let bytes = (world.counts.received_bytes, world.counts.sent_bytes);
        assert_eq!(bytes, (10_000, 10_000), "100 frames of 100 bytes");
    }
}

#[test]
fn groups_that_are_sent_at_once_overtake_each_other_and_all_come_back() {
    let mut overtaken = 0;
    for seed in 0..20 {
        let mut world = World::new(Plan { seed, sending: fifty(Duration::ZERO, Duration::ZERO), ..Plan::default() });
        assert_eq!(world.finish(), MoqtRunOutcome::Completed);
        let mut came = places(&world.came());
        overtaken += came.windows(2).filter(|pair| pair[0] > pair[1]).count();
        came.sort_unstable();
        assert_eq!(came, all_of(50), "seed {seed}");
    }
    assert!(overtaken > 0, "the world delivers everything in order: it tests nothing");
}

#[test]
fn a_second_frame_comes_back_on_its_own() {
    let mut world = World::new(Plan { sending: fifty(500 * MS, 400 * MS), ..Plan::default() });
    assert_eq!(world.finish(), MoqtRunOutcome::Completed);
    let at = |group, frame| {
        let came = world.facts.iter().find_map(|fact| match *fact {
            MoqtClientEvent::FrameReturned { group: g, frame: f, at, .. } if (g, f) == (group, frame) => Some(at),
            _ => None,
        });
        came.unwrap()
    };
    for group in 1..=50 {
        assert_eq!(at(group, 1) - at(group, 0), 400 * MS, "group {group}");
    }
    assert!(world.came().iter().all(|(_, _, took)| *took == Duration::ZERO), "nothing waits");
}

#[test]
fn a_delay_holds_each_frame_for_as_long_and_keeps_their_order() {
    let echoing = Echoing { delay: 250 * MS, ..Echoing::default() };
    for seed in 0..5 {
        let (echoing, sending) = (echoing.clone(), fifty(100 * MS, 40 * MS));
        let mut world = World::new(Plan { seed, echoing, sending, ..Plan::default() });
        assert_eq!(world.finish(), MoqtRunOutcome::Completed);
        assert_eq!(places(&world.came()), all_of(50));
        assert!(world.came().iter().all(|(_, _, took)| *took == 250 * MS), "seed {seed}");
    }
}

#[test]
fn a_delayed_echo_that_would_take_too_much_memory_refuses_its_newest_groups_whole() {
    // A group takes 1,024 bytes, its frame 1,000 and 64, its end 64: eight fit, and the next is refused.
    let echoing = Echoing { delay: 5_000 * MS, max_buffered_bytes: 8 * 2_152, ..Echoing::default() };
    let sending = Sending {
        group_count: Some(20),
        group_interval: MS,
        payload: FramePayload::Random(1_000),
        reply_timeout: 6_000 * MS,
        ..Sending::default()
    };
    let mut world = World::new(Plan { echoing, sending, ..Plan::default() });
    assert_eq!(world.finish(), MoqtRunOutcome::Completed);
    assert_eq!(world.lost(), (9..=20).collect::<Vec<_>>());
    assert_eq!(places(&world.came()), (1..=8).map(|group| (group, 0)).collect::<Vec<_>>());
    assert_eq!(world.counts.groups_dropped_buffer_full, 12);
}

#[test]
fn of_three_times_what_fits_into_the_delay_a_third_comes_back_on_time() {
    for (seed, ms) in [(1, 30), (2, 90), (3, 300), (4, 1_500)] {
        // A group takes 1,024 bytes, each of its frames 1,000 and 64, its end 64. Of one each millisecond a third of those of the delay fit.
        let most = ms as usize / 3 * 3_216;
        let echoing = Echoing { delay: ms * MS, max_buffered_bytes: most, ..Echoing::default() };
        let count = 4 * u64::from(ms);
        let payload = FramePayload::Random(1_000);
        let sending = Sending {
            group_count: Some(count),
            frames_per_group: 2,
            group_interval: MS,
            payload,
            reply_timeout: 5_000 * MS,
            ..Sending::default()
        };
        let mut world = World::new(Plan { seed, echoing, sending, ..Plan::default() });
        world.most_waiting = most;
        assert_eq!(world.finish(), MoqtRunOutcome::Completed);
        // Room for so many, then none until the first of them leaves, when the next comes: and so on.
        let (kept, refused): (Vec<u64>, Vec<u64>) =
            (1..=count).partition(|group| (group - 1) % u64::from(ms) < u64::from(ms) / 3);
        let expected: Vec<_> = kept.iter().flat_map(|group| [(*group, 0), (*group, 1)]).collect();
        let mut came = world.came();
        assert!(came.iter().all(|(_, _, took)| *took == ms * MS), "{ms} ms: all that comes is on time");
        came.sort_by_key(|(group, _, _)| *group);
        assert_eq!(places(&came), expected, "{ms} ms: whole, and in order");
        assert_eq!(world.lost(), refused, "{ms} ms");
        assert_eq!(world.counts.groups_dropped_buffer_full, refused.len() as u64);
        let sent = (world.counts.groups_sent, world.counts.frames_sent, world.counts.sent_bytes);
        let kept = kept.len() as u64;
        assert_eq!(sent, (kept, 2 * kept, 2_000 * kept));
    }
}

#[test]
fn for_a_slow_reader_the_oldest_groups_are_dropped_whole() {
    let limits = SessionLimits { max_unsent_group_bytes: 20_000, ..SessionLimits::default() };
    let sending = Sending {
        group_count: Some(100),
        frames_per_group: 2,
        group_interval: 10 * MS,
        payload: FramePayload::Random(1_000),
        reply_timeout: 5_000 * MS,
        ..Sending::default()
    };
    let mut world = World::new(Plan { sending, limits, ..Plan::default() });
    world.until(Time::from_millis(40));
    world.client_is_slow = true;
    world.until(Time::from_millis(1_100));
    assert_eq!(world.came(), [], "nothing was read");
    world.client_is_slow = false;
    assert_eq!(world.finish(), MoqtRunOutcome::Completed);
    // A group is 2 × 1,000 bytes, 2 of each length, and 4 before them: 9 of 2,008 fit into 20,000.
    let lost = world.lost();
    assert_eq!(lost, (1..=91).collect::<Vec<_>>());
    let mut came = places(&world.came());
    came.sort_unstable();
    assert_eq!(came, all_of(100)[182..]);
    assert_eq!(world.counts.groups_dropped_slow_reader, 91);
    let missing = world.facts.iter().any(|fact| matches!(fact, MoqtClientEvent::FrameMissing { .. }));
    assert!(!missing, "what comes at all comes whole");
}

#[test]
fn too_many_groups_for_a_slow_reader_are_dropped_too() {
    let limits = SessionLimits { max_outgoing_groups: 10, ..SessionLimits::default() };
    let sending =
        Sending { group_count: Some(30), group_interval: MS, payload: FramePayload::Random(1), ..Sending::default() };
    let mut quick = World::new(Plan { sending: sending.clone(), limits: limits.clone(), ..Plan::default() });
    assert_eq!(
        (quick.finish(), quick.lost(), quick.counts.groups_dropped_slow_reader),
        (MoqtRunOutcome::Completed, vec![], 0)
    );
    let mut world = World::new(Plan { sending, limits, ..Plan::default() });
    world.client_is_slow = true;
    world.until(Time::from_millis(200));
    world.client_is_slow = false;
    assert_eq!(world.finish(), MoqtRunOutcome::Completed);
    assert_eq!((world.lost(), world.counts.groups_dropped_slow_reader), ((1..=20).collect(), 20));
}

#[test]
fn a_person_s_text_comes_back() {
    let payload = FramePayload::Texts(vec!["hello".into(), "".into()]);
    let sending = Sending { group_count: Some(4), payload, ..Sending::default() };
    let mut world = World::new(Plan { sending, ..Plan::default() });
    assert_eq!(world.finish(), MoqtRunOutcome::Completed);
    assert_eq!(places(&world.came()), [(1, 0), (2, 0), (3, 0), (4, 0)]);
    let sizes: Vec<usize> = world
        .facts
        .iter()
        .filter_map(|fact| if let MoqtClientEvent::FrameSent { bytes, .. } = fact { Some(*bytes) } else { None })
        .collect();
    assert_eq!(sizes, [5, 0, 5, 0]);
}

#[test]
fn a_run_without_an_end_is_ended_by_its_owner() {
    let sending = Sending { group_count: None, ..fifty(10 * MS, Duration::ZERO) };
    let mut world = World::new(Plan { sending, ..Plan::default() });
    world.until(Time::from_millis(1_045));
    let now = world.now;
    world.client.close(now, error_code::NO_ERROR, "interrupted");
    let ending = world.finish();
    assert_eq!(
        ending,
        MoqtRunOutcome::Closed { code: error_code::NO_ERROR, reason: "interrupted".to_owned(), closed_locally: true }
    );
    // The first at 50 ms: 100 of them at 10 ms until 1,040.
    assert_eq!(places(&world.came()), all_of(100));
}

#[test]
fn what_left_just_before_the_end_is_in_flight_and_not_lost() {
    let sending =
        Sending { group_count: None, group_interval: 1_000 * MS, reply_timeout: 2_000 * MS, ..Sending::default() };
    let mut world = World::new(Plan { sending, ..Plan::default() });
    world.client_is_slow = true;
    // Groups at 50, 1,050, 2,050, 3,050 and 4,050 ms.
    world.until(Time::from_millis(4_100));
    let now = world.now;
    world.client.close(now, error_code::NO_ERROR, "interrupted");
    world.finish();
    assert_eq!(world.lost(), [1, 2, 3]);
    let in_flight = world.facts.iter().filter_map(|fact| match *fact {
        MoqtClientEvent::FrameInFlight { group, frame, sent_at } => Some((group, frame, sent_at)),
        _ => None,
    });
    let expected = [(4, 0, Time::from_millis(3_050)), (5, 0, Time::from_millis(4_050))];
    // What left at 2,050 is 2,050 ms old: more than the 2,000 that are waited.
    assert_eq!(in_flight.collect::<Vec<_>>(), expected);
}

#[test]
fn a_server_that_stops_says_so() {
    let mut world = World::new(Plan { sending: fifty(10 * MS, Duration::ZERO), ..Plan::default() });
    world.until(Time::from_millis(100));
    let now = world.now;
    world.server.close(now, error_code::NO_ERROR, "server is shutting down");
    assert_eq!(
        world.finish(),
        MoqtRunOutcome::Closed {
            code: error_code::NO_ERROR,
            reason: "server is shutting down".to_owned(),
            closed_locally: false
        }
    );
}

#[test]
fn what_takes_longer_than_the_time_out_is_waited_for_by_the_smallest_round_trip() {
    let echoing = Echoing { delay: 250 * MS, ..Echoing::default() };
    let sending =
        Sending { group_count: Some(20), group_interval: 20 * MS, reply_timeout: 100 * MS, ..Sending::default() };
    let mut world = World::new(Plan { echoing, sending, ..Plan::default() });
    assert_eq!(world.finish(), MoqtRunOutcome::Completed);
    // The last leaves at 50 + 19 × 20 = 430 ms, and the first is back at 300.
    assert_eq!((world.came().len(), world.lost()), (20, vec![]));
    let ended = world
        .facts
        .iter()
        .find_map(|fact| if let MoqtClientEvent::Finished { at, .. } = fact { Some(*at) } else { None });
    assert_eq!(ended, Some(Time::from_millis(430 + 250 + 100)), "100 ms for second copies");
}

#[test]
fn texts_leave_as_they_are_given_and_no_faster_than_told() {
    let feed = TextQueue::default();
    let payload = FramePayload::Queue(feed.clone());
    let sending = Sending { group_count: None, group_interval: 100 * MS, payload, ..Sending::default() };
    let mut world = World::new(Plan { sending, ..Plan::default() });
    world.until(Time::from_millis(1_003));
    // Two at once, into the silence; the client looks every 10 ms.
    assert!(feed.try_push("one".into()) && feed.try_push("two".into()));
    world.until(Time::from_millis(1_500));
    assert!(feed.try_push("three".into()));
    world.until(Time::from_millis(1_900));
    feed.close();
    assert_eq!(world.finish(), MoqtRunOutcome::Completed);
    let sent = world.facts.iter().filter_map(|fact| match *fact {
        MoqtClientEvent::FrameSent { group, sent_at, due, bytes, .. } => {
            Some((group, sent_at.as_nanos() / 1_000_000, sent_at == due, bytes))
        }
        _ => None,
    });
    let expected = [(1, 1_010, true, 3), (2, 1_110, true, 3), (3, 1_510, true, 5)];
    assert_eq!(sent.collect::<Vec<_>>(), expected);
    let texts = world.facts.iter().filter_map(|fact| match fact {
        MoqtClientEvent::FrameReturned { payload, intact: true, .. } => Some(payload.clone()),
        _ => None,
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["one", "two", "three"]);
    let ended = world
        .facts
        .iter()
        .find_map(|fact| if let MoqtClientEvent::Finished { at, .. } = fact { Some(*at) } else { None });
    assert_eq!(ended, Some(Time::from_millis(2_010)), "seen at 1,910, and 100 ms for second copies");
}

#[test]
fn of_texts_that_are_not_sent_no_more_than_so_many_wait() {
    let feed = TextQueue::default();
    let taken = (0..2_000).filter(|_| feed.try_push("x".into())).count();
    assert_eq!(taken, TextQueue::CAPACITY);
}

#[test]
fn no_flavour_in_common_is_told_to_both() {
    let mut world = World::new(Plan { offers: vec![], ..Plan::default() });
    let MoqtRunOutcome::Closed { code, reason, closed_locally: false } = world.finish() else { panic!() };
    assert_eq!((code, reason.starts_with("no common version")), (error_code::UNSUPPORTED_VERSION, true));
}

/// Bytes as a server of the seed's flavour writes them, from the protocol's table.
mod by_hand {
    pub(super) const SERVER: &[u8] = &[0x09, 0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0];
    pub(super) const PLEASE: &[u8] = b"\x01\x0e\x02\x05japan\x05kyoto\x00";
    pub(super) const ACTIVE: &[u8] = b"\x14\x01\x03\x05japan\x05kyoto\x04text\x00";
    pub(super) const SUFFIX: &[u8] = b"\x08\x01\x01\x04text\x00";
    pub(super) const SUBSCRIBE: &[u8] = b"\x02\x18\x00\x03\x05japan\x05kyoto\x04text\x00\x00\x00\x00\x00";
    pub(super) const INFO: &[u8] = &[3, 0, 0, 0];
    pub(super) const GROUP_1: &[u8] = &[0, 2, 0, 1];
}
use by_hand::{ACTIVE, GROUP_1, INFO, PLEASE, SERVER, SUBSCRIBE, SUFFIX};

fn client(sending: Sending) -> Hand<MoqtClient> {
    let end = EndpointRole::Client {
        offered_versions: MoqtVersion::ALL.to_vec(),
        path: "/echo".to_owned(),
        path_in_connect: false,
    };
    Hand::new(MoqtEndpoint::new(Session::new(Time::ZERO, end, SessionLimits::default()), MoqtClient::new(sending)))
}

fn facts(hand: &mut Hand<MoqtClient>) -> Vec<MoqtClientEvent> {
    std::iter::from_fn(|| hand.peer.handler().poll_event()).collect()
}

/// One frame of `hi` in each of two groups of two, 10 ms apart.
fn two_groups() -> Sending {
    let payload = FramePayload::Texts(vec!["hi".into()]);
    Sending { group_count: Some(2), frames_per_group: 2, group_interval: 10 * MS, payload, ..Sending::default() }
}

/// A client that has begun to send, and whose first group has left.
fn sending() -> Hand<MoqtClient> {
    let mut client = client(two_groups());
    assert_eq!(client.heard(StreamHandle::Local(0))[0], 0, "the session stream comes first");
    client.say(StreamHandle::Local(0), SERVER);
    assert_eq!(client.heard(StreamHandle::Local(1)), PLEASE);
    // It is asked for its track before it is asked what there is, as the original server does when it is quick.
    let subscriber = client.open(0, StreamDir::Bi, SUBSCRIBE);
    assert_eq!(client.heard(subscriber), INFO);
    let asked = client.open(4, StreamDir::Bi, PLEASE);
    assert_eq!(client.heard(asked), ACTIVE);
    client.say(StreamHandle::Local(1), SUFFIX);
    assert_eq!(client.heard(StreamHandle::Local(2)), SUBSCRIBE, "a suffix means the same as the whole path");
    client.say(StreamHandle::Local(2), INFO);
    client.until(Time::from_millis(50));
    assert_eq!(client.heard(StreamHandle::Local(3)), [GROUP_1, b"\x02hi\x02hi"].concat());
    assert_eq!(client.finished, [StreamHandle::Local(3)]);
    client
}

/// A frame that comes back as soon as it has left, at `at`.
fn came(
    (group, frame): (u64, usize),
    sent_at: Time,
    intact: bool,
    first_of_group: bool,
    payload: &'static [u8],
) -> MoqtClientEvent {
    MoqtClientEvent::FrameReturned {
        group,
        frame,
        sent_at,
        at: sent_at,
        intact,
        first_of_group,
        payload: payload.into(),
    }
}

#[test]
fn what_does_not_come_back_is_lost_or_missing() {
    let mut client = sending();
    let group = client.open(2, StreamDir::Uni, &[GROUP_1, b"\x02hi"].concat());
    client.reset(group, 3);
    client.until(Time::from_millis(2_059));
    assert_eq!(client.peer.handler().outcome(), None);
    client.until(Time::from_millis(2_060));
    assert_eq!(client.peer.handler().outcome(), Some(&MoqtRunOutcome::Completed));
    assert_eq!(client.closed(), (error_code::NO_ERROR, "done"));
    let at = Time::from_millis;
    let sent = |group, frame, ms| MoqtClientEvent::FrameSent { group, frame, sent_at: at(ms), due: at(ms), bytes: 2 };
    let expected = [
        MoqtClientEvent::Established { at: at(0), version: MoqtVersion::Gomoqt202502 },
        MoqtClientEvent::Ready { at: at(0) },
        sent(1, 0, 50),
        sent(1, 1, 50),
        came((1, 0), at(50), true, true, b"hi"),
        sent(2, 0, 60),
        sent(2, 1, 60),
        MoqtClientEvent::AllSent { at: at(60) },
        MoqtClientEvent::FrameMissing { group: 1, frame: 1, sent_at: at(50) },
        MoqtClientEvent::GroupLost { group: 2, sent_at: at(60) },
        MoqtClientEvent::Finished { at: at(2_060), outcome: MoqtRunOutcome::Completed },
    ];
    assert_eq!(facts(&mut client), expected);
}

#[test]
fn a_second_copy_is_heard_for_a_while_after_all_has_come() {
    let mut client = sending();
    client.open(2, StreamDir::Uni, &[GROUP_1, b"\x02hi\x02hi"].concat());
    client.until(Time::from_millis(60));
    client.open(6, StreamDir::Uni, b"\x00\x02\x00\x02\x02hi\x02hi");
    client.until(Time::from_millis(159));
    assert_eq!(client.peer.handler().outcome(), None);
    client.open(10, StreamDir::Uni, &[GROUP_1, b"\x02hi"].concat());
    client.until(Time::from_millis(160));
    assert_eq!(client.peer.handler().outcome(), Some(&MoqtRunOutcome::Completed));
    let at = Time::from_millis;
    let last = facts(&mut client).split_off(11);
    let expected = [
        MoqtClientEvent::FrameUnmatched { group: 1, frame: 0, at: at(159), intact: true, payload: "hi".into() },
        MoqtClientEvent::Finished { at: at(160), outcome: MoqtRunOutcome::Completed },
    ];
    assert_eq!(last, expected);
}

#[test]
fn what_was_on_its_way_when_the_server_closed_is_lost_and_nothing_else_is_amiss() {
    let gone = |client: &mut Hand<MoqtClient>, ms| {
        client.peer.on_connection_closed(Time::from_millis(ms), 7, "whim");
        client.act();
        facts(client).split_off(4)
    };
    let at = Time::from_millis;
    let closed = MoqtRunOutcome::Closed { code: 7, reason: "whim".to_owned(), closed_locally: false };
    let lost = MoqtClientEvent::GroupLost { group: 1, sent_at: at(50) };
    assert_eq!(gone(&mut sending(), 55), [lost, MoqtClientEvent::Finished { at: at(55), outcome: closed }]);

    let mut client = sending();
    client.open(2, StreamDir::Uni, &[GROUP_1, b"\x02hi\x02hi"].concat());
    client.until(at(60));
    client.open(6, StreamDir::Uni, b"\x00\x02\x00\x02\x02hi\x02hi");
    let end = gone(&mut client, 65).pop();
    assert_eq!(end, Some(MoqtClientEvent::Finished { at: at(65), outcome: MoqtRunOutcome::Completed }));
}

#[test]
fn what_comes_damaged_twice_or_unasked_is_told_apart() {
    let mut client = sending();
    facts(&mut client);
    client.open(2, StreamDir::Uni, &[GROUP_1, b"\x02ho\x02hi"].concat());
    client.open(6, StreamDir::Uni, &[GROUP_1, b"\x02hi"].concat());
    client.open(10, StreamDir::Uni, b"\x00\x02\x00\x09\x02hi");
    let at = Time::from_millis(50);
    let expected = [
        came((1, 0), at, false, true, b"ho"),
        came((1, 1), at, true, false, b"hi"),
        MoqtClientEvent::FrameUnmatched { group: 1, frame: 0, at, intact: true, payload: "hi".into() },
        MoqtClientEvent::FrameUnmatched { group: 9, frame: 0, at, intact: true, payload: "hi".into() },
    ];
    assert_eq!(facts(&mut client), expected);
}

/// As the original server of the head's flavour is: it agrees to a subscription when it has a group for it, and counts from 0.
#[test]
fn in_the_heads_flavour_nobody_waits_for_the_other_and_groups_are_counted_from_0() {
    let mut client = client(two_groups());
    client.heard(StreamHandle::Local(0));
    client.say(StreamHandle::Local(0), &[0x09, 0xc0, 0, 0, 0, 0xfe, 0xed, 0xba, 0xbe, 0]);
    assert_eq!(client.heard(StreamHandle::Local(1)), b"\x01\x02\x01/");
    let wants = b"\x02\x15\x00\x0c/client.echo\x05index\x00";
    let subscriber = client.open(0, StreamDir::Bi, wants);
    assert_eq!(client.heard(subscriber), [0], "SUBSCRIBE_OK");
    client.say(StreamHandle::Local(1), b"\x0d\x01\x0bclient.echo");
    assert_eq!(client.heard(StreamHandle::Local(2)), wants);
    client.until(Time::from_millis(50));
    assert_eq!(client.heard(StreamHandle::Local(3)), b"\x00\x02\x00\x00\x02hi\x02hi");
    facts(&mut client);
    client.say(StreamHandle::Local(2), &[0]);
    client.open(2, StreamDir::Uni, b"\x00\x02\x00\x00\x02hi");
    assert_eq!(facts(&mut client), [came((1, 0), Time::from_millis(50), true, true, b"hi")]);
}

/// A client of the head's flavour whose server has subscribed and announced, and has not agreed, at the first group.
fn unagreed(sending: Sending) -> Hand<MoqtClient> {
    let mut client = client(sending);
    client.say(StreamHandle::Local(0), &[0x09, 0xc0, 0, 0, 0, 0xfe, 0xed, 0xba, 0xbe, 0]);
    client.open(0, StreamDir::Bi, b"\x02\x15\x00\x0c/client.echo\x05index\x00");
    client.say(StreamHandle::Local(1), b"\x0d\x01\x0bclient.echo");
    client.until(Time::from_millis(50));
    client
}

#[test]
fn in_the_heads_flavour_a_server_has_to_agree_in_time_after_the_first_frame() {
    let not_agreed = Some(&MoqtRunOutcome::NotReady("the server did not accept our subscription"));
    let endless = || Sending { group_count: None, ..two_groups() };
    let mut silent = unagreed(endless());
    silent.until(Time::from_millis(5_049));
    assert_eq!(silent.peer.handler().outcome(), None);
    silent.until(Time::from_millis(5_050));
    assert_eq!(silent.peer.handler().outcome(), not_agreed);
    // A run that is over before: the last frame left at 60 ms, and 2 s are waited.
    let mut short = unagreed(two_groups());
    short.until(Time::from_millis(2_059));
    assert_eq!(short.peer.handler().outcome(), None);
    short.until(Time::from_millis(2_060));
    assert_eq!(short.peer.handler().outcome(), not_agreed);
    // Its word, or a group alone, is enough.
    let mut agreed = unagreed(endless());
    agreed.say(StreamHandle::Local(2), &[0]);
    let mut heard = unagreed(endless());
    heard.open(2, StreamDir::Uni, b"\x00\x02\x00\x00\x02hi");
    for client in [&mut agreed, &mut heard] {
        client.until(Time::from_millis(6_000));
        assert_eq!(client.peer.handler().outcome(), None);
    }
}

#[test]
fn to_a_server_that_wants_the_track_no_longer_nothing_is_sent() {
    let left = Some(&MoqtRunOutcome::NotReady("the server unsubscribed from our track"));
    let mut client = sending();
    facts(&mut client);
    client.finish(StreamHandle::Remote(0));
    assert_eq!(client.peer.handler().outcome(), left);
    client.until(Time::from_millis(100));
    // The second group was due at 60 ms.
    assert!(!facts(&mut client).iter().any(|fact| matches!(fact, MoqtClientEvent::FrameSent { .. })));
}

#[test]
fn a_server_that_does_not_do_its_part_is_named() {
    type Said<'a> = &'a [(StreamHandle, &'a [u8])];
    let steps: [(&str, Said<'_>); 3] = [
        (
            "the server did not subscribe to our track",
            &[(StreamHandle::Local(1), ACTIVE), (StreamHandle::Local(2), INFO)],
        ),
        ("the server did not announce the echo", &[(StreamHandle::Remote(0), SUBSCRIBE)]),
        (
            "the server did not accept our subscription",
            &[(StreamHandle::Remote(0), SUBSCRIBE), (StreamHandle::Local(1), ACTIVE)],
        ),
    ];
    for (why, steps) in steps {
        let mut client = client(two_groups());
        client.say(StreamHandle::Local(0), SERVER);
        client.peer.on_stream_opened(Time::ZERO, 0, StreamDir::Bi);
        for (stream, bytes) in steps {
            client.say(*stream, bytes);
        }
        client.until(Time::from_millis(4_999));
        assert_eq!(client.peer.handler().outcome(), None, "{why}");
        client.until(Time::from_millis(5_000));
        assert_eq!(client.peer.handler().outcome(), Some(&MoqtRunOutcome::NotReady(why)));
    }
}

#[test]
fn a_server_that_never_answers_or_chooses_what_was_not_offered_is_left() {
    let mut silent = client(two_groups());
    silent.until(Time::from_millis(5_000));
    assert_eq!(silent.closed(), (error_code::SETUP_FAILED, "setup timed out after 5 s"));
    let mut other = client(two_groups());
    other.say(StreamHandle::Local(0), &[0x09, 0xc0, 0, 0, 0, 0xff, 0x0b, 0xad, 0x03, 0]);
    assert_eq!(other.closed().0, error_code::UNSUPPORTED_VERSION);
    assert!(matches!(other.peer.handler().outcome(), Some(MoqtRunOutcome::Closed { closed_locally: true, .. })));
}

#[test]
fn groups_that_come_before_anybody_listens_wait_for_the_first_who_does() {
    let end = EndpointRole::Server { served_path: "/echo".to_owned(), connect_path: Some("/echo".to_owned()) };
    let session = Session::new(Time::ZERO, end, SessionLimits::default());
    let mut echo = Hand::new(MoqtEndpoint::new(session, jamjam_dev::moqt::echo::MoqtEcho::new(Echoing::default())));
    echo.open(0, StreamDir::Bi, &[0x00, 0x0a, 0x01, 0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0]);
    echo.say(StreamHandle::Local(0), ACTIVE);
    for (id, sequence) in [(2, 1), (6, 2), (10, 3), (14, 4), (18, 5), (22, 6)] {
        let group = echo.open(id, StreamDir::Uni, &[0, 2, 0, sequence, 1, b'x']);
        echo.finish(group);
    }
    assert_eq!(
        (echo.opened.len(), echo.counts.groups_dropped_no_subscriber),
        (2, 2),
        "four wait, the oldest two are gone"
    );
    echo.open(4, StreamDir::Bi, SUBSCRIBE);
    for (handle, sequence) in [(2, 3), (3, 4), (4, 5), (5, 6)] {
        assert_eq!(echo.heard(StreamHandle::Local(handle)), [0, 2, 0, sequence, 1, b'x']);
        assert!(echo.finished.contains(&StreamHandle::Local(handle)));
    }
    assert_eq!(echo.opened.len(), 6);
}
