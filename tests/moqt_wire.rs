//! The bytes of MOQT: golden ones read and written, and whatever else comes read as something or named as nothing.

#[path = "moqt/golden.rs"]
mod golden;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use jamjam_dev::moqt::message::{
    Announce, AnnounceInit, AnnouncePlease, Body, Group, SessionClient, SessionServer, SessionUpdate, Status,
    Subscribe, SubscribeGap, SubscribeOk, SubscribeUpdate,
};
use jamjam_dev::moqt::{Deframer, Flavour, GroupDeframer, GroupPiece, Malformed, Path, varint};
use proptest::prelude::*;

use Flavour::{Head, Seed};

/// The pieces of one flavour, and which of them a test has looked at.
struct Pieces {
    flavour: Flavour,
    bytes: BTreeMap<String, Vec<u8>>,
    seen: BTreeSet<String>,
}

impl Pieces {
    fn of(flavour: Flavour) -> Self {
        let file = format!("{}.txt", flavour.name());
        Self { flavour, bytes: golden::pieces(&file), seen: BTreeSet::new() }
    }

    fn take(&mut self, name: &str) -> Vec<u8> {
        self.seen.insert(name.to_owned());
        self.bytes.get(name).unwrap_or_else(|| panic!("no {name}")).clone()
    }

    /// `name` is `message`, after the stream's type if it begins one; so is `name-bare`, if it is there, for reading.
    fn check<M: Body + PartialEq + Debug>(&mut self, name: &str, begins: Option<u8>, message: &M) {
        let flavour = self.flavour;
        let written = self.take(name);
        assert_eq!([begins.into_iter().collect(), message.framed(flavour)].concat(), written, "{flavour:?} {name}");
        let bare = format!("{name}-bare");
        let bare = self.bytes.contains_key(&bare).then(|| self.take(&bare));
        for bytes in [written].into_iter().chain(bare) {
            let mut stream = Deframer::default();
            stream.push(&bytes);
            assert_eq!(begins, begins.and_then(|_| stream.byte()), "{flavour:?} {name}");
            let body = stream.piece().unwrap().expect("the message is whole");
            assert_eq!(M::parse(flavour, &body).as_ref(), Ok(message), "{flavour:?} {name}");
            assert_eq!(stream.finish(), Ok(()), "{flavour:?} {name}: nothing follows");
        }
    }

    fn check_frame(&mut self) {
        let group = Group { subscription: 0, sequence: 1 };
        self.check("group", Some(0), &group);
        let mut stream = Deframer::default();
        stream.push(&self.take("group")[1..]);
        stream.push(&self.take("frame"));
        let mut pieces = GroupDeframer::default();
        assert_eq!(pieces.next(&mut stream), Ok(Some(GroupPiece::Began(group))));
        assert_eq!(pieces.next(&mut stream), Ok(Some(GroupPiece::Frame("hello".into()))));
        assert_eq!(pieces.next(&mut stream), Ok(None));
        assert_eq!(pieces.finish(&stream), Ok(()));
    }

    fn all_seen(self) {
        assert_eq!(self.bytes.into_keys().collect::<BTreeSet<_>>(), self.seen, "a piece that no test reads");
    }
}

#[test]
fn the_messages_of_the_seed_are_the_golden_bytes() {
    let mut pieces = Pieces::of(Seed);
    let quic = SessionClient { versions: vec![0xffff_ff00], parameters: vec![(1, b"/echo".to_vec())] };
    assert_eq!(quic.path(), Ok("/echo"));
    pieces.check("session-client-quic", Some(0), &quic);
    pieces.check("session-client", Some(0), &SessionClient { versions: vec![0xffff_ff00], parameters: vec![] });
    pieces.check("session-server", None, &SessionServer { version: 0xffff_ff00, parameters: vec![] });
    pieces.check("session-update", None, &SessionUpdate { bitrate: 96_000 });
    let prefix = Path::of(["japan", "kyoto"]);
    pieces.check("announce-please", Some(1), &AnnouncePlease { prefix, parameters: vec![] });
    let track = Path::of(["japan", "kyoto", "text"]);
    let announce = |status| Announce { status, path: track.clone(), parameters: vec![] };
    pieces.check("announce-active", None, &announce(Status::Active));
    pieces.check("announce-ended", None, &announce(Status::Ended));
    pieces.check("subscribe", Some(2), &Subscribe { id: 0, track: track.clone(), range: SubscribeUpdate::default() });
    pieces.check("info", None, &SubscribeOk::default());
    let update = SubscribeUpdate { priority: 1, order: 2, min: 3, max: 400, parameters: vec![] };
    pieces.check("subscribe-update", None, &update);
    pieces.check("subscribe-gap", None, &SubscribeGap { min: 5, max: 7, code: 4 });
    pieces.check_frame();

    let mut stream = Deframer::default();
    stream.push(&pieces.take("announce-live-bare"));
    let live = Announce { status: Status::Live, ..Announce::default() };
    assert_eq!(Announce::parse(Seed, &stream.piece().unwrap().unwrap()), Ok(live));
    assert_eq!(stream.piece().unwrap().unwrap().len(), 0, "what the original program writes after it");
    pieces.all_seen();
}

#[test]
fn the_messages_of_the_head_are_the_golden_bytes() {
    let mut pieces = Pieces::of(Head);
    pieces.check("session-client", Some(0), &SessionClient { versions: vec![0xfeed_babe], parameters: vec![] });
    pieces.check("session-server", None, &SessionServer { version: 0xfeed_babe, parameters: vec![] });
    pieces.check("session-update", None, &SessionUpdate { bitrate: 96_000 });
    pieces.check("announce-please", Some(1), &AnnouncePlease { prefix: Path::of(["/"]), parameters: vec![] });
    pieces.check("announce-init", None, &AnnounceInit { suffixes: vec!["client.echo".to_owned()] });
    pieces.check("announce-init-none", None, &AnnounceInit::default());
    let announce = |status| Announce { status, path: Path::of(["client.echo"]), parameters: vec![] };
    pieces.check("announce-active", None, &announce(Status::Active));
    pieces.check("announce-ended", None, &announce(Status::Ended));
    let track = Path::of(["/client.echo", "index"]);
    pieces.check("subscribe", Some(2), &Subscribe { id: 0, track, range: SubscribeUpdate::default() });
    pieces.check("subscribe-ok", None, &SubscribeOk::default());
    pieces.check("subscribe-update", None, &SubscribeUpdate { priority: 7, ..SubscribeUpdate::default() });
    pieces.check_frame();
    pieces.all_seen();
}

/// From the examples of RFC 9000, appendix A.1, and the edges between lengths.
#[test]
fn varints_are_those_of_the_rfc() {
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
        varint::write(value, &mut written);
        assert_eq!(written, bytes, "{value}");
        assert_eq!(varint::read(&[bytes, &[0xaa]].concat()), Some((value, bytes.len())));
        for short in 0..bytes.len() {
            assert_eq!(varint::read(&bytes[..short]), None, "{value}");
        }
    }
    assert_eq!(varint::read(&[0x40, 0x25]), Some((37, 2)), "longer than necessary");
    let mut clamped = Vec::new();
    varint::write(u64::MAX, &mut clamped);
    assert_eq!(clamped, [0xff; 8]);
}

#[test]
fn what_is_over_a_limit_is_refused_before_it_comes() {
    // 2^20 is the last length that is taken.
    for (length, refused) in
        [(&[0x80, 0x10, 0x00, 0x00][..], false), (&[0x80, 0x10, 0x00, 0x01], true), (&[0xff; 8], true)]
    {
        let mut stream = Deframer::default();
        stream.push(length);
        match stream.piece() {
            Ok(None) => assert!(!refused),
            Err(Malformed::Long { most: 1_048_576, .. }) => assert!(refused),
            other => panic!("{other:?}"),
        }
    }
    let many = |count: u8, each: &[u8]| [vec![0x40, count], each.repeat(usize::from(count))].concat();
    // An empty string is one byte, an empty parameter two.
    assert_eq!(AnnouncePlease::parse(Seed, &many(64, &[0])).unwrap().prefix.0.len(), 64);
    assert!(matches!(
        AnnouncePlease::parse(Seed, &many(65, &[0])),
        Err(Malformed::Many { what: "a prefix", count: 65, most: 64 })
    ));
    let parameters = |count| [vec![0], many(count, &[1, 0])].concat();
    assert_eq!(SessionClient::parse(Seed, &parameters(64)).unwrap().parameters.len(), 64);
    assert!(matches!(SessionClient::parse(Seed, &parameters(65)), Err(Malformed::Many { count: 65, most: 64, .. })));
    // Counts that lie: nothing like them follows.
    for lie in [&[0x3f][..], &[0x3f, 0x00], &[0xff; 8], &[0x02, 0x01, 0x61]] {
        assert!(AnnouncePlease::parse(Seed, lie).is_err(), "{lie:02x?}");
        assert!(SessionClient::parse(Seed, lie).is_err(), "{lie:02x?}");
        assert!(AnnounceInit::parse(Head, lie).is_err(), "{lie:02x?}");
    }
}

#[test]
fn a_path_that_is_not_text_is_refused() {
    let latin = [1, 1, 4, b'c', b'a', b'f', 0xe9];
    assert_eq!(Announce::parse(Seed, &latin), Err(Malformed::Text("a path")));
    assert_eq!(AnnouncePlease::parse(Head, &latin[2..]), Err(Malformed::Text("a prefix")));
}

#[test]
fn a_message_of_the_other_flavour_is_named() {
    assert_eq!(AnnounceInit::parse(Seed, &[0]), Err(Malformed::Foreign("ANNOUNCE_INIT")));
    assert_eq!(SubscribeGap::parse(Head, &[0, 0, 0]), Err(Malformed::Foreign("SUBSCRIBE_GAP")));
    assert_eq!(Announce::parse(Head, &[2, 0]), Err(Malformed::Status(2)));
    assert_eq!(Announce::parse(Seed, &[3, 0]), Err(Malformed::Status(3)));
}

#[test]
fn a_group_that_ends_within_a_frame_is_truncated() {
    let whole = [&[2, 0, 1][..], &[3, b'a', b'b', b'c'], &[1, b'd']].concat();
    for cut in 0..=whole.len() {
        let mut stream = Deframer::default();
        let mut group = GroupDeframer::default();
        stream.push(&whole[..cut]);
        while group.next(&mut stream).unwrap().is_some() {}
        // A group may end after GROUP, after its first frame, and after its second.
        assert_eq!(group.finish(&stream).is_ok(), [3, 7, 9].contains(&cut), "{cut}");
    }
}

fn flavours() -> impl Strategy<Value = Flavour> {
    prop_oneof![Just(Seed), Just(Head)]
}

fn parameters() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    prop::collection::vec((0..=varint::MAX, prop::collection::vec(any::<u8>(), 0..9)), 0..6)
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("\\PC{0,9}", 0..8)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..=64_u64, 0..=varint::MAX]
}

/// What is written in a flavour reads as the same.
fn round_trip<M: Body + PartialEq + Debug>(flavour: Flavour, message: &M) {
    let mut stream = Deframer::default();
    stream.push(&message.framed(flavour));
    let body = stream.piece().unwrap().unwrap();
    assert_eq!(M::parse(flavour, &body).as_ref(), Ok(message));
    assert_eq!(stream.held(), 0);
    // Cut short, it is refused or is less. Only counts of 0 at its end may be missing.
    for cut in 0..body.len() {
        let (read, missing) = (M::parse(flavour, &body[..cut]), &body[cut..]);
        assert!(read.as_ref() != Ok(message) || missing.iter().all(|byte| *byte == 0), "{cut} of {body:02x?}");
    }
}

fn read_all(flavour: Flavour, body: &[u8]) {
    let _ = SessionClient::parse(flavour, body).map(|hello| hello.path().map(str::len));
    let _ = SessionServer::parse(flavour, body);
    let _ = SessionUpdate::parse(flavour, body);
    let _ = AnnouncePlease::parse(flavour, body);
    let _ = AnnounceInit::parse(flavour, body);
    let _ = Announce::parse(flavour, body);
    let _ = Subscribe::parse(flavour, body);
    let _ = SubscribeOk::parse(flavour, body);
    let _ = SubscribeUpdate::parse(flavour, body);
    let _ = SubscribeGap::parse(flavour, body);
    let _ = Group::parse(flavour, body);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(flavour in flavours(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(flavour, &body);
    }

    #[test]
    fn a_golden_piece_with_a_flipped_bit_is_read_or_refused(flavour in flavours(), at in any::<prop::sample::Index>(), bit in 0..8) {
        for bytes in golden::pieces(&format!("{}.txt", flavour.name())).into_values() {
            let mut bytes = bytes;
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            for from in 0..bytes.len().min(3) {
                read_all(flavour, &bytes[from..]);
            }
        }
    }

    #[test]
    fn the_set_up_comes_back(flavour in flavours(), versions in prop::collection::vec(number(), 0..64), parameters in parameters(), number in number()) {
        round_trip(flavour, &SessionClient { versions, parameters: parameters.clone() });
        round_trip(flavour, &SessionServer { version: number, parameters });
        round_trip(flavour, &SessionUpdate { bitrate: number });
    }

    #[test]
    fn announcements_come_back(parts in texts(), parameters in parameters(), status in 0..3) {
        let status = [Status::Ended, Status::Active, Status::Live][status as usize];
        let path = Path(parts.clone());
        round_trip(Seed, &AnnouncePlease { prefix: path.clone(), parameters: parameters.clone() });
        round_trip(Seed, &Announce { status, path: path.clone(), parameters });
        round_trip(Head, &AnnounceInit { suffixes: parts });
        let path = Path::of([path.joined()]);
        round_trip(Head, &AnnouncePlease { prefix: path.clone(), parameters: vec![] });
        if status != Status::Live {
            round_trip(Head, &Announce { status, path, parameters: vec![] });
        }
    }

    #[test]
    fn subscriptions_come_back(id in number(), parts in texts(), n in [number(), number(), number(), number()], parameters in parameters()) {
        let range = SubscribeUpdate { priority: n[0], order: n[1], min: n[2], max: n[3], parameters };
        round_trip(Seed, &range);
        round_trip(Seed, &Subscribe { id, track: Path(parts.clone()), range });
        round_trip(Seed, &SubscribeOk { priority: n[0], latest: n[1], order: n[2] });
        round_trip(Seed, &SubscribeGap { min: n[0], max: n[1], code: n[2] });
        let range = SubscribeUpdate { priority: n[0], ..SubscribeUpdate::default() };
        round_trip(Head, &range);
        round_trip(Head, &Subscribe { id, track: Path::of([parts.concat(), "index".to_owned()]), range });
        round_trip(Head, &SubscribeOk::default());
        round_trip(Head, &Group { subscription: id, sequence: n[1] });
    }

    /// However a group's bytes are cut, its frames are those that were written.
    #[test]
    fn frames_keep_their_boundaries(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        cuts in prop::collection::vec(1..100_usize, 1..50),
    ) {
        let mut bytes = Group { subscription: 9, sequence: 500 }.framed(Seed);
        for frame in &frames {
            varint::write(frame.len() as u64, &mut bytes);
            bytes.extend_from_slice(frame);
        }
        let (mut stream, mut group) = (Deframer::default(), GroupDeframer::default());
        let mut came = Vec::new();
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            stream.push(chunk);
            rest = later;
            while let Some(piece) = group.next(&mut stream).unwrap() {
                came.push(piece);
            }
        }
        prop_assert_eq!(group.finish(&stream), Ok(()));
        let began = GroupPiece::Began(Group { subscription: 9, sequence: 500 });
        let expected: Vec<_> = [began].into_iter().chain(frames.into_iter().map(|frame| GroupPiece::Frame(frame.into()))).collect();
        prop_assert_eq!(came, expected);
    }
}
