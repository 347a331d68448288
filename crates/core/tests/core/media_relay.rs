//! The relay of media between members of rooms, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use jamjam_core::impairment_patch::ImpairmentPatch;
use jamjam_core::media_relay::{Link, MediaMember, MediaRelay, MediaRelayConfig, MediaRoom, MediaRooms, MediaRoute};
use jamjam_core::node::{Node, Receive, SendStatus, Transmit, TransmitSink};
use jamjam_core::outcome::OutcomeEvent;
use jamjam_core::time::Time;
use jamjam_core::units::InvalidValue;
use jamjam_core::wire::{Header, PacketType};
use serde_json::{Value, json};
use test_support::logged::logged;

/// The address of the server at which all connections arrive.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

const FIRST_PORT: u16 = 40_000;

const STUN_REQUEST: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Sink(Vec<Sent>);

impl TransmitSink for Sink {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        let from =
            SocketAddr::new(transmit.src_ip.expect("the announced address"), FIRST_PORT + transmit.socket as u16);
        self.0.push(Sent { from, to: transmit.destination, bytes: transmit.contents.to_vec() });
        SendStatus::Sent
    }
}

struct Relay {
    rooms: MediaRooms,
    node: MediaRelay,
    rows: mpsc::Receiver<String>,
    is_woken: Arc<AtomicBool>,
}

impl Relay {
    fn new(sockets: u16, words: &str) -> Self {
        Self::with_seed(sockets, words, 0)
    }

    fn with_seed(sockets: u16, words: &str, seed: u64) -> Self {
        let impairment = ImpairmentPatch::from_words(words).expect("options");
        Self::with_config(sockets, MediaRelayConfig { impairment, seed, ..MediaRelayConfig::default() })
    }

    fn with_config(sockets: u16, config: MediaRelayConfig) -> Self {
        let ports = (FIRST_PORT..FIRST_PORT + sockets).collect();
        let config = MediaRelayConfig { ports, own_ips: vec![SERVER.into()], ..config };
        let (sender, rows) = mpsc::channel();
        let to_row =
            Box::new(move |event: &OutcomeEvent<MediaRoute>| sender.send(event.to_string()).expect("a receiver"));
        let rooms = MediaRooms::new(config, Some(to_row));
        let (node, is_woken) = (MediaRelay::new(rooms.clone()), Arc::<AtomicBool>::default());
        let woken = Arc::clone(&is_woken);
        node.waker().expect("a waker").register(move || woken.store(true, Ordering::Relaxed));
        Self { rooms, node, rows, is_woken }
    }

    /// The node runs at this time, because `cause` has woken it.
    fn run_woken<T>(&mut self, at_ms: u64, cause: impl FnOnce(&MediaRooms) -> T) {
        self.is_woken.store(false, Ordering::Relaxed);
        cause(&self.rooms);
        assert!(self.is_woken.load(Ordering::Relaxed));
        self.poll(at_ms);
    }

    /// A member of room 1 whose connection comes from 198.51.100.`host`, and which has published port 5,000 there.
    fn member(&self, name: &str, host: u8) -> MediaMember {
        let member = self.rooms.join(1, names(name), (ip(host), SERVER), None).expect("sockets");
        assert!(member.publish([address(host, 5_000)].into_iter()));
        member
    }

    fn receive(&mut self, at_ms: u64, source: SocketAddr, to: SocketAddr, contents: &[u8]) {
        let (received_at, segment_size) = (Time::from_millis(at_ms), contents.len());
        let (socket, dst_ip) = (usize::from(to.port() - FIRST_PORT), Some(to.ip()));
        let received = Receive { socket, source, dst_ip, received_at, contents, segment_size };
        self.node.on_datagram(received_at, &[received]);
    }

    /// AUDIO of the member at 198.51.100.1, one packet each 10 ms, in these turns.
    fn play(&mut self, turns: Range<u64>, to: SocketAddr) {
        turns.for_each(|turn| drop(self.forward(10 * turn, address(1, 5_000), to, &audio(turn as u32))));
    }

    /// What is sent at this time.
    fn poll(&mut self, at_ms: u64) -> Vec<Sent> {
        let (now, mut sink) = (Time::from_millis(at_ms), Sink::default());
        loop {
            let before = sink.0.len();
            self.node.poll_transmit(now, &mut sink);
            if sink.0.len() == before {
                return sink.0;
            }
        }
    }

    /// Receives a datagram and polls at once.
    fn forward(&mut self, at_ms: u64, source: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Vec<Sent> {
        self.receive(at_ms, source, to, bytes);
        self.poll(at_ms)
    }

    fn count(&self, name: &str) -> u64 {
        self.rooms.counts().get(name).copied().unwrap_or(0)
    }

    /// Polls once per second, as the deadline of the node demands.
    fn pass_time(&mut self, from_s: u64, to_s: u64) {
        (from_s..=to_s).for_each(|second| drop(self.poll(second * 1_000)));
    }
}

/// The id of a member with this name is the name in lower case.
fn names(name: &str) -> [String; 2] {
    [name.to_lowercase(), name.to_owned()]
}

fn link(from: &str, to: &str, key: &str, value: Value) -> Link {
    Link { from: from.to_owned(), to: to.to_owned(), values: BTreeMap::from([(key.to_owned(), value)]) }
}

fn change(rooms: &MediaRooms, link: Link) -> Result<usize, InvalidValue> {
    rooms.change(link, [false; 4])
}

fn renumber(rooms: &MediaRooms, name: &str) -> Result<usize, InvalidValue> {
    rooms.change(link(name, "*", "loss", json!(null)), [false, true, false, false])
}

fn ip(host: u8) -> IpAddr {
    [198, 51, 100, host].into()
}

fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(ip(host), port)
}

fn audio(sequence: u32) -> Vec<u8> {
    Header::new(PacketType::Audio, sequence, 0).to_bytes().to_vec()
}

/// A relay, the members Aki and Ben, and the addresses that lead to them.
fn pair(sockets: u16, words: &str) -> (Relay, [MediaMember; 2], [SocketAddr; 2]) {
    let relay = Relay::new(sockets, words);
    let (aki, ben) = (relay.member("Aki", 1), relay.member("Ben", 2));
    let addresses = [announced(&aki, &ben), announced(&ben, &aki)];
    (relay, [aki, ben], addresses)
}

/// The address that stands for `member` and is announced to `recipient`.
fn announced(member: &MediaMember, recipient: &MediaMember) -> SocketAddr {
    member.address_for(recipient).expect("an address")
}

#[test]
fn each_member_reaches_each_other_one_at_a_socket_of_its_own() {
    let mut relay = Relay::new(8, "");
    let (aki, ben, cho) = (relay.member("Aki", 1), relay.member("Ben", 2), relay.member("Cho", 3));
    let ways = [(&aki, &ben), (&ben, &aki), (&aki, &cho), (&cho, &aki), (&ben, &cho), (&cho, &ben)];
    let distinct = BTreeSet::from(ways.map(|(member, recipient)| announced(member, recipient)));
    let is_own = |to: &SocketAddr| to.ip() == SERVER && (FIRST_PORT..FIRST_PORT + 8).contains(&to.port());
    assert!(distinct.len() == 6 && distinct.iter().all(is_own), "{distinct:?}");
    let sent = relay.forward(0, address(1, 5_000), announced(&ben, &aki), &audio(7));
    assert_eq!(sent, [Sent { from: announced(&aki, &ben), to: address(2, 5_000), bytes: audio(7) }]);
    let foreign = b"no jamjam packet".to_vec();
    let sent = relay.forward(1, address(2, 5_000), announced(&aki, &ben), &foreign);
    assert_eq!(sent, [Sent { from: announced(&ben, &aki), to: address(1, 5_000), bytes: foreign }]);
    assert_eq!(relay.count("sent"), 2);
}

#[test]
fn member_without_a_usable_address_has_none_in_the_room() {
    let (_relay, [aki, ben], _) = pair(8, "");
    for (published, is_usable) in [("[2001:db8::1]:5000", false), ("203.0.113.9:5000", true), ("0.0.0.0:5000", false)] {
        assert!(ben.publish([published.parse().expect("an address")].into_iter()));
        assert_eq!(ben.address_for(&aki).is_some(), is_usable, "{published}");
    }
}

#[test]
fn datagrams_of_others_and_of_the_relay_are_dropped_and_counted() {
    let (mut relay, [_aki, _ben], [_, to]) = pair(8, "");
    for source in [address(2, 5_000), address(9, 5_000), address(1, 0), "127.0.0.1:5000".parse().expect("an address")] {
        assert_eq!(relay.forward(0, source, to, &audio(0)), [], "{source}");
    }
    let own: SocketAddr = "192.0.2.1:40000".parse().expect("an address");
    assert_eq!(relay.forward(0, own, to, &audio(0)), []);
    let unused = SocketAddr::new(SERVER.into(), FIRST_PORT + 7);
    assert_eq!(relay.forward(0, address(1, 5_000), unused, &audio(0)), []);
    let expected = [("foreign_source", 4), ("own_socket", 1), ("unused_socket", 1)];
    assert_eq!(relay.rooms.counts(), BTreeMap::from(expected));
}

#[test]
fn latest_source_counts_at_once_and_for_each_socket() {
    let mut relay = Relay::new(8, "");
    let (aki, ben, cho) = (relay.member("Aki", 1), relay.member("Ben", 2), relay.member("Cho", 3));
    let to_aki = |relay: &mut Relay, from: &MediaMember, host| {
        relay.forward(0, address(host, 5_000), announced(&aki, from), &audio(0))[0].to.port()
    };
    assert_eq!(to_aki(&mut relay, &ben, 2), 5_000, "published");
    relay.forward(0, address(1, 6_000), announced(&cho, &aki), &audio(0));
    assert_eq!(to_aki(&mut relay, &ben, 2), 6_000, "the latest of another socket");
    relay.forward(0, address(1, 7_000), announced(&ben, &aki), &audio(0));
    assert_eq!((to_aki(&mut relay, &ben, 2), to_aki(&mut relay, &cho, 3)), (7_000, 6_000));
    assert_eq!(relay.count("source_changed"), 0);
    relay.forward(0, address(1, 8_000), announced(&ben, &aki), &audio(0));
    assert_eq!((to_aki(&mut relay, &ben, 2), relay.count("source_changed")), (8_000, 1));
}

#[test]
fn sockets_stay_while_one_published_address_does() {
    let (mut relay, [aki, ben], _) = pair(8, "");
    let (first, to_ben) = (announced(&aki, &ben), announced(&ben, &aki));
    let publish = |ports: &[u16]| assert!(aki.publish(ports.iter().map(|port| address(1, *port))));
    publish(&[6_000, 5_000]);
    publish(&[]);
    publish(&[6_000]);
    assert_eq!(announced(&aki, &ben), first);
    publish(&[7_000]);
    let second = announced(&aki, &ben);
    assert_ne!(second, first);
    assert_eq!(announced(&ben, &aki), to_ben, "the others did not move");
    // What Aki sends leaves from the new socket, and the old one still leads to Aki.
    assert_eq!(relay.forward(0, address(1, 7_000), to_ben, &audio(0))[0].from, second);
    assert_eq!(relay.forward(0, address(2, 5_000), first, &audio(0))[0].to, address(1, 7_000));
}

#[test]
fn old_sockets_forward_until_idle_and_then_rest() {
    let (mut relay, [aki, _ben], [to_aki, to_ben]) = pair(2, "");
    drop(aki);
    // Only Ben sends: both sockets of the pair stay.
    for second in 0..100 {
        assert_eq!(relay.forward(second * 1_000, address(2, 5_000), to_aki, &audio(0)).len(), 1, "{second}");
    }
    assert_eq!(relay.forward(99_000, address(1, 5_000), to_ben, &audio(0)).len(), 1);
    relay.pass_time(99, 128);
    assert_eq!(relay.forward(128_900, address(2, 5_000), to_aki, &audio(0)).len(), 1, "idle for less than 30 s");
    relay.pass_time(129, 159);
    assert_eq!(relay.forward(159_900, address(2, 5_000), to_aki, &audio(0)), []);
    let _cho = relay.rooms.join(2, names("Cho"), (ip(3), SERVER), None).expect("alone");
    let join = |relay: &Relay| relay.rooms.join(2, names("Dai"), (ip(4), SERVER), None);
    relay.pass_time(160, 217);
    assert!(join(&relay).is_none(), "no socket is free for another room");
    relay.pass_time(218, 220);
    assert!(join(&relay).is_some(), "the sockets have rested for 60 s");
}

#[test]
fn nobody_enters_without_sockets_for_all_pairs() {
    let relay = Relay::new(7, "");
    let (aki, ben, _cho) = (relay.member("Aki", 1), relay.member("Ben", 2), relay.member("Cho", 3));
    assert!(relay.rooms.join(1, names("Dai"), (ip(4), SERVER), None).is_none());
    let before = announced(&aki, &ben);
    assert!(!aki.publish([address(1, 6_000)].into_iter()), "two new sockets");
    assert!(!aki.publish([address(1, 6_000)].into_iter()), "it has not been published");
    assert!(aki.publish([address(1, 5_000)].into_iter()));
    assert_eq!(announced(&aki, &ben), before);
    // Another room.
    let first = relay.rooms.join(2, names("Dai"), (ip(4), SERVER), None).expect("sockets");
    assert!(relay.rooms.join(2, names("Emi"), (ip(5), SERVER), None).is_none());
    drop(first);
}

#[test]
fn members_of_a_room_of_ten_can_always_enter_again() {
    for (sockets, again, round_s, stays) in [
        // Their first sockets are idle, rest or are free again: a round takes 162 of at most 512.
        (1_024, 1..10, 20, false),
        // All at once, again and again, in 180 sockets and in no more than the announced ones.
        (180, 0..10, 0, true),
        (90, 0..10, 0, true),
    ] {
        let mut relay = Relay::new(sockets, "");
        let mut members: Vec<_> = (0..10).map(|host| Some(relay.member(&host.to_string(), host))).collect();
        for round in 1..=6 {
            relay.pass_time((round - 1) * round_s, round * round_s);
            for host in again.clone() {
                let leaving = members[usize::from(host)].take().filter(|_| stays);
                let joined = relay.rooms.join(1, names(&host.to_string()), (ip(host), SERVER), leaving.as_ref());
                let joined = joined.unwrap_or_else(|| panic!("{host} in round {round} of {sockets} sockets"));
                assert!(joined.publish([address(host, 5_000)].into_iter()));
                members[usize::from(host)] = Some(joined);
            }
        }
    }
}

#[test]
fn room_without_free_sockets_takes_its_resting_ones_and_then_the_longest_idle() {
    let (mut relay, [aki, ben], _) = pair(10, "");
    let publish = |member: &MediaMember, port| member.publish([address(1, port)].into_iter());
    let mut old = Vec::new();
    // Eight sockets, one after the other, are no longer announced. The first five rest in the end, and the others have been in use.
    for (port, second) in (6_000..6_008).zip([0, 1, 2, 3, 4, 40, 41, 42]) {
        old.push(announced(&aki, &ben));
        assert!(publish(&aki, port));
        relay.pass_time(second, second);
    }
    for (second, socket) in [(43, 6), (44, 5), (45, 7)] {
        assert_eq!(relay.forward(second * 1_000, address(2, 5_000), old[socket], &audio(0)).len(), 1, "{socket}");
    }
    relay.poll(46_000);
    let taken = [0, 1, 2, 3, 4, 6, 5, 7].map(|socket| {
        assert!(publish(&aki, 7_000 + socket));
        (announced(&aki, &ben), old[usize::from(socket)])
    });
    assert!(taken.iter().all(|(taken, expected)| taken == expected), "{taken:?}");
}

#[test]
fn member_that_publishes_addresses_without_end_takes_54_sockets() {
    let relay = Relay::new(64, "");
    let (_peer, eve) = (relay.member("Peer", 1), relay.member("Eve", 2));
    (6_000..6_200).for_each(|port| assert!(eve.publish([address(2, port)].into_iter())));
    let join = |host| relay.rooms.join(2, names("Ben"), (ip(host), SERVER), None);
    let mut others: Vec<_> = (3..6).map(|host| join(host).expect("six of the ten others")).collect();
    let lines = logged(|| others.extend(join(6)));
    assert!(others.len() == 3 && lines.len() == 1, "four are left, and six are needed: {lines:?}");
    assert!(lines[0].starts_with("WARN no ports left for a member") && lines[0].contains("room=2"), "{lines:?}");
}

#[test]
fn outages_begin_with_the_first_audio_of_the_room_and_end_stun_too() {
    let (mut relay, [_aki, _ben], [to_aki, to_ben]) = pair(8, "loss 100% delay 30ms outage 1s@1s");
    let is_forwarded = |relay: &mut Relay, at_ms| {
        relay.receive(at_ms, address(2, 5_000), to_aki, &STUN_REQUEST);
        (relay.poll(at_ms + 29).len(), relay.poll(at_ms + 30).len())
    };
    // Without AUDIO, there is no time 0.
    assert_eq!(is_forwarded(&mut relay, 1_500), (0, 1));
    relay.receive(2_000, address(1, 5_000), to_ben, &audio(0));
    let response = [&[1, 1][..], &STUN_REQUEST[2..]].concat();
    relay.receive(2_000, address(1, 5_000), to_ben, &response);
    assert_eq!(relay.poll(2_100).len(), 1, "AUDIO is lost, the STUN response is not");
    assert_eq!(is_forwarded(&mut relay, 2_969), (0, 1));
    assert_eq!(is_forwarded(&mut relay, 3_000), (0, 0));
    assert_eq!(is_forwarded(&mut relay, 3_999), (0, 0));
    assert_eq!(is_forwarded(&mut relay, 4_000), (0, 1));
    let rows: Vec<String> = relay.rows.try_iter().collect();
    assert_eq!(rows, ["2000000.000,\"Aki#1\",\"Ben#1\",up,AUDIO,0,lost,0,,0"], "STUN is not judged");
}

#[test]
fn bandwidth_is_one_queue_for_all_that_a_member_receives() {
    // 28 bytes of headers and 972 bytes take 1 ms.
    let mut relay = Relay::new(8, "bandwidth 8Mbit,2ms");
    let (aki, ben, cho) = (relay.member("Aki", 1), relay.member("Ben", 2), relay.member("Cho", 3));
    let datagram = [audio(0), vec![0; 960]].concat();
    let (from_ben, from_cho) = (announced(&aki, &ben), announced(&aki, &cho));
    for _ in 0..2 {
        relay.receive(0, address(2, 5_000), from_ben, &datagram);
        relay.receive(0, address(3, 5_000), from_cho, &datagram);
    }
    relay.receive(0, address(1, 5_000), announced(&ben, &aki), &datagram);
    let hosts = |sent: Vec<Sent>| sent.into_iter().map(|sent| sent.to).collect::<Vec<_>>();
    assert_eq!(hosts(relay.poll(0)), []);
    let (aki, ben) = (address(1, 5_000), address(2, 5_000));
    assert_eq!(hosts(relay.poll(1)), [aki, ben], "Ben has another queue");
    assert_eq!([2, 3].map(|ms| hosts(relay.poll(ms))), [[aki], [aki]]);
    assert_eq!((hosts(relay.poll(10)), relay.count("queue")), (vec![], 1));
}

/// The sequence numbers that a relay forwards from the last member of this list to the first.
fn forwarded(seed: u64, sockets: u16, names: &[&str]) -> Vec<u32> {
    let mut relay = Relay::with_seed(sockets, "loss 50%", seed);
    let members: Vec<MediaMember> =
        names.iter().enumerate().map(|(host, name)| relay.member(name, host as u8 + 1)).collect();
    let to = announced(&members[0], members.last().expect("a member"));
    let sent = |sequence: &u32| !relay.forward(0, address(names.len() as u8, 5_000), to, &audio(*sequence)).is_empty();
    (0..200).filter(sent).collect()
}

#[test]
fn loss_depends_on_seed_names_and_how_manieth_of_a_name_a_member_is() {
    let expected = forwarded(7, 2, &["Aki", "Ben"]);
    assert!((50..150).contains(&expected.len()));
    assert_eq!(forwarded(7, 30, &["Aki", "Cho", "Ben"]), expected);
    for other in [
        forwarded(8, 2, &["Aki", "Ben"]),
        forwarded(7, 2, &["Ben", "Aki"]),
        forwarded(7, 2, &["Aki", "Bo"]),
        forwarded(7, 6, &["Aki", "Ben", "Ben"]),
    ] {
        assert_ne!(other, expected);
    }
}

#[test]
fn limits_apply_to_other_hosts_only_and_are_no_impairment() {
    let config = || MediaRelayConfig::default();
    let mut relay = Relay::with_config(8, config());
    let (aki, ben) = (relay.member("Aki", 1), relay.member("Ben", 2));
    let here = relay.rooms.join(1, names("Cho"), ([127, 0, 0, 1].into(), Ipv4Addr::LOCALHOST), None).expect("sockets");
    assert!(here.publish(["192.0.2.1:5000".parse().expect("an address")].into_iter()));
    let (to_ben, to_here) = (announced(&ben, &aki), announced(&here, &aki));
    let mut sent =
        |to| (0..2_000).map(|number| relay.forward(0, address(1, 5_000), to, &audio(number)).len()).sum::<usize>();
    // A burst of 125 ms of 8,000 packets per second, as the echo server's.
    assert_eq!((sent(to_ben), sent(to_here)), (1_000, 2_000));
    assert_eq!((relay.count("limit"), relay.count("sent")), (1_000, 3_000));
}

#[test]
fn outcomes_name_both_members_and_what_is_on_its_path_at_the_end() {
    let mut relay = Relay::new(8, "delay 10ms");
    let (aki, ben) = (relay.member("A,\"ki", 1), relay.member("Ben", 2));
    relay.receive(0, address(1, 5_000), announced(&ben, &aki), &audio(3));
    relay.poll(10);
    relay.receive(20, address(1, 5_000), announced(&ben, &aki), &audio(4));
    drop(relay.node);
    let names = "\"A,\"\"ki#1\",\"Ben#1\",up";
    let expected =
        [format!("0.000,{names},AUDIO,3,sent,0,10000.000,1"), format!("20000.000,{names},AUDIO,4,stopped,0,,0")];
    assert_eq!(relay.rows.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn severed_direction_loses_everything_and_the_other_nothing_until_restored() {
    let (mut relay, [_aki, _ben], [to_aki, to_ben]) = pair(8, "loss 50%");
    let rooms = relay.rooms.clone();
    let mut sent = |host, to, sequences: Range<u32>| {
        let is_sent = |sequence: &u32| !relay.forward(0, address(host, 5_000), to, &audio(*sequence)).is_empty();
        sequences.filter(is_sent).count()
    };
    change(&rooms, link("Aki", "Ben", "loss", json!(100))).expect("valid");
    assert_eq!(sent(1, to_ben, 0..100), 0);
    assert!((25..75).contains(&sent(2, to_aki, 0..100)));
    change(&rooms, link("Aki", "*", "loss", json!(null))).expect("valid");
    // The decisions about later packets are those that the seed gives without entries.
    let unchanged = forwarded(0, 2, &["Ben", "Aki"]).into_iter().filter(|sequence| *sequence >= 100);
    assert_eq!(sent(1, to_ben, 100..200), unchanged.count());
    assert_eq!(rooms.links(), []);
}

#[test]
fn severed_pair_and_the_outage_of_a_change_are_judged() {
    let (mut relay, [_aki, _ben], [_, to_ben]) = pair(2, "");
    relay.play(0..200, to_ben);
    relay.run_woken(2_300, |rooms| change(rooms, link("*", "*", "loss", json!(100))).expect("valid"));
    relay.run_woken(3_400, |rooms| change(rooms, link("*", "*", "loss", json!(null))).expect("valid"));
    relay.play(350..500, to_ben);
    change(&relay.rooms, link("Aki", "Ben", "outage", json!("1s@6s"))).expect("valid");
    relay.play(500..900, to_ben);
    let results = relay.rooms.take_results();
    assert_eq!(judged(&results), [judged_at(2_300, 3_400, 100), judged_at(6_000, 7_000, 0)]);
    let all = results[&1].recoveries.iter().flat_map(|(_, recovery)| &recovery.judged);
    assert!(all.map(|one| one.is_by_hand).eq([true, false]));
}

/// Start and end in milliseconds, and the recovery.
type Judged = (u64, u64, Option<Result<Duration, Duration>>);

fn judged_at(start: u64, end: u64, recovery: u64) -> Judged {
    (start, end, Some(Ok(Duration::from_millis(recovery))))
}

/// Start, end and return of each outage in room 1, first of the direction from the first member.
fn judged(results: &BTreeMap<u64, MediaRoom>) -> Vec<Judged> {
    let ms = |at: Time| at.as_micros() / 1_000;
    let all = results[&1].recoveries.iter().flat_map(|(_, recovery)| &recovery.judged);
    all.map(|one| (ms(one.start), ms(one.end), one.recovery)).collect()
}

#[test]
fn silence_counts_until_the_node_ran_last() {
    let (mut relay, [aki, ben], _) = pair(2, "");
    assert_eq!(relay.rooms.silence(), None);
    relay.forward(5_000, address(1, 5_000), announced(&ben, &aki), &audio(0));
    relay.poll(6_500);
    assert_eq!(relay.rooms.silence(), Some(Duration::from_millis(1_500)));
}

#[test]
fn member_leaves_when_it_does_though_nothing_flows() {
    let (mut relay, [aki, _ben], [_, to_ben]) = pair(2, "outage 1s@1s");
    relay.play(0..100, to_ben);
    relay.run_woken(2_700, |_| drop(aki));
    relay.pass_time(3, 6);
    assert_eq!(judged(&relay.rooms.take_results()), [(1_000, 2_000, Some(Err(Duration::from_millis(700))))]);
}

#[test]
fn change_by_name_holds_for_later_members_and_by_id_for_one() {
    let mut relay = Relay::new(8, "");
    let ben = relay.member("Ben", 2);
    for added in [link("Aki", "*", "delay", json!("30ms")), link("ben", "*", "loss", json!("100%"))] {
        change(&relay.rooms, added).expect("valid");
    }
    let aki = relay.member("Aki", 1);
    relay.receive(0, address(1, 5_000), announced(&ben, &aki), &audio(0));
    relay.receive(0, address(1, 5_000), announced(&ben, &aki), &STUN_REQUEST);
    assert_eq!((relay.poll(29).len(), relay.poll(30).len()), (0, 2), "AUDIO and STUN");
    let is_lost = |relay: &mut Relay, ben: &MediaMember| {
        relay.forward(100, address(2, 5_000), announced(&aki, ben), &audio(0)).is_empty()
    };
    assert!(is_lost(&mut relay, &ben));
    drop(ben);
    assert_eq!(relay.rooms.links().len(), 2, "its media may go on");
    let ids = ["ben again", "Ben"].map(str::to_owned);
    let ben = relay.rooms.join(1, ids, (ip(2), SERVER), None).expect("sockets");
    assert!(!is_lost(&mut relay, &ben));
    relay.pass_time(1, 62);
    assert_eq!(relay.rooms.links(), [(link("Aki", "*", "delay", json!("30ms")), 1)]);
}

#[test]
fn invalid_changes_have_no_effect_and_their_number_is_limited() {
    let relay = Relay::new(8, "");
    let invalid =
        [("los", "1"), ("loss=7", ""), ("loss=7", "1"), ("loss 1 delay", "1"), ("seed", "7"), ("outcome-log=x", "")];
    for (key, value) in ["101%", "", "1 delay"].map(|value| ("loss", value)).into_iter().chain(invalid) {
        let invalid = link("*", "*", key, json!(value));
        assert!(change(&relay.rooms, invalid.clone()).is_err(), "{invalid:?}");
        assert_eq!(relay.rooms.links(), [], "{invalid:?}");
    }
    let add = |number: u32| change(&relay.rooms, link(&number.to_string(), "*", "loss", json!(1)));
    assert!((0..1_000).all(|number| add(number).is_ok()));
    assert!(add(1_000).is_err());
    assert!(change(&relay.rooms, link("1000", "*", "loss", json!(null))).is_err());
    assert_eq!(relay.rooms.links().len(), 1_000);
    change(&relay.rooms, link("*", "*", "loss", json!(null))).expect("restored");
    assert_eq!(relay.rooms.links(), []);
}

#[test]
fn change_says_how_many_members_it_means_and_whom_it_never_meant() {
    let relay = Relay::new(20, "");
    let lossy = |from: &str, to: &str| link(from, to, "loss", json!(1));
    let require = |from: &str, to: &str| relay.rooms.change(lossy(from, to), [false, false, true, false]);
    assert_eq!(change(&relay.rooms, lossy("Aki", "*")).ok(), Some(0), "nobody is there");
    let (_aki, _ben, _ben2) = (relay.member("Aki", 1), relay.member("Ben", 2), relay.member("Ben", 3));
    let _other_room = relay.rooms.join(2, names("Cho"), (ip(4), SERVER), None);
    for (from, to, expected) in [
        ("*", "*", 4),
        ("Ben", "*", 2),
        ("ben", "Aki", 2),
        ("Aki", "Ben", 1),
        ("Ben", "Ben", 2),
        ("Aki", "Aki", 0),
        ("Aki", "Cho", 0),
        ("Aki", "Bne", 0),
        ("Bne", "*", 0),
    ] {
        assert_eq!(require(from, to).ok(), (expected > 0).then_some(expected), "{from} {to}");
        assert_eq!(change(&relay.rooms, lossy(from, to)).ok(), Some(expected), "{from} {to}");
    }
    let listed: Vec<usize> = relay.rooms.links().iter().map(|(_, members)| *members).collect();
    assert_eq!(listed, [4, 2, 2, 1, 2, 0, 0, 0, 0]);
    let restore = |key| change(&relay.rooms, link("Zoe", "*", key, json!(null)));
    assert_eq!([restore("loss"), restore("delay")].map(Result::ok), [Some(0); 2]);
    let unmet = [["Aki", "Aki"], ["Aki", "Bne"], ["Aki", "Cho"], ["Bne", "*"]].map(|names| names.map(str::to_owned));
    assert_eq!(relay.rooms.unmet(), BTreeSet::from(unmet));
}

#[test]
fn renumbered_member_sends_from_new_sockets_that_lead_to_it_and_the_old_ones_forward_nothing() {
    let (mut relay, [_aki, _ben], [to_aki, to_ben]) = pair(8, "");
    assert_eq!(relay.forward(0, address(2, 6_000), to_aki, &audio(0))[0].to, address(1, 5_000));
    assert!(relay.rooms.change(link("Zoe", "*", "loss", json!(100)), [true, true, false, false]).is_err());
    assert_eq!(relay.rooms.links(), [], "nothing has changed");
    renumber(&relay.rooms, "Aki").expect("free sockets");
    let sent = relay.forward(1, address(1, 5_000), to_ben, &audio(0)).remove(0);
    assert!(sent.from != to_aki && sent.to == address(2, 6_000), "{sent:?}");
    assert_eq!(relay.forward(2, address(2, 6_000), to_aki, &audio(1)), []);
    let answered = relay.forward(3, address(2, 6_000), sent.from, &audio(1)).remove(0);
    assert_eq!((answered.from, answered.to), (to_ben, address(1, 5_000)));
    let rows: Vec<String> = relay.rows.try_iter().filter(|row| row.contains("old_port")).collect();
    assert_eq!(rows, ["2000.000,\"Ben#1\",\"Aki#1\",down,AUDIO,1,old_port,0,,0"]);
    assert_eq!(relay.forward(4, address(9, 6_000), to_aki, &audio(1)), []);
    assert_eq!((relay.count("old_port"), relay.count("foreign_source")), (1, 1));
    relay.pass_time(1, 60);
    renumber(&relay.rooms, "*").expect("free sockets");
    renumber(&relay.rooms, "*").expect("free sockets");
    assert!(renumber(&relay.rooms, "*").is_err());
    relay.pass_time(61, 125);
    renumber(&relay.rooms, "*").expect("the first ones have rested");
}

#[test]
fn renumbered_pair_recovers_by_audio_through_the_new_port() {
    let (mut relay, [aki, ben], _) = pair(4, "delay 100ms");
    let (mut to_aki, to_ben) = (announced(&aki, &ben), announced(&ben, &aki));
    for turn in 0..600 {
        if turn == 200 {
            renumber(&relay.rooms, "Aki").expect("free sockets");
        }
        if turn == 350 {
            to_aki = announced(&aki, &ben);
        }
        relay.forward(10 * turn, address(1, 5_000), to_ben, &audio(turn as u32));
        relay.forward(10 * turn, address(2, 5_000), to_aki, &audio(turn as u32));
    }
    let results = relay.rooms.take_results();
    let of_ben = &results[&1].flows.iter().find(|(route, _)| &*route.from == "Ben#1").expect("a flow").1;
    assert_eq!((of_ben.outcomes["old_port"], of_ben.forwarded().sequences.gaps), (150, 150));
    assert_eq!(judged(&results), [100, 1_600].map(|recovery| judged_at(2_000, 2_000, recovery)));
}

#[test]
fn results_have_each_flow_and_the_time_until_all_attempted_ones_have_audio() {
    let mut relay = Relay::new(8, "");
    let (aki, ben, cho) = (relay.member("Aki", 1), relay.member("Ben", 2), relay.member("Cho", 3));
    relay.poll(0);
    assert!(cho.publish([address(3, 5_001)].into_iter()), "not its first address");
    relay.poll(200);
    relay.forward(400, address(1, 5_000), announced(&ben, &aki), &audio(0));
    relay.forward(500, address(2, 5_000), announced(&aki, &ben), b"attempted");
    relay.forward(700, address(2, 5_000), announced(&aki, &ben), &audio(0));
    relay.forward(900, address(1, 5_000), announced(&ben, &aki), &audio(5));
    for key in [1, 1, 2] {
        let control = [&Header::new(PacketType::Control, 0, 0).to_bytes()[..], &[1, 1], &[key; 32]].concat();
        relay.forward(900, address(1, 5_000), announced(&ben, &aki), &control);
    }
    drop((aki, ben));
    let results = relay.rooms.take_results();
    let room = &results[&1];
    assert_eq!((room.flows.len(), room.completed_after()), (6, Some(Duration::from_millis(700))));
    let flow = |from: &str, to: &str| {
        let is_it = |(route, _): &&(MediaRoute, _)| (&*route.from, &*route.to) == (from, to);
        &room.flows.iter().find(is_it).expect("a flow").1
    };
    let from_aki = flow("Aki#1", "Ben#1");
    assert_eq!((from_aki.datagrams, from_aki.left.sequences.gaps, from_aki.key_changes), (5, 4, 1));
    assert_eq!(from_aki.left.times, Some((Time::from_millis(400), Time::from_millis(900))));
    assert_eq!((flow("Ben#1", "Aki#1").datagrams, flow("Ben#1", "Cho#1").datagrams), (2, 0));
    drop(cho);
}

#[test]
fn silent_member_keeps_a_room_complete_and_an_attempted_flow_does_not() {
    for (is_attempted, expected) in [(false, Some(Duration::ZERO)), (true, None)] {
        let (mut relay, [_aki, _ben], [to_aki, to_ben]) = pair(6, "");
        relay.forward(400, address(1, 5_000), to_ben, &audio(0));
        let _cho = relay.member("Cho", 3);
        relay.poll(500);
        if is_attempted {
            relay.forward(500, address(2, 5_000), to_aki, b"attempted");
        }
        assert_eq!(relay.rooms.take_results()[&1].completed_after(), expected);
    }
}

#[test]
fn members_that_left_stay_in_the_results_with_their_outages() {
    let (mut relay, [aki, ben], [_, to_ben]) = pair(2, "outage 1s@1s");
    relay.play(500..900, to_ben);
    drop((aki, ben));
    relay.pass_time(10, 50);
    assert_eq!(judged(&relay.rooms.take_results()), [judged_at(6_000, 7_000, 0)]);
    assert!(relay.rooms.take_results().is_empty());
}

#[test]
fn member_whom_the_end_of_the_relay_disconnects_is_not_lost() {
    for has_ended in [false, true] {
        let (mut relay, [mut aki, ben], [_, to_ben]) = pair(2, "outage 1s@1s");
        relay.play(0..110, to_ben);
        aki.is_lost = true;
        let Relay { rooms, node, .. } = relay;
        let node = (!has_ended).then_some(node);
        drop(aki);
        let results = rooms.take_results();
        let lost: Vec<_> = results[&1].recoveries.iter().filter_map(|(_, recovery)| recovery.lost.clone()).collect();
        assert_eq!(lost.is_empty(), has_ended, "{lost:?}");
        drop((node, ben));
    }
}

#[test]
fn client_that_renews_its_sockets_as_fast_as_it_can_leaves_some_for_other_rooms() {
    for (is_here, sockets) in [(false, 1_024), (true, 1_024), (false, 400), (true, 400)] {
        let mut relay = Relay::new(sockets, "");
        let source = |host: u8| if is_here { [127, 0, 0, host].into() } else { ip(host) };
        let join = |relay: &Relay, room, host| relay.rooms.join(room, names("Eve"), (source(host), SERVER), None);
        let publish =
            |member: &MediaMember, host, port| member.publish([SocketAddr::new(source(host), port)].into_iter());
        let mut known = BTreeSet::new();
        for second in 0..200_u64 {
            // Other clients of other rooms, which stay for a second.
            let others = [8, 9].map(|host| join(&relay, 1_000 + second, host).expect("sockets"));
            // One client with several connections, on one host in as many rooms as it likes.
            let room = if is_here { 2 } else { 2 + second };
            if let [Some(first), Some(peer)] = [join(&relay, room, 1), join(&relay, room, 1)] {
                for port in 5_000..5_100 {
                    assert!(publish(&first, 1, port));
                    known.insert(announced(&first, &peer));
                }
            }
            // It keeps all of them in use.
            for to in &known {
                relay.receive(1_000 * second, SocketAddr::new(source(1), 5_000), *to, &audio(0));
            }
            relay.poll(1_000 * second);
            drop(others);
        }
        assert!(known.len() > 100, "{}", known.len());
    }
}
