//! A program with an embedded control surface server: commands before and while it runs, events, and the shutdown.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use jamjam_dev::io::signaling::control_surface_server::{RoomConfig, ServerCommand, WsServer, WsServerConfig};
use jamjam_dev::signaling::{ControlSurfaceEvent, ControlSurfaceEventKind, EventConsumer, event_queue};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::signaling_server::{control_surface, joined};
use test_support::server::{Member, TEST_TIMEOUT, poll_until};

/// A free port on loopback.
fn loopback_config() -> WsServerConfig {
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

    async fn send(&self, command: ServerCommand) {
        self.commands.send(command).await.unwrap();
    }

    async fn room(&self) -> Option<String> {
        let (response, code) = oneshot::channel();
        self.send(ServerCommand::CreateRoom { response }).await;
        tokio::time::timeout(TEST_TIMEOUT, code).await.expect("an answer").ok()
    }

    fn event(&mut self) -> ControlSurfaceEvent {
        poll_until("an event", || self.events.pop().ok())
    }
}

/// Runs on a runtime with one thread, where no other thread can execute the commands.
#[tokio::test]
async fn room_and_early_connection_are_served_once_the_server_runs() {
    let (producer, mut consumer) = event_queue(256);
    let (commands, command_rx) = mpsc::channel(256);
    let server = WsServer::new(loopback_config(), producer, command_rx).unwrap();
    let (response, code) = oneshot::channel();
    commands.send(ServerCommand::CreateRoom { response }).await.unwrap();
    let code = tokio::time::timeout(TEST_TIMEOUT, code).await.expect("an answer").unwrap();
    assert!(code.len() == 4 && code.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
    let address = server.local_addr().unwrap();
    let early = TcpStream::connect(address).unwrap();
    let surface = std::thread::spawn(move || {
        early.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let surface = Member(tungstenite::client(format!("ws://{address}/any/path"), early).unwrap().0);
        let mut surface = joined(surface, &code);
        surface.send_json(&json!({"type": "trigger", "name": "note_on", "at": 7}));
        // The event shows that the server is running. The test requests the shutdown only after this event.
        poll_until("an event", || consumer.pop().ok())
    });
    let ending = async {
        let event = tokio::task::spawn_blocking(|| surface.join().unwrap()).await.unwrap();
        assert_eq!(
            (event.kind, &*event.name, event.value, event.at),
            (ControlSurfaceEventKind::Trigger, "note_on", None, Some(7))
        );
        commands.send(ServerCommand::Shutdown).await.unwrap();
    };
    let (end, ()) = tokio::join!(server.run(), ending);
    end.unwrap();
    assert!(commands.send(ServerCommand::Shutdown).await.is_err(), "after the shutdown, commands are not received");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_takes_effect_and_invalid_ones_are_ignored() {
    let mut program =
        Program::start(loopback_config(), RoomConfig { code_length: 6, max_clients: 1, ..RoomConfig::default() }, 16);
    for _ in 0..1_500 {
        // A room without a receiver of its code is closed again, so that these are not too many.
        let (response, _) = oneshot::channel();
        program.send(ServerCommand::CreateRoom { response }).await;
    }
    let (one, other) = (program.room().await.unwrap(), program.room().await.unwrap());
    assert!(one.len() == 6 && other.len() == 6 && one != other);
    let (mut ann, mut bob) = (control_surface(program.address, &one), control_surface(program.address, &other));
    let mut third = Member::connect(program.address);
    third.send_json(&json!({"type": "join", "room_code": one}));
    assert_eq!(third.receive()["code"], "ROOM_FULL");
    let set = |name: &str, value| ServerCommand::BroadcastParam { name: name.to_owned(), value };
    for command in [
        set(&"x".repeat(257), 0.5),
        ServerCommand::CloseRoom { code: "nonsense".to_owned() },
        set("freq", 0.7),
        ServerCommand::BroadcastVisualization { data: vec![0.5, -1.0] },
    ] {
        program.send(command).await;
    }
    for surface in [&mut ann, &mut bob] {
        assert_eq!(surface.receive().to_string(), r#"{"type":"update","param":"freq","value":0.7}"#);
        assert_eq!(surface.receive(), json!({"type": "visualization", "data": [0.5, -1.0]}));
    }
    ann.send_json(&json!({"type": "param", "param": "gain", "value": 0.25, "at": 1e300}));
    let event = program.event();
    assert_eq!((&*event.room, &*event.name, event.value, event.at), (&*one, "gain", Some(0.25), Some(u64::MAX)));
    assert_eq!(event.node_id.len(), 36);
    program.send(ServerCommand::CloseRoom { code: one.clone() }).await;
    assert_eq!(ann.receive(), json!({"type": "closed"}));
    assert_eq!(ann.closed().0, 1_000);
    assert!(ann.0.read().is_err());
    bob.send_json(&json!({"type": "sync"}));
    assert_eq!(bob.receive()["params"][0]["name"], "freq");
    program.send(ServerCommand::Shutdown).await;
    assert_eq!(bob.closed().0, 1_001);
    drop((bob, third));
    program.serving.await.unwrap().unwrap();
    assert!(program.events.is_abandoned() && program.commands.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_client_is_aborted_after_the_configured_time() {
    let (ping_interval, connection_timeout) = (Duration::from_millis(100), Duration::from_secs(3));
    let program = Program::start(
        WsServerConfig { ping_interval, connection_timeout, ..loopback_config() },
        RoomConfig::default(),
        1,
    );
    let code = program.room().await.unwrap();
    let mut surface = control_surface(program.address, &code);
    // From here on, the client reads without answering pings.
    let mut rest = Vec::new();
    let read_result = surface.0.get_mut().read_to_end(&mut rest);
    assert!(read_result.is_ok() && rest.starts_with(&[0x89, 0]), "{read_result:?} {rest:?}");
    assert!(!rest.contains(&0x88), "a dead connection gets no close frame: {rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_server_closes_its_clients_and_releases_its_channels() {
    let program = Program::start(loopback_config(), RoomConfig::default(), 1);
    let code = program.room().await.unwrap();
    let mut surface = control_surface(program.address, &code);
    program.serving.abort();
    assert_eq!(surface.closed().0, 1_001);
    poll_until("the end of the commands", || program.commands.is_closed().then_some(()));
    poll_until("the end of the events", || program.events.is_abandoned().then_some(()));
}

#[test]
fn missing_runtime_or_occupied_address_is_an_error() {
    let server = |config| WsServer::new(config, event_queue(1).0, mpsc::channel(1).1).map(drop);
    assert!(server(loopback_config()).unwrap_err().to_string().contains("runtime"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = server(WsServerConfig { bind_addr: taken.local_addr().unwrap(), ..loopback_config() }).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
