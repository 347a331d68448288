//! Strangers who do what nobody should: each is closed with a code or ignored, takes no more memory than is allowed, and an
//! ordinary echo works afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use jamjam_dev::io::moqt::server::MoqtServerConfig;
use jamjam_dev::moqt::SessionLimits;
use jamjam_dev::moqt::Transport;
use quinn::{ReadError, RecvStream, TransportConfig, VarInt};

use crate::echoing::{BOTH, Echoing};
use crate::memory;
use crate::stranger::{Stranger, UNI, hear, play};

/// What the server says to a stranger whose first stream begins with these bytes, and ends there if `finish`.
async fn answer(server: &Echoing, over: Transport, first: &[u8], finish: bool) -> (u64, String) {
    let mut stranger = Stranger::come(server, over).await;
    let (mut send, _recv) = stranger.bidi(first).await;
    if finish {
        // It may have been refused already.
        let _ = send.finish();
    }
    stranger.closed().await
}

fn expect(server: &Echoing, over: Transport, (first, finish): (&[u8], bool), code: u64, reason: &str) {
    let answer = play(answer(server, over, first, finish));
    assert!(
        answer.0 == code && answer.1.contains(reason),
        "{over:?} {first:x?}: {answer:?}, expected {code:#x} {reason}"
    );
    server.ordinary_echo(over);
}

#[test]
fn a_set_up_that_is_none_is_closed_with_a_code_and_a_reason() {
    let server = &Echoing::start(MoqtServerConfig::default());
    let cases: [(&[u8], bool, u64, &str); 7] = [
        (b"\x20\x01", false, 0x3, "unsupported MOQ protocol"),
        (b"\x02", false, 0x3, "the first stream has type 0x02"),
        // 17 bytes are promised, and 2 come.
        (b"\x00\x11\x01\xc0", true, 0x3, "malformed session stream: "),
        (b"", true, 0x3, "malformed session stream: "),
        // A body of 2^40 bytes.
        (b"\x00\xc0\x00\x01\x00\x00\x00\x00\x00", false, 0x3, "malformed session stream: "),
        // 2^30 - 1 versions in 5 bytes.
        (b"\x00\x05\xbf\xff\xff\xff\x00", false, 0x3, "malformed session stream: "),
        // Version 0x1234, and the path as parameter 1.
        (b"\x00\x0b\x01\x52\x34\x01\x01\x05/echo", false, 0x12, "no common version: offered 0x1234"),
    ];
    std::thread::scope(|scope| {
        for (over, (first, finish, code, reason)) in BOTH.into_iter().flat_map(|over| cases.map(|case| (over, case))) {
            scope.spawn(move || expect(server, over, (first, finish), code, reason));
        }
    });
}

#[test]
fn a_set_up_that_does_not_come_is_not_waited_for() {
    let setup_timeout = Duration::from_secs(1);
    let server = Echoing::start(MoqtServerConfig {
        limits: SessionLimits { setup_timeout, ..SessionLimits::default() },
        ..MoqtServerConfig::default()
    });
    let server = &server;
    std::thread::scope(|scope| {
        for (over, first) in BOTH.into_iter().flat_map(|over| [(over, &b"\x00\x11\x01\xc0"[..]), (over, b"")]) {
            scope.spawn(move || expect(server, over, (first, false), 0x13, "setup timed out after 1 s"));
        }
    });
}

#[test]
fn a_path_that_is_not_served_or_is_no_text_is_refused_by_the_session_where_the_session_says_it() {
    let server = Echoing::start(MoqtServerConfig::default());
    let unknown = b"\x00\x11\x01\xc0\x00\x00\x00\xff\xff\xff\x00\x01\x01\x05/nope";
    expect(&server, Transport::Quic, (unknown, false), 0x13, "unknown path /nope, this server serves /echo");
    let no_text = b"\x00\x11\x01\xc0\x00\x00\x00\xff\xff\xff\x00\x01\x01\x05/\xff\xfe\xfd\xfc";
    expect(&server, Transport::Quic, (no_text, false), 0x13, "the path in the setup is not UTF-8");
    // One that is asked for with its slash or without is the same.
    let bare = b"\x00\x10\x01\xc0\x00\x00\x00\xff\xff\xff\x00\x01\x01\x04echo";
    play(async {
        let stranger = Stranger::come(&server, Transport::Quic).await;
        let (_send, mut recv) = stranger.bidi(bare).await;
        let replied = test_support::moqt_golden::pieces("seed.txt")["session-server"].clone();
        assert_eq!(hear(&mut recv, replied.len()).await, replied);
    });
}

/// A stranger with a session, the stream of which it keeps.
async fn set_up(server: &Echoing, over: Transport, transport: TransportConfig) -> (Stranger, impl Sized) {
    let stranger = Stranger::come_with(server, over, transport).await;
    let pieces = test_support::moqt_golden::pieces("seed.txt");
    let hello = if over == Transport::Quic { "session-client-quic" } else { "session-client" };
    let (send, mut recv) = stranger.bidi(&pieces[hello]).await;
    assert_eq!(hear(&mut recv, pieces["session-server"].len()).await, pieces["session-server"]);
    (stranger, (send, recv))
}

#[test]
fn ten_thousand_streams_are_refused_one_by_one() {
    let server = Echoing::start_alone(MoqtServerConfig::default());
    for (over, before) in BOTH.into_iter().zip([0, 11_000]) {
        play(async {
            let (stranger, _session) = set_up(&server, over, TransportConfig::default()).await;
            let memory = memory::now();
            for _ in 0..10_000 {
                // The server may refuse it before its end.
                let _ = stranger.uni(b"\x09").await.finish();
            }
            // Code 0x10, which WebTransport writes behind its first (draft 02, section 4.3).
            let code = if over == Transport::Quic { 0x10 } else { 0x52e4_a40f_a8db + 0x10 };
            for _ in 0..1_000 {
                let (mut send, mut recv) = stranger.bidi(b"\x09").await;
                let _ = send.finish();
                assert_eq!(recv.read(&mut [0]).await, Err(ReadError::Reset(VarInt::from_u64(code).unwrap())));
            }
            server.until("all are refused", |reading| reading.sessions.streams_unknown_type == before + 11_000).await;
            let grown = memory::since(memory);
            assert!(grown < 1 << 20, "{over:?}: {grown} bytes");
        });
        server.ordinary_echo(over);
    }
}

#[test]
fn streams_without_a_session_are_held_up_to_a_number() {
    let server = Echoing::start(MoqtServerConfig::default());
    for (over, refused) in BOTH.into_iter().zip([1, 2]) {
        play(async {
            let stranger = Stranger::come(&server, over).await;
            for _ in 0..1_000 {
                let _ = stranger.uni(b"\x00\x02").await.finish();
            }
            // 128 are held for a session that may still come.
            server.until("the others are refused", |reading| reading.sessions.streams_rejected == refused * 872).await;
        });
        server.ordinary_echo(over);
    }
}

#[test]
fn a_reader_that_never_reads_loses_the_oldest_groups_and_takes_bounded_memory() {
    const GROUPS: u8 = 60;
    const FRAMES: usize = 16;
    let server = Echoing::start_alone(MoqtServerConfig::default());
    let pieces = test_support::moqt_golden::pieces("seed.txt");
    for over in BOTH {
        play(async {
            let before = server.totals.snapshot().sessions;
            let mut transport = TransportConfig::default();
            transport.stream_receive_window((64_u32 << 10).into()).receive_window((256_u32 << 10).into());
            transport.send_window(1 << 20);
            let (stranger, _session) = set_up(&server, over, transport).await;
            let _conversations = converse(&stranger, &pieces).await;
            let memory = memory::now();
            // A frame of 65,536 bytes.
            let frame = [b"\x80\x01\x00\x00".to_vec(), vec![7; 65_536]].concat();
            for sequence in 1..=GROUPS {
                let mut group = stranger.uni(&[0x00, 0x02, 0x00, sequence]).await;
                for _ in 0..FRAMES {
                    group.write_all(&frame).await.unwrap();
                }
                group.finish().unwrap();
            }
            let heard = before.received_bytes + u64::from(GROUPS) * FRAMES as u64 * 65_536;
            let reading = server.until("all is heard", |reading| reading.sessions.received_bytes == heard).await;
            // Of 60 MiB 4 wait at most, and what the transport has taken.
            assert!(
                reading.sessions.groups_dropped_slow_reader >= before.groups_dropped_slow_reader + 50,
                "{reading:#?}"
            );
            let grown = memory::since(memory);
            assert!(grown < 16 << 20, "{over:?}: {grown} bytes");
            server.ordinary_echo(over);
        });
    }
}

/// Does what a client with a track does by hand: announces it, agrees to the server's subscription, subscribes to the echo.
async fn converse(stranger: &Stranger, pieces: &BTreeMap<String, Vec<u8>>) -> impl Sized {
    let (mut asked_send, mut asked) = stranger.theirs().await;
    assert_eq!(hear(&mut asked, pieces["announce-please"].len()).await, pieces["announce-please"]);
    asked_send.write_all(&pieces["announce-active"]).await.unwrap();
    let (mut wanted_send, mut wanted) = stranger.theirs().await;
    assert_eq!(hear(&mut wanted, pieces["subscribe"].len()).await, pieces["subscribe"]);
    wanted_send.write_all(&pieces["info"]).await.unwrap();
    let (send, mut recv) = stranger.bidi(&pieces["subscribe"]).await;
    assert_eq!(hear(&mut recv, pieces["info"].len()).await, pieces["info"]);
    (asked_send, asked, wanted_send, wanted, send, recv)
}

/// The stream of the first group that the server sends, at its first frame.
async fn first_echo(stranger: &Stranger, pieces: &BTreeMap<String, Vec<u8>>) -> RecvStream {
    let mut echo = stranger.connection.accept_uni().await.unwrap();
    let mut begins = pieces["group"].clone();
    if stranger.request.is_some() {
        // HTTP/3's own stream, with the settings, came first.
        echo = stranger.connection.accept_uni().await.unwrap();
        begins.splice(..0, UNI.iter().copied());
    }
    assert_eq!(hear(&mut echo, begins.len()).await, begins);
    echo
}

#[test]
fn frames_that_a_stranger_sends_by_hand_come_back_byte_for_byte() {
    let server = Echoing::start(MoqtServerConfig::default());
    let pieces = test_support::moqt_golden::pieces("seed.txt");
    for over in BOTH {
        play(async {
            let (stranger, _session) = set_up(&server, over, TransportConfig::default()).await;
            let _conversations = converse(&stranger, &pieces).await;
            let mut group = stranger.uni(&[&pieces["group"][..], &pieces["frame"]].concat()).await;
            let mut echo = first_echo(&stranger, &pieces).await;
            assert_eq!(hear(&mut echo, pieces["frame"].len()).await, pieces["frame"]);
            // Only now is the second one said, and then the end.
            group.write_all(&pieces["frame"]).await.unwrap();
            assert_eq!(hear(&mut echo, pieces["frame"].len()).await, pieces["frame"]);
            group.finish().unwrap();
            assert_eq!(echo.read_to_end(0).await.unwrap(), b"");
        });
    }
}

#[test]
fn a_group_that_its_reader_gives_up_is_given_up() {
    let server = Echoing::start(MoqtServerConfig::default());
    let pieces = test_support::moqt_golden::pieces("seed.txt");
    for (over, declined) in BOTH.into_iter().zip([1, 2]) {
        play(async {
            let (stranger, _session) = set_up(&server, over, TransportConfig::default()).await;
            let _conversations = converse(&stranger, &pieces).await;
            let mut group = stranger.uni(&[&pieces["group"][..], &pieces["frame"]].concat()).await;
            first_echo(&stranger, &pieces).await.stop(0_u32.into()).unwrap();
            while server.totals.snapshot().sessions.groups_stopped < declined {
                group.write_all(&pieces["frame"]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        server.ordinary_echo(over);
    }
}

/// A parameter or a part of a path of a million bytes (0xf4240), with its length before it.
fn million() -> Vec<u8> {
    [&[0x80, 0x0f, 0x42, 0x40][..], &vec![b'x'; 1_000_000]].concat()
}

/// A message with its length in four bytes before it.
fn message(body: &[u8]) -> Vec<u8> {
    [&(0x8000_0000 | body.len() as u32).to_be_bytes()[..], body].concat()
}

#[test]
fn what_a_subscription_is_asked_for_with_is_not_kept() {
    let server = Echoing::start_alone(MoqtServerConfig::default());
    let pieces = test_support::moqt_golden::pieces("seed.txt");
    play(async {
        let (stranger, _session) = set_up(&server, Transport::Quic, TransportConfig::default()).await;
        let _conversations = converse(&stranger, &pieces).await;
        let memory = memory::now();
        let mut kept = Vec::new();
        for number in 1..16 {
            // Its number, the path of three parts, priority, order, first and last group, and one parameter of a million bytes.
            let track = b"\x03\x05japan\x05kyoto\x04text\x00\x00\x00\x00\x01\x07";
            let body = [&[number], &track[..], &million()].concat();
            let (mut send, mut recv) = stranger.bidi(&[&[2], &message(&body)[..]].concat()).await;
            assert_eq!(hear(&mut recv, pieces["info"].len()).await, pieces["info"]);
            // The same once more, in SUBSCRIBE_UPDATE.
            send.write_all(&message(&[b"\x00\x00\x00\x00\x01\x07", &million()[..]].concat())).await.unwrap();
            kept.push((send, recv));
        }
        // What comes after the last of them has been read after them: a group that each of 16 is sent.
        stranger.uni(&[&pieces["group"][..], &pieces["frame"]].concat()).await;
        server.until("all are served", |reading| reading.sessions.frames_sent == 16).await;
        let grown = memory::since(memory);
        // 15 of one parameter each would be 15,000,000, and 30,000,000 with the later ones.
        assert!(grown < 8_000_000, "{grown} bytes");
    });
}

#[test]
fn a_byte_after_each_of_very_many_long_messages_keeps_none_of_them() {
    let server = Echoing::start_alone(MoqtServerConfig::default());
    let pieces = test_support::moqt_golden::pieces("seed.txt");
    play(async {
        let (stranger, _session) = set_up(&server, Transport::Quic, TransportConfig::default()).await;
        let (memory, resident) = (memory::now(), memory::resident());
        // A prefix of one part of a million bytes.
        let (_send, mut recv) = stranger.bidi(&[&[1], &message(&[&[1], &million()[..]].concat())[..]].concat()).await;
        assert_eq!(recv.read(&mut [0]).await, Err(ReadError::Reset(VarInt::from_u32(0x11))));
        let mut kept = Vec::new();
        for number in 1..=55 {
            // One that is short, one of a million bytes which says nothing, and the first byte of a length of four.
            let said = [&pieces["announce-please"][..], &message(&million()), &[0x80]].concat();
            kept.push(stranger.bidi(&said).await);
            // One after the other: all at once would be refused for what is not whole yet.
            server.until("it is ignored", |reading| reading.sessions.messages_ignored == number).await;
        }
        let (grown, more) = (memory::since(memory), memory::resident().saturating_sub(resident));
        println!("{grown} bytes more allocated, {more} resident");
        // All of them would be 55,000,000.
        assert!(grown < 16 << 20, "{grown} bytes allocated");
        assert!(more < 40 << 20, "{more} bytes resident");
        assert_eq!(server.totals.snapshot().sessions.streams_rejected, 1);
    });
    server.ordinary_echo(Transport::Quic);
}
