//! The example pages, used as a developer would. Names and texts from other clients contain script code.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};

use crate::chromium::{Chromium, Page};
use crate::page_checks::{CONTRAST, PAGE_FUNCTIONS, assert_requests_and_no_errors, colors, press};
use test_support::server::process::Server;

/// Width and height of a phone and of a desktop.
const SIZES: [(u32, u32); 2] = [(390, 1_600), (1_280, 1_000)];

/// A name that would run a script if a page treated the name as markup.
const MARKUP: &str = "<img src=x onerror=\"globalThis.hit=1\">";

/// JavaScript functions that enter a text and read a text.
const FORM_FUNCTIONS: &str = "
    globalThis.one = (selector) => document.querySelector(selector);
    globalThis.type = (selector, text) => {
        one(selector).value = text;
        one(selector).dispatchEvent(new Event('input', { bubbles: true }));
    };
    globalThis.text = (selector) => one(selector)?.textContent ?? '';
    globalThis.logged = (title) => words('#log summary').some((line) => line.includes(title));
    globalThis.isLoggedTwice = (title) => words('#log summary').filter((line) => line.includes(title)).length === 2;
";

/// Opens a page with recorded requests and errors.
fn open(browser: &mut Chromium, url: &str, (width, height): (u32, u32)) -> Page {
    let page = browser.page("about:blank", "null");
    for domain in ["Network", "Log", "Runtime", "Page"] {
        browser.command(&page, &format!("{domain}.enable"), &json!({}));
    }
    show(browser, &page, url, (width, height));
    page
}

/// Like [`open`], and logs in when the server requires it.
fn open_as_operator(browser: &mut Chromium, url: &str, size: (u32, u32)) -> Page {
    let page = browser.page_with_login("about:blank", "admin", "sesame");
    show(browser, &page, url, size);
    page
}

fn show(browser: &mut Chromium, page: &Page, url: &str, (width, height): (u32, u32)) {
    let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
    browser.command(page, "Emulation.setDeviceMetricsOverride", &size);
    browser.command(page, "Page.navigate", &json!({"url": url}));
    browser.evaluate(page, &format!("{PAGE_FUNCTIONS}{FORM_FUNCTIONS}"));
    browser.evaluate(page, "until(() => document.readyState === 'complete')");
}

fn url(server: &Server, path: &str) -> String {
    format!("http://{}/{path}", server.address)
}

/// Checks a page in both color schemes: text is readable, nothing is wider than the window, and no text became markup.
fn check_page(browser: &mut Chromium, page: &Page, name: &str, images: u32) {
    // Chromium draws only the page in front.
    browser.command(page, "Page.bringToFront", &json!({}));
    for scheme in ["light", "dark"] {
        colors(browser, page, scheme);
        let contrast = browser.evaluate(page, CONTRAST);
        assert!(contrast[1].as_f64().unwrap() >= 4.5, "{name} {scheme}: {contrast}");
        let wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth && \
                    all('*').filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.outerHTML.slice(0, 80))";
        assert_eq!(browser.evaluate(page, wide), false, "{name} {scheme}");
        browser.screenshot(page, &format!("example-{name}-{scheme}.png"));
    }
    let made = "[typeof globalThis.hit, all('img').length, all('main script, main iframe').length]";
    assert_eq!(browser.evaluate(page, made), json!(["undefined", images, 0]), "{name}");
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn index_links_to_pages_that_work() {
    let server = Server::start_signaling(&[]);
    let mut browser = Chromium::start();
    for (width, height) in SIZES {
        let page = open(&mut browser, &url(&server, "examples/"), (width, height));
        check_page(&mut browser, &page, &format!("index-{width}"), 0);
        let links = browser.evaluate(&page, "all('.cards a').map((link) => link.getAttribute('href'))");
        assert_eq!(
            strings(&links),
            ["/examples/jamjam", "/examples/webrtc", "/examples/broadcast", "/examples/control-surface"]
        );
        let statuses = "Promise.all(all('main a').map((link) => fetch(link.href).then(({ ok }) => ok)))";
        let all_found = browser.evaluate(&page, statuses);
        assert!(all_found.as_array().unwrap().iter().all(|ok| *ok == true), "{all_found}");
    }
    assert_requests_and_no_errors(&browser, &url(&server, ""), 8);
}

/// Clicks the join button with the keyboard. Browsers start audio only after the user pressed a key or a mouse button.
fn join_call(browser: &mut Chromium, page: &Page, name: &str) {
    browser.command(page, "Page.bringToFront", &json!({}));
    browser.evaluate(page, &format!("type('#user-name', {}); one('#join-button').focus()", json!(name)));
    press(browser, page, "Enter");
    browser.evaluate(page, "until(() => one('#status').dataset.state === 'live')");
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn two_tabs_call_each_other_with_audio_and_text() {
    let server = Server::start_signaling(&[]);
    let mut browser = Chromium::start();
    for (width, height) in SIZES {
        let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("room", MARKUP).finish();
        let ann = open(&mut browser, &url(&server, &format!("examples/webrtc?{query}")), (width, height));
        join_call(&mut browser, &ann, "Ann");
        let same_room = browser.evaluate(&ann, "one('#second-tab').href");
        let bob = open(&mut browser, same_room.as_str().unwrap(), (width, height));
        assert_eq!(browser.evaluate(&bob, "one('#room').value"), MARKUP);
        join_call(&mut browser, &bob, MARKUP);
        let states = "until(() => words('#peers b').join() === 'connected,connected,stable,open')";
        // The level shows that the tone arrives, and not only packets with silence.
        let audio = "until(() => one('meter').value > 0.01 && Number(text('.bytes')) > 1000)";
        for page in [&ann, &bob] {
            browser.evaluate(page, states);
            browser.evaluate(page, audio);
        }
        assert_eq!(browser.evaluate(&ann, "text('#peers .name')"), MARKUP);
        for (from, to, seen) in [(&bob, &ann, MARKUP), (&ann, &bob, "Ann")] {
            browser.evaluate(from, &format!("type('#text', {}); one('#send button').click()", json!(MARKUP)));
            let line = browser.evaluate(to, "until(() => words('#chat li').at(-1))");
            assert_eq!(line, format!("{seen} {MARKUP}"));
        }
        let types = "['participant-joined', 'offer', 'answer', 'ice-candidate'].filter(logged)";
        assert_eq!(strings(&browser.evaluate(&ann, types)).len(), 4);
        browser.evaluate(&bob, "all('#log details').at(-1).open = true");
        check_page(&mut browser, &bob, &format!("webrtc-{width}"), 0);
        browser.evaluate(&bob, "one('#leave').click()");
        browser.evaluate(&ann, "until(() => one('#no-peers').checkVisibility() && !all('#peers li').length)");
        browser.evaluate(&ann, "one('#leave').click()");
        browser.evaluate(&ann, "until(() => !one('#join-button').disabled)");
    }
    assert_requests_and_no_errors(&browser, &url(&server, ""), 12);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn webrtc_page_requests_a_token_with_the_issuer_key() {
    let server = Server::start_signaling(&["--webrtc-auth", "token", "--token-issuer-key", "issuer"]);
    let mut browser = Chromium::start();
    for (width, height) in SIZES {
        let page = open(&mut browser, &url(&server, "examples/webrtc?room=jam"), (width, height));
        assert_eq!(browser.evaluate(&page, "one('#issuer').checkVisibility()"), false);
        browser.evaluate(&page, "one('#join-button').click(); until(() => one('#issuer').checkVisibility())");
        assert_eq!(browser.evaluate(&page, "document.activeElement.id"), "issuer-key");
        let advice = "This server requires a token. If it has a token issuer key, enter the key and join again.";
        assert_eq!(browser.evaluate(&page, "text('#status')"), advice);
        check_page(&mut browser, &page, &format!("webrtc-token-{width}"), 0);
        browser.evaluate(&page, "type('#issuer-key', 'wrong'); one('#join-button').click()");
        browser.evaluate(&page, "until(() => text('#status') === 'Cannot join: The token issuer key is required')");
        browser.evaluate(&page, "type('#issuer-key', 'issuer'); one('#join-button').click()");
        browser.evaluate(&page, "until(() => one('#status').dataset.state === 'live' && logged('welcome'))");
        // The same room needs no new token, another room does. The user cannot leave during the token request.
        let rejoin = "one('#leave').click(); until(() => !one('#join-button').disabled).then(() => {
            globalThis.before = words('#log summary').length; one('#join-button').click();
            return until(() => one('#status').dataset.state === 'live' && !one('#leave').disabled && words('#log summary').slice(before).some((line) => line.includes('welcome'))); })";
        let requests = "words('#log summary').filter((line) => line.includes('sent POST /auth/token')).length";
        browser.evaluate(&page, rejoin);
        assert_eq!(browser.evaluate(&page, requests), 2);
        let record_buttons = "type('#room', 'other'); globalThis.send = fetch; globalThis.fetch = (...request) => {
            globalThis.buttons = [one('#join-button').disabled, one('#leave').disabled]; return send(...request); }; null";
        browser.evaluate(&page, "one('#leave').click(); until(() => !one('#join-button').disabled)");
        browser.evaluate(&page, record_buttons);
        browser.evaluate(&page, "one('#join-button').click(); until(() => one('#status').dataset.state === 'live' && !one('#leave').disabled)");
        assert_eq!(browser.evaluate(&page, requests), 3);
        assert_eq!(browser.evaluate(&page, "buttons"), json!([true, true]));
        // The log does not show the token, which begins with `{"` in base64.
        assert_eq!(browser.evaluate(&page, "text('#log').includes('eyJ')"), false);
    }
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn phone_and_host_program_exchange_values() {
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    let mut browser = Chromium::start();
    let page_url = url(&server, "examples/control-surface");
    for (width, height) in SIZES {
        let host = open_as_operator(&mut browser, &page_url, (width, height));
        browser.evaluate(&host, "one('#create').click()");
        browser.evaluate(&host, "until(() => words('#controls .name').join() === 'cutoff,pan,volume')");
        browser.evaluate(&host, "until(() => one('#qr').naturalWidth >= 240)");
        let link = browser.evaluate(&host, "one('#phone-link').href");
        let phone = open(&mut browser, link.as_str().unwrap(), (390, 1_600));
        browser.evaluate(&phone, "until(() => words('#controls').join().includes('volume'))");
        // The phone moves a slider and presses the button. The host program and the other control surface see it.
        browser.evaluate(&phone, "type('#controls [aria-label=volume]', 0.25); one('#controls button').click()");
        browser.evaluate(&host, "until(() => words('#values li').join() === 'volume 0.25,tap 1')");
        browser.evaluate(&host, "until(() => one('#controls [aria-label=volume]').value === '0.25')");
        assert_eq!(browser.evaluate(&host, "logged('event trigger tap')"), true);
        // The host program changes values and sends a level.
        browser.evaluate(&host, "one('#defaults').click(); one('#show-level').click()");
        browser.evaluate(&phone, "until(() => one('#controls [aria-label=volume]').value === '0.8')");
        browser.evaluate(&phone, "until(() => one('#level').checkVisibility() && one('#level').value > 0.5)");
        // A parameter whose name is script code.
        let set = format!(
            "fetch('/admin/bbx/param', {{ method: 'POST', headers: {{ 'Content-Type': 'application/json' }}, \
             body: JSON.stringify({{ room: one('#code').value, name: {}, value: 0.5 }}) }}).then(({{ ok }}) => ok)",
            json!(MARKUP)
        );
        assert_eq!(browser.evaluate(&host, &set), true);
        let shows_name = format!("until(() => words('#controls .name').includes({}))", json!(MARKUP));
        browser.evaluate(&phone, &shows_name);
        browser.evaluate(&host, &shows_name);
        check_page(&mut browser, &host, &format!("control-surface-host-{width}"), 1);
        check_page(&mut browser, &phone, &format!("control-surface-phone-{width}"), 1);
        browser.evaluate(&host, "one('#close-room').click()");
        browser.evaluate(
            &phone,
            "until(() => text('#status') === 'The host program closed the room.' && !words('#controls li').length)",
        );
    }
    assert_requests_and_no_errors(&browser, &url(&server, ""), 12);
}

/// Forwards TCP connections from a new port to `server`, like a container or SSH. Returns the address of the port.
fn forward_port(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(upstream)) = (client, TcpStream::connect(server)) else { continue };
            for (mut from, mut to) in [(client.try_clone().unwrap(), upstream.try_clone().unwrap()), (upstream, client)]
            {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_on_a_forwarded_port_names_the_port_of_the_server() {
    let server = Server::start_signaling(&["--host", "0.0.0.0", "--docs-password", "sesame"]);
    let port = server.address.port();
    let forwarded = forward_port(SocketAddr::from(([127, 0, 0, 1], port)));
    let mut browser = Chromium::start();
    for (page_port, is_forwarded) in [(port, false), (forwarded.port(), true)] {
        let page_url = format!("http://127.0.0.1:{page_port}/examples/control-surface");
        let page = open_as_operator(&mut browser, &page_url, SIZES[0]);
        browser.evaluate(&page, "one('#create').click(); until(() => one('#qr').naturalWidth >= 240)");
        // Without a network, there is no address for phones, and no hint about the port.
        let has_address = browser.evaluate(&page, "!one('#only-local').checkVisibility()");
        let is_shown = browser.evaluate(&page, "one('#other-port').checkVisibility()");
        assert_eq!(is_shown, is_forwarded && has_address == true, "{page_port}");
        assert_eq!(browser.evaluate(&page, "text('#server-port')"), port.to_string());
        check_page(&mut browser, &page, &format!("control-surface-port-{page_port}"), 1);
    }
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn control_surface_page_explains_a_missing_login() {
    let server = Server::start_signaling(&["--docs-password", "sesame", "--bbx-room", "4711"]);
    let mut browser = Chromium::start();
    for (width, height) in SIZES {
        let page = open(&mut browser, &url(&server, "examples/control-surface?room=4711"), (width, height));
        // A user would see the browser's own dialog for the login, and close it.
        browser.command(&page, "Fetch.enable", &json!({"handleAuthRequests": true}));
        // The control surface works without a login.
        browser.evaluate(&page, "until(() => text('#status') === 'In room 4711')");
        for button in ["create", "watch"] {
            browser.evaluate(&page, &format!("one('#login').hidden = true; one('#{button}').click()"));
            browser.evaluate(&page, "until(() => one('#login').checkVisibility())");
            assert_eq!(browser.evaluate(&page, "text('#login-error')"), "Login required");
        }
        check_page(&mut browser, &page, &format!("control-surface-login-{width}"), 1);
        browser.evaluate(&page, "type('#code', '0000'); one('#join-button').click()");
        browser.evaluate(&page, "until(() => text('#status') === 'Invalid room code')");
    }
    // Without a password, the error explains how to log in.
    let server = Server::start_signaling(&[]);
    let page = open(&mut browser, &url(&server, "examples/control-surface"), SIZES[0]);
    browser.evaluate(&page, "one('#create').click(); until(() => one('#login').checkVisibility())");
    let error = browser.evaluate(&page, "text('#login-error')");
    assert!(error.as_str().unwrap().starts_with("Login disabled"), "{error}");
    check_page(&mut browser, &page, "control-surface-disabled-390", 1);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn posted_text_reaches_the_listener_and_the_control_channel() {
    let server = Server::start_signaling(&[]);
    let mut browser = Chromium::start();
    for (width, height) in SIZES {
        let page = open(&mut browser, &url(&server, "examples/broadcast"), (width, height));
        let post = format!(
            "(type('#client-id', {0}), one('#control').checked = true, one('#token-form button').click(), \
             until(() => !one('#listen').disabled).then(() => one('#listen').click()))
             .then(() => until(() => logged('control-welcome') && logged('received welcome')))
             .then(() => {{ type('#text', {0}); one('#post').click(); }})",
            json!(MARKUP)
        );
        browser.evaluate(&page, &post);
        browser.evaluate(&page, "until(() => words('#chat li').length === 2)");
        let lines = browser.evaluate(&page, "words('#chat li').sort()");
        let mut expected = ["control channel play_now for 15 s".to_owned(), format!("server {MARKUP}")];
        expected.sort();
        assert_eq!(strings(&lines), expected);
        assert_eq!(browser.evaluate(&page, "text('#post-state')"), "Posted to 1 listener(s).");
        // The log does not show the token.
        assert_eq!(browser.evaluate(&page, "/[A-Za-z0-9_-]{40}/.test(text('#log'))"), false);
        browser.evaluate(&page, "all('#log details').at(-1).open = true");
        check_page(&mut browser, &page, &format!("broadcast-{width}"), 0);
        // A room whose name is script code.
        let other = format!(
            "(type('#room', {}), one('#token-form button').click(), until(() => text('#token-state').includes('onerror')))
             .then(() => {{ one('#listen').click(); return until(() => ['received welcome', 'control-welcome'].every(isLoggedTwice)); }})
             .then(() => {{ one('#post').click(); return until(() => words('#chat li').length === 3); }})",
            json!(MARKUP)
        );
        browser.evaluate(&page, &other);
        check_page(&mut browser, &page, &format!("broadcast-markup-{width}"), 0);
    }
    assert_requests_and_no_errors(&browser, &url(&server, ""), 12);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn broadcast_page_asks_for_the_issuer_key() {
    let server = Server::start_signaling(&["--token-issuer-key", "issuer"]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &url(&server, "examples/broadcast"), SIZES[0]);
    browser
        .evaluate(&page, "one('#token-form button').click(); until(() => one('#token-state').className === 'notice')");
    assert_eq!(
        browser.evaluate(&page, "[document.activeElement.id, one('#listen').disabled]"),
        json!(["issuer-key", true])
    );
    browser.evaluate(
        &page,
        "type('#issuer-key', 'issuer'); one('#token-form button').click(); until(() => !one('#listen').disabled)",
    );
    assert_eq!(browser.evaluate(&page, "one('#token-state').className"), "hint");
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn jamjam_pages_create_join_chat_and_leave() {
    let server = Server::start_signaling(&[]);
    let mut browser = Chromium::start();
    for (width, height) in SIZES {
        let ann = open(&mut browser, &url(&server, "examples/jamjam"), (width, height));
        browser.evaluate(&ann, "until(() => one('#status').dataset.state === 'live')");
        let create = format!(
            "type('#peer-name', 'Ann'); type('#room-name', {}); type('#room-password', 'pass'); one('#create button').click()",
            json!(MARKUP)
        );
        browser.evaluate(&ann, &create);
        browser.evaluate(
            &ann,
            "until(() => /^[0-9a-f]{8}$/.test(text('#room-id')) && text('#rooms').includes('you are here'))",
        );
        let bob = open(&mut browser, &url(&server, "examples/jamjam"), (width, height));
        browser.evaluate(&bob, "until(() => words('#rooms .name').length === 1)");
        assert_eq!(browser.evaluate(&bob, "text('#rooms .name')"), MARKUP);
        browser.evaluate(&bob, &format!("type('#peer-name', {})", json!(MARKUP)));
        let join = "type('#rooms input', 'PASSWORD'); one('#rooms button').click()";
        browser.evaluate(&bob, &join.replace("PASSWORD", "wrong"));
        browser.evaluate(&bob, "until(() => text('#status') === 'Invalid password')");
        browser.evaluate(&bob, &join.replace("PASSWORD", "pass"));
        browser.evaluate(&bob, "until(() => words('#participants .name').join() === 'Ann')");
        browser.evaluate(&ann, "until(() => words('#participants .name').length === 1)");
        assert_eq!(browser.evaluate(&ann, "text('#participants .name')"), MARKUP);
        for (from, to, seen) in [(&bob, &ann, MARKUP), (&ann, &bob, "Ann")] {
            browser.evaluate(from, &format!("type('#text', {}); one('#send button').click()", json!(MARKUP)));
            let line = browser.evaluate(
                to,
                &format!(
                    "until(() => words('#chat li').find((line) => line.startsWith({})))",
                    json!(format!("{seen} <"))
                ),
            );
            assert_eq!(line, format!("{seen} {MARKUP}"));
        }
        check_page(&mut browser, &ann, &format!("jamjam-{width}"), 0);
        browser.evaluate(&bob, "one('#leave').click()");
        browser.evaluate(&ann, "until(() => !all('#participants .name').length && logged('PeerLeft'))");
        browser.evaluate(&ann, "one('#leave').click()");
        browser.evaluate(&ann, "until(() => one('#no-room').checkVisibility() && one('#no-rooms').checkVisibility())");
    }
    assert_requests_and_no_errors(&browser, &url(&server, ""), 12);
}
