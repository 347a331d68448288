//! A program with a server of control surfaces in it: commands before and while it runs, events out, and how it ends.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use jamjam_dev::io::signaling::control_surface_server::{RoomConfig, ServerCommand, WsServer, WsServerConfig};
use jamjam_dev::signaling::{ControlSurfaceEventKind, EventConsumer, InlineEvent, event_queue};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tungstenite::Message;

use crate::control_surface::{hear, joined, say};
use test_support::server::{PATIENCE, poll_until};

/// Somewhere free on this machine alone.
fn here() -> WsServerConfig {
    WsServerConfig { bind_addr: ([127, 0, 0, 1], 0).into(), ..WsServerConfig::default() }
}

struct Program {
    address: SocketAddr,
    commands: mpsc::Sender<ServerCommand>,
    events: EventConsumer,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Program {
    fn start(config: WsServerConfig, rooms: RoomConfig, events: usize) -> Self {
        let (producer, consumer) = event_queue(events);
        let (commands, command_rx) = mpsc::channel(256);
        let server = WsServer::with_rooms(config, rooms, producer, command_rx).unwrap();
        let address = server.local_addr().unwrap();
        Self { address, commands, events: consumer, serving: tokio::spawn(server.run()) }
    }

    async fn tell(&self, command: ServerCommand) {
        self.commands.send(command).await.unwrap();
    }

    async fn room(&self) -> Option<String> {
        let (response, code) = oneshot::channel();
        self.tell(ServerCommand::CreateRoom { response }).await;
        tokio::time::timeout(PATIENCE, code).await.expect("an answer").ok()
    }

    fn event(&mut self) -> InlineEvent {
        poll_until("an event", || self.events.pop())
    }
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let WsServerConfig { bind_addr, ping_interval, connection_timeout, broadcast_capacity } = WsServerConfig::default();
    assert_eq!(bind_addr, "0.0.0.0:8080".parse().unwrap());
    assert_eq!((ping_interval, connection_timeout), (Duration::from_secs(5), Duration::from_secs(30)));
    assert_eq!(broadcast_capacity, 256);
    let RoomConfig { code_length, expiration, max_clients } = RoomConfig::default();
    assert_eq!((code_length, expiration.as_secs(), max_clients), (4, 24 * 3_600, 100));
}

/// On a runtime of one thread, where nothing else could obey.
#[tokio::test]
async fn a_room_is_made_before_the_server_runs_and_who_connects_meanwhile_is_let_in_then() {
    let (producer, mut consumer) = event_queue(256);
    let (commands, command_rx) = mpsc::channel(256);
    let server = WsServer::new(here(), producer, command_rx).unwrap();
    let (response, code) = oneshot::channel();
    commands.send(ServerCommand::CreateRoom { response }).await.unwrap();
    let code = tokio::time::timeout(PATIENCE, code).await.expect("an answer").unwrap();
    assert!(code.len() == 4 && code.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
    let address = server.local_addr().unwrap();
    let early = TcpStream::connect(address).unwrap();
    let phone = std::thread::spawn(move || {
        early.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut phone, _) = tungstenite::client(format!("ws://{address}/any/path"), early).unwrap();
        say(&mut phone, &json!({"type": "join", "room_code": code}));
        assert_eq!(hear(&mut phone)["type"], "welcome");
        say(&mut phone, &json!({"type": "trigger", "name": "note_on", "at": 7}));
        // The last of its commands: whoever wants the server to end has heard of it.
        poll_until("an event", || consumer.pop())
    });
    let ending = async {
        let event = tokio::task::spawn_blocking(|| phone.join().unwrap()).await.unwrap();
        assert_eq!(
            (event.kind, &*event.name, event.value, event.at),
            (ControlSurfaceEventKind::Trigger, "note_on", None, Some(7))
        );
        commands.send(ServerCommand::Shutdown).await.unwrap();
    };
    let (end, ()) = tokio::join!(server.run(), ending);
    end.unwrap();
    assert!(commands.send(ServerCommand::Shutdown).await.is_err(), "nobody obeys any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_its_effect_and_what_cannot_be_done_harms_nobody() {
    let mut program =
        Program::start(here(), RoomConfig { code_length: 6, max_clients: 1, ..RoomConfig::default() }, 16);
    let (one, other) = (program.room().await.unwrap(), program.room().await.unwrap());
    assert!(one.len() == 6 && other.len() == 6 && one != other);
    let (mut ann, mut bob) = (joined(program.address, &one, None), joined(program.address, &other, None));
    let (mut third, _) = tungstenite::connect(format!("ws://{}/", program.address)).unwrap();
    third.send(Message::text(json!({"type": "join", "room_code": one}).to_string())).unwrap();
    assert!(third.read().unwrap().to_text().unwrap().contains("ROOM_FULL"));
    for name in ["x".repeat(257), "a".to_owned()] {
        program.tell(ServerCommand::BroadcastParam { name, value: f32::NAN }).await;
    }
    program.tell(ServerCommand::BroadcastVisualization { data: vec![f32::INFINITY] }).await;
    program.tell(ServerCommand::BroadcastVisualization { data: vec![0.0; 65_537] }).await;
    program.tell(ServerCommand::CloseRoom { code: "nonsense".to_owned() }).await;
    program.tell(ServerCommand::BroadcastParam { name: "freq".to_owned(), value: 0.7 }).await;
    program.tell(ServerCommand::BroadcastVisualization { data: vec![0.5, -1.0] }).await;
    for phone in [&mut ann, &mut bob] {
        let heard = hear(phone);
        assert_eq!((&heard["param"], heard["value"].to_string()), (&json!("freq"), "0.7".to_owned()));
        assert_eq!(hear(phone), json!({"type": "visualization", "data": [0.5, -1.0]}));
    }
    say(&mut ann, &json!({"type": "param", "param": "gain", "value": 0.25, "at": 1e300}));
    let event = program.event();
    assert_eq!((&*event.room, &*event.name, event.value, event.at), (&*one, "gain", Some(0.25), Some(u64::MAX)));
    assert_eq!(event.node_id.len(), 36);
    program.tell(ServerCommand::CloseRoom { code: one.clone() }).await;
    assert_eq!(hear(&mut ann), json!({"type": "closed"}));
    let Ok(Message::Close(Some(frame))) = ann.read() else { panic!("no close frame") };
    assert_eq!(u16::from(frame.code), 1_000);
    assert!(ann.read().is_err());
    say(&mut bob, &json!({"type": "sync"}));
    assert_eq!(hear(&mut bob)["params"][0]["name"], "freq");
    program.tell(ServerCommand::Shutdown).await;
    let Ok(Message::Close(Some(frame))) = bob.read() else { panic!("no close frame") };
    assert_eq!(u16::from(frame.code), 1_001);
    drop((bob, third));
    program.serving.await.unwrap().unwrap();
    assert!(program.events.is_abandoned() && program.commands.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_loses_the_newest_and_says_how_many() {
    let mut program = Program::start(here(), RoomConfig::default(), 4);
    let code = program.room().await.unwrap();
    let mut phone = joined(program.address, &code, None);
    for number in 0..100 {
        say(&mut phone, &json!({"type": "trigger", "name": number.to_string()}));
    }
    say(&mut phone, &json!({"type": "ping", "client_time": 1}));
    assert_eq!(hear(&mut phone)["type"], "pong");
    let names: Vec<String> = (0..4).map(|_| program.event().name.to_string()).collect();
    assert_eq!(
        (names, program.events.pop(), program.events.dropped()),
        (["0", "1", "2", "3"].map(str::to_owned).into(), None, 96)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_whose_code_nobody_waits_for_are_closed_and_beyond_a_thousand_there_is_no_answer() {
    let program = Program::start(here(), RoomConfig::default(), 1);
    for _ in 0..1_500 {
        program.tell(ServerCommand::CreateRoom { response: oneshot::channel().0 }).await;
    }
    for number in 0..1_000 {
        assert!(program.room().await.is_some(), "{number}");
    }
    assert_eq!(program.room().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_for_the_configured_time_is_dropped() {
    let (ping_interval, connection_timeout) = (Duration::from_millis(10), Duration::from_millis(50));
    let program =
        Program::start(WsServerConfig { ping_interval, connection_timeout, ..here() }, RoomConfig::default(), 1);
    let code = program.room().await.unwrap();
    let mut phone = joined(program.address, &code, None);
    // From here on it reads without answering pings.
    let mut rest = Vec::new();
    let ended = phone.get_mut().read_to_end(&mut rest);
    assert!(ended.is_ok() && rest.starts_with(&[0x89, 0]), "{ended:?} {rest:?}");
    assert!(!rest.contains(&0x88), "there is nobody to be told: {rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_given_up_tells_its_clients_and_lets_its_commands_go() {
    let program = Program::start(here(), RoomConfig::default(), 1);
    let code = program.room().await.unwrap();
    let mut phone = joined(program.address, &code, None);
    program.serving.abort();
    let Ok(Message::Close(Some(frame))) = phone.read() else { panic!("no close frame") };
    assert_eq!(u16::from(frame.code), 1_001);
    poll_until("the end of the commands", || program.commands.is_closed().then_some(()));
    poll_until("the end of the events", || program.events.is_abandoned().then_some(()));
}

#[test]
fn without_a_runtime_or_an_address_there_is_an_error() {
    let server = |config| WsServer::new(config, event_queue(1).0, mpsc::channel(1).1).map(drop);
    assert!(server(here()).unwrap_err().to_string().contains("runtime"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = server(WsServerConfig { bind_addr: taken.local_addr().unwrap(), ..here() }).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
