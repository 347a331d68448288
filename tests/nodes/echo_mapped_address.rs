//! How the echo server learns what others see its socket as: the node in virtual time, and once on real sockets.

use std::collections::HashSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use test_support::stun;
use test_support::tape;

use jamjam_dev::client::StopSignal;
use jamjam_dev::echo::{AdmissionConfig, EchoConfig, EchoServer, StunConfig};
use jamjam_dev::impairment::Impairment;
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::io::udp::{self, Backend, DriverOptions, IdlePolicy};
use jamjam_dev::node::{Node, Receive, SendStatus};
use jamjam_dev::time::Time;

use stun::transaction;
use tape::{Left, Tape};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// The address in the answers of `nodes/stun.rs` and of RFC 5769.
const SEEN: &str = "192.0.2.1:32853";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn server() -> SocketAddr {
    address("198.51.100.7:3478")
}

/// An echo server without a delay that asks `server`, and what its observer is told.
fn asking(mut echo: EchoServer, server: SocketAddr) -> (EchoServer, Receiver<SocketAddr>) {
    let (tell, told) = mpsc::channel();
    let observer = move |address| tell.send(address).expect("the test listens");
    echo.monitor_mapped_address(StunConfig { server, hash_key: [1, 2, 3, 4] }, Box::new(observer));
    (echo, told)
}

fn plain() -> (EchoServer, Receiver<SocketAddr>) {
    asking(EchoServer::new(EchoConfig { delay: Duration::ZERO, ..EchoConfig::default() }), server())
}

fn hear(echo: &mut EchoServer, at: u64, source: SocketAddr, contents: &[u8]) {
    let received_at = Time::from_nanos(at);
    echo.on_datagram(
        received_at,
        &[Receive { source, dst_ip: None, received_at, contents, segment_size: contents.len().max(1) }],
    );
}

fn poll(echo: &mut EchoServer, now: u64) -> Vec<Left> {
    let mut tape = Tape::new();
    echo.poll_transmit(Time::from_nanos(now), &mut tape);
    tape.left
}

/// The one question that leaves at `now`, and nothing else.
fn question(echo: &mut EchoServer, now: u64) -> Vec<u8> {
    let mut left = poll(echo, now);
    assert_eq!(left.len(), 1, "{left:02x?}");
    assert_eq!((left[0].to, left[0].from), (server(), None));
    left.remove(0).bytes
}

fn deadline(echo: &EchoServer) -> Option<u64> {
    echo.next_deadline().map(Time::as_nanos)
}

/// A message of this type with a XOR-MAPPED-ADDRESS of `ip` and `port`, in the family it is written in.
fn response(kind: u16, transaction: [u8; 12], ip: IpAddr, port: u16) -> Vec<u8> {
    let (family, octets) = match ip {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mask = [&[0x21, 0x12, 0xa4, 0x42][..], &transaction].concat();
    let xor = |bytes: &[u8]| -> Vec<u8> { bytes.iter().zip(&mask).map(|(byte, mask)| byte ^ mask).collect() };
    let value = [&[0, family][..], &xor(&port.to_be_bytes()), &xor(&octets)].concat();
    let head = [kind.to_be_bytes(), (value.len() as u16 + 4).to_be_bytes()].concat();
    let attribute = [0x0020_u16.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat();
    [&head[..], &mask[..4], &transaction, &attribute, &value].concat()
}

fn success(question: &[u8], seen: &str) -> Vec<u8> {
    let seen = address(seen);
    response(0x0101, transaction(question), seen.ip(), seen.port())
}

fn counts(echo: &EchoServer) -> [u64; 3] {
    let counters = echo.counters();
    [
        counters.mapped_address_requests.get(),
        counters.mapped_address_responses.get(),
        counters.mapped_address_timeouts.get(),
    ]
}

#[test]
fn who_is_given_no_server_asks_nobody() {
    let mut echo = EchoServer::new(EchoConfig::default());
    assert_eq!((deadline(&echo), poll(&mut echo, 0), deadline(&echo)), (None, Vec::new(), None));
    // What would answer is AUDIO to it.
    hear(&mut echo, 0, server(), &success(&[0; 20], SEEN));
    assert_eq!((echo.counters().received.get(), counts(&echo)), (1, [0; 3]));
}

#[test]
fn the_first_poll_asks_in_twenty_bytes_and_the_answer_is_told_and_is_no_audio() {
    let (mut echo, told) = plain();
    assert!(deadline(&echo).is_some_and(|at| at <= SECOND), "it wants to be polled");
    let asked = question(&mut echo, SECOND);
    assert_eq!(asked[..8], [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], "a Binding request without attributes");
    assert_eq!(asked.len(), 20);
    hear(&mut echo, SECOND + 30 * MS, server(), &success(&asked, "203.0.113.5:40000"));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [address("203.0.113.5:40000")]);
    assert_eq!(poll(&mut echo, SECOND + 30 * MS), [], "nothing is echoed to the STUN server");
    let counters = echo.counters();
    assert_eq!((counts(&echo), counters.received.get(), counters.sources.get()), ([1, 1, 0], 0, 0));
    assert_eq!((counters.received_bytes.get(), counters.sent_bytes.get()), (32, 20));
    assert_eq!(deadline(&echo), Some(26 * SECOND), "25 s after it was asked");
}

#[test]
fn every_25_s_it_asks_in_a_new_transaction_and_tells_only_what_has_changed() {
    let (mut echo, told) = plain();
    let mut transactions = HashSet::new();
    let seen =
        ["203.0.113.5:40000", "203.0.113.5:40000", "203.0.113.5:40001", "[2001:db8::5]:40001", "203.0.113.5:40000"];
    for (seen, at) in seen.into_iter().zip((0..).step_by(25)) {
        let at = at * SECOND;
        if at > 0 {
            assert_eq!(poll(&mut echo, at - 1), [], "not before its time");
        }
        let asked = question(&mut echo, at);
        assert!(transactions.insert(transaction(&asked)));
        hear(&mut echo, at + MS, server(), &success(&asked, seen));
        assert_eq!(deadline(&echo), Some(at + 25 * SECOND));
    }
    let changes = ["203.0.113.5:40000", "203.0.113.5:40001", "[2001:db8::5]:40001", "203.0.113.5:40000"].map(address);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), changes);
    assert_eq!(counts(&echo), [5, 5, 0]);
}

#[test]
fn transactions_depend_on_every_word_of_the_secret() {
    let first = |hash_key| {
        let mut echo = EchoServer::new(EchoConfig::default());
        echo.monitor_mapped_address(StunConfig { server: server(), hash_key }, Box::new(|_| {}));
        transaction(&question(&mut echo, 0))
    };
    let keys = [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];
    let firsts: HashSet<[u8; 12]> = keys.into_iter().map(first).collect();
    assert_eq!(firsts.len(), keys.len());
    assert!(firsts.iter().all(|transaction| transaction[..8] != [0; 8] && transaction[8..] != [0; 4]), "{firsts:02x?}");
}

#[test]
fn an_unanswered_question_is_repeated_three_times_and_then_the_next_round_is_waited_for() {
    let (mut echo, told) = plain();
    let mut rounds = Vec::new();
    for begin in [0, 25 * SECOND] {
        let first = question(&mut echo, begin);
        for after in [500, 1_500, 3_500] {
            let due = begin + after * MS;
            assert_eq!(deadline(&echo), Some(due));
            assert_eq!(poll(&mut echo, due - 1), []);
            assert_eq!(question(&mut echo, due), first, "the same transaction");
        }
        assert_eq!(deadline(&echo), Some(begin + 7_500 * MS));
        assert_eq!(poll(&mut echo, begin + 7_500 * MS), []);
        assert_eq!(deadline(&echo), Some(begin + 25 * SECOND));
        rounds.push(first);
    }
    assert_ne!(rounds[0], rounds[1]);
    assert_eq!(counts(&echo), [8, 0, 2]);
    // An answer that comes late, before it is asked anew, is one. To an older question there is none.
    hear(&mut echo, 40 * SECOND, server(), &success(&rounds[1], SEEN));
    assert_eq!(told.try_recv(), Ok(address(SEEN)));
    assert_eq!((deadline(&echo), counts(&echo)), (Some(50 * SECOND), [8, 1, 2]));
}

#[test]
fn a_repeated_question_is_answered_once_or_more_and_ends_the_round() {
    let (mut echo, told) = plain();
    let asked = question(&mut echo, 0);
    question(&mut echo, 500 * MS);
    for at in [600, 700, 26_000] {
        hear(&mut echo, at * MS, server(), &success(&asked, SEEN));
        assert_eq!(deadline(&echo), Some(25 * SECOND));
    }
    assert_eq!(told.try_iter().count(), 1);
    assert_eq!((echo.counters().received.get(), counts(&echo)), (0, [2, 3, 0]));
    // In the next round the first one's transaction is nobody's.
    question(&mut echo, 27 * SECOND);
    hear(&mut echo, 27 * SECOND, server(), &success(&asked, "192.0.2.9:9"));
    assert_eq!((told.try_iter().count(), echo.counters().received.get()), (0, 1));
}

#[test]
fn what_is_forged_is_served_like_anything_else_and_never_told() {
    let (mut echo, told) = plain();
    let right = success(&[0; 20], SEEN);
    hear(&mut echo, 0, server(), &right);
    assert_eq!(echo.counters().received.get(), 1, "nothing was asked yet");
    assert_eq!(poll(&mut echo, 0).len(), 2, "its echo, and the question");
    let asked = question(&mut echo, 500 * MS);
    let right = success(&asked, SEEN);
    let mut forged = vec![(address("198.51.100.8:3478"), right.clone()), (address("198.51.100.7:3479"), right.clone())];
    // A bit of the cookie or of the transaction.
    for byte in 4..20 {
        let mut wrong = right.clone();
        wrong[byte] ^= 1;
        forged.push((server(), wrong));
    }
    let sent = forged.len();
    for (from, bytes) in forged {
        hear(&mut echo, 600 * MS, from, &bytes);
        let left = poll(&mut echo, 600 * MS);
        assert_eq!(left, [Left { to: from, from: None, bytes }], "it is AUDIO");
    }
    assert_eq!(told.try_iter().count(), 0);
    assert_eq!((echo.counters().received.get(), counts(&echo)), (1 + sent as u64, [2, 0, 0]));
    hear(&mut echo, 700 * MS, server(), &right);
    assert_eq!(told.try_recv(), Ok(address(SEEN)));
}

#[test]
fn an_answer_cut_short_or_without_an_address_that_can_be_sent_to_is_taken_and_not_told() {
    let (mut echo, told) = plain();
    let asked = question(&mut echo, 0);
    let (whole, sealed) = (success(&asked, SEEN), stun::response(&transaction(&asked), &[]));
    let mut useless: Vec<Vec<u8>> =
        [&whole, &sealed].iter().flat_map(|all| (20..all.len()).map(|len| all[..len].to_vec())).collect();
    let with = |kind, ip: &str, port| response(kind, transaction(&asked), ip.parse().expect("an address"), port);
    useless.push(with(0x0111, "192.0.2.1", 32_853));
    for ip in ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255"] {
        useless.push(with(0x0101, ip, 32_853));
    }
    useless.push(with(0x0101, "192.0.2.1", 0));
    // A success that says nothing, and one whose family has another length.
    useless.push([&[1, 1, 0, 0][..], &asked[4..]].concat());
    let mut family = whole.clone();
    family[25] = 2;
    useless.push(family);
    for bytes in &useless {
        hear(&mut echo, MS, server(), bytes);
    }
    assert_eq!((told.try_iter().count(), poll(&mut echo, MS), deadline(&echo)), (0, Vec::new(), Some(500 * MS)));
    assert_eq!((echo.counters().received.get(), counts(&echo)), (0, [1, useless.len() as u64, 0]));
    // Without a transaction it answers nothing: an AUDIO packet, or too short for one.
    for len in 0..20 {
        hear(&mut echo, 2 * MS, server(), &whole[..len]);
    }
    let counters = echo.counters();
    assert_eq!(
        (counters.received.get(), counters.dropped_short.get(), counts(&echo)[1]),
        (8, 12, useless.len() as u64)
    );
    hear(&mut echo, 3 * MS, server(), &sealed);
    assert_eq!(told.try_recv(), Ok(address(SEEN)));
}

#[test]
fn a_server_of_ipv4_is_known_however_its_address_is_written_and_so_is_what_it_tells() {
    let mapped = address("[::ffff:198.51.100.7]:3478");
    for (asked_at, answers_from) in [(mapped, mapped), (mapped, server()), (server(), mapped)] {
        let (mut echo, told) = asking(EchoServer::new(EchoConfig::default()), asked_at);
        let left = poll(&mut echo, 0);
        assert_eq!(left[0].to, asked_at, "as it was given");
        hear(&mut echo, MS, answers_from, &success(&left[0].bytes, "[::ffff:192.0.2.1]:32853"));
        assert_eq!(told.try_recv(), Ok(address(SEEN)));
    }
}

#[test]
fn others_are_echoed_meanwhile_and_so_is_what_else_comes_from_the_server_beside_its_answer() {
    let (mut echo, told) = plain();
    let asked = question(&mut echo, 0);
    let client = address("192.0.2.9:7000");
    let audio = |sequence| [&[1, 1, 0, 0, 0, sequence, 0, 0, 0, 0, 0, 0][..], &[7; 20]].concat();
    hear(&mut echo, MS, client, &audio(1));
    assert_eq!(poll(&mut echo, MS), [Left { to: client, from: None, bytes: audio(1) }]);
    // As long as an answer is, so that all of it may come as one train.
    let train = [audio(2), success(&asked, SEEN), audio(3)].concat();
    let received_at = Time::from_nanos(2 * MS);
    echo.on_datagram(
        received_at,
        &[Receive { source: server(), dst_ip: None, received_at, contents: &train, segment_size: 32 }],
    );
    let left: Vec<Vec<u8>> = poll(&mut echo, 2 * MS).into_iter().map(|left| left.bytes).collect();
    assert_eq!(left, [audio(2), audio(3)]);
    assert_eq!(told.try_recv(), Ok(address(SEEN)));
    // The server may ask, too.
    hear(&mut echo, 3 * MS, server(), &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(poll(&mut echo, 3 * MS).len(), 1);
    assert_eq!((echo.counters().stun_requests.get(), echo.counters().received.get()), (1, 3));
}

#[test]
fn neither_limits_nor_a_bad_path_on_purpose_keep_it_from_being_told() {
    let allowed_networks = vec!["192.0.2.0/24".parse().expect("a network")];
    let admission = AdmissionConfig { allowed_networks, max_packet_rate: Some(1), ..AdmissionConfig::default() };
    let config = EchoConfig { admission, ..EchoConfig::default() };
    let lost = Impairment { loss: 1.0, ..Impairment::default() };
    for echo in [EchoServer::new(config.clone()), EchoServer::with_impairment(config, lost, Box::new(()))] {
        let (mut echo, told) = asking(echo, server());
        for round in 0..20_u16 {
            let asked = question(&mut echo, u64::from(round) * 25 * SECOND);
            let seen = SocketAddr::from(([203, 0, 113, 5], 1_000 + round));
            hear(&mut echo, u64::from(round) * 25 * SECOND, server(), &success(&asked, &seen.to_string()));
            assert_eq!(told.try_recv(), Ok(seen));
        }
        assert_eq!((counts(&echo), echo.counters().dropped_not_allowed.get()), ([20, 20, 0], 0));
    }
}

#[test]
fn a_question_waits_for_room_before_anything_else_and_one_that_is_refused_is_a_try() {
    let (mut echo, _told) = plain();
    hear(&mut echo, 0, address("192.0.2.9:7000"), &[1, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let mut tape = Tape::new();
    tape.plan.extend([SendStatus::WouldBlock, SendStatus::Failed]);
    echo.poll_transmit(Time::ZERO, &mut tape);
    assert_eq!((tape.left.len(), tape.plan.len(), deadline(&echo)), (0, 1, Some(0)), "it stops, and is not past it");
    echo.poll_transmit(Time::from_nanos(MS), &mut tape);
    assert_eq!((tape.left.len(), deadline(&echo)), (1, Some(501 * MS)), "the KEEPALIVE went, the question will again");
    assert_eq!((counts(&echo), echo.counters().send_failed.get()), ([0; 3], 0));
    assert_eq!(question(&mut echo, 501 * MS).len(), 20);
}

#[test]
fn a_pause_of_the_machine_makes_no_burst_of_questions() {
    let (mut echo, _told) = plain();
    question(&mut echo, 0);
    question(&mut echo, 100 * SECOND);
    assert_eq!((poll(&mut echo, 100 * SECOND), deadline(&echo)), (Vec::new(), Some(101 * SECOND)));
}

/// What is logged goes here.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panics").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().expect("no writer panics"));
        String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect()
    }
}

#[test]
fn silence_is_said_once_until_something_is_told_and_an_address_when_it_changes() {
    let lines = Lines::default();
    let to = lines.clone();
    let format = tracing_subscriber::fmt::format().with_target(false).without_time().with_ansi(false).compact();
    let log = tracing_subscriber::fmt().event_format(format).with_writer(move || to.clone()).finish();
    test_support::logged::keep_callsites_enabled();
    tracing::subscriber::with_default(log, || {
        let (mut echo, _told) = plain();
        // Rounds from 0 on: what is answered at once to each.
        let mut round = {
            let lines = lines.clone();
            let mut began = 0;
            move |answer: Option<(u16, &str)>| {
                let asked = question(&mut echo, began);
                if let Some((kind, seen)) = answer {
                    let seen = address(seen);
                    hear(&mut echo, began, server(), &response(kind, transaction(&asked), seen.ip(), seen.port()));
                }
                while deadline(&echo).is_some_and(|due| due < began + 25 * SECOND) {
                    let due = deadline(&echo).expect("it asks for ever");
                    poll(&mut echo, due);
                }
                began += 25 * SECOND;
                lines.take()
            }
        };
        let hint = "retry_s=25 hint=\"check the STUN server and the firewall\"";
        let timed_out = " WARN mapped address request timed out stun_server=198.51.100.7:3478";
        let silent = format!("{timed_out} reason=\"no response\" {hint}");
        assert_eq!(round(None), [silent]);
        assert_eq!(round(None), [""; 0]);
        let first = " INFO mapped address learned mapped_address=192.0.2.1:1 stun_server=198.51.100.7:3478";
        assert_eq!(round(Some((0x0101, "192.0.2.1:1"))), [first]);
        assert_eq!(round(Some((0x0101, "192.0.2.1:1"))), [""; 0]);
        let changed = " INFO mapped address changed mapped_address=192.0.2.1:2 previous=192.0.2.1:1 stun_server=198.51.100.7:3478";
        assert_eq!(round(Some((0x0101, "192.0.2.1:2"))), [changed]);
        let useless = format!("{timed_out} reason=\"no usable address\" last_mapped_address=192.0.2.1:2 {hint}");
        assert_eq!(round(Some((0x0111, "192.0.2.1:2"))), [useless]);
        assert_eq!(round(None), [""; 0]);
    });
}

#[test]
fn over_real_sockets_another_echo_server_is_a_stun_server() {
    let listen =
        |host: &str| udp::bind(SocketAddr::new(host.parse().expect("an address"), 0), 1 << 16).expect("a socket");
    for backend in [Backend::Native, Backend::Portable] {
        let options = DriverOptions { idle: IdlePolicy::Wait, spin_percent: 0, backend };
        let (other, stop) = (listen("127.0.0.1"), StopToken::default());
        let server =
            udp::spawn_node("server", other.socket, EchoServer::new(EchoConfig::default()), stop.clone(), options)
                .expect("a thread");
        let mapped = SocketAddr::new(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1]), other.address.port());
        for (host, asked_at) in [("127.0.0.1", other.address), ("0.0.0.0", other.address), ("::", mapped)] {
            let own = listen(host);
            let (echo, told) = asking(EchoServer::new(EchoConfig::default()), asked_at);
            let counters = echo.counters();
            let stop = StopToken::default();
            let asker = udp::spawn_node("asker", own.socket, echo, stop.clone(), options).expect("a thread");
            let seen = told.recv_timeout(Duration::from_secs(20)).expect("an answer");
            assert_eq!(seen, SocketAddr::from(([127, 0, 0, 1], own.address.port())), "{host} {backend:?}");
            stop.request(StopSignal::Terminate);
            drop(asker.join());
            assert_eq!((counters.received.get(), counters.mapped_address_timeouts.get()), (0, 0), "{host} {backend:?}");
        }
        stop.request(StopSignal::Terminate);
        drop(server.join());
    }
}
