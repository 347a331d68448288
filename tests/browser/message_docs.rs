//! The page that documents the WebSocket messages and sends them.

use serde_json::{Value, json};
use test_support::server::process::Server;

use crate::chromium::{Chromium, Page};
use crate::page_checks::{CONTRAST, PAGE_FUNCTIONS, assert_requests_and_no_errors, colors, press};

/// JavaScript functions: `choose` selects a channel and an example, `set` fills in a parameter, and `entry` waits for an entry of the list.
const FORM: &str = "
    globalThis.pick = (id, value) => {
        document.getElementById(id).value = value;
        document.getElementById(id).dispatchEvent(new Event('change'));
    };
    globalThis.choose = (channel, example) => {
        pick('channel', channel);
        const option = [...document.getElementById('example').options].find((one) => one.text === example);
        pick('example', option.value);
    };
    globalThis.set = (name, value) => {
        const input = document.querySelector(`#parameters [name=\"${name}\"]`);
        input.value = value;
        input.dispatchEvent(new Event('input'));
    };
    globalThis.click = (id) => document.getElementById(id).click();
    globalThis.state = () => document.getElementById('state').dataset.state;
    globalThis.entry = (kind, text) => until(() => all(`#log > li[data-kind=${kind}]`).find((one) => one.textContent.includes(text)));
    globalThis.exchange = async (channel, example, reply) => {
        choose(channel, example);
        click('connect');
        await until(() => state() === 'open');
        click('send-button');
        const received = await entry('received', reply);
        return [received.querySelector('time').textContent, received.querySelector('pre').textContent];
    };
";

fn start(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--docs-password", "sesame"], options].concat())
}

fn open(browser: &mut Chromium, server: &Server, width: u32) -> Page {
    let page = browser.page_with_login(&format!("http://{}/docs/messages", server.address), "admin", "sesame");
    let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
    browser.command(&page, "Emulation.setDeviceMetricsOverride", &size);
    browser.evaluate(&page, &format!("{PAGE_FUNCTIONS}{FORM}"));
    browser.evaluate(&page, "until(() => all('#channels > section').length > 0)");
    page
}

/// Checks that there were no errors, and that all requests went to the server.
fn assert_no_errors(browser: &Chromium, server: &Server) {
    assert_requests_and_no_errors(browser, &format!("http://{}/", server.address), 4);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_shows_every_message_of_the_document() {
    let server = start(&[]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 1_280);
    let documented = browser.evaluate(
        &page,
        "fetch(new URL('/docs/asyncapi.json', location.origin)).then((answer) => answer.json()).then(({ channels }) => \
         Object.entries(channels).map(([id, channel]) => [id, Object.keys(channel.messages).length]))",
    );
    let shown = browser.evaluate(
        &page,
        "all('#channels > section').map((one) => [one.dataset.channel, one.querySelectorAll('details').length])",
    );
    assert_eq!(documented, shown);
    assert!(shown.as_array().unwrap().len() == 7, "{shown}");
    let room = "(() => { const one = document.querySelector('[data-channel=jamjam] [data-message=CreateRoom]'); one.open = true; \
                return one.innerText; })()";
    let room = browser.evaluate(&page, room);
    let room = room.as_str().unwrap();
    for part in ["CreateRoom client → server", "data.room_name", "string or null", "Password that other clients need"]
    {
        assert!(room.contains(part), "{part}: {room}");
    }
    let peer = "(() => { const one = document.querySelector('[data-channel=jamjam] [data-message=RoomJoined]'); one.open = true; \
                return one.innerText; })()";
    let peer = browser.evaluate(&page, peer);
    assert!(peer.as_str().unwrap().contains("data.peers[].candidates[].priority"), "{peer}");
    browser.evaluate(&page, "document.querySelector('#channel-jamjam').scrollIntoView()");
    browser.screenshot(&page, "messages-document.png");
    assert_no_errors(&browser, &server);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn examples_of_every_dialect_are_sent_and_their_replies_shown() {
    let server = start(&["--hmac-secret", "test-secret"]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 1_280);
    for (channel, example, reply) in [
        ("jamjam", "ListRooms", "{\"type\":\"RoomList\",\"data\":{\"rooms\":[]}}"),
        ("bbx", "ping", "\"type\":\"pong\",\"client_time\":1795186940769000"),
        ("webrtc", "ping", "{\"type\":\"pong\"}"),
    ] {
        let call = format!("exchange('{channel}', '{example}', '{reply}')");
        let seen = browser.evaluate(&page, &call);
        assert!(seen[0].as_str().is_some_and(|time| time.len() == 12), "{seen}");
        browser.screenshot(&page, &format!("messages-{channel}.png"));
    }
    // A broadcast room needs a token. Without one, the page shows the close code and its meaning.
    browser.evaluate(&page, "choose('broadcast', 'keepalive')");
    browser.evaluate(&page, "click('connect')");
    browser.evaluate(&page, "until(() => state() === 'closed')");
    let state = browser.evaluate(&page, "words('#state')[0]");
    assert_eq!(
        state,
        "Closed with 4001: Authentication required: Neither the URL nor the header `Authorization` contains a token."
    );
    browser.evaluate(&page, "click('create-token')");
    browser.evaluate(&page, "until(() => document.querySelector('#parameters [name=token]').value.includes('.'))");
    browser.evaluate(&page, "click('connect')");
    browser.evaluate(&page, "until(() => state() === 'open')");
    browser.evaluate(&page, "click('send-button')");
    browser.evaluate(&page, "entry('received', '{\"type\":\"ack\",\"ackType\":\"keepalive\"').then(() => null)");
    browser.evaluate(&page, "entry('received', '\"type\":\"welcome\"').then(() => null)");
    browser.screenshot(&page, "messages-broadcast.png");
    // An edited text is sent as it is. The server answers that it is not JSON.
    browser
        .evaluate(&page, "(() => { document.getElementById('message').value = 'no json'; click('send-button'); })()");
    browser.evaluate(&page, "entry('received', 'Invalid JSON payload').then(() => null)");
    browser.evaluate(&page, "click('disconnect')");
    assert_eq!(
        browser.evaluate(&page, "[words('#state')[0], document.getElementById('send-button').disabled]"),
        json!(["Not connected", true])
    );
    assert_no_errors(&browser, &server);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn token_of_a_protected_webrtc_room_is_created_with_the_issuer_key() {
    let server = start(&["--webrtc-auth", "token", "--token-issuer-key", "issuer"]);
    let mut browser = Chromium::start();
    for width in [390, 1_280] {
        let page = open(&mut browser, &server, width);
        browser.evaluate(&page, "choose('webrtc', 'ping'); set('roomId', 'jam'); set('userId', 'bob')");
        browser.evaluate(
            &page,
            "click('create-token'); entry('state', 'The token issuer key is required').then(() => null)",
        );
        browser.evaluate(&page, "document.getElementById('issuer-key').value = 'issuer'; click('create-token')");
        browser.evaluate(&page, "until(() => document.querySelector('#parameters [name=token]').value.includes('.'))");
        browser.evaluate(&page, "click('connect'); entry('received', '\"type\":\"welcome\"').then(() => null)");
        browser.screenshot(&page, &format!("messages-webrtc-token-{width}.png"));
        browser.evaluate(&page, "choose('jamjam', 'ListRooms')");
        assert_eq!(browser.evaluate(&page, "document.getElementById('issuer').checkVisibility()"), false);
    }
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn markup_from_other_clients_becomes_text_and_the_list_is_bounded() {
    let server = start(&["--rate-limit-messages", "off"]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 390);
    let elements = "[...new Set(all('*').map((one) => one.tagName))].sort()";
    browser.evaluate(&page, "exchange('webrtc', 'ping', 'pong').then(() => null)");
    let before = browser.evaluate(&page, elements);
    let markup = "<img src=x onerror='globalThis.hit=1'><script>globalThis.hit=1</script>\\u202e\\u0007";
    browser.evaluate(&page, "click('disconnect')");
    browser.evaluate(&page, &format!("set('userName', \"{markup}\"); click('connect')"));
    browser.evaluate(&page, "entry('received', 'onerror').then(() => null)");
    let text = browser.evaluate(&page, "document.getElementById('log').textContent");
    assert!(text.as_str().unwrap().contains("⟨U+202E⟩"), "{text}");
    assert_eq!(browser.evaluate(&page, elements), before);
    assert_eq!(
        browser.evaluate(&page, "[typeof globalThis.hit, all('script').length, all('img').length]"),
        json!(["undefined", 1, 0])
    );
    browser.evaluate(&page, "(() => { for (let turn = 0; turn < 300; turn += 1) click('send-button'); })()");
    browser.evaluate(
        &page,
        "until(() => /[0-9]+ older entries removed/.test(document.getElementById('removed').textContent))",
    );
    browser.evaluate(&page, "until(() => all('#log > li[data-kind=received]').length >= 190)");
    assert_eq!(browser.evaluate(&page, "all('#log > li').length"), 200);
    let long = "document.getElementById('message').value = JSON.stringify({ type: 'ping', text: 'w'.repeat(100000) }); click('send-button')";
    browser.evaluate(&page, long);
    let longest = browser.evaluate(&page, "Math.max(...all('#log pre').map((one) => one.textContent.length))");
    assert!(longest.as_u64().unwrap() < 4_200, "{longest}");
    assert_eq!(
        browser.evaluate(&page, "document.documentElement.scrollWidth <= document.documentElement.clientWidth"),
        true
    );
    assert_no_errors(&browser, &server);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_fits_narrow_and_wide_windows_with_sufficient_contrast() {
    let server = start(&[]);
    let mut browser = Chromium::start();
    for width in [390, 1_280] {
        let page = open(&mut browser, &server, width);
        browser.evaluate(&page, "exchange('jamjam', 'ListRooms', 'RoomList').then(() => null)");
        browser.evaluate(&page, "all('details').forEach((one) => { one.open = true; })");
        let wide = "all('body *').filter((one) => !one.closest('.wide') && one.getBoundingClientRect().right > innerWidth + 1 \
                    && !one.matches('.skip')).map((one) => one.outerHTML.slice(0, 80))";
        assert_eq!(browser.evaluate(&page, wide), json!([]), "{width}");
        assert_eq!(
            browser.evaluate(&page, "document.documentElement.scrollWidth <= document.documentElement.clientWidth"),
            true
        );
        for scheme in ["light", "dark"] {
            colors(&mut browser, &page, scheme);
            let lowest: Value = browser.evaluate(&page, CONTRAST);
            assert!(lowest[0].as_u64().unwrap() > 300 && lowest[1].as_f64().unwrap() >= 4.5, "{scheme}: {lowest}");
            for place in ["send-heading", "channel-webrtc"] {
                browser.evaluate(&page, &format!("document.getElementById('{place}').scrollIntoView()"));
                browser.screenshot(&page, &format!("messages-{width}-{scheme}-{place}.png"));
            }
        }
        assert_no_errors(&browser, &server);
    }
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn form_is_usable_by_keyboard_with_visible_focus() {
    let server = start(&[]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 1_280);
    browser.evaluate(&page, "document.getElementById('connect').focus()");
    press(&mut browser, &page, "Enter");
    browser.evaluate(&page, "until(() => state() === 'open')");
    let mut reached = Vec::new();
    for _ in 0..4 {
        press(&mut browser, &page, "Tab");
        let focus = browser
            .evaluate(&page, "[document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]");
        assert_eq!(focus[1], "solid", "{focus}");
        reached.push(focus[0].as_str().unwrap().to_owned());
    }
    assert_eq!(reached, ["disconnect", "example", "message", "send-button"]);
    assert_no_errors(&browser, &server);
}
