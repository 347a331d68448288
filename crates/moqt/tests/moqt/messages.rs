//! The bytes of MOQT messages. Golden messages are parsed and serialized. Arbitrary bytes are parsed or rejected without a panic.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use test_support::moqt_golden as golden;

use jamjam_moqt::message::{
    Announce, AnnounceInit, AnnouncePlease, AnnounceStatus, GroupHeader, MessageBody, SessionClient, SessionServer,
    SessionUpdate, Subscribe, SubscribeGap, SubscribeOk, SubscribeUpdate,
};
use jamjam_moqt::{DecodeError, Deframer, MoqtVersion, TrackPath, codec, version};
use proptest::prelude::*;

use MoqtVersion::{Gomoqt09, Gomoqt202502, Lite03, Lite04};

/// The golden pieces of one version, and the names of the pieces that a test has used.
struct Pieces {
    version: MoqtVersion,
    bytes: BTreeMap<String, Vec<u8>>,
    used: BTreeSet<String>,
}

fn fixture(version: MoqtVersion) -> &'static str {
    match version {
        Lite04 => "moq-lite-04.txt",
        Lite03 => "moq-lite-03.txt",
        Gomoqt202502 => "gomoqt-2025-02.txt",
        Gomoqt09 => "gomoqt-0.9.txt",
    }
}

impl Pieces {
    fn of(version: MoqtVersion) -> Self {
        Self { version, bytes: golden::pieces(fixture(version)), used: BTreeSet::new() }
    }

    fn take(&mut self, name: &str) -> Vec<u8> {
        self.used.insert(name.to_owned());
        self.bytes.get(name).unwrap_or_else(|| panic!("no {name}")).clone()
    }

    /// Checks that encoding `message` results in the bytes that the fixture file lists under `name`. Decoding these bytes must result in
    /// `message`. The bytes of a stream's first message start with the stream type. If `message` is the first message of its stream,
    /// `begins` contains the stream type. If the fixture file also lists `{name}-bare`, decoding those bytes must also result in `message`.
    fn check<M: MessageBody + PartialEq + Debug>(&mut self, name: &str, begins: Option<u8>, message: &M) {
        let version = self.version;
        let written = self.take(name);
        let encoded = message.encode_with_length(version);
        assert_eq!([Vec::from_iter(begins), encoded].concat(), written, "{version:?} {name}");
        let bare = format!("{name}-bare");
        let bare = self.bytes.contains_key(&bare).then(|| self.take(&bare));
        for bytes in [written].into_iter().chain(bare) {
            let mut stream = Deframer::default();
            stream.push(&bytes);
            assert_eq!(begins, begins.and_then(|_| stream.next_byte()), "{version:?} {name}");
            let body = stream.next_length_prefixed().unwrap().expect("the message is complete");
            assert_eq!(M::from_bytes(version, &body).as_ref(), Ok(message), "{version:?} {name}");
            assert_eq!(stream.check_end(), Ok(()), "{version:?} {name}: nothing follows");
        }
    }

    fn check_frame(&mut self) {
        self.check("group", Some(0), &GroupHeader { subscribe_id: 0, sequence: 1 });
        let mut stream = Deframer::default();
        stream.push(&self.take("frame"));
        assert_eq!(stream.next_length_prefixed(), Ok(Some("hello".into())));
        assert_eq!(stream.check_end(), Ok(()));
    }

    fn assert_all_used(self) {
        assert_eq!(self.bytes.into_keys().collect::<BTreeSet<_>>(), self.used, "no test uses a piece");
    }
}

#[test]
fn gomoqt_2025_02_messages_match_their_golden_bytes() {
    let mut pieces = Pieces::of(Gomoqt202502);
    let quic = SessionClient { versions: vec![0xffff_ff00], parameters: vec![(1, b"/echo".to_vec())] };
    assert_eq!(quic.path(), Ok("/echo"));
    pieces.check("session-client-quic", Some(0), &quic);
    pieces.check("session-client", Some(0), &SessionClient { versions: vec![0xffff_ff00], parameters: vec![] });
    pieces.check("session-server", None, &SessionServer { version: 0xffff_ff00 });
    pieces.check("session-update", None, &SessionUpdate { bitrate: 96_000 });
    let prefix = TrackPath::from_parts(["japan", "kyoto"]);
    pieces.check("announce-please", Some(1), &AnnouncePlease { prefix, ..AnnouncePlease::default() });
    let track = TrackPath::from_parts(["japan", "kyoto", "text"]);
    let announce = |status| Announce { status, path: track.clone(), ..Announce::default() };
    pieces.check("announce-active", None, &announce(AnnounceStatus::Active));
    pieces.check("announce-ended", None, &announce(AnnounceStatus::Ended));
    pieces.check("subscribe", Some(2), &Subscribe { id: 0, track: track.clone(), range: SubscribeUpdate::default() });
    pieces.check("info", None, &SubscribeOk::default());
    let update = SubscribeUpdate {
        priority: 1,
        order: 2,
        first_group: Some(3),
        last_group: Some(400),
        ..SubscribeUpdate::default()
    };
    pieces.check("subscribe-update", None, &update);
    pieces.check("subscribe-gap", None, &SubscribeGap { min: 5, max: 7, code: 4 });
    pieces.check_frame();

    let mut stream = Deframer::default();
    stream.push(&pieces.take("announce-live-bare"));
    let live = Announce { status: AnnounceStatus::Live, ..Announce::default() };
    assert_eq!(Announce::from_bytes(Gomoqt202502, &stream.next_length_prefixed().unwrap().unwrap()), Ok(live));
    assert_eq!(
        stream.next_length_prefixed().unwrap().unwrap().len(),
        0,
        "the original program writes an empty message after it"
    );
    pieces.assert_all_used();
}

#[test]
fn gomoqt_09_messages_match_their_golden_bytes() {
    let mut pieces = Pieces::of(Gomoqt09);
    pieces.check("session-client", Some(0), &SessionClient { versions: vec![0xfeed_babe], parameters: vec![] });
    pieces.check("session-server", None, &SessionServer { version: 0xfeed_babe });
    pieces.check("session-update", None, &SessionUpdate { bitrate: 96_000 });
    pieces.check(
        "announce-please",
        Some(1),
        &AnnouncePlease { prefix: TrackPath::from_parts(["/"]), ..AnnouncePlease::default() },
    );
    pieces.check("announce-init", None, &AnnounceInit { suffixes: vec!["client.echo".to_owned()] });
    pieces.check("announce-init-none", None, &AnnounceInit::default());
    let announce = |status| Announce { status, path: TrackPath::from_parts(["client.echo"]), ..Announce::default() };
    pieces.check("announce-active", None, &announce(AnnounceStatus::Active));
    pieces.check("announce-ended", None, &announce(AnnounceStatus::Ended));
    let track = TrackPath::from_parts(["/client.echo", "index"]);
    pieces.check("subscribe", Some(2), &Subscribe { id: 0, track, range: SubscribeUpdate::default() });
    pieces.check("subscribe-ok", None, &SubscribeOk::default());
    pieces.check("subscribe-update", None, &SubscribeUpdate { priority: 7, ..SubscribeUpdate::default() });
    pieces.check_frame();
    pieces.assert_all_used();
}

/// The hop ID in the golden messages.
const HOP: u64 = 0x0008_0031_e28a_4701;

#[test]
fn moq_lite_messages_match_their_golden_bytes() {
    for (version, hops, excluded_hop) in [(Lite04, vec![HOP], HOP), (Lite03, vec![0], 0)] {
        let mut pieces = Pieces::of(version);
        let request = AnnouncePlease { prefix: TrackPath::from_parts(["/"]), excluded_hop };
        pieces.check("announce-please", Some(1), &request);
        let announce = |status| Announce { status, path: TrackPath::from_parts(["client.echo"]), hops: hops.clone() };
        pieces.check("announce-active", None, &announce(AnnounceStatus::Active));
        pieces.check("announce-ended", None, &announce(AnnounceStatus::Ended));
        let track = TrackPath::from_parts(["/client.echo", "index"]);
        let subscribe = |range| Subscribe { id: 0, track: track.clone(), range };
        pieces.check("subscribe", Some(2), &subscribe(SubscribeUpdate::default()));
        let relayed = SubscribeUpdate { order: 1, max_latency_ms: 10_000, ..SubscribeUpdate::default() };
        pieces.check("subscribe-relayed", Some(2), &subscribe(relayed));
        let (first_group, last_group) = (Some(3), Some(400));
        let range = SubscribeUpdate { priority: 200, max_latency_ms: 500, first_group, last_group, ..relayed };
        pieces.check("subscribe-range", Some(2), &subscribe(range));
        pieces.check("subscribe-ok", Some(0), &SubscribeOk::default());
        pieces.check("subscribe-drop", Some(1), &SubscribeGap { min: 5, max: 7, code: 4 });
        pieces.check("subscribe-update", None, &SubscribeUpdate { priority: 7, first_group, last_group, ..relayed });
        pieces.check_frame();
        if version == Lite04 {
            let first_group = Some(1);
            let ok = SubscribeOk(SubscribeUpdate { first_group, ..SubscribeUpdate::default() });
            pieces.check("subscribe-ok-gomoqt", Some(0), &ok);
            let gomoqt = AnnouncePlease { excluded_hop: 0, ..request.clone() };
            pieces.check("announce-please-gomoqt", Some(1), &gomoqt);
            for (name, status) in [("active", AnnounceStatus::Active), ("ended", AnnounceStatus::Ended)] {
                let client = Announce { hops: vec![5], ..announce(status) };
                pieces.check(&format!("announce-{name}-client"), None, &client);
            }
            // An empty prefix is equivalent to a slash.
            let body = &pieces.take("announce-please-moq-net")[2..];
            assert_eq!(AnnouncePlease::from_bytes(version, body), Ok(request));
        }
        // The session rejects PROBE and ignores GOAWAY without parsing them.
        for name in ["probe", "goaway"] {
            pieces.take(name);
        }
        pieces.assert_all_used();
    }
}

#[test]
fn every_truncated_moq_lite_message_is_an_error() {
    type Decode = fn(MoqtVersion, &[u8]) -> bool;
    let is_error: [(&str, usize, Decode); 9] = [
        ("announce-please", 2, |version, body| AnnouncePlease::from_bytes(version, body).is_err()),
        ("announce-active", 1, |version, body| Announce::from_bytes(version, body).is_err()),
        ("announce-ended", 1, |version, body| Announce::from_bytes(version, body).is_err()),
        ("subscribe", 2, |version, body| Subscribe::from_bytes(version, body).is_err()),
        ("subscribe-range", 2, |version, body| Subscribe::from_bytes(version, body).is_err()),
        ("subscribe-ok", 2, |version, body| SubscribeOk::from_bytes(version, body).is_err()),
        ("subscribe-drop", 2, |version, body| SubscribeGap::from_bytes(version, body).is_err()),
        ("subscribe-update", 1, |version, body| SubscribeUpdate::from_bytes(version, body).is_err()),
        ("group", 2, |version, body| GroupHeader::from_bytes(version, body).is_err()),
    ];
    for version in [Lite04, Lite03] {
        let pieces = golden::pieces(fixture(version));
        for (name, body_start, is_error) in is_error {
            let body = &pieces[name][body_start..];
            assert!(!is_error(version, body), "{version:?} {name}");
            for cut in 0..body.len() {
                assert!(is_error(version, &body[..cut]), "{version:?} {name}: {cut} of {} bytes", body.len());
            }
        }
    }
}

#[test]
fn reply_with_its_type_is_returned_when_it_is_complete() {
    let reply = &golden::pieces(fixture(Lite04))["subscribe-drop"];
    for cut in 0..reply.len() {
        let mut stream = Deframer::default();
        stream.push(&reply[..cut]);
        assert_eq!((stream.next_typed(), stream.buffered()), (Ok(None), cut));
        assert_eq!(stream.check_end().is_ok(), cut == 0, "{cut}");
        stream.push(&reply[cut..]);
        assert_eq!(stream.next_typed(), Ok(Some((1, reply[2..].to_vec().into()))));
        assert_eq!(stream.buffered(), 0);
    }
    let mut stream = Deframer::default();
    stream.push(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(stream.next_typed(), Err(DecodeError::TooLong(_))));
}

#[test]
fn moq_lite_paths_are_compared_by_segment_without_outer_slashes() {
    let path = |text: &str| TrackPath::from_parts([text]);
    for (full, prefix, suffix) in [
        ("/client.echo", "/", Some("client.echo")),
        ("client.echo/", "", Some("client.echo")),
        ("/room/a", "room", Some("a")),
        ("room/a/b", "/room/", Some("a/b")),
        ("/room", "/room/", Some("")),
        ("/room/a", "/ro", None),
        ("/room", "/room/a", None),
        ("/", "/", Some("")),
    ] {
        for version in [Lite04, Lite03] {
            assert_eq!(path(full).has_prefix(&path(prefix), version), suffix.is_some(), "{full} {prefix}");
            if let Some(suffix) = suffix {
                assert_eq!(path(full).suffix_after(&path(prefix), version), suffix, "{full} {prefix}");
            }
        }
    }
    // Each spelling of a path is decoded as the same path.
    let subscribe = |path: &str| {
        let mut body = vec![9];
        codec::write_bytes(path.as_bytes(), &mut body);
        body.extend(b"\x05index\x00\x00\x00\x00\x00");
        Subscribe::from_bytes(Lite04, &body).unwrap().track
    };
    for spelling in ["a/b", "/a/b", "/a/b/", "//a/b//"] {
        assert_eq!(subscribe(spelling), TrackPath::from_parts(["/a/b", "index"]), "{spelling}");
    }
}

#[test]
fn moq_lite_announcement_has_at_most_64_hops() {
    for (version, hop) in [(Lite04, &[7][..]), (Lite03, &[])] {
        let body = |count: u8| [&[1, 1, b'a', 0x40, count][..], &hop.repeat(usize::from(count))].concat();
        assert_eq!(Announce::from_bytes(version, &body(64)).unwrap().hops.len(), 64);
        assert!(matches!(
            Announce::from_bytes(version, &body(65)),
            Err(DecodeError::TooMany { field: "hops", count: 65, max: 64 })
        ));
    }
    // A count without the hops.
    assert!(Announce::from_bytes(Lite04, &[1, 1, b'a', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
}

#[test]
fn alpn_selects_the_version_and_protocols_are_chosen_in_the_order_of_the_client() {
    let offers = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = version::alpns(&MoqtVersion::ALL);
    assert_eq!(all, ["moq-lite-04", "moq-lite-03", "moq-00"]);
    assert_eq!(version::alpns(&[Gomoqt09, Lite03, Gomoqt202502]), ["moq-00", "moq-lite-03"]);
    assert_eq!(MoqtVersion::from_alpn(b"moq-lite-04"), Some(Lite04));
    assert_eq!(MoqtVersion::from_alpn(b"moq-lite-03"), Some(Lite03));
    assert_eq!((MoqtVersion::from_alpn(b"moq-00"), MoqtVersion::from_alpn(b"")), (None, None));
    let select = |names: &[&str]| version::select_protocol(&offers(names));
    assert_eq!(select(&[]), Ok(None));
    assert_eq!(select(&["moq-lite-05", "moq-lite-03", "moq-lite-04"]), Ok(Some("moq-lite-03")));
    assert_eq!(select(&["moqt-16", "moq-00", "moq-lite-04"]), Ok(Some("moq-00")));
    let supported = "supported moq-lite-04, moq-lite-03, moq-00";
    let expected = format!("no common version: offered moq-lite-05, moqt-16, {supported}");
    assert_eq!(select(&["moq-lite-05", "moqt-16"]), Err(expected));
    // Hostile offers: control characters, and much text.
    let long = select(&["a\u{1b}[31m", &"x".repeat(1_000)]).unwrap_err();
    assert_eq!(long, format!("no common version: offered a\u{fffd}[31m, {}, {supported}", "x".repeat(32)));
    let many = version::select_protocol(&vec!["y".to_owned(); 10_000]).unwrap_err();
    assert!(many.len() < 200 && many.contains("y, \u{2026}, supported"), "{many}");
}

/// The examples of RFC 9000, appendix A.1, and the smallest and largest value of each encoded length.
#[test]
fn varints_match_the_rfc() {
    #[rustfmt::skip]
    let golden: [(u64, &[u8]); 12] = [
        (151_288_809_941_952_652,    &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
        (494_878_333,                &[0x9d, 0x7f, 0x3e, 0x7d]),
        (15_293,                     &[0x7b, 0xbd]),
        (37,                         &[0x25]),
        (0,                          &[0x00]),
        (63,                         &[0x3f]),
        (64,                         &[0x40, 0x40]),
        (16_383,                     &[0x7f, 0xff]),
        (16_384,                     &[0x80, 0x00, 0x40, 0x00]),
        (1_073_741_823,              &[0xbf, 0xff, 0xff, 0xff]),
        (1_073_741_824,              &[0xc0, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00]),
        (4_611_686_018_427_387_903,  &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ];
    for (value, bytes) in golden {
        let mut written = Vec::new();
        codec::write_varint(value, &mut written);
        assert_eq!(written, bytes, "{value}");
        assert_eq!(codec::read_varint(&[bytes, &[0xaa]].concat()), Some((value, bytes.len())));
        for short in 0..bytes.len() {
            assert_eq!(codec::read_varint(&bytes[..short]), None, "{value}");
        }
    }
    assert_eq!(codec::read_varint(&[0x40, 0x25]), Some((37, 2)), "longer than necessary");
    let mut clamped = Vec::new();
    codec::write_varint(u64::MAX, &mut clamped);
    assert_eq!(clamped, [0xff; 8]);
}

#[test]
fn oversized_message_is_rejected_by_its_length_prefix() {
    // 2^20 is the maximum length.
    for (length, refused) in
        [(&[0x80, 0x10, 0x00, 0x00][..], false), (&[0x80, 0x10, 0x00, 0x01], true), (&[0xff; 8], true)]
    {
        let mut stream = Deframer::default();
        stream.push(length);
        match stream.next_length_prefixed() {
            Ok(None) => assert!(!refused),
            Err(DecodeError::TooLong(_)) => assert!(refused),
            other => panic!("{other:?}"),
        }
    }
    let many = |count: u8, each: &[u8]| [vec![0x40, count], each.repeat(usize::from(count))].concat();
    // An empty string takes one byte, an empty parameter two bytes.
    assert_eq!(AnnouncePlease::from_bytes(Gomoqt202502, &many(64, &[0])).unwrap().prefix.0.len(), 64);
    assert!(matches!(
        AnnouncePlease::from_bytes(Gomoqt202502, &many(65, &[0])),
        Err(DecodeError::TooMany { field: "prefix", count: 65, max: 64 })
    ));
    let parameters = |count| [vec![0], many(count, &[1, 0])].concat();
    assert_eq!(SessionClient::from_bytes(Gomoqt202502, &parameters(64)).unwrap().parameters.len(), 64);
    assert!(matches!(
        SessionClient::from_bytes(Gomoqt202502, &parameters(65)),
        Err(DecodeError::TooMany { count: 65, max: 64, .. })
    ));
    // These messages contain fewer items than their count field states.
    for wrong_count in [&[0x3f][..], &[0x3f, 0x00], &[0xff; 8], &[0x02, 0x01, 0x61]] {
        assert!(AnnouncePlease::from_bytes(Gomoqt202502, wrong_count).is_err(), "{wrong_count:02x?}");
        assert!(SessionClient::from_bytes(Gomoqt202502, wrong_count).is_err(), "{wrong_count:02x?}");
        assert!(AnnounceInit::from_bytes(Gomoqt09, wrong_count).is_err(), "{wrong_count:02x?}");
    }
}

#[test]
fn path_that_is_not_utf8_is_rejected() {
    let latin = [1, 1, 4, b'c', b'a', b'f', 0xe9];
    assert_eq!(Announce::from_bytes(Gomoqt202502, &latin), Err(DecodeError::InvalidUtf8("path")));
    assert_eq!(AnnouncePlease::from_bytes(Gomoqt09, &latin[2..]), Err(DecodeError::InvalidUtf8("prefix")));
}

#[test]
fn message_of_the_other_version_is_named() {
    assert_eq!(AnnounceInit::from_bytes(Gomoqt202502, &[0]), Err(DecodeError::NotInVersion("ANNOUNCE_INIT")));
    assert_eq!(SubscribeGap::from_bytes(Gomoqt09, &[0, 0, 0]), Err(DecodeError::NotInVersion("SUBSCRIBE_GAP")));
    assert_eq!(Announce::from_bytes(Gomoqt09, &[2, 0]), Err(DecodeError::UnknownStatus(2)));
    assert_eq!(Announce::from_bytes(Gomoqt202502, &[3, 0]), Err(DecodeError::UnknownStatus(3)));
    assert_eq!(Announce::from_bytes(Lite04, &[2, 0, 0]), Err(DecodeError::UnknownStatus(2)));
    assert_eq!(AnnounceInit::from_bytes(Lite04, &[0]), Err(DecodeError::NotInVersion("ANNOUNCE_INIT")));
}

fn versions_strategy() -> impl Strategy<Value = MoqtVersion> {
    prop::sample::select(&MoqtVersion::ALL[..])
}

fn parameters() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    prop::collection::vec((0..=codec::MAX_VARINT, prop::collection::vec(any::<u8>(), 0..9)), 0..6)
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("\\PC{0,9}", 0..8)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..=64_u64, 0..=codec::MAX_VARINT]
}

/// Serializes a message and parses the result in the same protocol version. Checks that the parsed message equals the original.
fn round_trip<M: MessageBody + PartialEq + Debug>(version: MoqtVersion, message: &M) {
    let mut stream = Deframer::default();
    stream.push(&message.encode_with_length(version));
    let body = stream.next_length_prefixed().unwrap().unwrap();
    assert_eq!(M::from_bytes(version, &body).as_ref(), Ok(message));
    assert_eq!(stream.buffered(), 0);
    // A truncated message is rejected or parsed as another message. There is one exception: counts of 0 at the end of the message. If only
    // zero bytes are cut off, parsing can still return the complete message.
    for cut in 0..body.len() {
        let (read, missing) = (M::from_bytes(version, &body[..cut]), &body[cut..]);
        assert!(read.as_ref() != Ok(message) || missing.iter().all(|byte| *byte == 0), "{cut} of {body:02x?}");
    }
}

fn read_all(version: MoqtVersion, body: &[u8]) {
    let _ = SessionClient::from_bytes(version, body).map(|setup| setup.path().map(str::len));
    let _ = SessionServer::from_bytes(version, body);
    let _ = SessionUpdate::from_bytes(version, body);
    let _ = AnnouncePlease::from_bytes(version, body);
    let _ = AnnounceInit::from_bytes(version, body);
    let _ = Announce::from_bytes(version, body);
    let _ = Subscribe::from_bytes(version, body);
    let _ = SubscribeOk::from_bytes(version, body);
    let _ = SubscribeUpdate::from_bytes(version, body);
    let _ = SubscribeGap::from_bytes(version, body);
    let _ = GroupHeader::from_bytes(version, body);
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_rejected(version in versions_strategy(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(version, &body);
    }

    #[test]
    fn golden_bytes_with_a_flipped_bit_are_parsed_or_rejected(version in versions_strategy(), at in any::<prop::sample::Index>(), bit in 0..8) {
        for bytes in golden::pieces(fixture(version)).into_values() {
            let mut bytes = bytes;
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            for from in 0..bytes.len().min(3) {
                read_all(version, &bytes[from..]);
            }
        }
    }

    #[test]
    fn setup_messages_round_trip(version in versions_strategy(), versions in prop::collection::vec(number(), 0..64), parameters in parameters(), number in number()) {
        round_trip(version, &SessionClient { versions, parameters });
        round_trip(version, &SessionServer { version: number });
        round_trip(version, &SessionUpdate { bitrate: number });
    }

    #[test]
    fn announcement_messages_round_trip(parts in texts(), status in 0..3) {
        let status = [AnnounceStatus::Ended, AnnounceStatus::Active, AnnounceStatus::Live][status as usize];
        let path = TrackPath(parts.clone());
        round_trip(Gomoqt202502, &AnnouncePlease { prefix: path.clone(), excluded_hop: 0 });
        round_trip(Gomoqt202502, &Announce { status, path: path.clone(), hops: vec![] });
        round_trip(Gomoqt09, &AnnounceInit { suffixes: parts });
        let path = TrackPath::from_parts([path.to_slash_string()]);
        round_trip(Gomoqt09, &AnnouncePlease { prefix: path.clone(), ..AnnouncePlease::default() });
        if status != AnnounceStatus::Live {
            round_trip(Gomoqt09, &Announce { status, path, ..Announce::default() });
        }
    }

    #[test]
    fn moq_lite_messages_round_trip(
        id in number(),
        parts in prop::collection::vec("[^/]{1,9}", 0..5),
        name in "\\PC{0,9}",
        (priority, order, max_latency_ms) in (any::<u8>(), any::<u8>(), number()),
        groups in [prop::option::of(0..codec::MAX_VARINT), prop::option::of(0..codec::MAX_VARINT)],
        hops in prop::collection::vec(number(), 0..64),
        is_active: bool,
    ) {
        let suffix = parts.join("/");
        let (rooted, status) = (format!("/{suffix}"), if is_active { AnnounceStatus::Active } else { AnnounceStatus::Ended });
        let [first_group, last_group] = groups;
        let (priority, order) = (priority.into(), order.into());
        let range = SubscribeUpdate { priority, order, max_latency_ms, first_group, last_group };
        for version in [Lite04, Lite03] {
            let (excluded_hop, hops) = match version {
                Lite04 => (id, hops.clone()),
                _ => (0, vec![0; hops.len()]),
            };
            round_trip(version, &AnnouncePlease { prefix: TrackPath::from_parts([&*rooted]), excluded_hop });
            round_trip(version, &Announce { status, path: TrackPath::from_parts([&*suffix]), hops });
            round_trip(version, &range);
            round_trip(version, &Subscribe { id, track: TrackPath::from_parts([&*rooted, &*name]), range });
            round_trip(version, &SubscribeOk(range));
            round_trip(version, &SubscribeGap { min: id, max: max_latency_ms, code: priority });
        }
    }

    #[test]
    fn subscription_messages_round_trip(id in number(), parts in texts(), n in [number(), number(), number(), number()]) {
        let group = |number: u64| Some(number).filter(|number| *number > 0);
        let (first_group, last_group) = (group(n[2]), group(n[3]));
        let range = SubscribeUpdate { priority: n[0], order: n[1], first_group, last_group, max_latency_ms: 0 };
        round_trip(Gomoqt202502, &range);
        round_trip(Gomoqt202502, &Subscribe { id, track: TrackPath(parts.clone()), range });
        let info = SubscribeUpdate { priority: n[0], order: n[1], last_group, ..SubscribeUpdate::default() };
        round_trip(Gomoqt202502, &SubscribeOk(info));
        round_trip(Gomoqt202502, &SubscribeGap { min: n[0], max: n[1], code: n[2] });
        let range = SubscribeUpdate { priority: n[0], ..SubscribeUpdate::default() };
        round_trip(Gomoqt09, &range);
        round_trip(Gomoqt09, &Subscribe { id, track: TrackPath::from_parts([parts.concat(), "index".to_owned()]), range });
        round_trip(Gomoqt09, &SubscribeOk::default());
        let group = GroupHeader { subscribe_id: id, sequence: n[1] };
        round_trip(Gomoqt202502, &group);
    }

    /// The parsed frames equal the written frames for any split of a group's bytes into chunks.
    #[test]
    fn frames_keep_their_boundaries(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        cuts in prop::collection::vec(1..100_usize, 1..50),
    ) {
        let mut bytes = Vec::new();
        for frame in &frames {
            codec::write_bytes(frame, &mut bytes);
        }
        let (mut stream, mut received) = (Deframer::default(), Vec::new());
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            stream.push(chunk);
            rest = later;
            while let Some(frame) = stream.next_length_prefixed().unwrap() {
                received.push(frame.to_vec());
            }
        }
        prop_assert_eq!(stream.check_end(), Ok(()));
        prop_assert_eq!(received, frames);
    }
}
