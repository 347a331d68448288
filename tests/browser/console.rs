//! The console, used with mouse and keyboard and fed with hostile input.

use jamjam_dev::signaling::Dialect;
use serde_json::{Value, json};
use test_support::server::{Member, Server, run};

use crate::chromium::{Chromium, Page};

const SECRET: [&str; 2] = ["--hmac-secret", "test-secret"];

/// JavaScript functions. `note` is the first visible entry of the activity list that contains a text.
const FUNCTIONS: &str = "
    globalThis.note = (text) => all('#notes > li').find((note) => !note.hidden && note.textContent.includes(text));
    globalThis.room = (name) => all('#rooms > li').find((one) => one.querySelector('.name').textContent === name);
    globalThis.roomNames = () => words('#rooms summary .name').join();
    globalThis.shownNotes = () => all('#notes > li').filter((one) => !one.hidden);
    globalThis.member = (name) => all('.members > li').find((one) => one.querySelector('.name')?.textContent === name);
    globalThis.isLink = (state) => one('#link')?.dataset.state === state;
    null";

/// Shows pings, too.
const SHOW_EVERYTHING: &str = "one('#kinds').value = 'all'; one('#kinds').dispatchEvent(new Event('change'))";

fn create_room(server: &Server, room: &str, password: Option<&str>, name: &str) -> (Member, Value) {
    let mut member = Member::connect(server.address);
    member.send("CreateRoom", &json!({"room_name": room, "password": password, "peer_name": name}));
    let id = member.receive_type("RoomCreated")["room_id"].take();
    (member, id)
}

fn token(client: &str, room: &str) -> String {
    let claims = format!("{client}:{room}");
    let arguments = [&["token", &claims], &SECRET[..]].concat();
    run(&arguments, |_| {}).stdout.trim().to_owned()
}

fn start(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--docs-password", "sesame", "--bbx-room", "4711"], &SECRET[..], options].concat())
}

/// Opens the console of a server, and at the end checks its requests and that it has reported no errors.
fn check_console(server: &Server, check: impl FnOnce(&Page<'_>)) {
    let browser = Chromium::start();
    let page = browser.open(&format!("http://{}/console", server.address), Some(["admin", "sesame"]));
    page.get(FUNCTIONS);
    page.until("isLink('live')");
    check(&page);
    browser.assert_requests_and_no_errors(&format!("http://{}/", server.address), 5);
}

/// Like [`check_console`], with rooms of all dialects, the members of these rooms, and the id of the jamjam room with the password `hunter2`.
fn check_rooms(check: impl FnOnce(&Page<'_>, &Server, Vec<Member>, Value)) {
    let server = start(&[]);
    let (mut ann, id) = create_room(&server, "Thursday jam", None, "Ann");
    let (cid, locked) = create_room(&server, "Secret set", Some("hunter2"), "Cid");
    let mut bob = Member::connect(server.address);
    bob.send("JoinRoom", &json!({"room_id": id, "password": null, "peer_name": "Bob"}));
    bob.receive_type("RoomJoined");
    ann.receive_type("PeerJoined");
    let player = Member::connect_to(server.address, &format!("/lobby?token={}", token("player-01", "lobby")));
    let mut phone = Member::connect(server.address);
    phone.send_text(r#"{"type": "join", "room_code": "4711"}"#);
    let zoe = Member::connect_to(server.address, "/?roomId=standup&userId=zoe&userName=Zoe");
    let mut members = vec![ann, bob, cid, player, phone, zoe];
    members[3..].iter_mut().for_each(|member| drop(member.receive()));
    check_console(&server, |page| check(page, &server, members, locked));
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn console_shows_rooms_members_messages_and_rejection_reasons() {
    check_rooms(|page, server, mut members, locked| {
        page.until("all('#rooms > li').length === 5");
        let rooms = "all('#rooms > li').map((room) => [...room.querySelectorAll('summary > .dialect, summary > .name, \
                     summary .size, summary > .lock')].map((part) => part.textContent).join('|'))";
        let expected = [
            "jamjam|Thursday jam||2 members",
            "jamjam|Secret set|needs a password|1 member",
            "broadcast|lobby|needs a token|1 member",
            "bbx|4711||1 member",
            "webrtc|standup||1 member",
        ];
        assert_eq!(page.get(rooms), json!(expected));
        page.get("one('#rooms summary').focus()");
        page.press("Enter");
        page.until("words('#rooms > li:first-child .members > li .name').join() === 'Ann,Bob'");
        // A rejected client is listed with source, action and reason, but without the password.
        let mut dan = Member::connect(server.address);
        dan.send("JoinRoom", &json!({"room_id": locked, "password": "opensesame", "peer_name": "Dan"}));
        page.get("until(() => note('Invalid password')).then((note) => note.querySelector('summary').click())");
        page.until("note('Invalid password').querySelector('.text').textContent");
        let seen = page.get("note('Invalid password').innerText");
        let seen = seen.as_str().unwrap();
        for part in ["✕ rejected", "JoinRoom", "\"password\": \"(redacted)\"", "\n    \"peer_name\": \"Dan\"\n"] {
            assert!(seen.contains(part) && !seen.contains("opensesame"), "{part}: {seen}");
        }
        members[5].send_text(r#"{"type": "offer", "targetUserId": "nobody", "sdp": {}}"#);
        members[3].send_text("no json");
        members[0].chat("From the second verse on");
        page.until("note('△ ignored') && note('Invalid JSON payload') && note('ChatMessage')");
        // The legend contains every mark of the list.
        let marks = "all('#notes .mark, #notes .outcome').map((one) => one.textContent[0])";
        let unexplained = format!("{marks}.filter((mark) => mark && !text('#legend').includes(mark))");
        assert_eq!(page.get(&unexplained), json!([]));
        page.until("/[1-9]/.test(text('#counters tbody tr:last-child td:nth-child(5)'))");
        let counts = "all('#counters tbody tr').map((row) => [...row.cells].slice(0, 4).map((cell) => cell.textContent).join(' '))";
        let used =
            [("jamjam", "4 2 3"), ("broadcast", "1 1 1"), ("bbx", "1 1 1"), ("webrtc", "1 1 1"), ("all", "7 5 6")];
        let names = ["undecided"].into_iter().chain(Dialect::ALL.map(Dialect::name)).chain(["all"]);
        let rows = names.map(|name| {
            let counts = used.iter().find(|(dialect, _)| *dialect == name).map_or("0 0 0", |(_, counts)| counts);
            format!("{name} {counts}")
        });
        assert_eq!(page.get(counts), json!(rows.collect::<Vec<_>>()));
        page.get("all('details').forEach((one) => { one.open = true; })");
        page.assert_layout("console", 80);
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn protected_room_content_is_hidden_until_enabled_and_after_reload() {
    check_rooms(|page, server, mut members, _| {
        members[2].chat("nobody else reads this");
        members[0].chat("everybody reads this");
        page.until("note('Cid') && note('Ann')");
        let open_and_find = |found: &str| {
            let open = "all('#notes details').forEach((one) => { one.open = true; })";
            page.get(&format!("until(() => {{ {open}; return text('#notes').includes('{found}'); }})"));
        };
        open_and_find("everybody reads");
        let seen = page.get("text('#notes')");
        let seen = seen.as_str().unwrap();
        assert!(!seen.contains("nobody else") && seen.contains("Hidden: the room needs a password"), "{seen}");
        page.click("#content");
        open_and_find("nobody else reads this");
        page.click("#content");
        page.until("note('content hidden') && !text('#notes').includes('nobody else')");
        page.click("#content");
        open_and_find("nobody else reads this");
        page.navigate(&format!("http://{}/console", server.address));
        page.get(FUNCTIONS);
        page.until("note('content hidden')");
        assert_eq!(page.get("[one('#content').checked, text('body').includes('nobody else')]"), json!([false, false]));
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn every_control_is_reachable_by_keyboard_with_visible_focus() {
    check_rooms(|page, _, mut members, _| {
        members[0].chat("hello");
        page.until("note('ChatMessage')");
        page.press("p");
        page.get("document.activeElement.blur()");
        let mut reached = Vec::new();
        for _ in 0..60 {
            page.press("Tab");
            let focus = page.get(
                "(() => { const { id, className, tagName } = document.activeElement;
                const parent = document.activeElement.closest('[id]')?.id ?? '';
                const { outlineStyle } = getComputedStyle(document.activeElement);
                return [id || className || `${parent} ${tagName}`, outlineStyle]; })()",
            );
            let name = focus[0].as_str().unwrap();
            if name.is_empty() || name.ends_with("BODY") {
                break;
            }
            assert_eq!(focus[1], "solid", "{focus}");
            reached.push(name.to_owned());
        }
        reached.dedup();
        let mut expected = vec!["skip", "pages A", "find", "wide"];
        expected.extend(["rooms SUMMARY", "only", "end"].repeat(5));
        expected.extend(["pause", "kinds", "content", "notes SUMMARY"]);
        assert_eq!(reached, expected);
        // While the console is paused, messages are only counted. They are shown when the console resumes.
        members[1].chat("while it is paused");
        page.until("text('#pause').includes('Resume (1 new)')");
        assert_eq!(page.get("note('Bob') === undefined"), true);
        page.press("p");
        page.until("note('Bob')");
        // Searching for the name of a member finds rooms and messages. The Escape key shows all rooms and messages again.
        page.press("/");
        assert_eq!(page.get("document.activeElement.id"), "find");
        page.command("Input.insertText", &json!({"text": "bOB"}));
        page.until("all('#rooms > li').length === 1 && text('#spoken').startsWith('Found')");
        let found = "[words('#rooms .members .name'), words('#notes > li:not([hidden]) .who'), text('#spoken')]";
        assert_eq!(page.get(found), json!([["Bob"], ["Bob"], "Found: 1 room, 2 members."]));
        // A letter in a text field does not trigger the shortcut of the same letter.
        page.press("p");
        assert_eq!(page.get("one('#pause').getAttribute('aria-pressed')"), "false");
        page.press("Escape");
        page.until("all('#rooms > li').length === 5");
        page.command("Input.insertText", &json!({"text": "nowhere"}));
        page.until("!one('#rooms-empty').hidden");
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn untrusted_names_and_messages_are_escaped() {
    let server = start(&[]);
    check_console(&server, |page| {
        let markup = "<img src=x onerror=\"globalThis.hit=1\"><script>globalThis.hit=1</script>";
        let tags = "[...new Set(all('*').map((one) => one.tagName))].sort()";
        let before = page.get(tags);
        let (mut mallory, _) =
            create_room(&server, markup, None, &format!("{markup}\u{202e}\u{2066}gpj.exe\u{7}\u{200b}"));
        mallory.chat(&format!("{markup}\u{202e}{}", "w".repeat(500)));
        let path = "/?roomId=%3Cimg%20src%3Dx%20onerror%3Dhit()%3E&userId=%E2%80%AEu&userName=%3Cb%3En";
        let _zoe = Member::connect_to(server.address, path);
        let mut big = Member::connect_to(server.address, &format!("/lobby?token={}", token("<b>player", "lobby")));
        big.receive();
        big.send_text(&json!({"type": markup, "content": markup.repeat(14_000)}).to_string());
        let mut deep = Member::connect_to(server.address, "/?roomId=r&userId=u&userName=n");
        deep.send_text(&json!({"type": "ping", "x": "\u{202e}".repeat(600)}).to_string());
        deep.send_text(&"[".repeat(5_000));
        page.click("#content");
        page.get(SHOW_EVERYTHING);
        page.until("note('ChatMessage') && note('ping') && note('not a JSON object')");
        page.get("all('details').forEach((one) => { one.open = true; })");
        page.until("all('#notes pre:not([hidden])').every((one) => one.textContent)");
        page.until("all('#rooms .members .name').length > 3");
        let after = page.get(tags);
        let is_new = |tag: &&Value| !before.as_array().unwrap().contains(tag);
        let made: Vec<&Value> = after.as_array().unwrap().iter().filter(is_new).collect();
        // The page itself creates these elements for a message. No element comes from a client.
        assert_eq!(made, ["PRE", "TIME"]);
        let counts = "[typeof globalThis.hit, all('script').length, all('img').length]";
        assert_eq!(page.get(counts), json!(["undefined", 1, 0]));
        let text = page.get("text('body')");
        let text = text.as_str().unwrap();
        // The server replaces these characters in names, and the page spells out those that remain, such as in messages.
        let parts = ["onerror=", "\u{fffd}\u{fffd}gpj.exe\u{fffd}⟨U+200B⟩", "⟨U+202E⟩"];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        let is_invisible = |letter: &char| {
            let is_replaced = jamjam_dev::sanitize::sanitize_char(*letter) != *letter;
            is_replaced && !"\n\t".contains(*letter) || *letter == '\u{200b}'
        };
        assert_eq!(text.chars().find(is_invisible), None);
        page.assert_layout("hostile names", 1);
        // An operator can close the room. The dialog shows the name as text, without invisible characters.
        let found = "all('#rooms > li').find((one) => one.querySelector('.name').textContent.includes('onerror='))";
        page.get(&format!("{found}.querySelector('.tools .end').click()"));
        let dialog = page.get("text('#confirm-text')");
        let dialog = dialog.as_str().unwrap();
        assert!(dialog.contains("onerror") && !dialog.contains('\u{202e}'), "{dialog}");
        page.click("#confirm-do");
        page.until("!one('#confirm').open && note('closed')");
        assert_eq!(server.metric("rooms_closed_by_operator_total"), 1);
        assert_eq!(page.get(counts), json!(["undefined", 1, 0]));
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_size_stays_bounded_under_load() {
    let server = start(&["--rate-limit-messages", "off"]);
    check_console(&server, |page| {
        page.get(SHOW_EVERYTHING);
        let mut client = Member::connect_to(server.address, "/?roomId=r&userId=u&userName=n");
        for burst in 1..=5 {
            for _ in 0..300 {
                client.send("ping", &Value::Null);
                while client.receive()["type"] != "pong" {}
            }
            let total = "text('#counters tbody tr:last-child td:nth-child(5)').replace(/,/g, '')";
            page.until(&format!("{total} === '{}'", burst * 300));
        }
        // The console keeps at most 500 accepted messages. All other entries, such as connections and gaps, share a separate maximum.
        let notes = "[words('#notes .kind').filter((kind) => kind === 'ping').length, all('#notes > li').length < 510, \
                     words('#notes .gap').length > 0]";
        assert_eq!(page.get(notes), json!([500, true, true]));
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_survives_a_server_restart_and_reports_a_lost_login() {
    let server = start(&[]);
    let port = server.address.port().to_string();
    let browser = Chromium::start();
    let (_ann, _) = create_room(&server, "before", None, "Ann");
    let url = format!("http://{}/console", server.address);
    let page = browser.open(&url, Some(["admin", "sesame"]));
    page.get(FUNCTIONS);
    page.until("roomNames().includes('before')");
    assert_eq!(server.stop("TERM").code, Some(0));
    let link = page.until("isLink('gone') && text('#link')");
    assert_eq!(link, "The server does not respond. Trying again in 3 s.");
    let server = start(&["--port", &port]);
    let (_bob, _) = create_room(&server, "after", None, "Bob");
    page.until("isLink('live') && note('The server was restarted.') && roomNames() === 'after,4711'");
    page.get("globalThis.fetch = async () => new Response('{}', { status: 401 }); null");
    let link = page.until("isLink('gone') && text('#link')");
    assert_eq!(link, "The login is no longer valid. Reload the page to log in again.");
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn one_room_or_one_member_can_be_shown_exclusively() {
    check_rooms(|page, _, mut members, _| {
        let is_all = "all('#rooms > li').length === 5 && one('#find').value === ''";
        members[0].chat("from Ann");
        members[1].chat("from Bob, #0");
        members[3].send_text(r#"{"type": "post", "data": {}}"#);
        page.until(&format!("{is_all} && note('Ann') && note('Bob') && note('post')"));
        page.get("room('Thursday jam').querySelector('.only').click()");
        page.until("roomNames() === 'Thursday jam' && words('#rooms .members .name').join() === 'Ann,Bob'");
        let rooms = "[...new Set(shownNotes().map((one) => one.querySelector('.room').textContent))].join()";
        assert_eq!(page.get(rooms), "Thursday jam");
        // Messages of other rooms that arrive later stay hidden.
        members[3].send_text(r#"{"type": "later", "data": {}}"#);
        page.until("all('#notes > li').some((one) => one.hidden && one.textContent.includes('later'))");
        page.press("Escape");
        page.until(&format!("{is_all} && note('later')"));
        page.get("room('Thursday jam').querySelector('details').open = true");
        page.until("member('Bob')");
        let number = page.get("member('Bob').querySelector('.number').textContent");
        page.get("member('Bob').querySelector('.number').click()");
        page.until("roomNames() === 'Thursday jam' && words('#rooms .members .name').join() === 'Bob'");
        let numbers = "[...new Set(shownNotes().map((one) => one.querySelector('.number').textContent))].join()";
        assert_eq!(page.get(numbers), number);
        assert_eq!(page.get("one('#find').value"), number);
        page.press("Escape");
        // The buttons of an opened message select its member and its room.
        page.until(&format!("{is_all} && note('Ann')"));
        page.get("note('Ann').querySelector('details').open = true");
        page.get("note('Ann').querySelector('.only-member').click()");
        page.until("one('#find').value === '#0' && note('Ann') && !note('Bob')");
        page.get("note('Ann').querySelector('.only-room').click()");
        page.until("roomNames() === 'Thursday jam' && note('Bob')");
        page.press("Escape");
        page.until(is_all);
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn pings_are_hidden_unless_everything_is_shown() {
    check_rooms(|page, _, mut members, _| {
        members[5].send_text(r#"{"type": "ping"}"#);
        members[4].send_text(r#"{"type": "ping", "client_time": 1}"#);
        members[3].send_text(r#"{"type": "KeepAlive"}"#);
        // An ignored ping is a problem, so it is shown.
        members[4].send_text(r#"{"type": "ping", "client_time": "x"}"#);
        members[0].chat("hello");
        let kinds = "shownNotes().map((one) => one.querySelector('.kind').textContent)\
                     .filter((kind) => /ping|keepalive/i.test(kind)).sort().join()";
        page.until("note('ChatMessage') && all('#notes > li').length >= 5");
        assert_eq!(page.get(kinds), "ping");
        assert_eq!(page.get("note('ping').classList.contains('ignored')"), true);
        page.get(SHOW_EVERYTHING);
        assert_eq!(page.get(kinds), "KeepAlive,ping,ping,ping");
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn impaired_and_severed_members_are_listed_and_restored() {
    let server = start(&["--relay-media"]);
    let (_ann, id) = create_room(&server, "jam", None, "Ann");
    let mut bob = Member::connect(server.address);
    bob.send("JoinRoom", &json!({"room_id": id, "password": null, "peer_name": "Bob"}));
    bob.receive_type("RoomJoined");
    check_console(&server, |page| {
        assert_eq!(page.get("one('#links').checkVisibility()"), false);
        for change in
            [json!({"from": "Ann", "to": "*", "loss": 100, "delay": "30ms"}), json!({"from": "<b>", "signaling": true})]
        {
            page.get(&format!(
                "fetch('/admin/links', {{ method: 'POST', headers: {{ 'Content-Type': 'application/json' }}, \
                 body: JSON.stringify({change}) }}).then(({{ ok }}) => ok)"
            ));
        }
        page.until("all('#links li').length === 2");
        let listed = json!(["Ann → *: delay 30ms, loss 100 (1 member)", "<b>: severed from the server"]);
        assert_eq!(page.get("all('#links bdi').map((one) => one.textContent)"), listed);
        page.assert_layout("links", 1);
        page.click("#links button");
        page.until("all('#links li').length === 1");
        page.click("#links button");
        page.until("!one('#links').checkVisibility()");
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn operator_disconnects_a_member_after_confirmation() {
    check_rooms(|page, server, mut members, _| {
        page.until("all('#rooms > li').length === 5");
        page.get("room('Thursday jam').querySelector('details').open = true");
        page.until("member('Bob')");
        let ask = "member('Bob').querySelector('.end').click()";
        page.get(ask);
        let dialog =
            page.get("[one('#confirm').open, document.activeElement.id, ...words('#confirm h2, #confirm-text')]");
        assert_eq!((&dialog[0], &dialog[1]), (&json!(true), &json!("confirm-cancel")), "{dialog}");
        assert!(dialog[2].as_str().unwrap().starts_with("Disconnect #"), "{dialog}");
        assert!(dialog[3].as_str().unwrap().starts_with("Bob, "), "{dialog}");
        page.assert_layout("confirmation", 1);
        // Neither Cancel nor Esc disconnects a client.
        page.click("#confirm-cancel");
        page.get(ask);
        page.press("Escape");
        page.until("!one('#confirm').open");
        assert_eq!(server.metric("closed_by_operator_total"), 0);
        page.get(ask);
        page.click("#confirm-do");
        page.until("!one('#confirm').open && !member('Bob') && member('Ann')");
        page.until("note('closed with 1008: Disconnected by the operator')");
        members[0].receive_type("PeerLeft");
        assert_eq!(server.metric("closed_by_operator_total"), 1);
        // A member that left in the meantime and a lost server are errors in the dialog.
        let gone = "async (url, { body }) => (globalThis.sent ??= body, new Response('{\"error\":\"No open connection\"}', { status: 404 }))";
        let offline = "() => Promise.reject(new TypeError('offline'))";
        for (fetch, error) in [(gone, "No open connection"), (offline, "The server does not respond. Try again.")] {
            page.get(&format!("globalThis.fetch = {fetch}; null"));
            page.get("member('Ann').querySelector('.end').click()");
            page.click("#confirm-do");
            assert_eq!(page.until("!one('#confirm-error').hidden && words('#confirm-error')[0]"), error);
            page.click("#confirm-cancel");
        }
        assert_eq!(page.get("JSON.parse(sent).runId.length"), 16);
    });
}
