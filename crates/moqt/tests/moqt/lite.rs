//! Sessions of moq-lite with a scripted peer. The peer sends the golden messages, and the messages of other programs that differ from ours.

use std::collections::BTreeMap;
use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_moqt::client::{FramePayload, MoqtClient, MoqtClientConfig, MoqtClientEvent, MoqtRunOutcome};
use jamjam_moqt::echo::MoqtEchoConfig;
use jamjam_moqt::{
    EndpointRole, MoqtEndpoint, MoqtVersion, Session, SessionLimits, StreamDir, StreamHandle, error_code,
};
use test_support::manual_peer::ManualPeer;

use super::session::{HOP, established, pieces_of, subscribed, subscribed_with};

use MoqtVersion::{Lite03, Lite04};
use StreamDir::{Bi, Uni};
use StreamHandle::{Local, Remote};

const LITE: [MoqtVersion; 2] = [Lite04, Lite03];

const MS: Duration = Duration::from_millis(1);

/// The golden SUBSCRIBE with another number, which is the first byte after the type and the length.
fn subscribe_as(number: u8, pieces: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut subscribe = pieces["subscribe"].clone();
    subscribe[2] = number;
    subscribe
}

#[test]
fn client_of_moq_lite_is_answered_byte_for_byte() {
    for version in LITE {
        let (mut echo, pieces) = established(version);
        assert_eq!((echo.peer.session.version(), echo.counts.sessions), (Some(version), 1));
        // The peer requests announcements twice, before and after it announces.
        let early = echo.open(0, Bi, &pieces["announce-please"]);
        assert_eq!(echo.take_written(early), b"", "moq-lite has no ANNOUNCE_INIT");
        echo.deliver(Local(0), &pieces["announce-active-client"]);
        assert_eq!(echo.take_written(early), pieces["announce-active"], "the echo announces back with its own hop ID");
        assert_eq!(echo.opened.len(), 1, "the name of the track is unknown, so the echo does not subscribe");
        let late = echo.open(4, Bi, &pieces["announce-please"]);
        assert_eq!(echo.take_written(late), pieces["announce-active"]);
        let subscriber = echo.open(8, Bi, &pieces["subscribe"]);
        assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
        assert_eq!(echo.take_written(Local(1)), pieces["subscribe-relayed"], "with a maximum latency of 10,000 ms");
        echo.deliver(Local(1), &pieces["subscribe-ok"]);
        let group = echo.open(2, Uni, &pieces["group"]);
        echo.deliver(group, &pieces["frame"]);
        assert_eq!(
            echo.take_written(Local(2)),
            [&pieces["group"][..], &pieces["frame"]].concat(),
            "the frame is echoed before the group ends"
        );
        echo.finish(group);
        assert_eq!(echo.finished, [Local(2)]);
        echo.deliver(Local(0), &pieces["announce-ended-client"]);
        assert_eq!(echo.take_written(early), pieces["announce-ended"]);
        assert_eq!(echo.take_written(late), pieces["announce-ended"]);
        assert_eq!(echo.closed, None);
    }
}

#[test]
fn announcements_have_the_rest_after_each_requested_prefix() {
    let (mut echo, pieces) = established(Lite04);
    // The peer of moq-net requests an empty prefix. Other prefixes: `/room/` and `elsewhere`.
    let all = echo.open(0, Bi, &pieces["announce-please-moq-net"]);
    let room = echo.open(4, Bi, b"\x01\x08\x06/room/\x00");
    let elsewhere = echo.open(8, Bi, b"\x01\x0b\x09elsewhere\x00");
    echo.deliver(Local(0), b"\x09\x01\x06room/a\x00");
    let hop = [&[1][..], &0xc008_0031_e28a_4701_u64.to_be_bytes()].concat();
    assert_eq!(echo.take_written(all), [&b"\x11\x01\x06room/a"[..], &hop].concat());
    assert_eq!(echo.take_written(room), [&b"\x0c\x01\x01a"[..], &hop].concat());
    assert_eq!(echo.take_written(elsewhere), b"");
    // The peer subscribes with another spelling of the path. The publisher gets the announced path after a slash.
    let subscriber = echo.open(12, Bi, b"\x02\x0f\x07\x06room/a\x01t\x03\x00\x00\x00\x00");
    assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
    assert_eq!(echo.take_written(Local(1)), b"\x02\x11\x00\x07/room/a\x01t\x03\x01\x67\x10\x00\x00");
}

#[test]
fn echo_ignores_its_own_announcement() {
    let (mut echo, pieces) = established(Lite04);
    let announcements = echo.open(0, Bi, &pieces["announce-please"]);
    // The golden announcement passed through the hop HOP, which is the echo.
    let reflected = [&b"\x17\x01\x0bclient.echo\x02\x05"[..], &0xc008_0031_e28a_4701_u64.to_be_bytes()].concat();
    echo.deliver(Local(0), &reflected);
    assert_eq!(echo.take_written(announcements), b"");
    assert_eq!((echo.counts.announcements, echo.counts.messages_ignored), (0, 1));
    echo.deliver(Local(0), b"\x0f\x01\x0bclient.echo\x01\x05");
    assert_eq!(echo.take_written(announcements), pieces["announce-active"]);
}

#[test]
fn each_subscription_is_relayed_and_ends_alone() {
    for version in LITE {
        let (mut echo, pieces) = subscribed(version);
        let mut second = pieces["subscribe-range"].clone();
        // The first byte after the type and the length is the subscription number.
        second[2] = 1;
        let subscriber = echo.open(4, Bi, &second);
        assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
        // The range and the priority of 200 are relayed. The latency of 500 ms (0x41f4) is replaced.
        let mut relayed = second.clone();
        let latency = relayed.len() - 5;
        relayed[latency..latency + 2].copy_from_slice(&[0x67, 0x10]);
        assert_eq!(echo.take_written(Local(2)), relayed);
        // A change is relayed on the same stream.
        echo.deliver(subscriber, &pieces["subscribe-update"]);
        assert_eq!(echo.take_written(Local(2)), pieces["subscribe-update"]);
        assert_eq!(echo.take_written(Local(1)), b"");
        // Each group returns to the subscription for which it was sent.
        let group = echo.open(2, Uni, &[0, 2, 0, 3, 1, b'x']);
        let other = echo.open(6, Uni, &[0, 2, 1, 3, 1, b'y']);
        assert_eq!(echo.take_written(Local(3)), [0, 2, 0, 3, 1, b'x']);
        assert_eq!(echo.take_written(Local(4)), [0, 2, 1, 3, 1, b'y']);
        echo.finish(group);
        echo.finish(other);
        // The end of a subscription ends the relayed one, normally or with the same code.
        echo.finish(subscriber);
        assert!(echo.finished.contains(&Local(2)), "{:?}", echo.finished);
        assert_eq!(echo.stopped, [(Local(2), error_code::NO_ERROR)]);
        echo.reset(Remote(0), 77);
        assert!(echo.reset.contains(&(Local(1), 77)), "{:?}", echo.reset);
        assert_eq!(echo.stopped.last(), Some(&(Local(1), 77)));
        // The broadcast is still announced.
        let subscriber = echo.open(8, Bi, &subscribe_as(2, &pieces));
        assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
    }
}

#[test]
fn resets_and_drops_of_the_publisher_are_passed_on() {
    for version in LITE {
        let (mut echo, pieces) = subscribed(version);
        echo.deliver(Local(1), &pieces["subscribe-drop"]);
        assert_eq!(echo.take_written(Remote(0)), pieces["subscribe-drop"]);
        // A second SUBSCRIBE_OK has no effect.
        echo.deliver(Local(1), &pieces["subscribe-ok"]);
        assert_eq!(echo.take_written(Remote(0)), b"");
        echo.reset(Local(1), 404);
        assert_eq!(echo.reset, [(Local(1), 404), (Remote(0), 404)]);
        assert_eq!(echo.counts.subscriptions_rejected, 0, "the subscription was accepted before");
        // The announcement is not affected.
        let subscriber = echo.open(4, Bi, &subscribe_as(1, &pieces));
        assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
        // A reply of an unknown type is malformed.
        echo.deliver(Local(2), &[2, 0]);
        assert_eq!(echo.reset.last(), Some(&(subscriber, error_code::MALFORMED_MESSAGE)));
        assert_eq!((echo.counts.streams_malformed, echo.closed), (1, None));
    }
}

#[test]
fn resets_and_drops_of_the_publisher_are_delayed_like_groups() {
    let config = MoqtEchoConfig { delay: 250 * MS, ..MoqtEchoConfig::default() };
    for version in LITE {
        let (mut echo, pieces) = subscribed_with(version, config.clone());
        let sent = [&pieces["group"][..], &pieces["frame"]].concat();
        let group = echo.open(2, Uni, &sent);
        echo.finish(group);
        echo.until(Time::ZERO + 100 * MS);
        echo.deliver(Local(1), &pieces["subscribe-drop"]);
        echo.reset(Local(1), 404);
        echo.until(Time::ZERO + 250 * MS);
        assert_eq!(echo.take_written(Local(2)), sent);
        assert!(echo.finished.contains(&Local(2)));
        echo.until(Time::ZERO + 349 * MS);
        assert_eq!((echo.take_written(Remote(0)), &echo.reset[..]), (vec![], &[(Local(1), 404)][..]));
        echo.until(Time::ZERO + 350 * MS);
        assert_eq!(echo.take_written(Remote(0)), pieces["subscribe-drop"]);
        assert_eq!(echo.reset[1..], [(Remote(0), 404)]);
        assert_eq!((echo.peer.next_deadline(), echo.counts.groups_dropped()), (None, [0; 3]));
    }
}

#[test]
fn waiting_drops_are_limited() {
    let (mut echo, pieces) = subscribed_with(Lite04, MoqtEchoConfig { delay: 250 * MS, ..MoqtEchoConfig::default() });
    for _ in 0..300 {
        echo.deliver(Local(1), &pieces["subscribe-drop"]);
    }
    assert_eq!(echo.counts.messages_ignored, 300 - 256);
    echo.until(Time::ZERO + 250 * MS);
    assert_eq!(echo.take_written(Remote(0)), pieces["subscribe-drop"].repeat(256));
}

/// The peer permits no further stream, so nothing is sent on new streams. It subscribes and unsubscribes again and again.
#[test]
fn unsent_subscriptions_are_charged_with_their_streams() {
    let (mut echo, pieces) = subscribed(Lite04);
    echo.accepts_writes = false;
    for number in 1..=1_000 {
        let subscriber = echo.open(4 * number, Bi, &subscribe_as(1, &pieces));
        let reply = echo.take_written(subscriber).len();
        echo.peer.update(echo.now, |session| session.on_bytes_written(subscriber, reply));
        echo.finish(subscriber);
    }
    let unsent: usize = echo.written.values().map(Vec::len).sum();
    assert_eq!((echo.peer.session.held_bytes(), echo.closed), (unsent + 1_000 * 256, None));
}

#[test]
fn last_groups_are_relayed_after_the_end_of_the_subscription() {
    // The publisher ends the subscription, or no longer announces the broadcast.
    for is_unannounced in [false, true] {
        let (mut echo, pieces) = subscribed(Lite04);
        if is_unannounced {
            echo.deliver(Local(0), &pieces["announce-ended-client"]);
        } else {
            echo.finish(Local(1));
        }
        echo.until(Time::ZERO + 999 * MS);
        let group = echo.open(2, Uni, &[&pieces["group"][..], &pieces["frame"]].concat());
        echo.finish(group);
        assert_eq!(echo.take_written(Local(2)), [&pieces["group"][..], &pieces["frame"]].concat());
        assert!(!echo.finished.contains(&Remote(0)));
        echo.until(Time::ZERO + 1_000 * MS);
        assert!(echo.finished.contains(&Remote(0)), "{is_unannounced}");
        assert!(echo.finished.contains(&Local(1)), "{is_unannounced}");
        assert_eq!((echo.peer.next_deadline(), echo.counts.groups_dropped()), (None, [0; 3]));
        // Only a new announcement makes the broadcast available again.
        let subscriber = echo.open(4, Bi, &subscribe_as(1, &pieces));
        let expected = if is_unannounced { &[][..] } else { &pieces["subscribe-ok"] };
        assert_eq!(echo.take_written(subscriber), expected);
    }
}

#[test]
fn subscription_waits_for_its_broadcast_for_five_seconds() {
    let (mut echo, pieces) = established(Lite04);
    let subscriber = echo.open(0, Bi, &pieces["subscribe"]);
    echo.deliver(subscriber, &pieces["subscribe-update"]);
    let mut other = subscribe_as(1, &pieces);
    other[5] = b'C';
    let other = echo.open(4, Bi, &other);
    echo.until(Time::ZERO + 4_999 * MS);
    assert_eq!((echo.reset.len(), echo.opened.len()), (0, 1));
    echo.deliver(Local(0), &pieces["announce-active-client"]);
    assert_eq!(echo.take_written(subscriber), pieces["subscribe-ok"]);
    // The relayed subscription has the values of the update.
    let update = &pieces["subscribe-update"][1..];
    let expected = [&[2, 0x1b], &pieces["subscribe"][2..pieces["subscribe"].len() - 5], update].concat();
    assert_eq!(echo.take_written(Local(1)), expected);
    echo.until(Time::ZERO + 5_000 * MS);
    assert_eq!(echo.reset, [(other, error_code::TRACK_NOT_FOUND)]);
    assert_eq!(echo.counts.subscriptions_rejected, 1);
}

#[test]
fn goaway_is_ignored() {
    for version in LITE {
        let (mut echo, pieces) = subscribed(version);
        let goaway = echo.open(24, Bi, &pieces["goaway"]);
        echo.finish(goaway);
        assert_eq!((&echo.stopped[..], &echo.reset[..], &echo.finished[..]), (&[][..], &[][..], &[goaway][..]));
        assert_eq!((echo.counts.messages_ignored, echo.closed.as_ref()), (1, None));
        echo.open(14, Uni, &[&pieces["group"][..], &pieces["frame"]].concat());
        assert_eq!(echo.take_written(Local(2)), [&pieces["group"][..], &pieces["frame"]].concat());
    }
}

/// A server of gomoqt accepts a subscription only when it sends the first group. Therefore, the client does not wait for `SUBSCRIBE_OK`.
#[test]
fn client_announces_serves_and_subscribes_byte_for_byte() {
    for version in LITE {
        let pieces = pieces_of(version);
        let role = EndpointRole::Client { offered_versions: vec![version], path: None };
        let session = Session::established(role, SessionLimits::default(), version, HOP);
        let config = MoqtClientConfig {
            group_count: Some(1),
            payload: FramePayload::Texts(vec!["hello".into()]),
            ..MoqtClientConfig::default()
        };
        let mut client = ManualPeer::new(MoqtEndpoint::new(session, MoqtClient::new(config)));
        // The client excludes no hop, because an echo server may announce the client's own path with the client's hop ID.
        let please = if version == Lite04 { &pieces["announce-please-gomoqt"] } else { &pieces["announce-please"] };
        assert_eq!(client.take_written(Local(0)), *please);
        let announcements = client.open(0, Bi, &pieces["announce-please"]);
        assert_eq!(client.take_written(announcements), pieces["announce-active"]);
        client.deliver(Local(0), &pieces["announce-active-client"]);
        // The client requests a maximum latency of 10,000 ms, in any order.
        let mut subscribe = pieces["subscribe-relayed"].clone();
        let order = subscribe.len() - 5;
        subscribe[order] = 0;
        assert_eq!(client.take_written(Local(1)), subscribe);
        let subscriber = client.open(4, Bi, &pieces["subscribe-relayed"]);
        assert_eq!(client.take_written(subscriber), pieces["subscribe-ok"]);
        client.until(Time::ZERO + 50 * MS);
        assert_eq!(client.take_written(Local(2)), [&[0, 2, 0, 0], &pieces["frame"][..]].concat(), "groups start at 0");
        let ok = pieces.get("subscribe-ok-gomoqt").unwrap_or(&pieces["subscribe-ok"]);
        client.deliver(Local(1), ok);
        let group = client.open(2, Uni, &[&[0, 2, 0, 0], &pieces["frame"][..]].concat());
        client.finish(group);
        client.until(Time::ZERO + 150 * MS);
        assert_eq!(client.peer.handler.outcome(), Some(&MoqtRunOutcome::Completed));
        let returned = std::iter::from_fn(|| client.peer.handler.poll_event())
            .filter(|event| matches!(event, MoqtClientEvent::FrameReturned { group: 1, intact: true, .. }));
        assert_eq!(returned.count(), 1);
    }
}

/// A server of an IETF draft replies to the setup with `SERVER_SETUP`: its type, a 16-bit length, the version 0xff00000e, no parameters.
#[test]
fn server_of_an_ietf_draft_is_named() {
    let reply = b"\x21\x00\x09\xc0\x00\x00\x00\xff\x00\x00\x0e\x00";
    for first in 1..=reply.len() {
        let mut client = super::echo::client(MoqtClientConfig::default());
        client.deliver(Local(0), &reply[..first]);
        if first < 2 {
            client.deliver(Local(0), &reply[first..]);
        }
        let (code, reason) = client.closed();
        assert_eq!(code, error_code::PROTOCOL_VIOLATION, "{reason}");
        assert!(reason.contains("SERVER_SETUP of an IETF draft, such as draft 14; supported versions: moq-lite-04, "));
    }
}
