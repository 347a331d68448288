//! The controls of the console: one room, one member, pings, legend, lines, links, and the operations with their confirmation. Each test runs
//! in a narrow and in a wide window.

use serde_json::json;

use super::console::{Client, open, rooms_with_members, server_url, start};
use crate::chromium::{Chromium, Page};
use crate::page_checks::{CONTRAST, assert_requests_and_no_errors, colors, press};
use test_support::server::process::Server;

const WIDTHS: [u32; 2] = [390, 1_280];

const CONTROLS: &str = "
    globalThis.room = (name) => all('#rooms > li').find((one) => one.querySelector('.name').textContent === name);
    globalThis.roomNames = () => words('#rooms summary .name').join();
    globalThis.shownNotes = () => all('#notes > li').filter((one) => !one.hidden);
    globalThis.member = (name) => all('.members > li').find((one) => one.querySelector('.name')?.textContent === name);
    globalThis.fits = () => document.documentElement.scrollWidth <= document.documentElement.clientWidth;
";

/// Opens the console in a window of each width, and runs the check.
fn in_both_widths(check: impl Fn(&mut Chromium, &Page, &Server, u32)) {
    let mut browser = Chromium::start();
    for width in WIDTHS {
        let server = start(&[]);
        let page = open(&mut browser, &server, width, 900);
        browser.evaluate(&page, CONTROLS);
        check(&mut browser, &page, &server, width);
        assert_eq!(browser.evaluate(&page, "fits()"), true, "{width}");
        assert_requests_and_no_errors(&browser, &server_url(&server), 5);
        // The console would request its state from the stopped server.
        browser.command(&page, "Page.navigate", &json!({"url": "about:blank"}));
    }
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn one_room_can_be_shown_exclusively_and_all_rooms_again() {
    in_both_widths(|browser, page, server, width| {
        let (mut clients, _) = rooms_with_members(server);
        clients[0].chat("in the jam");
        clients[3].send_text(&json!({"type": "post", "data": {}}));
        browser.evaluate(page, "until(() => all('#rooms > li').length === 5 && note('ChatMessage') && note('post'))");
        let click = "room('Thursday jam').querySelector('.only').click()";
        browser.evaluate(page, click);
        browser.evaluate(page, "until(() => roomNames() === 'Thursday jam')");
        browser.evaluate(page, "until(() => words('#rooms .members .name').join() === 'Ann,Bob')");
        assert_eq!(browser.evaluate(page, "words('#scope')"), json!(["Only room Thursday jam Show all"]), "{width}");
        let rooms = "[...new Set(shownNotes().map((one) => one.querySelector('.room').textContent))].join()";
        assert_eq!(browser.evaluate(page, rooms), "Thursday jam");
        assert_eq!(
            browser.evaluate(page, "room('Thursday jam').querySelector('.only').getAttribute('aria-pressed')"),
            "true"
        );
        // Messages of other rooms that arrive later stay hidden.
        clients[3].send_text(&json!({"type": "later", "data": {}}));
        browser.evaluate(
            page,
            "until(() => all('#notes > li').some((one) => one.hidden && one.textContent.includes('later')))",
        );
        for scheme in ["light", "dark"] {
            colors(browser, page, scheme);
            browser.screenshot(page, &format!("console-room-{width}-{scheme}.png"));
        }
        browser.evaluate(page, "document.querySelector('#scope-clear').click()");
        browser.evaluate(page, "until(() => all('#rooms > li').length === 5 && note('later'))");
        assert_eq!(
            browser.evaluate(page, "[document.querySelector('#scope').hidden, document.activeElement.id]"),
            json!([true, "find"])
        );
        // A second click on the same button also shows all rooms. So does the key Esc.
        browser.evaluate(page, click);
        browser.evaluate(page, "until(() => all('#rooms > li').length === 1)");
        browser.evaluate(page, click);
        browser.evaluate(page, "until(() => all('#rooms > li').length === 5)");
        browser.evaluate(page, click);
        browser.evaluate(page, "until(() => all('#rooms > li').length === 1)");
        press(browser, page, "Escape");
        browser.evaluate(page, "until(() => all('#rooms > li').length === 5)");
        // The room stays selected when it is closed.
        browser.evaluate(page, "room('standup').querySelector('.only').click()");
        browser.evaluate(page, "until(() => all('#rooms > li').length === 1)");
        clients.truncate(5);
        browser
            .evaluate(page, "until(() => words('#rooms-empty').join() === 'This room is closed or not in the list.')");
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn messages_of_one_member_can_be_shown_exclusively() {
    in_both_widths(|browser, page, server, width| {
        let (mut clients, _) = rooms_with_members(server);
        clients[0].chat("from Ann");
        clients[1].chat("from Bob, #0");
        browser.evaluate(page, "until(() => all('#rooms > li').length === 5 && note('Bob') && note('Ann'))");
        browser.evaluate(page, "room('Thursday jam').querySelector('details').open = true");
        browser.evaluate(page, "until(() => member('Bob'))");
        let number = browser.evaluate(page, "member('Bob').querySelector('.number').textContent");
        browser.evaluate(page, "member('Bob').querySelector('.number').click()");
        browser.evaluate(
            page,
            "until(() => roomNames() === 'Thursday jam' && words('#rooms .members .name').join() === 'Bob')",
        );
        let numbers = "[...new Set(shownNotes().map((one) => one.querySelector('.number').textContent))].join()";
        assert_eq!(browser.evaluate(page, numbers), number, "{width}");
        let scope = format!("Only {} Bob Show all", number.as_str().unwrap());
        assert_eq!(browser.evaluate(page, "words('#scope')"), json!([scope]));
        browser.screenshot(page, &format!("console-member-{width}.png"));
        press(browser, page, "Escape");
        browser.evaluate(page, "until(() => all('#rooms > li').length === 5 && note('Ann'))");
        // The buttons of an opened message select its member and its room.
        browser.evaluate(page, "note('Ann').querySelector('details').open = true");
        browser.evaluate(page, "until(() => note('Ann').querySelector('.only-member').textContent === 'Only #0')");
        browser.evaluate(page, "note('Ann').querySelector('.only-member').click()");
        browser.evaluate(page, "until(() => words('#scope')[0] === 'Only #0 Ann Show all' && !note('Bob'))");
        browser.evaluate(page, "note('Ann').querySelector('.only-room').click()");
        browser.evaluate(page, "until(() => words('#scope')[0] === 'Only room Thursday jam Show all' && note('Bob'))");
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn pings_are_hidden_until_the_checkbox_shows_them() {
    in_both_widths(|browser, page, server, width| {
        let (mut clients, _) = rooms_with_members(server);
        clients[5].send_text(&json!({"type": "ping"}));
        clients[4].send_text(&json!({"type": "ping", "client_time": 1}));
        clients[3].send_text(&json!({"type": "KeepAlive"}));
        // An ignored ping is a problem, so it is shown.
        clients[4].send_text(&json!({"type": "ping", "client_time": "x"}));
        clients[0].chat("hello");
        browser.evaluate(page, "until(() => note('ChatMessage') && words('#pings-count').join() === '3 hidden')");
        let kinds = "shownNotes().map((one) => one.querySelector('.kind').textContent).filter((kind) => /ping|keepalive/i.test(kind)).sort().join()";
        assert_eq!(browser.evaluate(page, kinds), "ping", "{width}");
        assert_eq!(browser.evaluate(page, "note('ping').classList.contains('ignored')"), true);
        browser.evaluate(page, "document.querySelector('#pings').click()");
        assert_eq!(browser.evaluate(page, kinds), "KeepAlive,ping,ping,ping");
        assert_eq!(browser.evaluate(page, "document.querySelector('#pings-count').textContent"), "");
        browser.evaluate(page, "document.querySelector('#pings').click()");
        assert_eq!(browser.evaluate(page, kinds), "ping");
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn operator_disconnects_a_member_after_confirmation() {
    in_both_widths(|browser, page, server, width| {
        let (mut clients, _) = rooms_with_members(server);
        browser.evaluate(page, "until(() => all('#rooms > li').length === 5)");
        browser.evaluate(page, "room('Thursday jam').querySelector('details').open = true");
        browser.evaluate(page, "until(() => member('Bob'))");
        browser.evaluate(page, "member('Bob').querySelector('.end').click()");
        let dialog = "[document.querySelector('#confirm').open, document.activeElement.id, ...words('#confirm h2, #confirm-text')]";
        let shown = browser.evaluate(page, dialog);
        assert_eq!((&shown[0], &shown[1]), (&json!(true), &json!("confirm-cancel")), "{width}: {shown}");
        assert!(
            shown[2].as_str().unwrap().starts_with("Disconnect #") && shown[3].as_str().unwrap().starts_with("Bob, "),
            "{shown}"
        );
        for scheme in ["light", "dark"] {
            colors(browser, page, scheme);
            let lowest_contrast = browser.evaluate(page, CONTRAST);
            assert!(lowest_contrast[1].as_f64().unwrap() >= 4.5, "{width} {scheme}: {lowest_contrast}");
            browser.screenshot(page, &format!("console-confirm-{width}-{scheme}.png"));
        }
        // Neither Cancel nor Esc disconnects a client. Esc in the dialog does not clear the filter.
        browser.evaluate(page, "document.querySelector('#confirm-cancel').click()");
        browser.evaluate(page, "member('Bob').querySelector('.end').click()");
        press(browser, page, "Escape");
        browser.evaluate(page, "until(() => !document.querySelector('#confirm').open)");
        assert_eq!(server.metric("closed_by_operator_total"), 0);
        browser.evaluate(page, "member('Bob').querySelector('.end').click()");
        browser.evaluate(page, "document.querySelector('#confirm-do').click()");
        browser
            .evaluate(page, "until(() => !document.querySelector('#confirm').open && !member('Bob') && member('Ann'))");
        browser.evaluate(page, "until(() => note('closed with 1008: Disconnected by the operator'))");
        assert_eq!(clients[0].receive()["type"], "PeerLeft");
        assert_eq!(server.metric("closed_by_operator_total"), 1);
        // A member that left in the meantime is an error in the dialog.
        let gone = "globalThis.fetch = async (url, { body }) => (globalThis.sent ??= body, new Response('{\"error\":\"No open connection\"}', { status: 404 }))";
        browser.evaluate(page, gone);
        browser.evaluate(page, "confirmDisconnect({ connection: 2, name: 'Bob', id: null, address: '127.0.0.1' })");
        browser.evaluate(page, "document.querySelector('#confirm-do').click()");
        let error = "until(() => !document.querySelector('#confirm-error').hidden && words('#confirm-error')[0])";
        assert_eq!(browser.evaluate(page, error), "No open connection");
        assert_eq!(browser.evaluate(page, "JSON.parse(sent).runId === runId && runId.length"), 16);
        browser.evaluate(page, "document.querySelector('#confirm-cancel').click()");
        browser.evaluate(page, "globalThis.fetch = () => Promise.reject(new TypeError('offline'))");
        browser.evaluate(page, "confirmDisconnect({ connection: 2, name: 'Bob', id: null, address: '127.0.0.1' })");
        browser.evaluate(page, "document.querySelector('#confirm-do').click()");
        assert_eq!(browser.evaluate(page, error), "The server does not respond. Try again.");
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn operator_closes_a_room_with_script_code_as_its_name() {
    in_both_widths(|browser, page, server, width| {
        let markup = "<img src=x onerror=\"globalThis.hit=1\">\u{202e}";
        let (_mallory, _) = Client::in_room(server, markup, None, markup);
        let path = "/?roomId=%3Cscript%3EglobalThis.hit=1%3C/script%3E&userId=%3Cb%3Eu&userName=%3Cimg%20src=x%20onerror=hit()%3E";
        let mut zoe = Client::at(server, path);
        zoe.receive();
        browser.evaluate(page, "until(() => all('#rooms > li').length === 3)");
        for (index, gone) in [(0, "onerror"), (1, "script")] {
            let found =
                format!("all('#rooms > li').find((one) => one.querySelector('.name').textContent.includes('{gone}'))");
            browser.evaluate(page, &format!("{found}.querySelector('.only').click()"));
            browser.evaluate(
                page,
                &format!("until(() => all('#rooms > li').length === 1 && words('#scope')[0].includes('{gone}'))"),
            );
            browser.evaluate(page, &format!("{found}.querySelector('.tools .end').click()"));
            let text = browser.evaluate(page, "document.querySelector('#confirm-text').textContent");
            assert!(
                text.as_str().unwrap().contains(gone) && !text.as_str().unwrap().contains('\u{202e}'),
                "{width}: {text}"
            );
            browser.screenshot(page, &format!("console-close-{width}-{index}.png"));
            assert_eq!(browser.evaluate(page, "fits()"), true);
            browser.evaluate(page, "document.querySelector('#confirm-do').click()");
            browser.evaluate(
                page,
                "until(() => !document.querySelector('#confirm').open && all('#rooms > li').length === 0)",
            );
            press(browser, page, "Escape");
            browser.evaluate(page, &format!("until(() => all('#rooms > li').length === {})", 2 - index));
        }
        assert_eq!(server.metric("rooms_closed_by_operator_total"), 2);
        assert_eq!(
            browser.evaluate(page, "[typeof globalThis.hit, all('img').length, all('script').length]"),
            json!(["undefined", 0, 1])
        );
    });
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn legend_explains_the_marks_and_links_lead_to_the_other_pages() {
    in_both_widths(|browser, page, server, width| {
        let (mut clients, _) = rooms_with_members(server);
        clients[5].send_text(&json!({"type": "offer", "targetUserId": "nobody", "sdp": {}}));
        clients[3].0.send(tungstenite::Message::text("no json")).unwrap();
        clients[0].chat("hello");
        drop(clients.remove(1));
        browser.evaluate(
            page,
            "until(() => note('△ ignored') && note('✕ rejected') && note('ChatMessage') && note('connection closed'))",
        );
        // The legend contains every mark of the list.
        let unexplained = "(() => {
            const legend = document.querySelector('#legend').textContent;
            return all('#notes .mark, #notes .outcome').map((one) => one.textContent[0]).filter((mark) => mark && !legend.includes(mark));
        })()";
        assert_eq!(browser.evaluate(page, unexplained), json!([]), "{width}");
        let marks = "[note('ChatMessage'), note('connection closed'), note('△ ignored')].map((one) => one.querySelector('.mark').textContent).join('')";
        assert_eq!(browser.evaluate(page, marks), "→−→");
        let links = "all('#pages a').map((one) => one.getAttribute('href'))";
        assert_eq!(browser.evaluate(page, links), json!(["/", "/docs", "/docs/messages", "/examples/"]));
        let footer = browser.evaluate(page, "document.querySelector('footer').textContent");
        assert!(!footer.as_str().unwrap().contains("read-only"), "{footer}");
        for scheme in ["light", "dark"] {
            colors(browser, page, scheme);
            browser.screenshot(page, &format!("console-legend-{width}-{scheme}.png"));
        }
    });
}
