//! The signaling server with a browser's WebSocket and WebRTC, and with Node libraries. Only `.ci/full` runs these tests.

#![cfg(unix)]

mod chromium;
mod console;
mod examples;
mod node;
mod pages;

use chromium::Chromium;
use serde_json::json;
use test_support::certificate::Authority;
use test_support::server::Server;

const PEER: &str = concat!(include_str!("peer.js"), "; null");

/// Two pages open a data channel to each other and exchange greetings. The pages need only the messages that the server relays.
#[test]
#[ignore = "needs Chromium: .ci/full"]
fn two_pages_open_a_data_channel_through_the_server() {
    let authority = Authority::new();
    for (scheme, options) in [("ws", &[][..]), ("wss", &authority.certify().options())] {
        let server = Server::start_signaling(options);
        let browser = Chromium::start();
        let url = format!("{scheme}://localhost:{}/", server.address.port());
        let pages = [browser.open("about:blank", None), browser.open("about:blank", None)];
        let [ann, bob] = [(&pages[0], "ann"), (&pages[1], "bob")].map(|(page, user)| {
            page.get(PEER);
            let joins = format!("participant('{url}', 'a/b & ü', '{user}')");
            page.begin(&format!("{joins}.then(({{greeting, types}}) => ({{greeting, types: types.slice(0, 2)}}))"))
        });
        let (ann, bob) = (pages[0].end(&ann), pages[1].end(&bob));
        assert_eq!(
            (&ann["greeting"], &bob["greeting"]),
            (&json!("hello ann, this is bob"), &json!("hello bob, this is ann"))
        );
        // The second page to join received the list of participants, and made the call. The first was informed that a participant joined.
        let mut types = [ann["types"].clone(), bob["types"].clone()];
        types.sort_by_key(ToString::to_string);
        assert_eq!(types, [json!(["welcome", "existing-participants"]), json!(["welcome", "participant-joined"])]);
    }
}

/// A script cannot read the HTTP status of a refused upgrade, so the server accepts the upgrade and then closes with code and reason.
#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_receives_the_close_reason() {
    let server = Server::start_signaling(&[]);
    let browser = Chromium::start();
    let page = browser.open("about:blank", None);
    page.get(PEER);
    let end = page.get(&format!("ending(new WebSocket('ws://{}/?roomId=r'))", server.address));
    assert_eq!(end, json!({"code": 1008, "reason": "Missing required parameters", "wasClean": true}));
}
