//! The bytes of MOQT messages. Golden messages are parsed and serialized. Arbitrary bytes are parsed or rejected without a panic.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use test_support::moqt_golden as golden;

use jamjam_dev::moqt::codec::GroupHeader;
use jamjam_dev::moqt::message::{
    Announce, AnnounceInit, AnnouncePlease, AnnounceStatus, MessageBody, SessionClient, SessionServer, SessionUpdate,
    Subscribe, SubscribeGap, SubscribeOk, SubscribeUpdate,
};
use jamjam_dev::moqt::{DecodeError, Deframer, GroupDeframer, GroupItem, MoqtVersion, TrackPath, codec};
use proptest::prelude::*;

use MoqtVersion::{Gomoqt09, Gomoqt202502};

/// The golden pieces of one version, and the names of the pieces that a test has used.
struct Pieces {
    version: MoqtVersion,
    bytes: BTreeMap<String, Vec<u8>>,
    used: BTreeSet<String>,
}

fn fixture(version: MoqtVersion) -> &'static str {
    match version {
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
        let encoded = message.encode_with_length(version);
        self.check_coding(name, begins, message, &encoded, |body| M::from_bytes(version, body));
    }

    fn check_coding<M: PartialEq + Debug>(
        &mut self,
        name: &str,
        begins: Option<u8>,
        message: &M,
        encoded: &[u8],
        decode: impl Fn(&[u8]) -> Result<M, DecodeError>,
    ) {
        let version = self.version;
        let written = self.take(name);
        assert_eq!([&Vec::from_iter(begins)[..], encoded].concat(), written, "{version:?} {name}");
        let bare = format!("{name}-bare");
        let bare = self.bytes.contains_key(&bare).then(|| self.take(&bare));
        for bytes in [written].into_iter().chain(bare) {
            let mut stream = Deframer::default();
            stream.push(&bytes);
            assert_eq!(begins, begins.and_then(|_| stream.next_byte()), "{version:?} {name}");
            let body = stream.next_length_prefixed().unwrap().expect("the message is complete");
            assert_eq!(decode(&body).as_ref(), Ok(message), "{version:?} {name}");
            assert_eq!(stream.check_end(), Ok(()), "{version:?} {name}: nothing follows");
        }
    }

    fn check_frame(&mut self) {
        let group = GroupHeader { subscribe_id: 0, sequence: 1 };
        self.check_coding("group", Some(0), &group, &group.encode_with_length(), GroupHeader::from_bytes);
        let mut stream = Deframer::default();
        stream.push(&self.take("group")[1..]);
        stream.push(&self.take("frame"));
        let mut pieces = GroupDeframer::default();
        assert_eq!(pieces.next(&mut stream), Ok(Some(GroupItem::Header(group))));
        assert_eq!(pieces.next(&mut stream), Ok(Some(GroupItem::Frame("hello".into()))));
        assert_eq!(pieces.next(&mut stream), Ok(None));
        assert_eq!(pieces.check_end(&stream), Ok(()));
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
    pieces.check("session-server", None, &SessionServer { version: 0xffff_ff00, parameters: vec![] });
    pieces.check("session-update", None, &SessionUpdate { bitrate: 96_000 });
    let prefix = TrackPath::from_parts(["japan", "kyoto"]);
    pieces.check("announce-please", Some(1), &AnnouncePlease { prefix, parameters: vec![] });
    let track = TrackPath::from_parts(["japan", "kyoto", "text"]);
    let announce = |status| Announce { status, path: track.clone(), parameters: vec![] };
    pieces.check("announce-active", None, &announce(AnnounceStatus::Active));
    pieces.check("announce-ended", None, &announce(AnnounceStatus::Ended));
    pieces.check("subscribe", Some(2), &Subscribe { id: 0, track: track.clone(), range: SubscribeUpdate::default() });
    pieces.check("info", None, &SubscribeOk::default());
    let update = SubscribeUpdate { priority: 1, order: 2, min: 3, max: 400, parameters: vec![] };
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
    pieces.check("session-server", None, &SessionServer { version: 0xfeed_babe, parameters: vec![] });
    pieces.check("session-update", None, &SessionUpdate { bitrate: 96_000 });
    pieces.check(
        "announce-please",
        Some(1),
        &AnnouncePlease { prefix: TrackPath::from_parts(["/"]), parameters: vec![] },
    );
    pieces.check("announce-init", None, &AnnounceInit { suffixes: vec!["client.echo".to_owned()] });
    pieces.check("announce-init-none", None, &AnnounceInit::default());
    let announce = |status| Announce { status, path: TrackPath::from_parts(["client.echo"]), parameters: vec![] };
    pieces.check("announce-active", None, &announce(AnnounceStatus::Active));
    pieces.check("announce-ended", None, &announce(AnnounceStatus::Ended));
    let track = TrackPath::from_parts(["/client.echo", "index"]);
    pieces.check("subscribe", Some(2), &Subscribe { id: 0, track, range: SubscribeUpdate::default() });
    pieces.check("subscribe-ok", None, &SubscribeOk::default());
    pieces.check("subscribe-update", None, &SubscribeUpdate { priority: 7, ..SubscribeUpdate::default() });
    pieces.check_frame();
    pieces.assert_all_used();
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
            Err(DecodeError::TooLong { max: 1_048_576, .. }) => assert!(refused),
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
}

#[test]
fn group_that_ends_within_a_frame_is_truncated() {
    let original = [&[2, 0, 1][..], &[3, b'a', b'b', b'c'], &[1, b'd']].concat();
    for cut in 0..=original.len() {
        let mut stream = Deframer::default();
        let mut group = GroupDeframer::default();
        stream.push(&original[..cut]);
        while group.next(&mut stream).unwrap().is_some() {}
        // A group may end after GROUP, after its first frame, or after its second frame.
        assert_eq!(group.check_end(&stream).is_ok(), [3, 7, 9].contains(&cut), "{cut}");
    }
}

fn versions_strategy() -> impl Strategy<Value = MoqtVersion> {
    prop_oneof![Just(Gomoqt202502), Just(Gomoqt09)]
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
    round_trip_coding(message, &message.encode_with_length(version), |body| M::from_bytes(version, body));
}

fn round_trip_coding<M: PartialEq + Debug>(
    message: &M,
    encoded: &[u8],
    decode: impl Fn(&[u8]) -> Result<M, DecodeError>,
) {
    let mut stream = Deframer::default();
    stream.push(encoded);
    let body = stream.next_length_prefixed().unwrap().unwrap();
    assert_eq!(decode(&body).as_ref(), Ok(message));
    assert_eq!(stream.buffered(), 0);
    // A truncated message is rejected or parsed as another message. There is one exception: counts of 0 at the end of the message. If only
    // zero bytes are cut off, parsing can still return the complete message.
    for cut in 0..body.len() {
        let (read, missing) = (decode(&body[..cut]), &body[cut..]);
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
    let _ = GroupHeader::from_bytes(body);
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
        round_trip(version, &SessionClient { versions, parameters: parameters.clone() });
        round_trip(version, &SessionServer { version: number, parameters });
        round_trip(version, &SessionUpdate { bitrate: number });
    }

    #[test]
    fn announcement_messages_round_trip(parts in texts(), parameters in parameters(), status in 0..3) {
        let status = [AnnounceStatus::Ended, AnnounceStatus::Active, AnnounceStatus::Live][status as usize];
        let path = TrackPath(parts.clone());
        round_trip(Gomoqt202502, &AnnouncePlease { prefix: path.clone(), parameters: parameters.clone() });
        round_trip(Gomoqt202502, &Announce { status, path: path.clone(), parameters });
        round_trip(Gomoqt09, &AnnounceInit { suffixes: parts });
        let path = TrackPath::from_parts([path.to_slash_string()]);
        round_trip(Gomoqt09, &AnnouncePlease { prefix: path.clone(), parameters: vec![] });
        if status != AnnounceStatus::Live {
            round_trip(Gomoqt09, &Announce { status, path, parameters: vec![] });
        }
    }

    #[test]
    fn subscription_messages_round_trip(id in number(), parts in texts(), n in [number(), number(), number(), number()], parameters in parameters()) {
        let range = SubscribeUpdate { priority: n[0], order: n[1], min: n[2], max: n[3], parameters };
        round_trip(Gomoqt202502, &range);
        round_trip(Gomoqt202502, &Subscribe { id, track: TrackPath(parts.clone()), range });
        round_trip(Gomoqt202502, &SubscribeOk { priority: n[0], latest_group: n[1], order: n[2] });
        round_trip(Gomoqt202502, &SubscribeGap { min: n[0], max: n[1], code: n[2] });
        let range = SubscribeUpdate { priority: n[0], ..SubscribeUpdate::default() };
        round_trip(Gomoqt09, &range);
        round_trip(Gomoqt09, &Subscribe { id, track: TrackPath::from_parts([parts.concat(), "index".to_owned()]), range });
        round_trip(Gomoqt09, &SubscribeOk::default());
        let group = GroupHeader { subscribe_id: id, sequence: n[1] };
        round_trip_coding(&group, &group.encode_with_length(), GroupHeader::from_bytes);
    }

    /// The parsed frames equal the written frames for any split of a group's bytes into chunks.
    #[test]
    fn frames_keep_their_boundaries(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        cuts in prop::collection::vec(1..100_usize, 1..50),
    ) {
        let mut bytes = GroupHeader { subscribe_id: 9, sequence: 500 }.encode_with_length();
        for frame in &frames {
            codec::write_varint(frame.len() as u64, &mut bytes);
            bytes.extend_from_slice(frame);
        }
        let (mut stream, mut group) = (Deframer::default(), GroupDeframer::default());
        let mut items = Vec::new();
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            stream.push(chunk);
            rest = later;
            while let Some(piece) = group.next(&mut stream).unwrap() {
                items.push(piece);
            }
        }
        prop_assert_eq!(group.check_end(&stream), Ok(()));
        let header = GroupItem::Header(GroupHeader { subscribe_id: 9, sequence: 500 });
        let expected: Vec<_> = [header].into_iter().chain(frames.into_iter().map(|frame| GroupItem::Frame(frame.into()))).collect();
        prop_assert_eq!(items, expected);
    }
}
