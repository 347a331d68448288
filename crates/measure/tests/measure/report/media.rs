//! The report of the bad room, whose node runs in virtual time.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use jamjam_core::impairment_patch::ImpairmentPatch;
use jamjam_core::media_relay::{Link, MediaMember, MediaRelay, MediaRelayConfig, MediaRooms};
use jamjam_core::node::{Node, Receive};
use jamjam_core::time::Time;
use jamjam_measure::check::{CheckReport, CheckedSource, Severity, SignalingCheck};
use jamjam_measure::document::{Document, Outcome};
use jamjam_measure::report::media::MediaReport;
use jamjam_measure::verdict::{Judged, Verdict};
use serde_json::{Value, json};
use test_support::node_driver::{header, poll};
use test_support::snapshot;

use crate::schema::assert_schema;

/// A room of Aki, Ben and Cho, whose media takes 20 ms. Time 0 of outages is 1 s.
struct Room {
    rooms: MediaRooms,
    relay: MediaRelay,
    members: Vec<MediaMember>,
    now: Time,
}

impl Room {
    fn new(outages: &str) -> Self {
        let impairment = ImpairmentPatch::from_words(&format!("outage {outages} delay 20ms")).expect("options");
        let config = MediaRelayConfig { impairment, ports: (40_000..40_020).collect(), ..MediaRelayConfig::default() };
        let rooms = MediaRooms::new(config, None);
        let relay = MediaRelay::new(rooms.clone());
        let mut room = Self { rooms, relay, members: Vec::new(), now: Time::ZERO };
        for name in ["Aki", "Ben", "Cho"] {
            room.join(name);
        }
        room.now = Time::from_millis(900);
        room.run(900);
        room
    }

    fn join(&mut self, name: &str) {
        let names = ["", name].map(str::to_owned);
        let member =
            self.rooms.join(1, names, (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST), None).expect("sockets");
        assert!(member.publish([SocketAddr::from(([127, 0, 0, 1], 5_000))].into_iter()));
        self.members.push(member);
    }

    /// The driver calls the node at its deadlines, and then at `until`.
    fn run(&mut self, until: u64) {
        let until = Time::from_millis(until);
        while let Some(deadline) = self.relay.next_deadline().filter(|deadline| *deadline < until) {
            self.now = deadline.max(self.now);
            poll(&mut self.relay, self.now.as_nanos());
        }
        self.now = until.max(self.now);
        poll(&mut self.relay, self.now.as_nanos());
    }

    /// A datagram from one member to another one arrives at `ms`. It is read at once, unless the node did not run.
    fn receive(&mut self, ms: u64, (from, to): (usize, usize), port: u16, contents: &[u8]) {
        let address = self.members[to].address_for(&self.members[from]).expect("an address");
        let (received_at, source) = (Time::from_millis(ms), SocketAddr::from(([127, 0, 0, 1], port)));
        let (socket, segment_size) = (usize::from(address.port() - 40_000), contents.len());
        let received = Receive { socket, source, dst_ip: None, received_at, contents, segment_size };
        if received_at > self.now {
            self.run(ms);
        }
        self.relay.on_datagram(self.now, &[received]);
    }

    /// Each member of `ways` sends AUDIO to the other one every 10 ms.
    fn play(&mut self, times: Range<u64>, ways: &[(usize, usize)]) {
        for (ms, way) in times.step_by(10).flat_map(|ms| ways.iter().map(move |way| (ms, *way))) {
            self.receive(ms, way, 5_000 + way.0 as u16, &header(1, (ms / 10) as u32, 0));
        }
    }

    fn report(self, limit: Option<Duration>) -> MediaReport {
        drop(self.members);
        let delays = self.relay.into_delays();
        MediaReport::new(&self.rooms, (None, &delays), 7, (true, limit))
    }
}

#[test]
fn change_that_never_meant_anybody_is_a_warning() {
    let room = Room::new("1s@1s");
    for from in ["Zoe", "Dai", "Aki"] {
        let link = Link { from: from.to_owned(), to: "*".to_owned(), values: [("loss".to_owned(), json!(1))].into() };
        room.rooms.change(link, [false; 4]).expect("valid");
    }
    let names = ["", "Dai"].map(str::to_owned);
    let _later = room.rooms.join(1, names, (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST), None);
    assert_eq!(warnings(&room.report(None)), ["change of the path from `Zoe` to `*`: it meant nobody"]);
}

fn warnings(report: &MediaReport) -> Vec<&str> {
    report.head.warnings.iter().map(|warning| warning.message.as_str()).collect()
}

const BOTH: [(usize, usize); 2] = [(0, 1), (1, 0)];

/// Aki and Ben play to each other through an outage, after which Ben is back 1.5 s later. Both attempt nothing with Cho.
fn report(limit: Option<Duration>) -> MediaReport {
    let mut room = Room::new("500ms@1s,1s@6s");
    let key = |key| [&header(3, 0, 0)[..], &[1, 1], &[key; 32]].concat();
    room.receive(990, BOTH[0], 5_000, &key(1));
    room.play(1_000..2_000, &BOTH);
    room.play(2_000..4_000, &BOTH[..1]);
    room.play(4_000..8_500, &BOTH);
    room.receive(8_500, BOTH[0], 5_000, &key(2));
    // No host has this port.
    room.receive(8_600, BOTH[0], 0, b"forged");
    room.report(limit)
}

/// A check whose clients were judged, and that contains this report.
fn checked(media: MediaReport) -> Document {
    let sources = vec![CheckedSource {
        name: "Aki".to_owned(),
        facts: "in a room".to_owned(),
        took_part: true,
        ..CheckedSource::default()
    }];
    let report = CheckReport { sources, media: Some(media), ..SignalingCheck::default().report() };
    report.document(Severity::Error, 0, None)
}

#[test]
fn text_and_junit_have_each_flow_and_each_outage_of_a_pair() {
    let [without, within] = [None, Some(Duration::from_secs(2))].map(|limit| checked(report(limit)));
    snapshot::assert_matches("measure/media", &format!("{}\n{}", without.text(false, false, None), within.junit()));
    assert_eq!([without, within].map(|one| one.head.verdict.result), [Verdict::Passed; 2]);
}

/// What a limit of 500 ms comes to: the outcome, its reasons, and the status in JUnit of the outages in order.
fn judged(room: Room) -> String {
    let result = checked(room.report(Some(Duration::from_millis(500))));
    let junit = result.junit();
    let Outcome { result: verdict, reasons, .. } = result.head.verdict;
    assert_eq!(junit.contains("<error"), verdict == Verdict::NotMeasured, "{junit}");
    let cases = junit.split("<testcase ").filter(|case| case.contains("classname=\"room 1, "));
    let status =
        |case: &str| ["failure", "skipped", "error"].into_iter().find(|status| case.contains(&format!("<{status}")));
    let statuses = cases.map(|case| status(case).unwrap_or("met")).collect::<Vec<_>>().join(" ");
    [vec![format!("{verdict:?}: {statuses}")], reasons].concat().join("\n")
}

/// Both play until the host of the relay stops for a time, and then until 9 s.
fn played_with_a_stop(outages: &str, stop: Range<u64>) -> Room {
    let mut room = Room::new(outages);
    room.play(1_000..stop.start, &BOTH);
    room.now = Time::from_millis(stop.end);
    room.play(stop.start..9_000, &BOTH);
    room
}

#[test]
fn judgments_of_recoveries_match_their_snapshot() {
    let mut text = String::new();
    let mut add = |name: &str, room: Room| writeln!(text, "# {name}\n{}", judged(room)).expect("memory");

    let mut room = Room::new("500ms@1s");
    let ways = [(0, 1), (1, 0), (0, 2), (2, 0)];
    room.play(1_000..2_500, &ways);
    room.play(2_500..3_700, &ways[2..]);
    room.play(3_700..6_000, &ways);
    add("Ben is back 1.2 s after the end of the outage, and Cho at once", room);

    for (name, dead_from) in [("Ben was silent for a second before it", 2_000), ("Ben is silent since then", 3_900)] {
        let mut room = Room::new("500ms@3s");
        room.play(1_000..dead_from, &BOTH);
        room.play(dead_from..9_000, &BOTH[..1]);
        add(name, room);
    }
    for (name, outages, start) in [("no outage", "500ms@9s", 1_000), ("no AUDIO before the outage", "500ms@2s", 4_000)]
    {
        let mut room = Room::new(outages);
        room.play(1_000..1_010, &BOTH[..1]);
        room.play(start..6_000, &BOTH);
        add(name, room);
    }
    for (name, outages, end, is_lost, rejoins) in [
        ("Ben was lost", "500ms@1s", 2_000, true, false),
        ("Ben left by itself", "500ms@1s", 2_000, false, false),
        ("Ben was lost, but is back under its name", "500ms@1s", 2_000, true, true),
        ("Ben was lost, but had recovered from another outage", "500ms@1s/4s", 6_000, true, false),
    ] {
        let mut room = Room::new(outages);
        room.play(1_000..end, &BOTH);
        room.run(end + 800);
        room.members[1].is_lost = is_lost;
        room.members.remove(1);
        room.run(end + 800);
        if rejoins {
            room.join("Ben");
        }
        room.run(60_000);
        add(name, room);
    }
    for (when, outages, stop) in [
        ("at the end of the outage", "500ms@1s", 2_400..3_700),
        ("before it was clear that the pair had recovered", "500ms@1s", 3_400..3_500),
        ("before the outage", "500ms@1s", 1_900..2_000),
        ("within the outage", "500ms@1s", 2_100..2_400),
        ("after the recovery was clear", "500ms@1s", 3_700..5_000),
        ("at the end of the first outage of two", "500ms@1s/4s", 2_400..3_700),
    ] {
        add(&format!("the relay did not run {when}"), played_with_a_stop(outages, stop));
    }
    // After the limit and a second, it has not recovered, whatever happens then.
    let mut room = Room::new("500ms@1s");
    room.play(1_000..2_000, &BOTH);
    room.run(4_100);
    room.now = Time::from_millis(5_100);
    room.play(4_200..8_000, &BOTH[..1]);
    add("the relay did not run after the limit and a second", room);
    snapshot::assert_matches("measure/recovery", &text);

    let warnings = ["pauses, in which the relay did not run for 1.2 s: 1", "datagrams sent over 50 ms late: 226"];
    let report = played_with_a_stop("500ms@1s", 2_400..3_700).report(None);
    let of_host = report.head.judgments.last().map(|one| (&*one.rule, one.result));
    assert_eq!((self::warnings(&report), of_host), (warnings.into(), Some(("this host kept up", Judged::NotJudged))));
}

#[test]
fn document_with_media_fits_the_schema() {
    let documents = [("with a limit", Some(Duration::from_secs(2))), ("without", None)];
    let documents = documents.map(|(name, limit)| (name.to_owned(), Value::Object(checked(report(limit)).to_json())));
    assert_eq!(documents[0].1["media"]["flows"][0]["outcomes"], json!({"outage": 150, "sent": 602}));
    assert_schema(&documents);
}
