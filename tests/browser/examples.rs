//! The example pages, used as a developer would. Names and texts from other clients contain script code.

use serde_json::{Value, json};
use test_support::server::Server;

use crate::chromium::{Chromium, Login, Page};

/// A name that would run a script if a page treated the name as markup.
const MARKUP: &str = "<img src=x onerror=\"globalThis.hit=1\">";

/// The login of the operator.
const OPERATOR: Login = Some(["admin", "sesame"]);

const FUNCTIONS: &str = "
    globalThis.logged = (title) => words('#log summary').some((line) => line.includes(title));
    globalThis.isLoggedTwice = (title) => words('#log summary').filter((line) => line.includes(title)).length === 2;
    null";

fn url(server: &Server, path: &str) -> String {
    format!("http://{}/{path}", server.address)
}

fn open<'a>(browser: &'a Chromium, url: &str, login: Login) -> Page<'a> {
    let page = browser.open(url, login);
    page.get(FUNCTIONS);
    page
}

/// Checks the layout, and that no text became markup. The page may contain this number of images.
fn check_page(page: &Page<'_>, name: &str, images: u32) {
    page.assert_layout(name, 1);
    let made = "[typeof globalThis.hit, all('img').length, all('main script, main iframe').length]";
    assert_eq!(page.get(made), json!(["undefined", images, 0]), "{name}");
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Enters the user's name, and clicks the join button with the keyboard. Browsers start audio only after the user pressed a key.
fn join_call(page: &Page<'_>, name: &str) {
    page.command("Page.bringToFront", &json!({}));
    page.fill("#user-name", name);
    page.get("one('#join-button').focus()");
    page.press("Enter");
    page.until("one('#status').dataset.state === 'live'");
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn two_tabs_call_each_other_with_audio_and_text() {
    let server = Server::start_signaling(&[]);
    let browser = Chromium::start();
    let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("room", MARKUP).finish();
    let ann = open(&browser, &url(&server, &format!("examples/webrtc?{query}")), None);
    join_call(&ann, "Ann");
    let bob = open(&browser, ann.get("one('#second-tab').href").as_str().unwrap(), None);
    assert_eq!(bob.get("one('#room').value"), MARKUP);
    join_call(&bob, MARKUP);
    for page in [&ann, &bob] {
        page.until("words('#peers b').join() === 'connected,connected,stable,open'");
        // The level shows that the tone arrives, and not only packets with silence.
        page.until("one('meter').value > 0.01 && Number(text('.bytes')) > 1000");
    }
    assert_eq!(ann.get("text('#peers .name')"), MARKUP);
    for (from, to, seen) in [(&bob, &ann, MARKUP), (&ann, &bob, "Ann")] {
        from.fill("#text", MARKUP);
        from.click("#send button");
        assert_eq!(to.until("words('#chat li').at(-1)"), format!("{seen} {MARKUP}"));
    }
    let types = ann.get("['participant-joined', 'offer', 'answer', 'ice-candidate'].filter(logged)");
    assert_eq!(strings(&types).len(), 4);
    bob.get("all('#log details').at(-1).open = true");
    check_page(&bob, "webrtc", 0);
    bob.click("#leave");
    ann.until("one('#no-peers').checkVisibility() && !all('#peers li').length");
    ann.click("#leave");
    ann.until("!one('#join-button').disabled");
    browser.assert_requests_and_no_errors(&url(&server, ""), 6);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn webrtc_page_requests_a_token_with_the_issuer_key() {
    let server = Server::start_signaling(&["--webrtc-auth", "token", "--token-issuer-key", "issuer"]);
    let browser = Chromium::start();
    let page = open(&browser, &url(&server, "examples/webrtc?room=jam"), None);
    assert_eq!(page.get("one('#issuer').checkVisibility()"), false);
    page.click("#join-button");
    page.until("one('#issuer').checkVisibility()");
    assert_eq!(page.get("document.activeElement.id"), "issuer-key");
    let advice = "This server requires a token. If it has a token issuer key, enter the key and join again.";
    assert_eq!(page.get("text('#status')"), advice);
    check_page(&page, "webrtc token", 0);
    page.fill("#issuer-key", "wrong");
    page.click("#join-button");
    page.until("text('#status') === 'Cannot join: The token issuer key is required'");
    page.fill("#issuer-key", "issuer");
    page.click("#join-button");
    let is_live = "one('#status').dataset.state === 'live' && !one('#leave').disabled";
    page.until(&format!("{is_live} && logged('welcome')"));
    // The same room needs no new token, another room does. The user cannot leave during the token request.
    let record_buttons = "globalThis.send = fetch; globalThis.fetch = (...request) => {
        globalThis.buttons = [one('#join-button').disabled, one('#leave').disabled]; return send(...request); }; null";
    page.get(record_buttons);
    for (room, requests) in [("jam", 2), ("other", 3)] {
        page.click("#leave");
        page.until("!one('#join-button').disabled");
        page.fill("#room", room);
        let before = page.get("words('#log summary').length");
        page.click("#join-button");
        page.until(&format!(
            "{is_live} && words('#log summary').slice({before}).some((line) => line.includes('welcome'))"
        ));
        assert_eq!(
            page.get("words('#log summary').filter((line) => line.includes('sent POST /auth/token')).length"),
            requests
        );
    }
    assert_eq!(page.get("buttons"), json!([true, true]));
    // The log does not show the token, which begins with `{"` in base64.
    assert_eq!(page.get("text('#log').includes('eyJ')"), false);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn phone_and_host_program_exchange_values() {
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    let browser = Chromium::start();
    let host = open(&browser, &url(&server, "examples/control-surface"), OPERATOR);
    host.click("#create");
    host.until("words('#controls .name').join() === 'cutoff,pan,volume' && one('#qr').naturalWidth >= 240");
    let phone = open(&browser, host.get("one('#phone-link').href").as_str().unwrap(), None);
    phone.until("words('#controls').join().includes('volume')");
    // The phone moves a slider and presses the button. The host program and the other control surface see it.
    phone.fill("#controls [aria-label=volume]", "0.25");
    phone.click("#controls button");
    host.until("words('#values li').join() === 'volume 0.25,tap 1'");
    host.until("one('#controls [aria-label=volume]').value === '0.25'");
    assert_eq!(host.get("logged('event trigger tap')"), true);
    // The host program changes values and sends a level.
    host.click("#defaults");
    host.click("#show-level");
    phone.until("one('#controls [aria-label=volume]').value === '0.8'");
    phone.until("one('#level').checkVisibility() && one('#level').value > 0.5");
    // A parameter whose name is script code.
    let set = format!(
        "fetch('/admin/bbx/param', {{ method: 'POST', headers: {{ 'Content-Type': 'application/json' }}, \
         body: JSON.stringify({{ room: one('#code').value, name: {}, value: 0.5 }}) }}).then(({{ ok }}) => ok)",
        json!(MARKUP)
    );
    assert_eq!(host.get(&set), true);
    for (page, name) in [(&phone, "phone"), (&host, "host program")] {
        page.until(&format!("words('#controls .name').includes({})", json!(MARKUP)));
        check_page(page, name, 1);
    }
    host.click("#close-room");
    phone.until("text('#status') === 'The host program closed the room.' && !words('#controls li').length");
    browser.assert_requests_and_no_errors(&url(&server, ""), 6);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_on_a_forwarded_port_names_the_port_of_the_server() {
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    let browser = Chromium::start();
    for (port, is_forwarded) in [(server.address.port(), false), (1, true)] {
        let page = open(&browser, &url(&server, "examples/control-surface"), OPERATOR);
        page.get(&format!(
            "globalThis.real = fetch; globalThis.fetch = (url, ...more) => `${{url}}`.endsWith('/admin/bbx/rooms') && more[0].method === 'GET' \
             ? Promise.resolve(Response.json({{ address: '192.0.2.1', port: {port} }})) : real(url, ...more); null"
        ));
        page.click("#create");
        page.until(&format!("text('#server-port') === '{port}'"));
        assert_eq!(page.get("one('#other-port').checkVisibility()"), is_forwarded);
    }
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn control_surface_page_explains_a_missing_login() {
    let server = Server::start_signaling(&["--docs-password", "sesame", "--bbx-room", "4711"]);
    let browser = Chromium::start();
    let page = open(&browser, &url(&server, "examples/control-surface?room=4711"), None);
    // The control surface works without a login.
    page.until("text('#status') === 'In room 4711'");
    for button in ["#create", "#watch"] {
        page.get("one('#login').hidden = true");
        page.click(button);
        page.until("one('#login').checkVisibility()");
        assert_eq!(page.get("text('#login-error')"), "Login required");
    }
    check_page(&page, "control surface without login", 1);
    page.fill("#code", "0000");
    page.click("#join-button");
    page.until("text('#status') === 'Invalid room code'");
    // Without a password, the error explains how to log in.
    let server = Server::start_signaling(&[]);
    let page = open(&browser, &url(&server, "examples/control-surface"), None);
    page.click("#create");
    page.until("text('#host-state').startsWith('Login disabled')");
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn posted_text_reaches_the_listener_and_the_control_channel() {
    let server = Server::start_signaling(&["--token-issuer-key", "issuer"]);
    let browser = Chromium::start();
    let page = open(&browser, &url(&server, "examples/broadcast"), None);
    // The page requests the issuer key only if the server requires it.
    page.click("#token-form button");
    page.until("one('#token-state').className === 'notice'");
    assert_eq!(page.get("[document.activeElement.id, one('#listen').disabled]"), json!(["issuer-key", true]));
    page.fill("#issuer-key", "issuer");
    page.fill("#client-id", MARKUP);
    page.get("one('#control').checked = true");
    page.click("#token-form button");
    page.until("!one('#listen').disabled && one('#token-state').className === 'hint'");
    page.click("#listen");
    page.until("logged('control-welcome') && logged('received welcome')");
    page.fill("#text", MARKUP);
    page.click("#post");
    page.until("words('#chat li').length === 2");
    let lines = page.get("words('#chat li').sort()");
    assert_eq!(strings(&lines), ["control channel play_now for 15 s".to_owned(), format!("server {MARKUP}")]);
    assert_eq!(page.get("text('#post-state')"), "Posted to 1 listener(s).");
    // The log does not show the token.
    assert_eq!(page.get("/[A-Za-z0-9_-]{40}/.test(text('#log'))"), false);
    page.get("all('#log details').at(-1).open = true");
    check_page(&page, "broadcast", 0);
    // A room whose name is script code.
    page.fill("#room", MARKUP);
    page.click("#token-form button");
    page.until("text('#token-state').includes('onerror')");
    page.click("#listen");
    page.until("['received welcome', 'control-welcome'].every(isLoggedTwice)");
    page.click("#post");
    page.until("words('#chat li').length === 3");
    check_page(&page, "broadcast with a hostile name", 0);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn jamjam_pages_create_join_chat_and_leave() {
    let server = Server::start_signaling(&[]);
    let browser = Chromium::start();
    let ann = open(&browser, &url(&server, "examples/jamjam"), None);
    ann.until("one('#status').dataset.state === 'live'");
    for (field, text) in [("#peer-name", "Ann"), ("#room-name", MARKUP), ("#room-password", "pass")] {
        ann.fill(field, text);
    }
    ann.click("#create button");
    ann.until("/^[0-9a-f]{8}$/.test(text('#room-id')) && text('#rooms').includes('you are here')");
    let bob = open(&browser, &url(&server, "examples/jamjam"), None);
    bob.until("words('#rooms .name').length === 1");
    assert_eq!(bob.get("text('#rooms .name')"), MARKUP);
    bob.fill("#peer-name", MARKUP);
    for (password, result) in
        [("wrong", "text('#status') === 'Invalid password'"), ("pass", "words('#participants .name').join() === 'Ann'")]
    {
        bob.fill("#rooms input", password);
        bob.click("#rooms button");
        bob.until(result);
    }
    ann.until("words('#participants .name').length === 1");
    assert_eq!(ann.get("text('#participants .name')"), MARKUP);
    for (from, to, seen) in [(&bob, &ann, MARKUP), (&ann, &bob, "Ann")] {
        from.fill("#text", MARKUP);
        from.click("#send button");
        let start = json!(format!("{seen} <"));
        let line = to.until(&format!("words('#chat li').find((line) => line.startsWith({start}))"));
        assert_eq!(line, format!("{seen} {MARKUP}"));
    }
    check_page(&ann, "jamjam", 0);
    bob.click("#leave");
    ann.until("!all('#participants .name').length && logged('PeerLeft')");
    ann.click("#leave");
    ann.until("one('#no-room').checkVisibility() && one('#no-rooms').checkVisibility()");
    browser.assert_requests_and_no_errors(&url(&server, ""), 6);
}
