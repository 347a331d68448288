//! A message that Redis has, although the answer never reached its server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{Servers, assert_all_reached, jamjam_room, join_jamjam, start_server};
use crate::redis_server::RedisServer;

/// The text of the message. Its request is the first that contains it.
const TEXT: &str = "unanswered";

/// Forwards connections to Redis. From the request with [`TEXT`] on, nothing that Redis sends passes, until the connections are cut.
struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: Mutex<Vec<TcpStream>>,
    has_seen_text: AtomicBool,
    is_silent: AtomicBool,
}

impl Proxy {
    fn start(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&proxy.state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, redis) = (client.unwrap(), TcpStream::connect(("127.0.0.1", redis)).unwrap());
                let clone = |stream: &TcpStream| stream.try_clone().unwrap();
                // A connection is either cut or begins afterwards.
                let mut connections = state.connections.lock().unwrap();
                connections.extend([clone(&client), clone(&redis)]);
                for (from, to, is_request) in [(clone(&client), clone(&redis), true), (redis, client, false)] {
                    let state = Arc::clone(&state);
                    thread::spawn(move || state.forward(from, to, is_request));
                }
            }
        });
        proxy
    }

    fn cut(&self) {
        let mut connections = self.state.connections.lock().unwrap();
        for connection in connections.drain(..) {
            // It may have ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
        self.state.is_silent.store(false, Ordering::SeqCst);
    }
}

impl State {
    fn forward(&self, mut from: TcpStream, mut to: TcpStream, is_request: bool) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let part = &buffer[..len];
            let has_text = is_request && part.windows(TEXT.len()).any(|window| window == TEXT.as_bytes());
            if has_text && !self.has_seen_text.swap(true, Ordering::SeqCst) {
                self.is_silent.store(true, Ordering::SeqCst);
            }
            if (is_request || !self.is_silent.load(Ordering::SeqCst)) && to.write_all(part).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}

#[test]
fn message_whose_answer_from_redis_was_lost_is_delivered_once() {
    let Some(redis) = RedisServer::start() else { return };
    let proxy = Proxy::start(redis.port);
    let far = start_server(&format!("redis://{}", proxy.address), &[]);
    let near = start_server(&redis.url(), &[]);
    let servers = Servers::of(redis, vec![far, near]);
    let (mut members, room) = jamjam_room(&servers.all);
    let neighbour = join_jamjam(&servers.all[0], &room, &mut members);
    members.push(neighbour);
    assert_all_reached(&mut members);
    let [sender, there, neighbour] = &mut members[..] else { unreachable!() };
    sender.chat(TEXT);
    // Redis has the message, and the sender's server does not know it.
    assert_eq!(there.receive_type("ChatMessage")["content"], TEXT);
    assert!(proxy.state.is_silent.load(Ordering::SeqCst));
    proxy.cut();
    assert_eq!(neighbour.receive_type("ChatMessage")["content"], TEXT);
    // A second copy would be the next message. The sender is still connected.
    assert_all_reached(&mut members);
}
