//! The signaling server with a browser's WebSocket and WebRTC, and with Node libraries. Only these tests need a browser and Node, so only
//! `.ci/full` runs them.

#![cfg(unix)]

use test_support::certificate;
use test_support::server;
mod chromium;
mod console;
mod console_controls;
mod docs;
mod examples;
mod message_docs;
mod moq_net;
mod node;
mod page_checks;
mod report_pages;
mod start_page;

use std::net::TcpStream;

use certificate::Authority;
use chromium::Chromium;
use serde_json::json;
use server::process::Server;

const PEER: &str = include_str!("peer.js");

/// Two pages open a data channel to each other and exchange greetings. The pages need only the messages that the server relays.
fn check_data_channel(server: &Server, scheme: &str) {
    let mut browser = Chromium::start();
    let url = format!("{scheme}://localhost:{}/", server.address.port());
    let calls = ["ann", "bob"].map(|user| {
        let page = browser.page("about:blank", PEER);
        let joins = format!("participant('{url}', 'a/b & ü', '{user}')");
        browser
            .begin(&page, &format!("{joins}.then(({{greeting, types}}) => ({{greeting, types: types.slice(0, 2)}}))"))
    });
    let [ann, bob] = calls.map(|call| browser.end(&call));
    assert_eq!(
        (&ann["greeting"], &bob["greeting"]),
        (&json!("hello ann, this is bob"), &json!("hello bob, this is ann"))
    );
    // The second page to join received the list of participants. The second page then made the call. The first page to join was informed
    // that a participant joined.
    let mut types = [ann["types"].clone(), bob["types"].clone()];
    types.sort_by_key(ToString::to_string);
    assert_eq!(types, [json!(["welcome", "existing-participants"]), json!(["welcome", "participant-joined"])]);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn two_pages_open_a_data_channel_through_the_server() {
    check_data_channel(&Server::start_signaling(&[]), "ws");
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn two_pages_open_a_data_channel_through_the_server_over_tls() {
    let authority = Authority::new();
    check_data_channel(&Server::start_signaling(&authority.certify().options()), "wss");
}

/// A script cannot read the HTTP status of a refused WebSocket upgrade. However, a script can read the code and the reason of a close
/// frame. Therefore, the server accepts the upgrade and then closes the connection with code and reason.
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

/// A browser answers pings on its own, and scripts of any site can read `/health` and `/rooms`.
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
    // A second client connects later than the page, never reads, and is dropped. If the page did not answer pings, the server would drop
    // the page before the second client.
    let deaf = TcpStream::connect(server.address).unwrap();
    let (_slow_reader, _) = tungstenite::client(format!("{ws}?roomId=r&userId=deaf&userName=Deaf"), deaf).unwrap();
    assert_eq!(browser.evaluate(&page, "left"), "deaf");
    let fetched = browser.evaluate(&page, &format!("fetch('{http}health').then((answer) => answer.json())"));
    assert_eq!(fetched["roomDetails"][0]["participants"][0]["id"], "page");
    let fetched = browser.evaluate(&page, &format!("fetch('{http}rooms').then((answer) => answer.json())"));
    assert_eq!(fetched["rooms"][0]["participantCount"], 1);
}
