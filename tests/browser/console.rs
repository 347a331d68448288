//! The console, used with mouse and keyboard and fed with hostile input.

use std::net::TcpStream;

use jamjam_dev::signaling::Dialect;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::chromium::{Chromium, Page};
use crate::page_checks::{CONTRAST, PAGE_FUNCTIONS, assert_requests_and_no_errors, colors, press};
use test_support::server::process::{Server, run};

const SECRET: [&str; 2] = ["--hmac-secret", "test-secret"];

/// Defines the JavaScript function `note`. The function finds the first visible entry of the activity list that contains a text.
const NOTE: &str =
    "globalThis.note = (text) => all('#notes > li').find((note) => !note.hidden && note.textContent.includes(text));";

/// A client of any dialect.
pub(crate) struct Client(pub(crate) WebSocket<TcpStream>);

impl Client {
    pub(crate) fn at(server: &Server, path: &str) -> Self {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(test_support::server::TEST_TIMEOUT)).unwrap();
        Self(tungstenite::client(format!("ws://{}{path}", server.address), stream).unwrap().0)
    }

    pub(crate) fn send_text(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Value {
        serde_json::from_str(self.0.read().unwrap().to_text().unwrap()).unwrap()
    }

    /// Connects a client that creates a jamjam room with this name.
    pub(crate) fn in_room(server: &Server, room: &str, password: Option<&str>, name: &str) -> (Self, Value) {
        let mut client = Self::at(server, "/");
        client.send_text(
            &json!({"type": "CreateRoom", "data": {"room_name": room, "password": password, "peer_name": name}}),
        );
        let id = client.receive()["data"]["room_id"].clone();
        (client, id)
    }

    fn join(&mut self, room: &Value, password: Option<&str>, name: &str) -> Value {
        self.send_text(
            &json!({"type": "JoinRoom", "data": {"room_id": room, "password": password, "peer_name": name}}),
        );
        self.receive()
    }

    pub(crate) fn chat(&mut self, content: &str) {
        self.send_text(&json!({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": content, "timestamp": 1}}));
    }
}

fn token(client: &str, room: &str) -> String {
    let output =
        run(&[&["signaling-server", "--print-token", &format!("{client}:{room}")], &SECRET[..]].concat(), |_| {});
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn start(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--docs-password", "sesame", "--bbx-room", "4711"], &SECRET[..], options].concat())
}

pub(crate) fn open(browser: &mut Chromium, server: &Server, width: u32, height: u32) -> Page {
    let page = browser.page_with_login(&format!("http://{}/console", server.address), "admin", "sesame");
    let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
    browser.command(&page, "Emulation.setDeviceMetricsOverride", &size);
    browser.evaluate(&page, &format!("{PAGE_FUNCTIONS}{NOTE}"));
    browser.evaluate(&page, "until(() => document.querySelector('#link')?.dataset.state === 'live')");
    page
}

pub(crate) fn server_url(server: &Server) -> String {
    format!("http://{}/", server.address)
}

/// Creates rooms of all dialects, each with members. Returns the clients, and the id of the jamjam room that has the password `hunter2`.
pub(crate) fn rooms_with_members(server: &Server) -> (Vec<Client>, Value) {
    let (mut ann, id) = Client::in_room(server, "Thursday jam", None, "Ann");
    let (cid, locked) = Client::in_room(server, "Secret set", Some("hunter2"), "Cid");
    let mut bob = Client::at(server, "/");
    bob.join(&id, None, "Bob");
    ann.receive();
    let mut room_member = Client::at(server, &format!("/lobby?token={}", token("player-01", "lobby")));
    room_member.receive();
    let mut phone = Client::at(server, "/");
    phone.send_text(&json!({"type": "join", "room_code": "4711"}));
    phone.receive();
    let mut zoe = Client::at(server, "/?roomId=standup&userId=zoe&userName=Zoe");
    zoe.receive();
    (vec![ann, bob, cid, room_member, phone, zoe], locked)
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn console_shows_members_messages_and_rejection_reasons() {
    let server = start(&[]);
    let (mut clients, locked) = rooms_with_members(&server);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 1_280, 900);
    browser.evaluate(&page, "until(() => all('#rooms > li').length === 5)");
    let rooms = "all('#rooms > li').map((room) => [...room.querySelectorAll('summary > .dialect, summary > .name, summary .size, \
                 summary > .lock')].map((part) => part.textContent).join('|'))";
    assert_eq!(
        browser.evaluate(&page, rooms),
        json!([
            "jamjam|Thursday jam||2 members",
            "jamjam|Secret set|needs a password|1 member",
            "broadcast|lobby|needs a token|1 member",
            "bbx|4711||1 member",
            "webrtc|standup||1 member",
        ])
    );
    // A room is opened with the keyboard, and shows its members.
    browser.evaluate(&page, "document.querySelector('#rooms summary').focus()");
    press(&mut browser, &page, "Enter");
    let members =
        browser.evaluate(&page, "until(() => words('#rooms > li:first-child .members > li .name').join() || null)");
    assert_eq!(members, "Ann,Bob");
    // A rejected client is listed with source, action and reason, but without the password.
    let mut dan = Client::at(&server, "/");
    dan.join(&locked, Some("opensesame"), "Dan");
    let seen = browser.evaluate(
        &page,
        "until(() => note('Invalid password')).then((note) => { note.querySelector('summary').click(); \
         return until(() => note.querySelector('.text').textContent).then(() => note.innerText); })",
    );
    let seen = seen.as_str().unwrap();
    assert!(
        seen.contains("✕ rejected") && seen.contains("JoinRoom") && seen.contains("\"password\": \"(redacted)\""),
        "{seen}"
    );
    assert!(seen.contains("\n    \"peer_name\": \"Dan\"\n") && !seen.contains("opensesame"), "{seen}");
    clients[5].send_text(&json!({"type": "offer", "targetUserId": "nobody", "sdp": {}}));
    clients[3].0.send(Message::text("no json")).unwrap();
    clients[0].chat("From the second verse on");
    browser.evaluate(&page, "until(() => note('△ ignored') && note('Invalid JSON payload') && note('ChatMessage'))");
    browser.evaluate(&page, "until(() => /[1-9]/.test(document.querySelector('#counters tbody tr:last-child td:nth-child(5)').textContent))");
    let counts = "[...document.querySelectorAll('#counters tbody tr')].map((row) => [...row.cells].slice(0, 4).map((cell) => \
                  cell.textContent).join(' '))";
    let used = [("jamjam", "4 2 3"), ("broadcast", "1 1 1"), ("bbx", "1 1 1"), ("webrtc", "1 1 1"), ("all", "7 5 6")];
    let rows = Dialect::ALL.into_iter().map(Dialect::name).chain(["undecided", "all"]).map(|name| {
        let counts = used.iter().find(|(dialect, _)| *dialect == name).map_or("0 0 0", |(_, counts)| counts);
        format!("{name} {counts}")
    });
    assert_eq!(browser.evaluate(&page, counts), json!(rows.collect::<Vec<_>>()));
    for scheme in ["light", "dark"] {
        colors(&mut browser, &page, scheme);
        browser.screenshot(&page, &format!("console-{scheme}.png"));
    }
    assert_requests_and_no_errors(&browser, &server_url(&server), 5);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn protected_room_content_is_hidden_until_enabled_and_after_reload() {
    let mut server = start(&[]);
    let (mut clients, _) = rooms_with_members(&server);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 1_280, 900);
    clients[2].chat("nobody else reads this");
    clients[0].chat("everybody reads this");
    let opened = "until(() => note('Cid') && note('Ann')).then(() => { all('#notes details').forEach((one) => { one.open = true; }); \
                  return until(() => words('#notes .text').join(' ').includes('everybody')); })";
    browser.evaluate(&page, opened);
    let text = "document.querySelector('#notes').textContent";
    let seen = browser.evaluate(&page, text);
    let seen = seen.as_str().unwrap();
    assert!(!seen.contains("nobody else") && seen.contains("Hidden: the room needs a password"), "{seen}");
    browser.evaluate(&page, "document.querySelector('#content').click()");
    let shown = "until(() => { all('#notes details').forEach((one) => { one.open = true; }); return \
                 document.querySelector('#notes').textContent.includes('nobody else reads this'); })";
    assert_eq!(browser.evaluate(&page, shown), true);
    let line = server.line_starting_with("console: responses include content of protected rooms to=127.0.0.1");
    assert_eq!(line.level, "INFO");
    browser.evaluate(&page, "document.querySelector('#content').click()");
    browser.evaluate(
        &page,
        "until(() => note('content hidden') && !document.querySelector('#notes').textContent.includes('nobody else'))",
    );
    browser.evaluate(&page, "document.querySelector('#content').click()");
    browser.evaluate(&page, shown);
    let url = format!("http://{}/console", server.address);
    browser.command(&page, "Page.navigate", &json!({"url": url}));
    browser.evaluate(&page, &format!("{PAGE_FUNCTIONS}{NOTE}"));
    browser.evaluate(&page, "until(() => note('content hidden'))");
    let seen = "[document.querySelector('#content').checked, document.body.textContent.includes('nobody else')]";
    assert_eq!(browser.evaluate(&page, seen), json!([false, false]));
    assert_requests_and_no_errors(&browser, &server_url(&server), 5);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn every_control_is_reachable_by_keyboard_with_visible_focus() {
    let server = start(&[]);
    let (mut clients, _) = rooms_with_members(&server);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 1_280, 900);
    clients[0].chat("hello");
    browser.evaluate(&page, "until(() => note('ChatMessage'))");
    press(&mut browser, &page, "p");
    browser.evaluate(&page, "document.activeElement.blur()");
    let mut reached = Vec::new();
    for _ in 0..60 {
        press(&mut browser, &page, "Tab");
        let focus = "(() => { const one = document.activeElement; return [one.id || one.className || (one.closest('[id]')?.id ?? '') + ' ' + \
                     one.tagName, getComputedStyle(one).outlineStyle]; })()";
        let focus = browser.evaluate(&page, focus);
        if focus[0] == "" || focus[0].as_str().is_some_and(|id| id.ends_with("BODY")) {
            break;
        }
        assert_eq!(focus[1], "solid", "{focus}");
        reached.push(focus[0].as_str().unwrap().to_owned());
    }
    reached.dedup();
    let mut expected = vec!["skip", "pages A", "find", "dialect", "wide", "order"];
    expected.extend(["rooms SUMMARY", "only", "end"].repeat(5));
    expected.extend(["pause", "kinds", "pings", "content", "notes SUMMARY"]);
    assert_eq!(reached, expected);
    // While the console is paused, messages are only counted. The messages are shown when the console resumes.
    clients[1].chat("while it is paused");
    browser.evaluate(&page, "until(() => document.querySelector('#pause').textContent.includes('Resume (1 new)'))");
    assert_eq!(browser.evaluate(&page, "note('Bob') === undefined"), true);
    press(&mut browser, &page, "p");
    browser.evaluate(&page, "until(() => note('Bob'))");
    // Searching for the name of a member finds rooms and messages. The Escape key shows all rooms and messages again.
    press(&mut browser, &page, "/");
    assert_eq!(browser.evaluate(&page, "document.activeElement.id"), "find");
    browser.command(&page, "Input.insertText", &json!({"text": "bOB"}));
    browser.evaluate(&page, "until(() => all('#rooms > li').length === 1)");
    let found = "[words('#rooms .members .name'), words('#notes > li:not([hidden]) .who'), document.querySelector('#spoken').textContent]";
    browser.evaluate(&page, "until(() => document.querySelector('#spoken').textContent.startsWith('Found'))");
    assert_eq!(browser.evaluate(&page, found), json!([["Bob"], ["Bob"], "Found: 1 room, 2 members."]));
    // A letter in a text field does not trigger the shortcut of the same letter.
    press(&mut browser, &page, "p");
    assert_eq!(browser.evaluate(&page, "document.querySelector('#pause').getAttribute('aria-pressed')"), "false");
    press(&mut browser, &page, "Escape");
    browser.evaluate(&page, "until(() => all('#rooms > li').length === 5)");
    browser.command(&page, "Input.insertText", &json!({"text": "nowhere"}));
    browser.evaluate(&page, "until(() => !document.querySelector('#rooms-empty').hidden)");
    assert_requests_and_no_errors(&browser, &server_url(&server), 5);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn untrusted_names_and_messages_are_escaped() {
    let server = start(&[]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 360, 800);
    let markup = "<img src=x onerror=\"globalThis.hit=1\"><script>globalThis.hit=1</script>";
    let before = browser.evaluate(&page, "[...new Set(all('*').map((one) => one.tagName))].sort()");
    let (mut mallory, _) =
        Client::in_room(&server, markup, None, &format!("{markup}\u{202e}\u{2066}gpj.exe\u{7}\u{200b}"));
    mallory.chat(&format!("{markup}\u{202e}{}", "w".repeat(500)));
    let _zoe =
        Client::at(&server, "/?roomId=%3Cimg%20src%3Dx%20onerror%3Dhit()%3E&userId=%E2%80%AEu&userName=%3Cb%3En");
    let mut big = Client::at(&server, &format!("/lobby?token={}", token("<b>player", "lobby")));
    big.receive();
    big.send_text(&json!({"type": markup, "content": markup.repeat(14_000)}));
    let mut deep = Client::at(&server, "/?roomId=r&userId=u&userName=n");
    deep.send_text(&json!({"type": "ping", "x": "\u{202e}".repeat(600)}));
    deep.0.send(Message::text("[".repeat(5_000))).unwrap();
    browser.evaluate(&page, "document.querySelector('#content').click(); document.querySelector('#pings').click()");
    browser.evaluate(&page, "until(() => note('ChatMessage') && note('ping') && note('not a JSON object'))");
    browser.evaluate(&page, "all('details').forEach((one) => { one.open = true; })");
    browser.evaluate(
        &page,
        "until(() => all('#notes pre:not([hidden])').every((one) => one.textContent) && all('#rooms .members .name').length > 3)",
    );
    let after = browser.evaluate(&page, "[...new Set(all('*').map((one) => one.tagName))].sort()");
    let made: Vec<&Value> =
        after.as_array().unwrap().iter().filter(|tag| !before.as_array().unwrap().contains(tag)).collect();
    // The page itself creates these elements for a message. No element comes from a client.
    assert_eq!(made, ["CODE", "PRE", "TIME"]);
    assert_eq!(
        browser.evaluate(&page, "[typeof globalThis.hit, all('script').length, all('img').length]"),
        json!(["undefined", 1, 0])
    );
    let text = browser.evaluate(&page, "document.body.textContent");
    let text = text.as_str().unwrap();
    assert!(text.contains("onerror=") && text.contains("⟨U+202E⟩") && text.contains("⟨U+0007⟩"), "{text}");
    let is_invisible = |letter: &char| {
        jamjam_dev::sanitize::sanitize_char(*letter) != *letter && !"\n\t".contains(*letter) || *letter == '\u{200b}'
    };
    assert_eq!(text.chars().find(is_invisible), None);
    // The page is not wider than the window.
    assert_eq!(
        browser.evaluate(&page, "document.documentElement.scrollWidth <= document.documentElement.clientWidth"),
        true
    );
    browser.screenshot(&page, "console-hostile.png");
    assert_requests_and_no_errors(&browser, &server_url(&server), 5);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn text_contrast_is_sufficient_in_both_themes_and_narrow_windows() {
    let server = start(&[]);
    let (mut clients, _) = rooms_with_members(&server);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 360, 800);
    clients[5].send_text(&json!({"type": "offer", "targetUserId": "nobody", "sdp": {}}));
    clients[3].0.send(Message::text("no json")).unwrap();
    browser.evaluate(&page, "until(() => note('△ ignored') && note('✕ rejected'))");
    browser.evaluate(&page, "all('details').forEach((one) => { one.open = true; })");
    for scheme in ["light", "dark"] {
        colors(&mut browser, &page, scheme);
        let lowest_contrast = browser.evaluate(&page, CONTRAST);
        assert!(
            lowest_contrast[0].as_u64().unwrap() > 80 && lowest_contrast[1].as_f64().unwrap() >= 4.5,
            "{scheme}: {lowest_contrast}"
        );
        assert_eq!(
            browser.evaluate(&page, "document.documentElement.scrollWidth <= document.documentElement.clientWidth"),
            true
        );
        browser.screenshot(&page, &format!("console-narrow-{scheme}.png"));
    }
    assert_requests_and_no_errors(&browser, &server_url(&server), 5);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_size_stays_bounded_under_load() {
    let server = start(&["--rate-limit-messages", "off"]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 1_280, 900);
    browser.evaluate(&page, "document.querySelector('#pings').click()");
    let mut client = Client::at(&server, "/?roomId=r&userId=u&userName=n");
    for burst in 1..=5 {
        for _ in 0..300 {
            client.send_text(&json!({"type": "ping", "burst": burst}));
            while client.receive()["type"] != "pong" {}
        }
        let total = format!(
            "document.querySelector('#counters tbody tr:last-child td:nth-child(6)').textContent.replace(/,/g, '') === '{}'",
            burst * 300
        );
        browser.evaluate(&page, &format!("until(() => {total})"));
    }
    // The console keeps at most 500 accepted messages. All other entries, such as connections and gaps, share a separate maximum.
    let notes = browser.evaluate(
        &page,
        "[notes.filter(isOrdinary).length, all('#notes > li').length - notes.length, notes.length < 510, words('#notes .gap').length > 0]",
    );
    assert_eq!(notes, json!([500, 0, true, true]));
    assert_requests_and_no_errors(&browser, &server_url(&server), 5);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_survives_a_server_restart_and_reports_a_lost_login() {
    let server = start(&[]);
    let port = server.address.port().to_string();
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 1_280, 900);
    let _ann = Client::in_room(&server, "before", None, "Ann");
    browser.evaluate(&page, "until(() => words('#rooms summary .name').includes('before'))");
    assert_requests_and_no_errors(&browser, &server_url(&server), 5);
    assert_eq!(server.stop("TERM").code, Some(0));
    let words = browser.evaluate(
        &page,
        "until(() => document.querySelector('#link').dataset.state === 'gone' && words('#link-words')[0])",
    );
    assert!(words.as_str().unwrap().starts_with("The server does not respond. Trying again"), "{words}");
    assert_eq!(browser.evaluate(&page, "document.querySelector('#retry').checkVisibility()"), true);
    let server = start(&["--port", &port]);
    let _bob = Client::in_room(&server, "after", None, "Bob");
    browser.evaluate(&page, "until(() => document.querySelector('#link').dataset.state === 'live')");
    browser.evaluate(
        &page,
        "until(() => note('The server was restarted.') && words('#rooms summary .name').join() === 'after,4711')",
    );
    browser.evaluate(&page, "globalThis.fetch = async () => new Response('{}', { status: 401 })");
    let words = browser.evaluate(
        &page,
        "until(() => document.querySelector('#link').dataset.state === 'gone' && words('#link-words')[0])",
    );
    assert_eq!(words, "The login is no longer valid. Reload the page to log in again.");
}
