//! `echo-server --signaling-url`: clients find the echo server by its room, and a failed signaling server neither stops nor delays audio.

use std::net::{SocketAddr, TcpListener};
use std::thread;

use serde_json::{Value, json};
use test_support::client::{closed_tcp_port, free_port};
use test_support::server::{Client, Member, Server, audio, keepalive, poll_until, send_to};

/// An echo server that registers with `signaling`.
fn registered_server(signaling: SocketAddr, options: &[&str]) -> Server {
    let url = format!("ws://{signaling}");
    let fixed = ["--delay", "40", "--signaling-url", &url];
    Server::start(&[&fixed, options].concat())
}

/// The only room, once it exists.
fn room(signaling: SocketAddr) -> Value {
    let mut member = Member::connect(signaling);
    poll_until("a room", || member.rooms().pop())
}

/// Joins the only room. Returns the member, and the entry of the echo server once it has an address.
fn join_echo_room(signaling: SocketAddr, path: &str) -> (Member, Value) {
    let room = room(signaling);
    let mut member = Member::connect_to(signaling, path);
    let mut echo_member = member.join(&room["id"]).remove(0);
    if echo_member["public_addr"].is_null() {
        echo_member = member.receive_type("PeerUpdated")["peer"].take();
    }
    (member, echo_member)
}

#[test]
fn client_finds_the_echo_server_by_its_room_and_can_chat() {
    let signaling = Server::start_signaling(&[]);
    let mut echo = registered_server(signaling.address, &["--room-name", "Studio"]);
    echo.line_starting_with("registration: connected url=");
    echo.line_starting_with("registration: room created room=\"[BOT] Studio (40ms delay)\" invite_code=");
    let (mut member, echo_member) = join_echo_room(signaling.address, "/");
    // 0.0.0.0 is never published. For a signaling server on this machine, the echo server publishes a loopback address.
    let address = format!("127.0.0.1:{}", echo.address.port());
    assert!(echo.address.ip().is_unspecified());
    let candidates = json!([{"address": address, "candidate_type": "Host", "priority": 2_130_706_431}]);
    let fields = ["name", "candidates", "public_addr", "local_addr"].map(|name| echo_member[name].clone());
    assert_eq!(fields, [json!("Echo Bot"), candidates, json!(address), json!(address)]);
    let client = Client::connect(address.parse().unwrap());
    assert_eq!(client.exchange(&audio(1, 960)), audio(1, 960));

    member.chat("hello");
    let answer = member.receive_type("ChatMessage");
    assert_eq!((&answer["content"], &answer["sender_name"]), (&json!("🔊 hello"), &json!("Echo Bot")));
    // Clients would display a time in seconds as January 1970.
    assert!(answer["timestamp"].as_u64().unwrap() > 1_577_836_800_000, "{answer}");
    assert_eq!(answer["sender_id"], echo_member["id"]);
    let stopped = echo.stop("INT");
    assert_eq!(stopped.code, Some(0));
    stopped.stats();
}

#[test]
fn configured_public_address_is_published_and_names_are_resolved() {
    for configured in ["192.0.2.9:61000", "[2001:db8::9]:7", "localhost"] {
        let signaling = Server::start_signaling(&[]);
        let echo = registered_server(signaling.address, &["--public-addr", configured]);
        let (_, echo_member) = join_echo_room(signaling.address, "/");
        let published = match configured {
            "localhost" => format!("127.0.0.1:{}", echo.address.port()),
            given => given.to_owned(),
        };
        assert_eq!(echo_member["public_addr"], published);
    }
}

/// It listens on IPv4 only, and its peers come over IPv6.
#[test]
fn server_without_an_address_for_its_peers_names_the_options() {
    let signaling = Server::start_signaling(&["--host", "::1"]);
    let mut echo = registered_server(signaling.address, &["--host", "0.0.0.0"]);
    let line = echo.line_starting_with("registration: no address to advertise; set --public-addr or --stun url=");
    assert_eq!(line.level, "WARN");
    let room = room(signaling.address);
    assert_eq!(Member::connect(signaling.address).join(&room["id"])[0]["public_addr"], Value::Null);
}

#[test]
fn stun_mapped_address_is_published_in_the_room() {
    let signaling = Server::start_signaling(&[]);
    // A second echo server acts as the STUN server.
    let other = Server::start(&["--host", "127.0.0.1"]);
    let echo = registered_server(signaling.address, &["--stun", &other.address.to_string()]);
    let (mut member, mut echo_member) = join_echo_room(signaling.address, "/");
    while echo_member["candidates"][0]["candidate_type"] != "ServerReflexive" {
        echo_member = member.receive_type("PeerUpdated")["peer"].take();
    }
    let mapped_address = format!("127.0.0.1:{}", echo.address.port());
    let candidate = json!({"address": mapped_address, "candidate_type": "ServerReflexive", "priority": 1_694_498_815});
    assert_eq!(echo_member["candidates"], json!([candidate]), "newer clients need not try several addresses");
    assert_eq!(echo_member["public_addr"], mapped_address);
}

#[test]
fn unknown_stun_server_is_tried_again_and_does_not_delay_the_server() {
    let signaling = Server::start_signaling(&[]);
    let mut echo = registered_server(signaling.address, &["--stun", "host.invalid"]);
    assert_eq!(Client::connect(echo.address).exchange(&audio(1, 480)), audio(1, 480));
    let line = echo.line_starting_with("registration: failed, retrying url=stun:host.invalid:3478 ");
    assert_eq!(line.level, "WARN", "{line:?}");
}

#[test]
fn unreachable_signaling_server_affects_neither_audio_nor_shutdown() {
    let (_socket, closed_port) = closed_tcp_port();
    // This server accepts connections but sends nothing.
    let unresponsive = TcpListener::bind("127.0.0.1:0").unwrap();
    // This server upgrades connections but sends nothing afterwards.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (unresponsive_address, silent_address) = (unresponsive.local_addr().unwrap(), silent.local_addr().unwrap());
    let upgraded = thread::spawn(move || Member::accept(silent.accept().unwrap().0));
    for signaling in [closed_port, unresponsive_address, silent_address] {
        let mut echo = registered_server(signaling, &["--host", "127.0.0.1"]);
        if signaling == closed_port {
            echo.line_starting_with(&format!(
                "registration: failed, retrying url=ws://{closed_port} error=\"cannot connect to {closed_port}: "
            ));
        } else if signaling == unresponsive_address {
            let _held = unresponsive.accept().unwrap();
        }
        let client = Client::connect(echo.address);
        assert_eq!(client.exchange(&audio(7, 960)), audio(7, 960));
        assert_eq!(client.exchange(&keepalive(1, b"")), keepalive(1, b""));
        assert_eq!(echo.stop("INT").code, Some(0));
    }
    assert_eq!(upgraded.join().unwrap().receive_type("CreateRoom")["peer_name"], "Echo Bot");
}

#[test]
fn server_that_closes_every_connection_is_logged_once() {
    let unresponsive = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = unresponsive.local_addr().unwrap();
    let echo = registered_server(url, &["--host", "127.0.0.1"]);
    (0..4).for_each(|_| drop(unresponsive.accept().unwrap()));
    let stopped = echo.stop("INT");
    let warnings = stopped.lines.iter().filter(|line| line.contains("registration: failed")).count();
    assert_eq!(warnings, 1, "{:?}", stopped.lines);
}

#[test]
fn restarts_of_either_server_keep_the_codes_and_the_room() {
    let signaling = Server::start_signaling(&[]);
    let address = signaling.address;
    let echo = registered_server(address, &["--host", "127.0.0.1"]);
    let listed = |member: &mut Member| {
        let room = poll_until("a test room", || member.rooms().into_iter().find(|room| room["test_room"] == true));
        ["id", "name", "invite_code"].map(|name| room[name].clone())
    };
    let (mut member, known) = join_echo_room(address, "/v1/signaling");
    let room = listed(&mut Member::connect_to(address, "/v1/signaling"));
    // A restarted echo server has another link key.
    drop(echo);
    let mut echo = registered_server(address, &["--host", "127.0.0.1"]);
    let joined = member.receive_type("PeerJoined")["peer"].take();
    assert_eq!((&joined["name"], &joined["public_addr"]), (&known["name"], &json!(echo.address.to_string())));
    assert_ne!(joined["link_key"], known["link_key"]);
    assert_eq!(member.receive_type("PeerLeft")["peer_id"], known["id"]);
    assert_eq!(listed(&mut Member::connect_to(address, "/v1/signaling")), room);
    echo.line_starting_with("registration: room created ");
    drop((member, signaling));
    let signaling = Server::start_signaling(&["--port", &address.port().to_string()]);
    assert_eq!(listed(&mut Member::connect_to(signaling.address, "/v1/signaling")), room);
    let line = echo.line_starting_with("registration: room created ").message;
    assert!(line.contains(&format!("invite_code={} of_older_clients=", room[2].as_str().unwrap())), "{line}");
}

#[test]
fn one_process_runs_both_servers() {
    let port = free_port();
    let with = format!("--with-signaling={port}");
    let mut echo = Server::start(&["--host", "127.0.0.1", "--delay", "40", "--moqt", "0.0.0.0:0", &with]);
    let moqt = echo.line_starting_with("moqt: listening addresses=").message;
    let (_, moqt_port) = moqt.rsplit_once(':').unwrap();
    echo.line_starting_with(&format!("signaling: server listening on ws://127.0.0.1:{port}"));
    echo.line_starting_with("http: no password is set");
    echo.line_starting_with("registration: room created room=\"[BOT] Echo Server (40ms delay)\"");
    let signaling = SocketAddr::from(([127, 0, 0, 1], port));
    let (_member, echo_member) = join_echo_room(signaling, "/");
    assert_eq!(echo_member["public_addr"], echo.address.to_string());
    // The start page shows it with the host of its own URL instead of the unspecified address.
    let document = send_to(signaling, "GET", "/docs/asyncapi.json", &[], "").json();
    assert_eq!(document["x-moqt-url"], format!("https://0.0.0.0:{moqt_port}/echo"));
    assert_eq!(Client::connect(echo.address).exchange(&audio(1, 480)), audio(1, 480));
    // A connected client does not delay the shutdown. Neither server logs a warning about the other's shutdown.
    let stopped = echo.stop("INT");
    assert_eq!(stopped.code, Some(0));
    stopped.stats();
    assert!(!stopped.lines.iter().any(|line| line.contains(" WARN ")), "{:#?}", stopped.lines);
}
