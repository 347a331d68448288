//! The client and the echo are connected in memory. Streams overtake each other, and bytes arrive in chunks of any size.

use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_moqt::client::{
    FramePayload, MoqtClient, MoqtClientConfig as Sending, MoqtClientEvent, MoqtRunOutcome, TEXT_QUEUE_CAPACITY,
};
use jamjam_moqt::echo::MoqtEchoConfig as Echoing;
use jamjam_moqt::{
    EndpointRole, MoqtEndpoint, MoqtVersion, Session, SessionLimits, StreamDir, StreamHandle, error_code,
};
use test_support::joined_peers::{JoinedPeers, Plan};
use test_support::manual_peer::ManualPeer;

const MS: Duration = Duration::from_millis(1);

/// 50 groups of two frames.
fn fifty_groups(group_interval: Duration) -> Sending {
    Sending { group_count: Some(50), frames_per_group: 2, group_interval, ..Sending::default() }
}

/// All frames of `groups` groups in order. Each group has two frames.
fn all_of(groups: u64) -> Vec<(u64, usize)> {
    (1..=groups).flat_map(|group| [(group, 0), (group, 1)]).collect()
}

/// The time at which the run ended.
fn finished_at(peers: &JoinedPeers) -> Option<Time> {
    let finished = |event: &_| if let MoqtClientEvent::Finished { at, .. } = event { Some(*at) } else { None };
    peers.events.iter().find_map(finished)
}

fn positions(returned: &[(u64, usize, Duration)]) -> Vec<(u64, usize)> {
    returned.iter().map(|(group, frame, _)| (*group, *frame)).collect()
}

/// Without an interval, groups overtake each other.
#[test]
fn fifty_groups_of_two_return_after_the_delay_in_every_version() {
    let mut overtaken = 0;
    for seed in 0..40 {
        let (offers, delay) = (vec![MoqtVersion::ALL[seed as usize % 4]], (seed / 20) as u32 * 250 * MS);
        let interval = (seed / 10 % 2) as u32 * 10 * MS;
        let (sending, echoing) = (fifty_groups(interval), Echoing { delay, ..Echoing::default() });
        let webtransport = seed % 3 == 0;
        let plan = Plan { seed, offers: offers.clone(), webtransport, sending, echoing, ..Plan::default() };
        let mut peers = JoinedPeers::new(plan);
        assert_eq!(peers.finish(), MoqtRunOutcome::Completed, "seed {seed}");
        let mut returned = positions(&peers.returned());
        let times = returned.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!(interval.is_zero() || times == 0, "seed {seed}: {returned:?}");
        overtaken += times;
        returned.sort_unstable();
        assert_eq!(returned, all_of(50), "seed {seed}");
        assert!(peers.returned().iter().all(|(_, _, took)| *took == delay), "seed {seed}");
        assert!(peers.client.session.is_closed() && peers.server.session.is_closed());
        let established = peers.events.iter().find(|event| matches!(event, MoqtClientEvent::Established { .. }));
        assert_eq!(established, Some(&MoqtClientEvent::Established { at: Time::ZERO, version: offers[0] }));
        let counts = &peers.counts;
        let groups_and_frames = (counts.groups_received, counts.frames_received, counts.frames_sent);
        assert_eq!((counts.sessions, groups_and_frames), (1, (50, 100, 100)), "seed {seed}");
        assert_eq!((counts.received_bytes, counts.sent_bytes), (10_000, 10_000), "100 frames of 100 bytes");
    }
    assert!(overtaken > 0, "everything was delivered in order");
}

#[test]
fn slow_reader_loses_the_oldest_groups_whole() {
    // GROUP takes at most 5 bytes, and each of the two frames takes 2 + 1,000 bytes. Nine groups fit in 20,000 bytes.
    let bytes = SessionLimits { max_unsent_group_bytes: 20_000, ..SessionLimits::default() };
    let groups = SessionLimits { max_outgoing_groups: 10, ..SessionLimits::default() };
    for (limits, payload, lost) in [(bytes, 1_000, 91), (groups, 1, 90)] {
        let sending = Sending { payload: FramePayload::Random(payload), ..fifty_groups(MS) };
        let plan = Plan { sending: Sending { group_count: Some(100), ..sending }, limits, ..Plan::default() };
        let mut quick = JoinedPeers::new(plan.clone());
        assert_eq!((quick.finish(), quick.lost()), (MoqtRunOutcome::Completed, vec![]));
        assert_eq!(quick.counts.groups_dropped_slow_reader, 0);
        let mut peers = JoinedPeers::new(plan);
        peers.client_is_slow = true;
        peers.until(Time::from_millis(200));
        assert_eq!(peers.returned(), [], "nothing was read");
        peers.client_is_slow = false;
        assert_eq!(peers.finish(), MoqtRunOutcome::Completed);
        assert_eq!(peers.lost(), (1..=lost).collect::<Vec<_>>());
        let mut returned = positions(&peers.returned());
        returned.sort_unstable();
        assert_eq!(returned, all_of(100)[2 * lost as usize..]);
        assert_eq!(peers.counts.groups_dropped_slow_reader, lost);
    }
}

#[test]
fn close_by_either_side_ends_an_endless_run_with_its_reason() {
    for closed_locally in [true, false] {
        let sending = Sending { group_count: None, ..fifty_groups(10 * MS) };
        let mut peers = JoinedPeers::new(Plan { sending, ..Plan::default() });
        peers.until(Time::from_millis(1_045));
        let (now, code) = (peers.now, error_code::NO_ERROR);
        if closed_locally {
            peers.client.update(now, |session| session.close(code, "interrupted"));
        } else {
            peers.server.update(now, |session| session.close(code, "interrupted"));
        }
        let closed = MoqtRunOutcome::Closed { code, reason: "interrupted".to_owned(), closed_locally };
        assert_eq!(peers.finish(), closed);
        // The first of 100 groups is sent at 50 ms. The other groups follow at intervals of 10 ms, until 1,040 ms.
        assert_eq!(positions(&peers.returned()), all_of(100));
    }
}

#[test]
fn timeout_is_extended_by_the_smallest_round_trip() {
    let echoing = Echoing { delay: 250 * MS, ..Echoing::default() };
    let sending =
        Sending { group_count: Some(20), group_interval: 20 * MS, reply_timeout: 100 * MS, ..Sending::default() };
    let mut peers = JoinedPeers::new(Plan { echoing, sending, ..Plan::default() });
    assert_eq!(peers.finish(), MoqtRunOutcome::Completed);
    // The last frame is sent at 50 + 19 × 20 = 430 ms. The first frame returns at 300 ms.
    assert_eq!((peers.returned().len(), peers.lost()), (20, vec![]));
    // The run waits another 100 ms for second copies.
    assert_eq!(finished_at(&peers), Some(Time::from_millis(430 + 250 + 100)));
}

#[test]
fn queued_texts_are_sent_in_order_at_the_group_interval() {
    let (feed, payload) = FramePayload::queue();
    let sending = Sending { group_count: None, group_interval: 100 * MS, payload, ..Sending::default() };
    let mut peers = JoinedPeers::new(Plan { sending, ..Plan::default() });
    peers.until(Time::from_millis(1_003));
    // Two texts are queued at the same time while the session is idle. The client polls the queue every 10 ms.
    for text in ["one", "two"] {
        feed.send(text.into()).unwrap();
    }
    peers.until(Time::from_millis(1_500));
    feed.send("three".into()).unwrap();
    peers.until(Time::from_millis(1_900));
    drop(feed);
    assert_eq!(peers.finish(), MoqtRunOutcome::Completed);
    let sent = peers.events.iter().filter_map(|event| match *event {
        MoqtClientEvent::FrameSent { group, sent_at, due, bytes, .. } => {
            Some((group, sent_at.as_nanos() / 1_000_000, sent_at == due, bytes))
        }
        _ => None,
    });
    let expected = [(1, 1_010, true, 3), (2, 1_110, true, 3), (3, 1_510, true, 5)];
    assert_eq!(sent.collect::<Vec<_>>(), expected);
    let texts = peers.events.iter().filter_map(|event| match event {
        MoqtClientEvent::FrameReturned { payload, intact: true, .. } => Some(payload.clone()),
        _ => None,
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["one", "two", "three"]);
    // The feed was closed at 1,910 ms, and the run waits another 100 ms for second copies.
    assert_eq!(finished_at(&peers), Some(Time::from_millis(2_010)));
}

#[test]
fn text_queue_has_a_capacity() {
    let (feed, _payload) = FramePayload::queue();
    let taken = (0..2_000).filter(|_| feed.try_send("x".into()).is_ok()).count();
    assert_eq!(taken, TEXT_QUEUE_CAPACITY);
}

/// Messages of gomoqt-2025-02, written by hand.
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

pub(super) fn client(sending: Sending) -> ManualPeer<MoqtClient> {
    let (offered_versions, path) = (MoqtVersion::ALL.to_vec(), "/echo".to_owned());
    let end = EndpointRole::Client { offered_versions, path: Some(path) };
    let session = Session::new(Time::ZERO, end, SessionLimits::default());
    ManualPeer::new(MoqtEndpoint::new(session, MoqtClient::new(sending)))
}

fn events(manual_peer: &mut ManualPeer<MoqtClient>) -> Vec<MoqtClientEvent> {
    std::iter::from_fn(|| manual_peer.peer.handler.poll_event()).collect()
}

/// Two groups, 10 ms apart, of two frames each. Every frame contains `hi`.
fn two_groups() -> Sending {
    let payload = FramePayload::Texts(vec!["hi".into()]);
    Sending { group_count: Some(2), frames_per_group: 2, group_interval: 10 * MS, payload, ..Sending::default() }
}

/// A client that has sent its first group.
fn sending() -> ManualPeer<MoqtClient> {
    let mut client = client(two_groups());
    assert_eq!(client.take_written(StreamHandle::Local(0))[0], 0, "the session stream comes first");
    client.deliver(StreamHandle::Local(0), SERVER);
    assert_eq!(client.take_written(StreamHandle::Local(1)), PLEASE);
    // The server's SUBSCRIBE arrives before its ANNOUNCE_PLEASE, as can happen with the original gomoqt server.
    let subscriber = client.open(0, StreamDir::Bi, SUBSCRIBE);
    assert_eq!(client.take_written(subscriber), INFO);
    let announcements = client.open(4, StreamDir::Bi, PLEASE);
    assert_eq!(client.take_written(announcements), ACTIVE);
    client.deliver(StreamHandle::Local(1), SUFFIX);
    assert_eq!(client.take_written(StreamHandle::Local(2)), SUBSCRIBE, "a suffix is equivalent to the complete path");
    client.deliver(StreamHandle::Local(2), INFO);
    client.until(Time::from_millis(50));
    assert_eq!(client.take_written(StreamHandle::Local(3)), [GROUP_1, b"\x02hi\x02hi"].concat());
    assert_eq!(client.finished, [StreamHandle::Local(3)]);
    client
}

/// A frame that is sent at `at` and returns immediately.
fn returned((group, frame): (u64, usize), at: Time, intact: bool, payload: &'static [u8]) -> MoqtClientEvent {
    MoqtClientEvent::FrameReturned { group, frame, sent_at: Some(at), at, intact, payload: payload.into() }
}

/// The intact payload of a frame for which the client did not wait.
fn unmatched(group: u64, frame: usize, at: Time) -> MoqtClientEvent {
    MoqtClientEvent::FrameReturned { group, frame, sent_at: None, at, intact: true, payload: "hi".into() }
}

#[test]
fn groups_and_frames_that_do_not_return_are_lost_or_missing() {
    let mut client = sending();
    let group = client.open(2, StreamDir::Uni, &[GROUP_1, b"\x02hi"].concat());
    client.reset(group, 3);
    client.until(Time::from_millis(2_059));
    assert_eq!(client.peer.handler.outcome(), None);
    client.until(Time::from_millis(2_060));
    assert_eq!(client.peer.handler.outcome(), Some(&MoqtRunOutcome::Completed));
    assert_eq!(client.closed(), (error_code::NO_ERROR, "done"));
    let at = Time::from_millis;
    let sent = |group, frame, ms| MoqtClientEvent::FrameSent { group, frame, sent_at: at(ms), due: at(ms), bytes: 2 };
    let expected = [
        MoqtClientEvent::Established { at: at(0), version: MoqtVersion::Gomoqt202502 },
        MoqtClientEvent::Ready { at: at(0) },
        sent(1, 0, 50),
        sent(1, 1, 50),
        returned((1, 0), at(50), true, b"hi"),
        sent(2, 0, 60),
        sent(2, 1, 60),
        MoqtClientEvent::Finished { at: at(2_060), outcome: MoqtRunOutcome::Completed },
    ];
    let events = events(&mut client);
    assert_eq!(events, expected);
}

#[test]
fn second_copies_are_received_for_a_while_after_completion() {
    let mut client = sending();
    client.open(2, StreamDir::Uni, &[GROUP_1, b"\x02hi\x02hi"].concat());
    client.until(Time::from_millis(60));
    client.open(6, StreamDir::Uni, b"\x00\x02\x00\x02\x02hi\x02hi");
    client.until(Time::from_millis(159));
    assert_eq!(client.peer.handler.outcome(), None);
    client.open(10, StreamDir::Uni, &[GROUP_1, b"\x02hi"].concat());
    client.until(Time::from_millis(160));
    assert_eq!(client.peer.handler.outcome(), Some(&MoqtRunOutcome::Completed));
    let at = Time::from_millis;
    let last = events(&mut client).split_off(10);
    let expected =
        [unmatched(1, 0, at(159)), MoqtClientEvent::Finished { at: at(160), outcome: MoqtRunOutcome::Completed }];
    assert_eq!(last, expected);
}

#[test]
fn run_is_complete_if_the_server_closes_after_the_last_frame() {
    let (mut client, at) = (sending(), Time::from_millis);
    client.open(2, StreamDir::Uni, &[GROUP_1, b"\x02hi\x02hi"].concat());
    client.until(at(60));
    client.open(6, StreamDir::Uni, b"\x00\x02\x00\x02\x02hi\x02hi");
    client.peer.update(at(65), |session| session.on_connection_closed(7, "whim"));
    client.act();
    let end = MoqtClientEvent::Finished { at: at(65), outcome: MoqtRunOutcome::Completed };
    assert_eq!(events(&mut client).last(), Some(&end));
}

#[test]
fn damaged_duplicate_and_unknown_frames_are_distinguished() {
    let mut client = sending();
    events(&mut client);
    client.open(2, StreamDir::Uni, &[GROUP_1, b"\x02ho\x02hi"].concat());
    client.open(6, StreamDir::Uni, &[GROUP_1, b"\x02hi"].concat());
    client.open(10, StreamDir::Uni, b"\x00\x02\x00\x09\x02hi");
    let at = Time::from_millis(50);
    let expected = [
        returned((1, 0), at, false, b"ho"),
        returned((1, 1), at, true, b"hi"),
        unmatched(1, 0, at),
        unmatched(9, 0, at),
    ];
    assert_eq!(events(&mut client), expected);
}

/// The scripted server behaves like the original gomoqt-0.9 server. The server accepts a subscription only when the server has a group to
/// send for this subscription. The server numbers groups from 0.
#[test]
fn gomoqt_09_needs_no_announcement_and_counts_groups_from_0() {
    let mut client = client(two_groups());
    client.take_written(StreamHandle::Local(0));
    client.deliver(StreamHandle::Local(0), &[0x09, 0xc0, 0, 0, 0, 0xfe, 0xed, 0xba, 0xbe, 0]);
    assert_eq!(client.take_written(StreamHandle::Local(1)), b"\x01\x02\x01/");
    let wants = b"\x02\x15\x00\x0c/client.echo\x05index\x00";
    let subscriber = client.open(0, StreamDir::Bi, wants);
    assert_eq!(client.take_written(subscriber), [0], "SUBSCRIBE_OK");
    client.deliver(StreamHandle::Local(1), b"\x0d\x01\x0bclient.echo");
    assert_eq!(client.take_written(StreamHandle::Local(2)), wants);
    client.until(Time::from_millis(50));
    assert_eq!(client.take_written(StreamHandle::Local(3)), b"\x00\x02\x00\x00\x02hi\x02hi");
    events(&mut client);
    client.deliver(StreamHandle::Local(2), &[0]);
    client.open(2, StreamDir::Uni, b"\x00\x02\x00\x00\x02hi");
    assert_eq!(events(&mut client), [returned((1, 0), Time::from_millis(50), true, b"hi")]);
}

/// A gomoqt-0.9 client that has just sent its first group. The server has subscribed and announced, but has not accepted the client's
/// subscription.
fn before_subscribe_ok(sending: Sending) -> ManualPeer<MoqtClient> {
    let mut client = client(sending);
    client.deliver(StreamHandle::Local(0), &[0x09, 0xc0, 0, 0, 0, 0xfe, 0xed, 0xba, 0xbe, 0]);
    client.open(0, StreamDir::Bi, b"\x02\x15\x00\x0c/client.echo\x05index\x00");
    client.deliver(StreamHandle::Local(1), b"\x0d\x01\x0bclient.echo");
    client.until(Time::from_millis(50));
    client
}

#[test]
fn gomoqt_09_server_must_accept_within_time_after_the_first_frame() {
    let not_agreed = Some(&MoqtRunOutcome::NotReady("the server did not accept our subscription".into()));
    let endless = || Sending { group_count: None, ..two_groups() };
    let mut silent = before_subscribe_ok(endless());
    silent.until(Time::from_millis(5_049));
    assert_eq!(silent.peer.handler.outcome(), None);
    silent.until(Time::from_millis(5_050));
    assert_eq!(silent.peer.handler.outcome(), not_agreed);
    // This run ends before SUBSCRIBE_OK. The last frame was due at 60 ms, and the timeout is 2 s.
    let mut short = before_subscribe_ok(two_groups());
    short.until(Time::from_millis(2_059));
    assert_eq!(short.peer.handler.outcome(), None);
    short.until(Time::from_millis(2_060));
    assert_eq!(short.peer.handler.outcome(), not_agreed);
    // Either SUBSCRIBE_OK or a group shows that the server has accepted the subscription.
    let mut accepted = before_subscribe_ok(endless());
    accepted.deliver(StreamHandle::Local(2), &[0]);
    let mut with_group = before_subscribe_ok(endless());
    with_group.open(2, StreamDir::Uni, b"\x00\x02\x00\x00\x02hi");
    for client in [&mut accepted, &mut with_group] {
        client.until(Time::from_millis(6_000));
        assert_eq!(client.peer.handler.outcome(), None);
    }
}

#[test]
fn nothing_is_sent_after_the_server_unsubscribed() {
    let left = Some(&MoqtRunOutcome::NotReady("the server unsubscribed from our track".into()));
    let mut client = sending();
    events(&mut client);
    client.finish(StreamHandle::Remote(0));
    assert_eq!(client.peer.handler.outcome(), left);
    client.until(Time::from_millis(100));
    // The second group was due at 60 ms.
    assert!(!events(&mut client).iter().any(|event| matches!(event, MoqtClientEvent::FrameSent { .. })));
}

/// The server ends the client's subscription before the session is ready, while frames are sent, or after the last frame.
#[test]
fn code_of_an_ended_subscription_is_reported() {
    let ended = || Some(MoqtRunOutcome::NotReady("the server ended our subscription with code 0x3".into()));
    let mut early = client(two_groups());
    early.deliver(StreamHandle::Local(0), SERVER);
    early.open(0, StreamDir::Bi, SUBSCRIBE);
    early.deliver(StreamHandle::Local(1), ACTIVE);
    early.reset(StreamHandle::Local(2), 3);
    early.until(Time::from_millis(4_999));
    assert_eq!(early.peer.handler.outcome(), None, "the server may announce the track again");
    early.until(Time::from_millis(5_000));
    assert_eq!(early.peer.handler.outcome(), ended().as_ref());
    for end in [55, 65] {
        let mut client = sending();
        client.until(Time::from_millis(end));
        client.reset(StreamHandle::Local(2), 3);
        assert_eq!(client.peer.handler.outcome(), ended().as_ref(), "{end}");
    }
}

/// A server of gomoqt-0.9 that rejects the subscription may accept it after a new announcement. If it sends none, the code is reported.
#[test]
fn rejected_subscription_may_be_accepted_after_a_new_announcement() {
    for is_announced_again in [false, true] {
        let mut client = before_subscribe_ok(Sending { group_count: None, ..two_groups() });
        client.reset(StreamHandle::Local(2), 3);
        client.until(Time::from_millis(5_049));
        assert_eq!(client.peer.handler.outcome(), None);
        if is_announced_again {
            client.deliver(StreamHandle::Local(1), b"\x0d\x00\x0bclient.echo\x0d\x01\x0bclient.echo");
            let subscription = client.opened.iter().rev().find(|(_, kind)| *kind == StreamDir::Bi).unwrap().0;
            client.deliver(subscription, &[0]);
        }
        client.until(Time::from_millis(5_050));
        let ended = MoqtRunOutcome::NotReady("the server ended our subscription with code 0x3".into());
        assert_eq!(client.peer.handler.outcome(), (!is_announced_again).then_some(&ended));
    }
}

#[test]
fn missing_step_of_the_server_is_named() {
    type Messages<'a> = &'a [(StreamHandle, &'a [u8])];
    let steps: [(&str, Messages<'_>); 3] = [
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
    let mut silent = client(two_groups());
    silent.until(Time::from_millis(4_999));
    assert_eq!(silent.closed, None);
    silent.until(Time::from_millis(5_000));
    assert_eq!(silent.closed(), (error_code::SETUP_FAILED, "setup timed out after 5 s"));
    for (why, steps) in steps {
        let mut client = client(two_groups());
        client.deliver(StreamHandle::Local(0), SERVER);
        client.peer.update(Time::ZERO, |session| session.on_stream_opened(0, StreamDir::Bi));
        for (stream, bytes) in steps {
            client.deliver(*stream, bytes);
        }
        client.until(Time::from_millis(4_999));
        assert_eq!(client.peer.handler.outcome(), None, "{why}");
        client.until(Time::from_millis(5_000));
        assert_eq!(client.peer.handler.outcome(), Some(&MoqtRunOutcome::NotReady(why.into())));
    }
}

#[test]
fn unoffered_version_closes_the_session() {
    let mut other = client(two_groups());
    other.deliver(StreamHandle::Local(0), &[0x09, 0xc0, 0, 0, 0, 0xff, 0x0b, 0xad, 0x03, 0]);
    assert_eq!(other.closed().0, error_code::UNSUPPORTED_VERSION);
    assert!(matches!(other.peer.handler.outcome(), Some(MoqtRunOutcome::Closed { closed_locally: true, .. })));
}

#[test]
fn groups_before_the_first_subscription_are_kept_up_to_a_limit() {
    let (mut echo, _) = super::session::established(MoqtVersion::Gomoqt202502);
    echo.deliver(StreamHandle::Local(0), ACTIVE);
    for (id, sequence) in [(2, 1), (6, 2), (10, 3), (14, 4), (18, 5), (22, 6)] {
        let group = echo.open(id, StreamDir::Uni, &[0, 2, 0, sequence, 1, b'x']);
        echo.finish(group);
    }
    // Four groups are buffered, and the two oldest are dropped.
    assert_eq!((echo.opened.len(), echo.counts.groups_dropped_no_subscriber), (2, 2));
    echo.open(4, StreamDir::Bi, SUBSCRIBE);
    for (handle, sequence) in [(2, 3), (3, 4), (4, 5), (5, 6)] {
        assert_eq!(echo.take_written(StreamHandle::Local(handle)), [0, 2, 0, sequence, 1, b'x']);
        assert!(echo.finished.contains(&StreamHandle::Local(handle)));
    }
    assert_eq!(echo.opened.len(), 6);
}
