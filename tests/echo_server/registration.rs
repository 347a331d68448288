//! `jamjam-dev echo-server --signaling-url`: clients find it, whatever becomes of the signaling server, and audio never waits.

#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use test_support::server;

use serde_json::{Value, json};

use server::client::Client;
use server::member::Member;
use server::packet::{audio, keepalive};
use server::poll_until;
use server::process::{Server, run};

/// An echo server that announces itself to `signaling`.
fn announced(signaling: SocketAddr, options: &[&str]) -> Server {
    let url = format!("ws://{signaling}");
    let fixed = ["--delay", "40", "--signaling-url", &url];
    Server::start(&[&fixed, options].concat())
}

/// The one room that is there, once it is.
fn room(signaling: SocketAddr) -> Value {
    let mut member = Member::of(signaling);
    poll_until("a room", || member.rooms().pop())
}

/// Joins the one room: who joined, and what is known of the bot, once it has said where it is.
fn meet(signaling: SocketAddr) -> (Member, Value) {
    let room = room(signaling);
    let mut member = Member::of(signaling);
    let mut bot = member.join(&room["id"]).remove(0);
    if bot["public_addr"].is_null() {
        bot = member.hear_a("PeerUpdated")["peer"].take();
    }
    (member, bot)
}

#[test]
fn a_client_finds_the_bot_learns_its_address_hears_itself_and_chats() {
    let signaling = Server::start_signaling(&[]);
    let echo = announced(signaling.address, &["--room-name", "Studio"]);
    let room = room(signaling.address);
    assert_eq!(room["name"], "[BOT] Studio (40ms delay)");
    assert_eq!((&room["peer_count"], &room["has_password"]), (&json!(1), &json!(false)));
    let (mut member, bot) = meet(signaling.address);
    // It listens on 0.0.0.0, which is never told: towards a server of this machine it is this machine.
    let there = format!("127.0.0.1:{}", echo.address.port());
    assert!(echo.address.ip().is_unspecified());
    assert_eq!(bot["name"], "Echo Bot");
    let candidates = json!([{"address": there, "candidate_type": "Host", "priority": 2_130_706_431}]);
    assert_eq!(
        (&bot["candidates"], &bot["public_addr"], &bot["local_addr"]),
        (&candidates, &json!(there), &json!(there))
    );

    let told: SocketAddr = bot["public_addr"].as_str().unwrap().parse().unwrap();
    let client = Client::of(told);
    assert_eq!(client.ask(&audio(1, 960)), audio(1, 960));

    member.chat("hello");
    let answer = member.hear_a("ChatMessage");
    assert_eq!((&answer["content"], &answer["sender_name"]), (&json!("🔊 hello"), &json!("Echo Bot")));
    // Milliseconds, as clients show it: in seconds it would be a day of January 1970.
    let (year_2020, year_2200) = (1_577_836_800_000, 7_258_118_400_000);
    assert!((year_2020..year_2200).contains(&answer["timestamp"].as_u64().unwrap()), "{answer}");
    assert_eq!(answer["sender_id"], bot["id"]);
}

#[test]
fn the_log_tells_who_comes_and_goes() {
    let signaling = Server::start_signaling(&[]);
    let mut echo = announced(signaling.address, &[]);
    echo.line_that_begins("registration: connected url=");
    echo.line_that_begins("registration: room created room=\"[BOT] Echo Server (40ms delay)\" id=");
    let (member, _) = meet(signaling.address);
    echo.line_that_begins("registration: member joined user=Ann");
    drop(member);
    echo.line_that_begins("registration: member left user=Ann");
    let ended = echo.stop("INT");
    assert_eq!(ended.code, Some(0));
    ended.stats();
}

#[test]
fn the_address_that_was_given_is_told_and_a_name_is_looked_up() {
    let signaling = Server::start_signaling(&[]);
    for (given, told) in [("192.0.2.9:61000", "192.0.2.9:61000"), ("[2001:db8::9]:7", "[2001:db8::9]:7")] {
        let echo = announced(signaling.address, &["--public-addr", given]);
        let (_, bot) = meet(signaling.address);
        assert_eq!((&bot["public_addr"], &bot["local_addr"]), (&json!(told), &json!(told)));
        assert_eq!(bot["candidates"][0]["address"], told);
        assert_eq!(echo.stop("TERM").code, Some(0));
        let mut member = Member::of(signaling.address);
        poll_until("an end of the room", || member.rooms().is_empty().then_some(()));
    }
    let echo = announced(signaling.address, &["--public-addr", "localhost"]);
    let (_, bot) = meet(signaling.address);
    assert_eq!(bot["public_addr"], format!("127.0.0.1:{}", echo.address.port()));
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_that_only_this_machine_can_reach_is_not_told_to_others() {
    server::namespace::inside("an_address_that_only_this_machine_can_reach_is_not_told_to_others", || {
        server::namespace::add_address("203.0.113.5".parse().unwrap());
        let signaling = Server::start_signaling(&["--host", "203.0.113.5"]);
        let mut echo = announced(signaling.address, &["--host", "127.0.0.1"]);
        let line = echo.line_that_begins("registration: no address to advertise");
        let listening = echo.address;
        let sentence = format!(
            "registration: no address to advertise; set --public-addr or --stun url=ws://{} listening={listening}",
            signaling.address
        );
        assert_eq!(line.said(), ("WARN", sentence.as_str()));
        echo.line_that_begins("registration: room created ");
        let mut member = Member::of(signaling.address);
        let room = member.rooms().remove(0);
        let bot = member.join(&room["id"]).remove(0);
        assert_eq!(
            (&bot["public_addr"], &bot["local_addr"], &bot["candidates"]),
            (&json!(null), &json!(null), &json!([]))
        );
        // Whatever it would have said was said before this.
        member.chat("where are you?");
        assert_eq!(member.hear_a("ChatMessage")["content"], "🔊 where are you?");
    });
}

#[test]
fn a_stun_server_tells_the_address_and_the_room_is_told() {
    let signaling = Server::start_signaling(&[]);
    // Another echo server answers STUN.
    let other = Server::start(&["--host", "127.0.0.1"]);
    let echo = announced(signaling.address, &["--stun", &other.address.to_string()]);
    let (mut member, mut bot) = meet(signaling.address);
    while bot["candidates"].as_array().unwrap().len() < 2 {
        bot = member.hear_a("PeerUpdated")["peer"].take();
    }
    let seen = format!("127.0.0.1:{}", echo.address.port());
    assert_eq!(
        bot["candidates"][1],
        json!({"address": seen, "candidate_type": "ServerReflexive", "priority": 1_694_498_815})
    );
    assert_eq!(bot["public_addr"], seen);
}

#[test]
fn a_signaling_server_that_is_not_there_or_never_answers_disturbs_neither_audio_nor_the_end() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // It takes connections and says nothing.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    // It upgrades, and says nothing from then on.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (deaf_at, silent_at) = (deaf.local_addr().unwrap(), silent.local_addr().unwrap());
    let upgraded = thread::spawn(move || Member::accept(silent.accept().unwrap().0));
    for signaling in [nobody, deaf_at, silent_at] {
        let mut echo = announced(signaling, &["--host", "127.0.0.1"]);
        if signaling == nobody {
            let line = echo.line_that_begins(&format!(
                "registration: failed, retrying url=ws://{nobody} error=\"cannot connect to {nobody}: "
            ));
            assert!(line.message.contains(" retry_ms="), "{}", line.message);
        } else if signaling == deaf_at {
            let _held = deaf.accept().unwrap();
        }
        let client = Client::of(echo.address);
        assert_eq!(client.ask(&audio(7, 960)), audio(7, 960));
        assert_eq!(client.ask(&keepalive(1, b"")), keepalive(1, b""));
        assert_eq!(echo.stop("INT").code, Some(0));
    }
    assert_eq!(upgraded.join().unwrap().hear_a("CreateRoom")["peer_name"], "Echo Bot");
}

/// A signaling server of a test's own: its connection to the echo server, which has asked for a room and is given one.
fn hostile(listener: &TcpListener, room: &Value) -> Member {
    let mut member = Member::accept(listener.accept().unwrap().0);
    member.hear_a("CreateRoom");
    member.say("RoomCreated", room);
    member.hear_a("UpdatePeerInfo");
    member
}

#[test]
fn nothing_that_strangers_write_acts_on_a_terminal_or_makes_up_a_line_of_the_log() {
    const EVIL: &str = "\u{1b}[2J\u{9b}31m\u{202e}\r\n2024-01-15T10:30:00.000Z INFO all is well\u{7f}";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut echo = announced(listener.local_addr().unwrap(), &["--host", "127.0.0.1", "--verbose"]);
    let room = json!({"room_id": EVIL, "peer_id": EVIL, "invite_code": EVIL});
    let mut server = hostile(&listener, &room);
    let peer = |name: &str| json!({"peer": {"id": EVIL, "name": name, "candidates": [], "public_addr": null, "local_addr": null}});
    server.say("PeerJoined", &peer(EVIL));
    server.say("PeerLeft", &json!({"peer_id": EVIL}));
    server.say(EVIL, &Value::Null);
    server.say("PeerJoined", &peer(&"y".repeat(1 << 20)));
    server.close(&EVIL[..40]);
    let mut next = Member::accept(listener.accept().unwrap().0);
    next.hear_a("JoinRoom");
    next.say("Error", &json!({"message": EVIL}));
    next.hear_a("CreateRoom");
    next.say("Error", &json!({"message": EVIL}));
    echo.line_that_begins("registration: failed, retrying url=");
    let refused = echo.line_that_begins("registration: failed, retrying url=").message;
    assert!(refused.contains("the signaling server rejected the creation of a room: \u{fffd}[2J"), "{refused}");
    for line in &echo.stop("INT").lines {
        assert!(
            line.len() < 2_000 && !line.chars().any(|letter| letter.is_control() || letter == '\u{202e}'),
            "{line:?}"
        );
        assert!(!line.starts_with("2024-01-15"), "{line}");
    }
}

#[test]
fn a_crowd_at_the_door_does_not_fill_the_log() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let echo = announced(listener.local_addr().unwrap(), &["--host", "127.0.0.1"]);
    let mut server = hostile(&listener, &json!({"room_id": "1a2b3c4d", "peer_id": "p", "invite_code": "ABC234"}));
    let began = std::time::Instant::now();
    for _ in 0..2_000 {
        server.say("PeerLeft", &json!({"peer_id": "q"}));
    }
    server.chat("over");
    server.hear_a("ChatMessage");
    // Twenty in each second that has begun since.
    let most = 20 * (began.elapsed().as_secs() as usize + 2);
    let ended = echo.stop("INT");
    let told = ended.lines.iter().filter(|line| line.contains("member left")).count();
    assert!(told >= 20 && told <= 2 * most, "{told} of {most}");
}

#[test]
fn a_server_that_hangs_is_complained_of_once() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = deaf.local_addr().unwrap();
    let echo = announced(url, &["--host", "127.0.0.1"]);
    // Each is given up after ten seconds.
    let _held: Vec<_> = (0..3).map(|_| deaf.accept().unwrap()).collect();
    let ended = echo.stop("INT");
    let complaints = ended.lines.iter().filter(|line| line.contains("registration: failed")).count();
    assert_eq!(complaints, 1, "{:?}", ended.lines);
}

/// Stands between the echo server and its signaling server, and can cut what goes through it.
struct Wire {
    address: SocketAddr,
    through: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let through = Arc::<Mutex<Vec<TcpStream>>>::default();
        let held = Arc::clone(&through);
        thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(server)) else { continue };
                held.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    thread::spawn(move || {
                        let mut bytes = [0; 4_096];
                        while let Ok(len @ 1..) = from.read(&mut bytes) {
                            if to.write_all(&bytes[..len]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { address, through }
    }

    fn cut(&self) {
        for stream in self.through.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn after_its_connection_is_cut_it_comes_back_to_the_room_where_its_client_still_is() {
    let signaling = Server::start_signaling(&[]);
    let wire = Wire::to(signaling.address);
    let _echo = announced(wire.address, &["--host", "127.0.0.1"]);
    let (mut member, bot) = meet(signaling.address);
    for _ in 0..3 {
        wire.cut();
        member.hear_a("PeerLeft");
        let back = member.hear_a("PeerJoined");
        assert_eq!(back["peer"]["name"], "Echo Bot");
        let updated = member.hear_a("PeerUpdated");
        assert_eq!(updated["peer"]["id"], back["peer"]["id"]);
        assert_eq!(updated["peer"]["public_addr"], bot["public_addr"]);
        member.chat("still there?");
        assert_eq!(member.hear_a("ChatMessage")["content"], "🔊 still there?");
    }
    assert_eq!(Member::of(signaling.address).rooms().len(), 1);
}

#[test]
fn a_hundred_idle_connections_keep_nobody_out_of_the_server_in_one_process() {
    let mut echo = Server::start(&["--host", "127.0.0.1", "--with-signaling=0"]);
    let line = echo.line_that_begins("Signaling server listening on ws://").message;
    let signaling: SocketAddr = line.rsplit("//").next().unwrap().parse().unwrap();
    let _idle: Vec<_> = (0..100).map(|_| Member::of(signaling)).collect();
    assert_eq!(room(signaling)["name"], "[BOT] Echo Server (3000ms delay)");
}

#[test]
fn one_process_is_both_servers() {
    // A free port, for a moment.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let with = format!("--with-signaling={port}");
    let mut echo = Server::start(&["--host", "127.0.0.1", "--delay", "40", &with]);
    echo.line_that_begins(&format!("Signaling server listening on ws://127.0.0.1:{port}"));
    echo.line_that_begins("registration: room created room=\"[BOT] Echo Server (40ms delay)\"");
    let signaling = SocketAddr::from(([127, 0, 0, 1], port));
    let (mut member, bot) = meet(signaling);
    assert_eq!(bot["public_addr"], echo.address.to_string());
    assert_eq!(Client::of(echo.address).ask(&audio(1, 480)), audio(1, 480));
    member.chat("hello");
    assert_eq!(member.hear_a("ChatMessage")["content"], "🔊 hello");
    // A client that stays does not hold it up, and neither server complains about the end of the other.
    let ended = echo.stop("INT");
    assert_eq!(ended.code, Some(0));
    ended.stats();
    assert!(!ended.lines.iter().any(|line| line.contains(" WARN ")), "{:#?}", ended.lines);
}

#[test]
fn what_cannot_be_meant_is_said_in_a_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = format!("--with-signaling={}", taken.local_addr().unwrap().port());
    for (options, code, sentence) in [
        (
            &["--signaling-url", "localhost:8080"][..],
            2,
            "the scheme is missing or unknown; write ws://HOST:PORT, or wss:// for TLS",
        ),
        (&["--signaling-url", "ws://me:secret@host"], 2, "the URL must not contain a user name or password"),
        (&["--public-addr", "192.0.2.1"], 2, "--public-addr: no effect without a signaling server"),
        (&["--stun", "192.0.2.1"], 2, "--stun: no effect without a signaling server"),
        (&["--with-signaling", "--signaling-url", "ws://host"], 2, "omit one of them"),
        (&["--ca", "x"], 2, "--ca: no effect without a signaling server"),
        (&["--insecure"], 2, "--insecure: no effect without a signaling server"),
        (&["--with-signaling=99999"], 2, "give a port from 0 to 65535"),
        (&["--with-signaling", "--stun", "host.invalid"], 3, "--stun: cannot find an address for host `host.invalid`"),
        (&["--with-signaling", "--public-addr", "0.0.0.0:5000"], 2, "0.0.0.0 is not a reachable address"),
        (&["--with-signaling", "--public-addr", "[::]"], 2, ":: is not a reachable address"),
        (&["--with-signaling", "--public-addr", "host:99999"], 2, "invalid port `99999`"),
        (&["--with-signaling", "--public-addr", "a", "--stun", "b"], 2, "cannot be used with"),
        (&["--with-signaling", "--stun", "0.0.0.0:3478"], 2, "0.0.0.0 is not a reachable address"),
        (&["--with-signaling=x"], 2, "invalid value 'x'"),
        (&[&taken_port], 3, "is in use"),
        (
            &["--signaling-url", "wss://localhost", "--ca", "/does/not/exist"],
            3,
            "cannot read certificates from /does/not/exist",
        ),
        (&["--signaling-url", "wss://localhost", "--ca", "Cargo.toml"], 3, "Cargo.toml contains no certificate"),
        (&["--signaling-url", "wss://localhost", "--ca", "x", "--insecure"], 2, "cannot be used with"),
    ] {
        let fixed = ["echo-server", "--host", "127.0.0.1", "--port", "0"];
        let output = run(&[&fixed, options].concat(), |command| {
            command.current_dir(env!("CARGO_MANIFEST_DIR"));
        });
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{options:?}: {error}");
        assert!(error.contains(sentence), "{options:?}: {error}");
        assert!(!error.contains("secret@"), "{error}");
    }
}

#[test]
fn an_empty_variable_is_no_signaling_server() {
    let mut echo = Server::start_with(&[], |command| {
        command.env("SIGNALING_URL", "");
    });
    assert_eq!(echo.line().message, format!("Echo server listening on {}", echo.address));
    assert_eq!(echo.stop("INT").lines.len(), 2);
}
