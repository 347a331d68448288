//! Servers of which every fault is known.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use serde_json::Value;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

/// A server's end of a connection.
pub(crate) struct Guest {
    pub(crate) socket: WebSocket<TcpStream>,
    /// What was asked for: path and query.
    pub(crate) asked: String,
}

impl Guest {
    /// The next text, or `None` once the client is gone.
    pub(crate) fn hear(&mut self) -> Option<Value> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("clients say JSON")),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Says something; a client that is gone does not hear it.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        let _ = self.socket.send(Message::text(text.into()));
    }

    /// Answers a bbx ping as the protocol has it.
    pub(crate) fn pong(&mut self, ping: &Value, server_us: i64) {
        assert_eq!(ping["type"], "ping");
        self.say(format!(r#"{{"type":"pong","client_time":{},"server_time":{server_us}}}"#, ping["client_time"]));
    }

    /// Closes, and waits for the client to have read it.
    pub(crate) fn close(mut self, code: u16, reason: &str) {
        let _ = self.socket.close(Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() }));
        while self.socket.read().is_ok() {}
    }
}

/// A WebSocket server that does with each connection, the first is 0, what a test says.
pub(crate) fn serve(does: impl Fn(usize, Guest) + Send + Sync + 'static) -> SocketAddr {
    raw(move |number, stream| {
        let mut asked = String::new();
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let note = |request: &Request, response: Response| {
            asked = request.uri().to_string();
            Ok(response)
        };
        stream.set_nodelay(true).unwrap();
        if let Ok(socket) = tungstenite::accept_hdr(stream, note) {
            does(number, Guest { socket, asked });
        }
    })
}

/// The same for bytes.
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

/// A server that answers every request with these bytes and keeps the connection.
pub(crate) fn answers(bytes: &'static [u8]) -> SocketAddr {
    raw(move |_, mut stream| {
        let mut request = [0; 2_048];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(bytes);
        let _ = stream.read(&mut request);
    })
}

/// A port on which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
