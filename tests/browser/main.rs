//! The signaling server as a browser's own WebSocket and WebRTC find it, and libraries for Node. Neither is a dependency of the other tests: `.ci/full`
//! runs these.

#![cfg(unix)]

use test_support::certificate;
use test_support::server;
mod chromium;
mod console;
mod docs;
mod moqt;
mod node;
mod person;

use std::net::TcpStream;

use certificate::Authority;
use chromium::Chromium;
use serde_json::json;
use server::process::Server;

const PEER: &str = include_str!("peer.js");

/// Two pages open a data channel to each other with nothing but what the server passes on, and greet over it.
fn two_pages_meet(server: &Server, scheme: &str) {
    let mut browser = Chromium::start();
    let url = format!("{scheme}://localhost:{}/", server.address.port());
    let calls = ["ann", "bob"].map(|user| {
        let page = browser.page("about:blank", PEER);
        let joins = format!("participant('{url}', 'a/b & ü', '{user}')");
        browser.begin(&page, &format!("{joins}.then(({{heard, types}}) => ({{heard, types: types.slice(0, 2)}}))"))
    });
    let [ann, bob] = calls.map(|call| browser.end(&call));
    assert_eq!((&ann["heard"], &bob["heard"]), (&json!("hello ann, this is bob"), &json!("hello bob, this is ann")));
    // The first page was informed of the second, which called.
    let mut types = [ann["types"].clone(), bob["types"].clone()];
    types.sort_by_key(ToString::to_string);
    assert_eq!(types, [json!(["welcome", "existing-participants"]), json!(["welcome", "participant-joined"])]);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn two_pages_open_a_data_channel_through_the_server() {
    two_pages_meet(&Server::start_signaling(&[]), "ws");
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn two_pages_open_a_data_channel_through_the_server_over_tls() {
    let authority = Authority::new();
    two_pages_meet(&Server::start_signaling(&authority.certify().options()), "wss");
}

/// A page cannot see the status of a refused upgrade; this it sees.
#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_receives_the_close_reason() {
    let server = Server::start_signaling(&[]);
    let mut browser = Chromium::start();
    let page = browser.page("about:blank", PEER);
    let url = format!("ws://{}/", server.address);
    let end = browser.evaluate(&page, &format!("ending(new WebSocket('{url}?roomId=r'))"));
    assert_eq!(end, json!({"code": 1008, "reason": "Missing required parameters", "wasClean": true}));
    let user = format!("'{url}?roomId=r&userId=u&userName=n'");
    let twice = format!(
        "(() => {{ const first = new WebSocket({user}); first.onmessage = () => new WebSocket({user}); return ending(first); }})()"
    );
    let end = browser.evaluate(&page, &twice);
    assert_eq!(end, json!({"code": 1000, "reason": "Duplicate connection", "wasClean": true}));
}

/// A browser answers pings by itself, and scripts of any site read what is there.
#[test]
#[ignore = "needs Chromium: .ci/full"]
fn idle_page_stays_connected_and_reads_health() {
    let server = Server::start_signaling(&["--heartbeat-interval", "100", "--client-timeout", "2s"]);
    let mut browser = Chromium::start();
    let page = browser.page("about:blank", PEER);
    let (ws, http) = (format!("ws://{}/", server.address), format!("http://{}/", server.address));
    let joins = "new Promise((joined) => {
        const socket = new WebSocket(URL);
        globalThis.left = new Promise((left) => {
            socket.onclose = () => left('the page was closed');
            socket.onmessage = ({ data }) => {
                const { type, userId } = JSON.parse(data);
                if (type === 'welcome') joined(userId);
                if (type === 'participant-left') left(userId);
            };
        });
    })";
    let joins = joins.replace("URL", &format!("'{ws}?roomId=r&userId=page&userName=Page'"));
    assert_eq!(browser.evaluate(&page, &joins), "page");
    // The other one comes later, never reads, and is dropped: by then the page would have been.
    let deaf = TcpStream::connect(server.address).unwrap();
    let (_slow_reader, _) = tungstenite::client(format!("{ws}?roomId=r&userId=deaf&userName=Deaf"), deaf).unwrap();
    assert_eq!(browser.evaluate(&page, "left"), "deaf");
    let fetched = browser.evaluate(&page, &format!("fetch('{http}health').then((answer) => answer.json())"));
    assert_eq!(fetched["roomDetails"][0]["participants"][0]["id"], "page");
    let fetched = browser.evaluate(&page, &format!("fetch('{http}rooms').then((answer) => answer.json())"));
    assert_eq!(fetched["rooms"][0]["participantCount"], 1);
}
