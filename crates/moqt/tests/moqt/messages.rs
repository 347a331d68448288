//! The bytes of MOQT messages. Golden messages are parsed and serialized. The fuzz target `moqt_messages` does the same with arbitrary bytes.

use std::collections::BTreeMap;
use std::fmt::Debug;
use test_support::moqt_golden as golden;
use test_support::snapshot::assert_matches;

use jamjam_moqt::message::{
    Announce, AnnounceInit, AnnouncePlease, GroupHeader, MessageBody, SessionClient, SessionServer, SessionUpdate,
    Subscribe, SubscribeGap, SubscribeOk, SubscribeUpdate,
};
use jamjam_moqt::{DecodeError, Deframer, MoqtVersion, TrackPath, codec, version};

use MoqtVersion::{Gomoqt09, Gomoqt202502, Lite03, Lite04};

fn golden_pieces(version: MoqtVersion) -> BTreeMap<String, Vec<u8>> {
    golden::pieces(&format!("{}.txt", version.name()))
}

/// Parses a golden message, which may begin with the type of its stream, and serializes it again. Some peers omit the counts at the end of a
/// message, or write an empty prefix instead of a slash. Their messages are only parsed.
fn describe<M: MessageBody + PartialEq + Debug>(
    version: MoqtVersion,
    name: &str,
    bytes: &[u8],
    has_type: bool,
) -> String {
    let mut stream = Deframer::default();
    stream.push(bytes);
    let kind = has_type.then(|| stream.next_byte().expect("a type"));
    let body = stream.next_length_prefixed().unwrap().expect("the message is complete");
    let message = M::from_bytes(version, &body).unwrap_or_else(|error| panic!("{version:?} {name}: {error}"));
    let serialized = [Vec::from_iter(kind), message.encode_with_length(version)].concat();
    let is_own_form = !name.ends_with("-bare") && !name.ends_with("-moq-net");
    // In the older versions, the counts at the end of a message may be missing, and a truncated message may be another message.
    for cut in 0..body.len() {
        let read = M::from_bytes(version, &body[..cut]);
        let is_same = read.as_ref() == Ok(&message) && body[cut..].iter().any(|byte| *byte != 0);
        let may_be_read = !matches!(version, Lite03 | Lite04);
        assert!(read.is_err() || may_be_read && !is_same, "{version:?} {name}: {cut} of {body:02x?}");
    }
    assert_eq!(serialized == bytes, is_own_form, "{version:?} {name}: {serialized:02x?}");
    // The original program writes an empty message after one of its announcements.
    assert!(stream.buffered() == 0 || name == "announce-live-bare" && stream.buffered() == 1, "{version:?} {name}");
    format!("{}{message:?}", kind.map(|kind| format!("stream type {kind}, ")).unwrap_or_default())
}

/// The snapshot lists what the golden bytes of each version mean.
#[test]
fn messages_match_their_golden_bytes() {
    let mut lines = Vec::new();
    for version in MoqtVersion::ALL {
        let is_lite = matches!(version, Lite03 | Lite04);
        for (name, bytes) in golden_pieces(version) {
            let message = match name.trim_end_matches("-bare") {
                "frame" => format!("{:?}", String::from_utf8_lossy(&bytes)),
                // The session rejects PROBE and ignores GOAWAY without parsing them.
                "probe" | "goaway" => continue,
                "group" => describe::<GroupHeader>(version, &name, &bytes, true),
                "session-server" => describe::<SessionServer>(version, &name, &bytes, false),
                "session-update" => describe::<SessionUpdate>(version, &name, &bytes, false),
                "subscribe-update" => describe::<SubscribeUpdate>(version, &name, &bytes, false),
                "subscribe-gap" | "subscribe-drop" => describe::<SubscribeGap>(version, &name, &bytes, is_lite),
                "info" | "subscribe-ok" | "subscribe-ok-gomoqt" => {
                    describe::<SubscribeOk>(version, &name, &bytes, is_lite)
                }
                _ if name.starts_with("session-client") => describe::<SessionClient>(version, &name, &bytes, true),
                _ if name.starts_with("announce-please") => describe::<AnnouncePlease>(version, &name, &bytes, true),
                _ if name.starts_with("announce-init") => describe::<AnnounceInit>(version, &name, &bytes, false),
                _ if name.starts_with("announce-") => describe::<Announce>(version, &name, &bytes, false),
                _ => describe::<Subscribe>(version, &name, &bytes, true),
            };
            lines.push(format!("{} {name}: {message}\n", version.name()));
        }
    }
    assert_matches("moqt/golden_messages", &lines.concat());
}

#[test]
fn reply_with_its_type_is_returned_when_it_is_complete() {
    let reply = &golden_pieces(Lite04)["subscribe-drop"];
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
    assert_eq!(long, format!("no common version: offered a\u{fffd}[31m, {}\u{2026}, {supported}", "x".repeat(32)));
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
fn messages_that_a_version_does_not_define_and_invalid_texts_are_rejected() {
    let latin = [1, 1, 4, b'c', b'a', b'f', 0xe9];
    assert_eq!(Announce::from_bytes(Gomoqt202502, &latin), Err(DecodeError::InvalidUtf8("path")));
    assert_eq!(AnnouncePlease::from_bytes(Gomoqt09, &latin[2..]), Err(DecodeError::InvalidUtf8("prefix")));
    for version in [Gomoqt202502, Lite04] {
        assert_eq!(AnnounceInit::from_bytes(version, &[0]), Err(DecodeError::NotInVersion("ANNOUNCE_INIT")));
    }
    assert_eq!(SubscribeGap::from_bytes(Gomoqt09, &[0, 0, 0]), Err(DecodeError::NotInVersion("SUBSCRIBE_GAP")));
    for (version, status) in [(Gomoqt09, 2), (Gomoqt202502, 3), (Lite04, 2)] {
        assert_eq!(Announce::from_bytes(version, &[status, 0, 0]), Err(DecodeError::UnknownStatus(status.into())));
    }
}
