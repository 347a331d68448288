//! Our client and our server.

use std::time::Duration;

use jamjam_dev::io::moqt::client::{self, Dial};
use jamjam_dev::io::moqt::server::Terms;
use jamjam_dev::io::stop::Stop;
use jamjam_dev::moqt::Transport;
use jamjam_dev::moqt::client::{Client, Config, Ending, Fact};
use jamjam_dev::moqt::{Flavour, Limits};

use crate::dialogue::Dialogue;
use crate::echoing::{BOTH, Echoing, call, groups, whole};
use crate::memory;

#[test]
fn fifty_groups_of_two_frames_all_come_back_in_order_over_both_transports() {
    let server = Echoing::start(Terms::default());
    for transport in BOTH {
        for offers in [vec![Flavour::Seed], vec![Flavour::Head], Flavour::ALL.to_vec()] {
            let mut dial = server.dial(transport);
            dial.offers = offers;
            let call = call(&dial, &groups(50, 2)).unwrap();
            assert_eq!(call.outcome.application.ending(), Some(&Ending::Done));
            assert_eq!(call.came(), whole(50, 2), "{transport:?} {:?}", dial.offers);
            assert!(!call.facts.iter().any(|fact| matches!(fact, Fact::GroupLost { .. } | Fact::Unmatched { .. })));
        }
    }
    let reading = server.wait("all have gone", |reading| reading.open == 0);
    assert_eq!((reading.arrivals.connections_quic, reading.arrivals.connections_webtransport), (3, 3));
    let counts = reading.counts;
    assert_eq!((counts.sessions, counts.groups_heard, counts.frames_heard, counts.frames_sent), (6, 300, 600, 600));
}

#[test]
fn twenty_clients_at_once_each_hear_themselves() {
    let server = Echoing::start(Terms::default());
    let clients: Vec<_> = (0..20)
        .map(|number| {
            let dial = server.dial(BOTH[number % 2]);
            std::thread::spawn(move || call(&dial, &groups(10, 2)).unwrap())
        })
        .collect();
    for client in clients {
        let call = client.join().unwrap();
        assert_eq!(call.outcome.application.ending(), Some(&Ending::Done));
        assert_eq!(call.came(), whole(10, 2));
    }
    let reading = server.totals.read();
    assert_eq!((reading.counts.sessions, reading.counts.frames_sent), (20, 400));
}

#[test]
fn a_second_frame_comes_back_on_its_own_and_not_at_the_groups_end() {
    let server = Echoing::start(Terms::default());
    for transport in BOTH {
        // The second frame leaves after the echo of the first, and the group's end after that of the second.
        let outcome = client::run(&server.dial(transport), Dialogue::default, |_| (), &Stop::default()).unwrap();
        assert_eq!(outcome.application.heard, ["first", "second", "end"], "{transport:?}");
    }
}

#[test]
fn a_stop_ends_every_session_with_code_0_and_says_why() {
    for transport in BOTH {
        let mut server = Echoing::start(Terms::default());
        let dial = server.dial(transport);
        let endless = Config { count: None, ..groups(0, 1) };
        let client = std::thread::spawn(move || call(&dial, &endless).unwrap());
        server.wait("frames are echoed", |reading| reading.counts.frames_sent > 3);
        server.stop();
        let call = client.join().unwrap();
        let told = Ending::Closed { code: 0, reason: "the server stops".to_owned(), by_us: false };
        assert_eq!(call.outcome.application.ending(), Some(&told), "{transport:?}");
    }
}

#[test]
fn each_part_of_the_set_up_has_its_time() {
    let server = Echoing::start(Terms::default());
    for transport in BOTH {
        let set_up = call(&server.dial(transport), &groups(1, 1)).unwrap().outcome.set_up;
        assert!(set_up.quic_ns.is_some_and(|took| took > 0) && set_up.session_ns.is_some_and(|took| took > 0));
        assert_eq!(set_up.connect_ns.is_some(), transport == Transport::WebTransport);
    }
}

#[test]
fn a_long_session_takes_no_more_memory_than_a_short_one() {
    // Whatever piles up on a busy machine has room: nothing is dropped.
    let limits = Limits { unsent_groups: 10_000, ..Limits::default() };
    let server = Echoing::start_alone(Terms { limits: limits.clone(), ..Terms::default() });
    let config = Config { interval: Duration::from_micros(200), ..groups(10_000, 1) };
    let (mut came, mut early, mut grown) = (0, 0, 0);
    let observe = |client: &mut Client| {
        for fact in std::iter::from_fn(|| client.poll_fact()) {
            came += u64::from(matches!(fact, Fact::Came { .. }));
        }
        if came < 1_000 {
            early = memory::now();
        }
        grown = memory::since(early);
    };
    let dial = Dial { limits, ..server.dial(Transport::WebTransport) };
    let outcome = client::run(&dial, || Client::new(config.clone()), observe, &Stop::default()).unwrap();
    assert_eq!(outcome.application.ending(), Some(&Ending::Done));
    // 100 bytes a group would be 900,000.
    assert!(came == 10_000 && grown < 450_000, "{came} groups, {grown} bytes more");
}
