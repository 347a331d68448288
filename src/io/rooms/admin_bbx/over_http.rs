//! The routes over real sockets, without the login that whoever serves them puts before.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tungstenite::{Message, WebSocket};

use super::{Switchboard, router};
use crate::io::http::{self, Bounds, Places};
use crate::io::rooms::listeners::Listening;
use crate::io::rooms::{QueueBounds, STOP_PATIENCE, door};
use crate::rooms::{Hub, Limits, SurfaceLimits};

/// Long enough for a busy machine, and an end for a test that would wait for ever.
const LONG: Duration = Duration::from_secs(20);

pub(super) struct Served {
    address: SocketAddr,
    switchboard: Arc<Switchboard>,
    stop: Arc<Notify>,
    /// Whether all connections had ended in time.
    thread: JoinHandle<bool>,
}

pub(super) fn serve(bounds: Bounds, surfaces: SurfaceLimits) -> Served {
    let listener = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let (address, stop) = (listener.local_addr().expect("an address"), Arc::new(Notify::new()));
    let hub = Hub::new(Limits { surfaces, rate: None, ..Limits::default() }, [1, 2, 3, 4]);
    let (switchboard, mut ended) = Switchboard::new(hub, QueueBounds::default());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (board, stopped) = (Arc::clone(&switchboard), Arc::clone(&stop));
    let thread = std::thread::spawn(move || {
        let done = runtime.block_on(async {
            let router = door::router(router(Arc::clone(&board)), Arc::clone(&board), Arc::default());
            tokio::select! {
                () = stopped.notified() => {}
                () = http::accept(listener, router, Places::new(bounds), None) => {}
                () = board.keep_time() => {}
            }
            board.close(STOP_PATIENCE);
            tokio::time::timeout(STOP_PATIENCE, ended.recv()).await.is_ok()
        });
        runtime.shutdown_background();
        done
    });
    Served { address, switchboard, stop, thread }
}

pub(super) fn plain() -> Served {
    serve(Bounds::default(), SurfaceLimits::default())
}

impl Served {
    pub(super) fn request(&self, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(LONG)).expect("a time-out");
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}", body.len());
        // Whoever refuses a long body may not read all of it.
        let _ = (&stream).write_all(format!("{head}\r\n\r\n{body}").as_bytes());
        BufReader::new(stream)
    }

    pub(super) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut answer = self.request(method, path, body);
        let (status, headers) = head(&mut answer);
        assert!(headers.contains("content-type: application/json"), "{headers}");
        let mut body = String::new();
        answer.read_to_string(&mut body).expect("a body");
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    pub(super) fn room(&self, body: &str) -> String {
        let (status, made) = self.ask("POST", "/admin/bbx/rooms", body);
        assert_eq!(status, 201, "{made}");
        made["code"].as_str().expect("a code").to_owned()
    }

    pub(super) fn phone(&self, code: &str) -> Phone {
        let tcp = TcpStream::connect(self.address).expect("a connection");
        tcp.set_read_timeout(Some(LONG)).expect("a time-out");
        let (socket, _) = tungstenite::client(format!("ws://{}/", self.address), tcp).expect("a WebSocket");
        let mut phone = Phone(socket);
        phone.say(&json!({"type": "join", "room_code": code}));
        assert_eq!(phone.hear()["type"], "welcome");
        phone
    }

    /// A stream of events that has begun.
    pub(super) fn listen(&self) -> BufReader<TcpStream> {
        let mut stream = self.request("GET", "/admin/bbx/events", "");
        let (status, headers) = head(&mut stream);
        assert!(status == 200 && headers.contains("content-type: text/event-stream"), "{headers}");
        assert_eq!(chunk(&mut stream), ": connected\n\n");
        stream
    }

    /// How many listen, events that were lost, listeners that were refused.
    pub(super) fn tally(&self) -> (u64, u64, u64) {
        let Listening { now, lost, refused } = self.switchboard.listening();
        (now, lost, refused)
    }

    pub(super) fn ends_in_time(self) -> bool {
        self.stop.notify_one();
        self.thread.join().expect("an end")
    }
}

pub(super) fn head(answer: &mut BufReader<TcpStream>) -> (u16, String) {
    let mut all = String::new();
    while !all.ends_with("\r\n\r\n") {
        assert!(answer.read_line(&mut all).expect("a line") > 0, "{all}");
    }
    (all["HTTP/1.1 ".len()..][..3].parse().expect("a status"), all)
}

/// The next chunk of an answer without an end; nothing at its end.
pub(super) fn chunk(answer: &mut BufReader<TcpStream>) -> String {
    let mut size = String::new();
    answer.read_line(&mut size).expect("a size");
    let mut bytes = vec![0; usize::from_str_radix(size.trim_end(), 16).expect("a size") + 2];
    answer.read_exact(&mut bytes).expect("a chunk");
    String::from_utf8(bytes).expect("text").trim_end_matches("\r\n").to_owned()
}

pub(super) struct Phone(pub(super) WebSocket<TcpStream>);

impl Phone {
    pub(super) fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).expect("a message");
    }

    pub(super) fn hear(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().expect("a message") {
                return serde_json::from_str(&text).expect("JSON");
            }
        }
    }
}

pub(super) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "{what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn a_program_makes_rooms_speaks_to_them_and_closes_them() {
    let served = plain();
    assert_eq!(served.ask("GET", "/admin/bbx/rooms", ""), (200, json!({"rooms": []})));
    let (code, small) = (served.room("{}"), served.room(r#"{"maxClients":1,"expiresIn":60}"#));
    let (_, listed) = served.ask("GET", "/admin/bbx/rooms", "");
    let life = |room: usize| {
        let room = &listed["rooms"][room];
        (
            room["code"].clone(),
            room["clients"].clone(),
            room["expiresAt"].as_u64().unwrap() - room["createdAt"].as_u64().unwrap(),
        )
    };
    assert_eq!((life(0), life(1)), ((json!(code), json!(0), 86_400_000), (json!(small), json!(0), 60_000)));
    let (mut phone, mut other) = (served.phone(&code), served.phone(&small));
    let told = |many: usize| (200, json!({ "delivered": many }));
    assert_eq!(served.ask("POST", "/admin/bbx/param", r#"{"name":"freq","value":0.7}"#), told(2));
    let update = |value: f32| json!({"type": "update", "param": "freq", "value": value});
    let heard = phone.hear();
    // Of 32 bits, and no nearly 0.7 of 64.
    assert_eq!(
        (&heard["type"], &heard["param"], heard["value"].to_string()),
        (&json!("update"), &json!("freq"), "0.7".to_owned())
    );
    other.hear();
    let body = json!({"name": "freq", "value": 0.25, "room": code}).to_string();
    assert_eq!(served.ask("POST", "/admin/bbx/param", &body), told(1));
    assert_eq!(phone.hear(), update(0.25));
    // A name is decoded once: this one is `a/b %2F+ä`.
    let range = r#"{"min":-1,"max":1,"value":0.5}"#;
    assert_eq!(served.ask("PUT", "/admin/bbx/params/a%2Fb%20%252F+%C3%A4", range), told(2));
    assert_eq!(phone.hear(), json!({"type": "update", "param": "a/b %2F+ä", "value": 0.5}));
    assert_eq!(other.hear()["param"], "a/b %2F+ä");
    assert_eq!(served.ask("PUT", "/admin/bbx/params/freq", r#"{"min":20,"max":20000,"value":null}"#), told(0));
    phone.say(&json!({"type": "sync"}));
    let params = json!([
        {"name": "a/b %2F+ä", "value": 0.5, "min": -1.0, "max": 1.0},
        {"name": "freq", "value": 0.25, "min": 20.0, "max": 20_000.0},
    ]);
    assert_eq!(phone.hear()["params"], params);
    let body = json!({"data": [0.5, -1], "room": small}).to_string();
    assert_eq!(served.ask("POST", "/admin/bbx/visualization", &body), told(1));
    assert_eq!(other.hear(), json!({"type": "visualization", "data": [0.5, -1.0]}));
    let most = format!("{{\"data\":[{}]}}", vec!["-0.123456789"; 65_536].join(","));
    assert_eq!(served.ask("POST", "/admin/bbx/visualization", &most), told(2));
    assert_eq!(other.hear()["data"].as_array().map(Vec::len), Some(65_536));
    // Codes are decoded as names are.
    let encoded = format!("/admin/bbx/rooms/%3{small}");
    assert_eq!(served.ask("DELETE", &encoded, ""), (200, json!({"closed": true, "clients": 1})));
    assert_eq!(other.hear(), json!({"type": "closed"}));
    assert_eq!(served.ask("DELETE", &encoded, ""), (404, json!({"error": "no room has this code"})));
    assert_eq!(served.ask("GET", "/admin/bbx/rooms", "").1["rooms"][0]["clients"], 1);
}

#[test]
fn what_cannot_be_done_is_refused_by_its_name_and_nothing_happens() {
    let served = serve(Bounds::default(), SurfaceLimits { rooms: 1, ..SurfaceLimits::default() });
    let code = served.room("{}");
    let (rooms, param, range, shown) =
        ("/admin/bbx/rooms", "/admin/bbx/param", "/admin/bbx/params/a", "/admin/bbx/visualization");
    let (long, name) = ("x".repeat(70_000), "x".repeat(257));
    let too_many = format!("{{\"data\":[{}]}}", vec!["1"; 65_537].join(","));
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", rooms, "{}", 507, "there are 1 rooms already; close one first"),
        ("POST", rooms, "", 400, "The body is not JSON"),
        ("POST", rooms, "[]", 422, "The body has to be a JSON object"),
        ("POST", rooms, r#"{"maxClients":0}"#, 422, r#""maxClients" has to be a whole number from 1"#),
        ("POST", rooms, r#"{"expiresIn":"1h"}"#, 422, r#""expiresIn" has to be a number of seconds"#),
        ("POST", rooms, r#"{"code":"1234"}"#, 422, r#""code" is nothing that can be said here"#),
        ("POST", rooms, &long, 413, "The body may have at most 65536 bytes"),
        ("POST", param, "{", 400, "The body is not JSON"),
        ("POST", param, r#"{"name":"a","value":NaN}"#, 400, "The body is not JSON"),
        ("POST", param, r#"{"name":"a","value":"NaN"}"#, 422, r#""value" has to be a number"#),
        ("POST", param, r#"{"name":"a","value":1e39}"#, 422, r#""value" has to be a number"#),
        ("POST", param, r#"{"name":"a","value":1e999}"#, 422, "number out of range"),
        ("POST", param, r#"{"value":1}"#, 422, r#""name" is missing"#),
        ("POST", param, r#"{"name":"a"}"#, 422, r#""value" is missing"#),
        ("POST", param, r#"{"name":"a","value":1,"rom":"1"}"#, 422, r#""rom" is nothing"#),
        ("POST", param, r#"{"name":"a","value":1,"room":1234}"#, 422, r#""room" has to be a text"#),
        ("POST", param, r#"{"name":"a","value":1,"room":"x"}"#, 404, "no room has this code"),
        ("POST", param, &json!({"name": name, "value": 1}).to_string(), 422, "a name has at most 256 bytes"),
        ("PUT", range, r#"{"min":0}"#, 422, r#""max" is missing"#),
        ("PUT", range, r#"{"min":1,"max":0}"#, 422, r#""min" may not be above "max""#),
        ("PUT", range, r#"{"min":0,"max":1,"value":"x"}"#, 422, r#""value" has to be a number"#),
        ("PUT", "/admin/bbx/params/%ff", r#"{"min":0,"max":1}"#, 422, "not UTF-8"),
        ("PUT", "/admin/bbx/params/%2", r#"{"min":0,"max":1}"#, 422, "two hexadecimal digits"),
        ("PUT", "/admin/bbx/params/100%", r#"{"min":0,"max":1}"#, 422, "two hexadecimal digits"),
        ("POST", shown, r#"{"data":[1,"x"]}"#, 422, r#""data" has to be a list"#),
        ("POST", shown, &too_many, 422, r#""data" has to be a list of at most 65536 numbers"#),
        ("POST", shown, &"x".repeat(2_100_000), 413, "The body may have at most 2097152 bytes"),
        ("DELETE", "/admin/bbx/rooms/%zz", "", 422, "two hexadecimal digits"),
        ("DELETE", "/admin/bbx/rooms/%EF%BC%91", "", 404, "no room has this code"),
        ("DELETE", "/admin/bbx/rooms/", "", 404, "Not found"),
        ("GET", "/admin/bbx", "", 404, "Not found"),
        ("GET", "/admin/bbx/rooms/1234/x", "", 404, "Not found"),
        ("GET", param, "", 405, "Method not allowed"),
        ("PUT", "/admin/bbx/params/", "{}", 404, "Not found"),
    ];
    let mut phone = served.phone(&code);
    for (method, path, body, status, says) in cases {
        let (answered, error) = served.ask(method, path, body);
        let error = error["error"].as_str().unwrap_or_default();
        let body: String = body.chars().take(60).collect();
        assert!(answered == *status && error.contains(says), "{method} {path} {body}: {answered} {error}");
    }
    phone.say(&json!({"type": "sync"}));
    assert_eq!(phone.hear(), json!({"type": "state", "params": []}));
}
