//! Servers with known faults.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message, WebSocket};

/// A server's end of a connection.
pub(crate) struct ServerConnection {
    pub(crate) socket: WebSocket<TcpStream>,
}

impl ServerConnection {
    /// The next text, or `None` after the client has disconnected.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("clients send JSON")),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Sends a text message; ignores a closed connection.
    pub(crate) fn send_text(&mut self, text: impl Into<String>) {
        let _ = self.socket.send(Message::text(text.into()));
    }

    /// Answers a bbx ping as the protocol defines.
    pub(crate) fn pong(&mut self, ping: &Value, server_us: i64) {
        assert_eq!(ping["type"], "ping");
        self.send_text(format!(r#"{{"type":"pong","client_time":{},"server_time":{server_us}}}"#, ping["client_time"]));
    }

    /// Receives the texts of the client on another thread, so that this one can send at the same time.
    pub(crate) fn messages(&self) -> Receiver<Value> {
        let stream = self.socket.get_ref().try_clone().unwrap();
        let socket = WebSocket::from_raw_socket(stream, Role::Server, None);
        let mut reading = Self { socket };
        let (sender, messages) = channel();
        thread::spawn(move || while reading.receive().is_some_and(|text| sender.send(text).is_ok()) {});
        messages
    }

    /// Closes the connection, and waits until the client has read the close frame.
    pub(crate) fn close(mut self, code: u16, reason: &str) {
        let _ = self.socket.close(Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() }));
        while self.socket.read().is_ok() {}
    }
}

/// Starts a WebSocket server, which calls `does` with the number of each connection, counted from 0, and the connection.
pub(crate) fn serve(does: impl Fn(usize, ServerConnection) + Send + Sync + 'static) -> SocketAddr {
    raw(move |number, stream| {
        stream.set_nodelay(true).unwrap();
        if let Ok(socket) = tungstenite::accept(stream) {
            does(number, ServerConnection { socket });
        }
    })
}

/// Like [`serve`], but without a WebSocket handshake. The function in `does` receives the number and the TCP stream of each connection.
pub(crate) fn raw(does: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let does = Arc::new(does);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let does = Arc::clone(&does);
            thread::spawn(move || does(number, stream.unwrap()));
        }
    });
    address
}

/// A server that answers every request with these bytes and keeps the connection open.
pub(crate) fn answers(bytes: &'static [u8]) -> SocketAddr {
    raw(move |_, mut stream| {
        let mut request = [0; 2_048];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(bytes);
        let _ = stream.read(&mut request);
    })
}
