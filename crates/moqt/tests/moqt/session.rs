//! One session with a scripted peer. The peer sends the same bytes as the original programs. The peer also sends streams in unusual orders
//! and violates the protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_moqt::echo::{MIN_BUFFERED_BYTES, MoqtEcho, MoqtEchoConfig};
use jamjam_moqt::message::{Announce, AnnouncePlease, MessageBody, Subscribe};
use jamjam_moqt::{
    EndpointRole, MoqtEndpoint, MoqtVersion, Session, SessionLimits, StreamDir, StreamHandle, TrackPath, error_code,
    path_matches,
};
use test_support::manual_peer::ManualPeer;
use test_support::moqt_golden as golden;

use MoqtVersion::{Gomoqt202502, Lite03, Lite04};
use StreamDir::{Bi, Uni};
use StreamHandle::{Local, Remote};

/// The hop ID in the golden messages.
pub(super) const HOP: u64 = 0x0008_0031_e28a_4701;

/// An echo server with the path `/echo`.
fn echo(path_in_connect: bool) -> ManualPeer<MoqtEcho> {
    let end = EndpointRole::Server { served_path: "/echo".to_owned(), path_in_connect };
    let session = Session::new(Time::ZERO, end, SessionLimits::default());
    ManualPeer::new(MoqtEndpoint::new(session, MoqtEcho::new(MoqtEchoConfig::default())))
}

fn quic() -> ManualPeer<MoqtEcho> {
    echo(false)
}

fn webtransport() -> ManualPeer<MoqtEcho> {
    echo(true)
}

/// The golden messages of a version, and those of its client. The message that accepts a subscription is always named `subscribe-ok`.
pub(super) fn pieces_of(version: MoqtVersion) -> BTreeMap<String, Vec<u8>> {
    let mut pieces = golden::pieces(&format!("{}.txt", version.name()));
    // The golden announcements have the hop ID of the echo. In moq-lite-04, those of the client have another one.
    for (name, same) in [
        ("announce-active-client", "announce-active"),
        ("announce-ended-client", "announce-ended"),
        ("subscribe-ok", "info"),
    ] {
        if let (None, Some(same)) = (pieces.get(name), pieces.get(same).cloned()) {
            pieces.insert(name.to_owned(), same);
        }
    }
    pieces
}

/// An echo server that has completed the setup and requested announcements on its first stream, and the golden messages. If the version has
/// a session stream, it is stream 0.
pub(super) fn established_with(
    version: MoqtVersion,
    config: MoqtEchoConfig,
) -> (ManualPeer<MoqtEcho>, BTreeMap<String, Vec<u8>>) {
    let (pieces, limits) = (pieces_of(version), SessionLimits::default());
    let has_setup = version.rules().session_code.is_some();
    let end = EndpointRole::Server { served_path: "/echo".to_owned(), path_in_connect: has_setup };
    let session =
        if has_setup { Session::new(Time::ZERO, end, limits) } else { Session::established(end, limits, version, HOP) };
    let mut echo = ManualPeer::new(MoqtEndpoint::new(session, MoqtEcho::new(config)));
    if has_setup {
        let first = echo.open(0, Bi, &pieces["session-client"]);
        assert_eq!(echo.take_written(first), pieces["session-server"]);
    }
    assert_eq!(echo.opened, [(Local(0), Bi)]);
    assert_eq!(echo.take_written(Local(0)), pieces["announce-please"]);
    if version.rules().has_announce_init {
        echo.deliver(Local(0), &pieces["announce-init-none"]);
    }
    (echo, pieces)
}

pub(super) fn established(version: MoqtVersion) -> (ManualPeer<MoqtEcho>, BTreeMap<String, Vec<u8>>) {
    established_with(version, MoqtEchoConfig::default())
}

/// The stream on which the peer is subscribed to the echoed track: the first one, or the one after the session stream.
fn subscriber(version: MoqtVersion) -> u64 {
    if version.rules().session_code.is_some() { 4 } else { 0 }
}

/// Like [`established`], with a track announced by the peer. The echo server has subscribed to this track on its second stream, and the peer
/// to the echoed track, both as subscription 0.
pub(super) fn subscribed_with(
    version: MoqtVersion,
    config: MoqtEchoConfig,
) -> (ManualPeer<MoqtEcho>, BTreeMap<String, Vec<u8>>) {
    let (mut echo, pieces) = established_with(version, config);
    echo.deliver(Local(0), &pieces["announce-active-client"]);
    let subscriber = echo.open(subscriber(version), Bi, &pieces["subscribe"]);
    assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
    let requested = pieces.get("subscribe-relayed").unwrap_or(&pieces["subscribe"]);
    assert_eq!(echo.take_written(Local(1)), *requested);
    echo.deliver(Local(1), &pieces["subscribe-ok"]);
    (echo, pieces)
}

pub(super) fn subscribed(version: MoqtVersion) -> (ManualPeer<MoqtEcho>, BTreeMap<String, Vec<u8>>) {
    subscribed_with(version, MoqtEchoConfig::default())
}

/// A group from the peer: the golden GROUP for subscription 0, followed by `frames`.
fn group(frames: &[&str]) -> Vec<u8> {
    let frames = frames.iter().flat_map(|frame| [&[frame.len() as u8], frame.as_bytes()].concat());
    [0, 2, 0, 1].into_iter().chain(frames).collect()
}

#[test]
fn client_of_gomoqt_2025_02_is_answered_byte_for_byte() {
    let (mut echo, pieces) = established(Gomoqt202502);
    // The peer immediately requests announcements and subscribes to the echoed track. At this time, the peer has not announced a track.
    let announcements = echo.open(4, Bi, &pieces["announce-please-bare"]);
    let subscriber = echo.open(8, Bi, &pieces["subscribe-bare"]);
    assert!(echo.written.is_empty(), "no track is announced yet");
    echo.deliver(Local(0), &pieces["announce-live-bare"]);
    echo.deliver(Local(0), &pieces["announce-active-bare"]);
    assert_eq!(echo.take_written(Local(1)), pieces["subscribe"], "the echo subscribes");
    assert_eq!(echo.take_written(announcements), pieces["announce-active"], "announces back");
    assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"], "and accepts");
    echo.deliver(Local(1), &pieces["subscribe-ok"]);
    let group = echo.open(2, Uni, &pieces["group"]);
    echo.deliver(group, &pieces["frame"]);
    let sent = [&pieces["group"][..], &pieces["frame"]].concat();
    assert_eq!(echo.take_written(Local(2)), sent, "the frame is echoed before the group ends");
    assert!(!echo.finished.contains(&Local(2)));
    echo.finish(group);
    assert!(echo.finished.contains(&Local(2)));
    assert_eq!((&echo.opened[1..], echo.closed), (&[(Local(1), Bi), (Local(2), Uni)][..], None));
}

#[test]
fn client_of_gomoqt_09_is_answered_byte_for_byte() {
    let pieces = golden::pieces("gomoqt-0.9.txt");
    let mut echo = webtransport();
    let first = echo.open(0, Bi, &pieces["session-client"]);
    assert_eq!(echo.take_written(first), pieces["session-server"]);
    assert_eq!(echo.take_written(Local(0)), pieces["announce-please"]);
    let early = echo.open(4, Bi, &pieces["announce-please"]);
    assert_eq!(echo.take_written(early), pieces["announce-init-none"]);
    echo.deliver(Local(0), &pieces["announce-init"]);
    assert_eq!(echo.take_written(early), pieces["announce-active"]);
    assert_eq!(echo.take_written(Local(1)), pieces["subscribe"]);
    let late = echo.open(8, Bi, &pieces["announce-please"]);
    assert_eq!(echo.take_written(late), pieces["announce-init"]);
    let subscriber = echo.open(12, Bi, &pieces["subscribe"]);
    assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
    echo.deliver(Local(1), &pieces["subscribe-ok"]);
    let group = echo.open(2, Uni, &[&pieces["group"][..], &pieces["frame"]].concat());
    echo.finish(group);
    assert_eq!(echo.take_written(Local(2)), [&pieces["group"][..], &pieces["frame"]].concat());
    echo.deliver(Local(0), &pieces["announce-ended"]);
    assert_eq!(echo.take_written(early), pieces["announce-ended"]);
    assert_eq!(echo.take_written(late), pieces["announce-ended"]);
    assert!(echo.finished.contains(&subscriber), "the echo's track ends when the client's track ends");
}

#[test]
fn version_is_chosen_from_the_offer() {
    let both = [0x00, 0x13, 0x02, 0xc0, 0, 0, 0, 0xfe, 0xed, 0xba, 0xbe, 0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0x00];
    let mut echo = webtransport();
    echo.open(0, Bi, &both[..]);
    assert_eq!(echo.peer.session.version(), None, "according to its length of 19, one byte of the setup is missing");
    let mut setup = both;
    setup[1] = 0x12;
    let mut echo = webtransport();
    let first = echo.open(0, Bi, &setup);
    assert_eq!(echo.peer.session.version(), Some(Gomoqt202502), "gomoqt-2025-02 is preferred");
    assert_eq!(echo.take_written(first), pieces_of(Gomoqt202502)["session-server"]);
}

#[test]
fn path_is_served_with_or_without_its_slash() {
    for (path, is_served) in [("/echo", true), ("echo", true), ("/other", false), ("//echo", false), ("", false)] {
        assert_eq!(path_matches("/echo", path), is_served, "{path}");
        let setup = [
            &[0, 12 + path.len() as u8, 1, 0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 1, 1, path.len() as u8][..],
            path.as_bytes(),
        ];
        let mut echo = quic();
        echo.open(0, Bi, &setup.concat());
        assert_eq!(echo.closed.is_none(), is_served, "{path}");
        if !is_served {
            let reason = format!("unknown path {path}; this server serves /echo");
            assert_eq!(echo.closed(), (error_code::SETUP_FAILED, &*reason));
        }
    }
}

#[test]
fn invalid_setup_is_rejected_with_its_reason() {
    #[rustfmt::skip]
    let cases: [(&[u8], u32, &str); 7] = [
        (&[0x20, 0x43, 0x21], error_code::PROTOCOL_VIOLATION, "unsupported MOQ protocol (first byte 0x20)"),
        (&[0x02, 0x17],       error_code::PROTOCOL_VIOLATION, "type 0x02, expected 0x00 (session)"),
        (&[0x00, 0x0a, 0x01, 0xc0, 0, 0, 0, 0xff, 0x0b, 0xad, 0x03, 0x00], error_code::SETUP_FAILED, "the setup contains no path"),
        (&[0x00, 0x0d, 0x01, 0xc0, 0, 0, 0, 0xff, 0x0b, 0xad, 0x03, 1, 1, 1, b'/'], error_code::SETUP_FAILED, "unknown path /; "),
        (&[0x00, 0x11, 0x01, 0xc0, 0, 0, 0, 0xff, 0x0b, 0xad, 0x03, 1, 1, 5, b'/', b'e', b'c', b'h', b'o'], error_code::UNSUPPORTED_VERSION, "offered 0xff0bad03, supported 0xffffff00 and 0xfeedbabe"),
        (&[0x00, 0xc0, 0, 0, 1, 0, 0, 0, 0], error_code::PROTOCOL_VIOLATION, "message or frame of 4294967296 bytes exceeds the maximum of 1048576"),
        (&[0x00, 0x01, 0x3f], error_code::PROTOCOL_VIOLATION, "versions is truncated"),
    ];
    for (bytes, code, reason) in cases {
        let mut echo = quic();
        echo.open(0, Bi, bytes);
        let (closed, actual) = echo.closed();
        assert_eq!(closed, code, "{bytes:02x?}: {actual}");
        assert!(actual.contains(reason), "{bytes:02x?}: {actual}");
        assert_eq!(echo.counts.setups_failed, 1);
    }
}

#[test]
fn missing_setup_times_out() {
    let setup = &pieces_of(Gomoqt202502)["session-client-quic"];
    for sent in 0..setup.len() {
        let mut silent = quic();
        if sent > 0 {
            silent.open(0, Bi, &setup[..sent]);
        }
        silent.until(Time::from_millis(4_999));
        assert_eq!(silent.closed, None);
        silent.until(Time::from_millis(5_000));
        assert_eq!(silent.closed(), (error_code::SETUP_FAILED, "setup timed out after 5 s"));
        let mut ended = quic();
        let first = ended.open(0, Bi, &setup[..sent]);
        ended.finish(first);
        assert_eq!(ended.closed().0, error_code::PROTOCOL_VIOLATION, "ended after {sent} bytes");
    }
    let (mut echo, _) = established(Gomoqt202502);
    echo.until(Time::from_millis(60_000));
    assert_eq!(echo.closed, None);
    echo.finish(Remote(0));
    assert_eq!(echo.closed(), (error_code::NO_ERROR, "the session stream ended"));
}

#[test]
fn streams_that_overtake_the_setup_wait_for_it() {
    let pieces = pieces_of(Gomoqt202502);
    let mut echo = quic();
    echo.peer.update(Time::ZERO, |session| session.on_stream_opened(0, Bi));
    let announcements = echo.open(4, Bi, &pieces["announce-please"]);
    let subscriber = echo.open(8, Bi, &pieces["subscribe"]);
    let stray = echo.open(2, Uni, &pieces["group"]);
    echo.finish(announcements);
    assert_eq!((echo.opened.len(), echo.stopped.len()), (0, 0), "nothing is sent before the setup");
    echo.deliver(Remote(0), &pieces["session-client-quic"]);
    // A group with an unassigned subscription number is rejected.
    assert_eq!(echo.stopped, [(stray, error_code::INVALID_SUBSCRIBE_ID)]);
    assert_eq!(echo.finished, [announcements]);
    echo.deliver(Local(0), &pieces["announce-active"]);
    assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
}

#[test]
fn unknown_stream_is_rejected_and_the_session_continues() {
    for version in MoqtVersion::ALL {
        let (mut echo, pieces) = established(version);
        for (id, kind, byte) in
            [(4, Bi, 0), (8, Bi, 3), (12, Bi, 4), (16, Bi, 6), (20, Bi, 0x20), (2, Uni, 1), (6, Uni, 0x21)]
        {
            let stream = echo.open(id, kind, &[byte, 0, 0]);
            let unsupported = Some((stream, error_code::UNSUPPORTED_STREAM_TYPE));
            assert_eq!(echo.stopped.pop(), unsupported, "{version:?} {byte}");
            assert_eq!(echo.reset.pop(), unsupported.filter(|_| kind == Bi), "{version:?} {byte}");
            echo.deliver(stream, &[1, 2, 3]);
        }
        assert_eq!((echo.counts.streams_unknown_type, echo.counts.requests_unsupported), (5, 2), "{version:?}");
        echo.deliver(Local(0), &pieces["announce-active-client"]);
        let subscriber = echo.open(24, Bi, &pieces["subscribe"]);
        assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
    }
}

#[test]
fn malformed_message_resets_its_stream_only() {
    // Of each kind of version: a prefix that is not UTF-8, a message that is too short, a length of 63 without as much after it, and missing
    // fields at the end, or too many parts.
    let older: [&[u8]; 4] = [b"\x01\x04\x01\x02\xc3\x28", b"\x01\x00", b"\x02\x02\x00\x3f", b"\x01\x03\x40\x41\x00"];
    let lite: [&[u8]; 4] =
        [b"\x01\x04\x02\xc3\x28\x00", b"\x01\x00", b"\x02\x02\x00\x3f", b"\x02\x07\x00\x01a\x01b\x00\x01"];
    // One byte over a mebibyte, and the maximum.
    let long: [&[u8]; 2] = [b"\x02\x80\x10\x00\x01", b"\x02\xff\xff\xff\xff\xff\xff\xff\xff"];
    for (version, cases, status) in [(Gomoqt202502, older, 7), (Lite04, lite, 2), (Lite03, lite, 2)] {
        let (mut echo, pieces) = established(version);
        let malformed = |stream| Some((stream, error_code::MALFORMED_MESSAGE));
        for (id, bytes) in (4..).step_by(4).zip(cases.into_iter().chain(long)) {
            let stream = echo.open(id, Bi, bytes);
            assert_eq!((echo.reset.pop(), echo.stopped.pop()), (malformed(stream), malformed(stream)), "{bytes:02x?}");
        }
        for (id, piece) in [(40, "announce-please"), (44, "subscribe"), (48, "goaway")] {
            for cut in 1..pieces.get(piece).map_or(0, Vec::len) {
                let stream = echo.open(id + 100 * cut as u64, Bi, &pieces[piece][..cut]);
                echo.finish(stream);
                // A stream for GOAWAY may end before the message.
                assert!(echo.reset.pop() == malformed(stream) || (piece, cut) == ("goaway", 1), "{piece}: {cut}");
            }
        }
        assert_eq!(echo.closed, None);
        echo.deliver(Local(0), &pieces["announce-active-client"]);
        let subscriber = echo.open(100, Bi, &pieces["subscribe"]);
        assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
        echo.deliver(Local(0), &[5, status, 1, b'a', 0, 0]);
        assert_eq!(echo.reset.pop(), malformed(Local(0)), "an announcement with an unknown status");
        if version == Gomoqt202502 {
            continue;
        }
        // A reply that ends within its message ends both subscriptions.
        echo.deliver(Local(1), &pieces["subscribe-ok"][..3]);
        echo.finish(Local(1));
        assert_eq!(echo.reset, [Local(1), subscriber].map(|stream| (stream, error_code::MALFORMED_MESSAGE)));
        assert_eq!(echo.closed, None);
    }
}

#[test]
fn second_subscription_with_the_same_id_is_rejected() {
    for version in MoqtVersion::ALL {
        let (mut echo, pieces) = subscribed(version);
        let second = echo.open(8, Bi, &pieces["subscribe"]);
        assert_eq!(echo.reset, [(second, error_code::DUPLICATE_SUBSCRIBE_ID)]);
        echo.open(2, Uni, &group(&["a"]));
        assert_eq!(echo.opened.last(), Some(&(Local(2), Uni)), "the first subscription is served");
    }
}

#[test]
fn only_groups_in_the_subscribed_range_are_sent() {
    // In gomoqt-0.9, a subscription has no range.
    for version in [Gomoqt202502, Lite04, Lite03] {
        let (mut echo, pieces) = subscribed(version);
        echo.deliver(Remote(subscriber(version)), &pieces["subscribe-update"]);
        for (id, sequence, is_wanted) in [(2, 2, false), (6, 3, true), (10, 63, true)] {
            echo.open(id, Uni, &[0, 2, 0, sequence, 1, b'x']);
            let sent = echo.opened.pop().filter(|(_, kind)| *kind == Uni);
            assert_eq!(sent.is_some(), is_wanted, "{version:?} {sequence}");
        }
        let after = echo.open(14, Uni, &[0, 3, 0, 0x41, 0x91, 1, b'x']);
        assert_ne!(echo.opened.last().map(|(_, kind)| *kind), Some(Uni), "group 401 is not sent before group 400");
        echo.finish(after);
        let counts = (echo.counts.groups_received, echo.counts.groups_sent, echo.counts.groups_dropped());
        assert_eq!(counts, (4, 2, [0, 0, 2]), "{version:?}");
    }
}

#[test]
fn streams_beyond_the_limit_are_rejected() {
    for version in MoqtVersion::ALL {
        let (mut echo, _) = subscribed(version);
        for id in (8..40_008).step_by(4) {
            echo.open(id, Bi, &[]);
            echo.open(id + 2, Uni, &[0]);
        }
        // The server accepts 128 groups and 64 bidirectional streams, which include the subscription and the session stream, if any.
        let accepted = if version.rules().session_code.is_some() { 62 } else { 63 };
        assert_eq!(echo.counts.streams_rejected, 10_000 - accepted + 10_000 - 128);
        assert!(echo.stopped.iter().all(|(_, code)| *code == error_code::LIMIT_EXCEEDED));
        assert_eq!((echo.opened.len(), echo.closed.is_none()), (2, true));
        echo.finish(Remote(10));
        echo.open(50_002, Uni, &group(&["still here"]));
        assert_eq!(echo.take_written(Local(2)), group(&["still here"]), "one stream is available again");
    }
}

#[test]
fn announcements_beyond_the_limit_are_ignored() {
    for version in MoqtVersion::ALL {
        let (mut echo, _) = established(version);
        let announce = |echo: &mut ManualPeer<MoqtEcho>, name: &str| {
            let announce = Announce { path: TrackPath::from_parts([name]), hops: vec![5], ..Announce::default() };
            echo.deliver(Local(0), &announce.encode_with_length(version));
            (echo.counts.announcements, echo.counts.announcements_rejected)
        };
        // The path, with the prefix and slash that some versions have, has more than 4,096 bytes.
        assert_eq!(announce(&mut echo, &"x".repeat(4_097)), (0, 1), "{version:?}");
        assert_eq!(echo.opened.len(), 1, "no subscription");
        let last = (0..100).map(|number| announce(&mut echo, &number.to_string())).last();
        assert_eq!((last, echo.closed), (Some((16, 85)), None), "{version:?}");
    }
}

#[test]
fn oversized_prefix_is_rejected() {
    for version in MoqtVersion::ALL {
        let (mut echo, _) = established(version);
        let prefix = TrackPath::from_parts(["x".repeat(4_097)]);
        let please = AnnouncePlease { prefix, ..AnnouncePlease::default() }.encode_with_length(version);
        let announcements = echo.open(4, Bi, &[&[1], &please[..]].concat());
        assert_eq!(echo.stopped.last(), Some(&(announcements, error_code::LIMIT_EXCEEDED)));
        assert_eq!(echo.counts.streams_rejected, 1);
        let track = TrackPath::from_parts(["x".repeat(4_096), "track".to_owned()]);
        let subscribe = Subscribe { track, ..Subscribe::default() }.encode_with_length(version);
        let subscriber = echo.open(8, Bi, &[&[2], &subscribe[..]].concat());
        assert_eq!(echo.stopped.last(), Some(&(subscriber, error_code::LIMIT_EXCEEDED)));
        assert_eq!((echo.counts.subscriptions_rejected, echo.closed), (1, None));
    }
}

#[test]
fn incomplete_frames_are_bounded() {
    for version in MoqtVersion::ALL {
        let (mut echo, _) = subscribed(version);
        for id in (2..402).step_by(4) {
            echo.open(id, Uni, &[0, 2, 0, 1, 0x80, 0x10, 0x00, 0x00]);
            for _ in 0..15 {
                echo.deliver(Remote(id), &vec![0; 1 << 16]);
            }
        }
        // 100 groups of 960 KiB would be 94 MiB. Four of them fit in 4 MiB.
        let refused = echo.stopped.iter().filter(|(_, code)| *code == error_code::LIMIT_EXCEEDED).count();
        assert_eq!((refused, echo.counts.groups_aborted), (96, 96));
        assert_eq!(echo.closed, None);
    }
}

#[test]
fn peer_that_does_not_read_relayed_requests_is_closed() {
    // In gomoqt-2025-02, each announcement causes a subscription, whether the previous one has ended or not. In moq-lite, each subscription
    // of the peer is answered with 7 bytes and relayed. The first 64 requests of the echo take one byte less than the later ones, whose
    // subscription ID takes two bytes. The sum may be 262,144 bytes.
    for (version, reply, request) in [(Gomoqt202502, 0, 26), (Lite04, 7, 28), (Lite03, 7, 28)] {
        let (mut echo, pieces) = established(version);
        if reply > 0 {
            echo.deliver(Local(0), &pieces["announce-active-client"]);
        }
        echo.accepts_writes = false;
        let mut times = 0;
        while echo.closed.is_none() && times < 20_000 {
            if reply > 0 {
                let subscriber = echo.open(4 * times, Bi, &pieces["subscribe"]);
                echo.finish(subscriber);
            } else {
                echo.deliver(Local(0), &pieces["announce-active"]);
                echo.deliver(Local(0), &pieces["announce-ended"]);
            }
            times += 1;
        }
        let later = (262_144 - 64 * (reply + request)) / (reply + request + 1);
        let reason = (error_code::INTERNAL_ERROR, "the peer does not read messages");
        assert_eq!((times, echo.closed(), echo.counts.setups_failed), (64 + later + 1, reason, 0), "{version:?}");
        assert_eq!(echo.peer.next_deadline(), None);
    }
}

#[test]
fn aborted_group_is_aborted_in_the_echo() {
    for version in MoqtVersion::ALL {
        let (mut echo, _) = subscribed(version);
        let broken = echo.open(2, Uni, &group(&["one"]));
        echo.reset(broken, 42);
        assert_eq!((&echo.reset[..], &echo.finished[..]), (&[(Local(2), 42)][..], &[][..]));
        assert_eq!(echo.counts.groups_aborted, 1);
    }
}

#[test]
fn group_that_ends_within_a_frame_is_malformed() {
    let (mut echo, _) = subscribed(Gomoqt202502);
    let whole = group(&["abc", "d"]);
    for (id, end) in (2..).step_by(4).zip(0..=whole.len()) {
        let stream = echo.open(id, Uni, &whole[..end]);
        echo.finish(stream);
        // A group may end after GROUP, after its first frame, or after its second frame.
        let error = (![4, 8, 10].contains(&end)).then_some((stream, error_code::MALFORMED_MESSAGE));
        assert_eq!(echo.stopped.pop(), error, "{end}");
        // The first frame was echoed.
        assert!(end != 9 || echo.reset.pop().is_some_and(|(_, code)| code == error_code::MALFORMED_MESSAGE));
    }
}

#[test]
fn end_of_a_track_drops_its_waiting_groups() {
    let (mut echo, pieces) = established(Gomoqt202502);
    let announcements = echo.open(4, Bi, &pieces["announce-please"]);
    echo.deliver(Local(0), &pieces["announce-active"]);
    let group = echo.open(2, Uni, &group(&["one"]));
    echo.take_written(announcements);
    echo.reset(Local(1), 3);
    // A track that the client does not serve is not announced back.
    assert_eq!(echo.take_written(announcements), pieces["announce-ended"]);
    assert_eq!(echo.counts.groups_dropped_no_subscriber, 1);
    echo.finish(group);
    let late = echo.open(6, Uni, &self::group(&["two"]));
    // A group may arrive after the end of its subscription.
    assert!(!echo.stopped.contains(&(late, error_code::INVALID_SUBSCRIBE_ID)));
    let late = echo.open(8, Bi, &pieces["subscribe"]);
    assert!(echo.take_written(late).is_empty(), "the track has no subscription any more");
    // The track is announced again, so it is available again.
    echo.deliver(Local(0), &pieces["announce-ended"]);
    echo.deliver(Local(0), &pieces["announce-active"]);
    assert_eq!(echo.take_written(late), pieces["subscribe-ok"]);
    assert_eq!(echo.take_written(announcements), pieces["announce-active"]);
}

/// The other end has subscription 0 on stream 4, and `more` subscriptions on the streams after it.
fn subscribed_often(more: u8) -> ManualPeer<MoqtEcho> {
    let (mut echo, pieces) = subscribed(Gomoqt202502);
    for number in 1..=more {
        // The first byte after the type and the length is the subscription number.
        let mut subscribe = pieces["subscribe"].clone();
        subscribe[2] = number;
        let subscriber = echo.open(4 + 4 * u64::from(number), Bi, &subscribe);
        assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
    }
    echo
}

#[test]
fn chunk_of_many_empty_frames_is_processed_in_slices() {
    const FRAMES: usize = 1 << 16;
    let mut echo = subscribed_often(15);
    let coming = echo.open(2, Uni, &[0, 2, 0, 1]);
    // All bytes of the chunk are zero. Each byte is the length field of one empty frame.
    echo.peer.update(echo.now, |session| session.on_stream_data(coming, &vec![0; FRAMES]));
    echo.peer.update(echo.now, |session| session.on_stream_finished(coming));
    let (mut slices, mut frames, mut bytes) = (0, 0, 0);
    loop {
        let (mut writes, mut queued) = (0, 0);
        while let Some(action) = echo.peer.poll_action() {
            if let jamjam_moqt::SessionAction::Write(stream, more) = action {
                writes += 1;
                queued += more.len();
                echo.peer.update(echo.now, |session| session.on_bytes_written(stream, more.len()));
            }
        }
        // Each of the 16 readers gets 64 frames of one byte in one write. In the first slice, GROUP (4 bytes) precedes the frames.
        let (max_writes, max_queued) = if slices == 0 { (32, 16 * 68) } else { (16, 16 * 64) };
        assert!(writes <= max_writes && queued <= max_queued, "slice {slices}: {writes} writes, {queued} bytes");
        let counts = echo.peer.take_counters();
        assert!(counts.frames_received <= 64, "slice {slices}: {} frames", counts.frames_received);
        (slices, frames, bytes) = (slices + 1, frames + counts.frames_sent as usize, bytes + queued);
        if !echo.peer.has_backlog() {
            break;
        }
        assert_eq!(echo.peer.next_deadline(), Some(Time::ZERO), "the rest is due at once");
        echo.peer.handle_timeout(echo.now);
    }
    assert!(slices >= FRAMES / 64, "{slices}");
    assert_eq!((frames, bytes), (16 * FRAMES, 16 * (FRAMES + 4)));
}

#[test]
fn stream_that_used_exactly_one_slice_does_not_wait() {
    // A slice is 64 items: 64 frames, or GROUP and 63 frames.
    for frames in (60..70).chain(124..132) {
        let (mut echo, _) = subscribed(Gomoqt202502);
        let coming = echo.open(2, Uni, &group(&vec!["x"; frames]));
        echo.finish(coming);
        let mut slices = 0;
        while echo.peer.has_backlog() {
            assert_eq!(echo.peer.next_deadline(), Some(Time::ZERO), "{frames} frames, slice {slices}");
            echo.peer.handle_timeout(echo.now);
            echo.act();
            slices += 1;
        }
        assert!(slices <= 3, "{frames} frames: {slices} slices");
        assert_eq!((echo.take_written(Local(2)), &echo.finished[..]), (group(&vec!["x"; frames]), &[Local(2)][..]));
    }
}

#[test]
fn streams_take_turns_and_none_is_lost() {
    let (mut echo, pieces) = subscribed(Gomoqt202502);
    let [one, other] = [2, 6].map(|id| {
        echo.peer.update(echo.now, |session| session.on_stream_opened(id, Uni));
        Remote(id)
    });
    let frames = |count: usize| [&[0, 2, 0, 1][..], &b"\x01x".repeat(count)].concat();
    echo.peer.update(echo.now, |session| session.on_stream_data(one, &frames(1_000)));
    echo.peer.update(echo.now, |session| session.on_stream_finished(one));
    echo.peer.update(echo.now, |session| session.on_stream_data(other, &frames(70)));
    echo.peer.update(echo.now, |session| session.on_stream_finished(other));
    let announcements = echo.open(8, Bi, &pieces["announce-please"]);
    assert_eq!(echo.take_written(announcements), pieces["announce-active"]);
    assert_eq!(echo.finished, [], "neither group is complete");
    echo.until(Time::from_millis(1));
    assert_eq!(echo.finished, [Local(3), Local(2)], "the short group is finished first");
    assert_eq!((echo.take_written(Local(2)), echo.take_written(Local(3))), (frames(1_000), frames(70)));
}

#[test]
fn frame_counts_as_sent_when_the_transport_has_taken_all_of_it() {
    let (mut echo, _) = subscribed(Gomoqt202502);
    echo.accepts_writes = false;
    // GROUP takes 4 bytes. The frames (length and content) take 1 + 3, 1, and 2 + 100 bytes.
    let long = "y".repeat(100);
    let coming = echo.open(2, Uni, &[&group(&["abc", ""])[..], &[0x40, 100], long.as_bytes()].concat());
    echo.finish(coming);
    assert_eq!(echo.written[&Local(2)].len(), 4 + 4 + 1 + 102);
    let mut sent = |taken: usize| {
        echo.peer.update(Time::ZERO, |session| session.on_bytes_written(Local(2), taken));
        let counts = echo.peer.take_counters();
        (counts.frames_sent, counts.sent_bytes)
    };
    assert_eq!([sent(0), sent(4), sent(3)], [(0, 0); 3], "one byte of the first frame is missing");
    assert_eq!(sent(1), (1, 3));
    assert_eq!(sent(102), (1, 0), "the empty frame, and all but one byte of the last frame");
    assert_eq!([sent(1), sent(1)], [(1, 100), (0, 0)]);
}

#[test]
fn unsubscribed_reader_gets_nothing_more_and_its_groups_count_once() {
    // One of two readers unsubscribes while two groups have unsent data for that reader.
    let mut echo = subscribed_often(1);
    echo.accepts_writes = false;
    let one = echo.open(2, Uni, &group(&["one"]));
    echo.open(6, Uni, &group(&["two"]));
    echo.finish(Remote(4));
    assert_eq!(echo.reset, [(Local(2), error_code::PUBLISH_ABORTED), (Local(4), error_code::PUBLISH_ABORTED)]);
    let counts = echo.counts;
    assert_eq!((counts.groups_sent, counts.groups_unsubscribed, counts.groups_dropped()), (4, 2, [0; 3]));
    echo.deliver(one, &[1, b'x']);
    echo.finish(one);
    assert_eq!((&echo.finished[..], echo.written[&Local(2)].len()), (&[Remote(4), Local(3)][..], 8));
    // A later group is sent only to the other reader.
    echo.open(10, Uni, &group(&["three"]));
    assert_eq!(echo.opened.last(), Some(&(Local(6), Uni)));
}

/// An echo with a reader, a delay of 10 ms and a limit of `max_buffered_bytes`.
fn delayed(max_buffered_bytes: usize) -> ManualPeer<MoqtEcho> {
    subscribed_with(Gomoqt202502, MoqtEchoConfig { delay: Duration::from_millis(10), max_buffered_bytes }).0
}

#[test]
fn group_over_the_memory_limit_is_aborted_after_it_began_to_leave() {
    // The overhead of a group is 1,024 bytes. Each frame counts as 64 bytes plus the length of the frame.
    let mut echo = delayed(1_024 + 2 * 74);
    let coming = echo.open(2, Uni, &group(&["0123456789"]));
    echo.until(Time::from_millis(10));
    assert_eq!(echo.take_written(Local(2)), group(&["0123456789"]));
    let two = &group(&["0123456789", "0123456789"])[4..];
    echo.deliver(coming, two);
    assert_eq!((echo.peer.handler.buffered_bytes(), &echo.reset[..]), (1_172, &[][..]), "the group fits exactly");
    echo.deliver(coming, &[0]);
    assert_eq!(echo.reset, [(Local(2), error_code::LIMIT_EXCEEDED)]);
    assert_eq!((echo.peer.handler.buffered_bytes(), echo.counts.groups_dropped()), (0, [0, 1, 0]));
    // No part of the group is still stored or counted.
    echo.deliver(coming, two);
    echo.finish(coming);
    echo.until(Time::from_millis(100));
    assert_eq!((echo.peer.handler.buffered_bytes(), echo.counts.groups_dropped()), (0, [0, 1, 0]));
    assert_eq!(echo.counts.frames_sent, 1);
}

#[test]
fn small_group_is_echoed_when_the_memory_budget_allows_no_growth() {
    for (len, dropped) in [(MIN_BUFFERED_BYTES / 2, [0, 0, 0]), (MIN_BUFFERED_BYTES, [0, 1, 0])] {
        let mut echo = delayed(1 << 20);
        echo.peer.handler.limit_growth(0);
        let frame = [&(len as u32 | 0x8000_0000).to_be_bytes()[..], &vec![7; len]].concat();
        let coming = echo.open(2, Uni, &[&[0, 2, 0, 1], &frame[..]].concat());
        echo.finish(coming);
        assert_eq!(echo.counts.groups_dropped(), dropped, "{len} bytes");
    }
}

#[test]
fn groups_without_subscriber_are_dropped_before_subscribed_ones() {
    let mut echo = delayed(3 * (1_024 + 64 + 1));
    // The peer announces another track (japan, kyoto, t), and the echo subscribes to it as subscription 1. The echoed track has no
    // subscriber.
    echo.deliver(Local(0), b"\x11\x01\x03\x05japan\x05kyoto\x01t\x00");
    for (id, subscription, sequence) in [(2, 1, 1), (6, 0, 1), (10, 1, 2), (14, 0, 2), (18, 0, 3), (22, 0, 4)] {
        echo.open(id, Uni, &[0, 2, subscription, sequence, 1, b'x']);
    }
    // Three of six groups fit within the limit. While the limit is exceeded, the echo drops groups. The groups that have no subscriber are
    // dropped first, starting with the oldest. If the limit is exceeded and every group has a subscriber, the echo drops the newest group.
    assert_eq!(echo.counts.groups_dropped(), [0, 1, 2]);
    echo.until(Time::from_millis(10));
    let received: Vec<_> = (3..6).map(|handle| echo.take_written(Local(handle))).collect();
    assert_eq!(received, [1, 2, 3].map(|sequence| vec![0, 2, 0, sequence, 1, b'x']));
}

#[test]
fn gomoqt_09_announcement_is_always_the_suffix_of_the_prefix() {
    let pieces = golden::pieces("gomoqt-0.9.txt");
    let mut echo = webtransport();
    echo.open(0, Bi, &pieces["session-client"]);
    // The peer announces one path. The announcement contains only the suffix "/b". This suffix follows the requested prefix "/", so the
    // path is "//b".
    echo.deliver(Local(0), b"\x04\x01\x02/b");
    assert_eq!(echo.take_written(Local(1)), b"\x02\x0c\x00\x03//b\x05index\x00");
    let announcements = echo.open(4, Bi, &pieces["announce-please"]);
    assert_eq!(echo.take_written(announcements), b"\x04\x01\x02/b");
}
