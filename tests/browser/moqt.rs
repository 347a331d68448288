//! MOQT with a browser's WebTransport, on the demo page of the echo server.

use serde_json::{Value, json};

use crate::chromium::{Chromium, Page};
use crate::page_checks::{CONTRAST, PAGE_FUNCTIONS, assert_requests_and_no_errors, colors, press};
use test_support::server::process::Server;

/// Starts an echo server with the demo page. Returns the server and the URL of the page.
fn start(options: &[&str]) -> (Server, String) {
    let mut all = vec!["--host", "127.0.0.1"];
    for default in [["--moqt", "localhost:0"], ["--demo-page", "0"]] {
        all.extend(default.into_iter().filter(|_| !options.contains(&default[0])));
    }
    let mut server = Server::start(&[&all, options].concat());
    let url = server.line_starting_with("demo_page: listening url=http://").message;
    (server, url.strip_prefix("demo_page: listening url=").unwrap().to_owned())
}

fn open(browser: &mut Chromium, url: &str, width: u32, height: u32) -> Page {
    let page = browser.page_with_login(url, "", "");
    let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
    browser.command(&page, "Emulation.setDeviceMetricsOverride", &size);
    browser.evaluate(&page, PAGE_FUNCTIONS);
    state(browser, &page, "live");
    page
}

/// Waits until the page shows this session state, and returns the error text of the page.
fn state(browser: &mut Chromium, page: &Page, state: &str) -> String {
    let found = browser.evaluate(
        page,
        &format!(
            "until(() => document.querySelector('#link')?.dataset.state === '{state}').then(() => words('#error')[0])"
        ),
    );
    found.as_str().unwrap().to_owned()
}

fn click(browser: &mut Chromium, page: &Page, id: &str) {
    browser.evaluate(page, &format!("document.querySelector('#{id}').click()"));
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn fifty_groups_and_typed_text_return() {
    let (_server, url) = start(&[]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &url, 1_280, 860);
    // The test enters a text and presses Enter, like a user.
    browser.evaluate(&page, "document.querySelector('#text').focus()");
    browser.command(&page, "Input.insertText", &json!({"text": "こんにちは, is this <b>me</b>?"}));
    press(&mut browser, &page, "Enter");
    let row = "until(() => { const cells = words('#messages tbody tr:first-child td'); return cells.length === 4 && cells[3] !== '…' && cells; })";
    let row = browser.evaluate(&page, row);
    assert_eq!(row[0], "1");
    assert_eq!(
        (&row[1], &row[2]),
        (&json!("こんにちは, is this <b>me</b>?"), &json!("こんにちは, is this <b>me</b>?"))
    );
    let round_trip_ms: f64 = row[3].as_str().unwrap().parse().expect("milliseconds");
    assert!(round_trip_ms > 0.0 && round_trip_ms < 3_000.0, "{round_trip_ms}");
    assert_eq!(browser.evaluate(&page, "[all('#messages b').length, document.activeElement.id]"), json!([0, "text"]));
    click(&mut browser, &page, "burst");
    let text = browser
        .evaluate(&page, "until(() => words('#burst-status')[0].includes('returned') && words('#burst-status')[0])");
    assert_eq!(text, "50 of 50 returned");
    let drawn =
        browser.evaluate(&page, "[all('#plot circle').length, all('#plot .lost').length, words('#summary')[0]]");
    assert_eq!((&drawn[0], &drawn[1]), (&json!(51), &json!(0)));
    assert!(drawn[2].as_str().unwrap().ends_with(" ms, of the last 51 groups."), "{drawn}");
    let labels = browser.evaluate(&page, "all('#plot .label').map((label) => label.textContent)");
    assert_eq!(labels, json!(["group", "RTT (ms)"]));
    assert_eq!(browser.evaluate(&page, "crossOriginIsolated"), true, "the page has a clock with a resolution of 5 µs");
    for scheme in ["light", "dark"] {
        colors(&mut browser, &page, scheme);
        browser.screenshot(&page, &format!("moqt-{scheme}.png"));
    }
    assert_requests_and_no_errors(&browser, &url, 2);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn fifty_groups_return_in_each_version() {
    let (server, url) = start(&[]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &url, 1_280, 860);
    let versions = browser.evaluate(&page, "all('#version option').map((option) => option.value)");
    assert_eq!(versions, json!(["gomoqt-2025-02", "moq-lite-04", "moq-lite-03"]));
    for version in ["moq-lite-04", "moq-lite-03", "gomoqt-2025-02"] {
        // The test chooses a version, as a user does. The page then connects again. The page checks which protocol the server selected.
        browser.evaluate(
            &page,
            &format!(
                "document.querySelector('#link').dataset.state = 'choosing'; document.querySelector('#version').value = '{version}'; \
                 document.querySelector('#version').dispatchEvent(new Event('change'))"
            ),
        );
        assert_eq!(state(&mut browser, &page, "live"), "");
        let info = browser.evaluate(&page, "words('#server-info')[0]");
        assert!(info.as_str().unwrap().starts_with(&format!("version {version} over WebTransport")), "{info}");
        browser.evaluate(&page, "document.querySelector('#burst-status').textContent = ''");
        click(&mut browser, &page, "burst");
        let text = browser.evaluate(
            &page,
            "until(() => words('#burst-status')[0].includes('returned') && words('#burst-status')[0])",
        );
        assert_eq!(text, "50 of 50 returned", "{version}");
        browser.screenshot(&page, &format!("moqt-{version}.png"));
    }
    let stopped = server.stop("TERM");
    let stats = stopped.lines.iter().rfind(|line| line.contains("moqt: stats")).unwrap();
    // The page connected in the default version, and then once in each version.
    assert!(stats.ends_with(" sessions=4") && stats.contains(" frames_sent=150 "), "{stats}");
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn errors_are_reported_and_a_restarted_server_is_reconnected() {
    let (mut server, url) = start(&[]);
    let listening = server.lines.iter().find_map(|line| line.split_once("moqt: listening addresses="));
    let port = listening.and_then(|(_, addresses)| addresses.split_once("127.0.0.1:")).expect("an IPv4 address").1;
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let mut browser = Chromium::start();
    let page = open(&mut browser, &url, 1_280, 860);
    let again = |browser: &mut Chromium, before: &str| {
        browser.evaluate(&page, before);
        click(browser, &page, "connect");
    };
    again(&mut browser, "document.querySelector('#path').value = '/nowhere'");
    let words = state(&mut browser, &page, "gone");
    assert_eq!(words, "Unknown path /nowhere (404): the server serves /echo.");
    assert_eq!(browser.evaluate(&page, "all('#send:disabled, #burst:disabled').length"), 2);
    again(&mut browser, "document.querySelector('#path').value = 'echo'");
    state(&mut browser, &page, "live");
    // The browser rejects the certificate if the page expects another hash.
    again(
        &mut browser,
        "globalThis.realFetch = fetch; fetch = async (...all) => { const info = await (await realFetch(...all)).json(); \
        return new Response(JSON.stringify({ ...info, sha256: '00'.repeat(32) })); }",
    );
    let words = state(&mut browser, &page, "gone");
    assert!(
        words.starts_with("Cannot connect: the server is running, but this browser cannot reach it over QUIC."),
        "{words}"
    );
    again(&mut browser, "fetch = realFetch");
    state(&mut browser, &page, "live");
    browser.screenshot(&page, "moqt-live.png");
    assert_eq!(server.stop("TERM").code, Some(0));
    let words = state(&mut browser, &page, "gone");
    assert_eq!(words, "The server does not respond. Restart it, then press “Reconnect”.");
    for scheme in ["light", "dark"] {
        colors(&mut browser, &page, scheme);
        browser.screenshot(&page, &format!("moqt-gone-{scheme}.png"));
    }
    click(&mut browser, &page, "connect");
    state(&mut browser, &page, "gone");
    // The restarted server has a new certificate.
    let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    (server, _) = start(&["--moqt", &format!("localhost:{port}"), "--demo-page", address]);
    click(&mut browser, &page, "connect");
    state(&mut browser, &page, "live");
    again(&mut browser, "delete globalThis.WebTransport");
    let words = state(&mut browser, &page, "gone");
    assert!(words.starts_with("This browser does not support WebTransport."), "{words}");
    drop(server);
}

/// Checks the error text that the page shows for each certificate problem. The problems are: expired, not yet valid, valid for too long, no
/// P-256 key. The certificate of the test server has none of these problems. Therefore, the test passes invented certificate data to the
/// page.
#[test]
#[ignore = "needs Chromium: .ci/full"]
fn certificate_errors_are_reported() {
    let (_server, url) = start(&[]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &url, 1_280, 860);
    // 2026-11-20T12:00:00Z is 1795176000 s after 1970.
    let mut certificate_problem = |is_p256: bool, from_days: i64, until_days: i64| {
        let [from, until] = [from_days, until_days].map(|days| 1_795_176_000_000 + days * 86_400_000);
        let info = json!({"isP256": is_p256, "notBeforeMs": from, "notAfterMs": until});
        browser.evaluate(&page, &format!("certificateProblem({info}, 1795176000000)"))
    };
    assert_eq!(certificate_problem(true, -4, 10), Value::Null);
    let words = |text: Value| text.as_str().unwrap().to_owned();
    assert_eq!(
        words(certificate_problem(true, -11, -1)),
        "The server’s certificate expired on 2026-11-19 12:00 UTC: renew it, or check the clock of this machine."
    );
    assert_eq!(
        words(certificate_problem(true, 1, 3)),
        "The server’s certificate is not valid before 2026-11-21 12:00 UTC: check the clock of this machine."
    );
    assert!(
        words(certificate_problem(true, -1, 14))
            .contains("because the certificate is valid for 15 days, more than the maximum of 14")
    );
    assert!(words(certificate_problem(false, -1, 9)).contains("because the key of the certificate is not ECDSA P-256"));
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_works_by_keyboard_in_a_narrow_window_and_both_themes() {
    let (_server, url) = start(&["--moqt-delay", "20ms"]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &url, 360, 1_200);
    let mut reached = Vec::new();
    for _ in 0..7 {
        press(&mut browser, &page, "Tab");
        let focus = browser.evaluate(&page, "[document.activeElement.id || document.activeElement.className, getComputedStyle(document.activeElement).outlineStyle]");
        let id = focus[0].as_str().unwrap().to_owned();
        if id.is_empty() {
            break;
        }
        assert_eq!(focus[1], "solid", "{focus}");
        match &*id {
            "text" => {
                browser.command(&page, "Input.insertText", &json!({"text": "w".repeat(300)}));
            }
            "send" => {
                press(&mut browser, &page, "Enter");
                browser.evaluate(&page, "until(() => all('#messages td').length)");
            }
            "burst" => press(&mut browser, &page, "Enter"),
            _ => {}
        }
        reached.push(id);
    }
    assert_eq!(reached, ["path", "version", "connect", "text", "send", "wide", "burst"]);
    let text = browser
        .evaluate(&page, "until(() => words('#burst-status')[0].includes('returned') && words('#burst-status')[0])");
    assert_eq!(text, "50 of 50 returned");
    // All frames have returned, and none of them too early.
    let min_rtt = browser.evaluate(&page, "Math.min(...[...groups.values()].map(({ rttMs }) => rttMs))");
    assert!(min_rtt.as_f64().unwrap() >= 19.0, "{min_rtt}");
    let row = browser.evaluate(&page, "words('#messages tbody tr:first-child td')[2]");
    assert_eq!(row, "w".repeat(300));
    browser.evaluate(&page, "setStatus('gone', '✕', 'Not connected', SERVER_GONE)");
    for scheme in ["light", "dark"] {
        colors(&mut browser, &page, scheme);
        let lowest_contrast = browser.evaluate(&page, CONTRAST);
        assert!(
            lowest_contrast[0].as_u64().unwrap() > 25 && lowest_contrast[1].as_f64().unwrap() >= 4.5,
            "{scheme}: {lowest_contrast}"
        );
        let fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        assert_eq!(browser.evaluate(&page, fits), true);
        browser.screenshot(&page, &format!("moqt-narrow-{scheme}.png"));
    }
    assert_requests_and_no_errors(&browser, &url, 2);
}
