//! The pages without a part of their own: start page, HTTP API, messages, and the HTML reports of runs.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::server::{Server, run};

use crate::chromium::{Chromium, Page};

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn public_pages_have_a_readable_layout_and_load_nothing_from_elsewhere() {
    let server = Server::start_signaling(&[]);
    let browser = Chromium::start();
    let own = format!("http://{}/", server.address);
    // The start page also lists the examples.
    let page = browser.open(&format!("{own}examples/"), None);
    page.until("text('#command').startsWith('jamjam-dev probe --to ws://')");
    page.assert_layout("start page", 15);
    assert_eq!(page.get("words('dd code')")[0], format!("ws://{}/", server.address));
    let statuses = "Promise.all(all('.cards a').map((link) => fetch(link.href).then(({ ok }) => ok)))";
    assert_eq!(page.get(statuses), json!([true, true, true, true]));
    page.navigate(&format!("{own}docs/messages"));
    page.until("all('#channels > section').length > 0");
    let documented = page.get(
        "fetch(new URL('/docs/asyncapi.json', location.origin)).then((answer) => answer.json()).then(({ channels }) => \
         Object.entries(channels).map(([id, channel]) => [id, Object.keys(channel.messages).length]))",
    );
    let shown = "all('#channels > section').map((one) => [one.id.replace('channel-', ''), one.querySelectorAll('details').length])";
    assert_eq!((page.get(shown), documented.as_array().unwrap().len()), (documented, 7));
    page.get("all('details').forEach((one) => { one.open = true; })");
    let details = "(name) => all('#channel-jamjam details').find((one) => one.querySelector('code').textContent === name).innerText";
    for (message, parts) in [
        (
            "CreateRoom",
            &["CreateRoom client → server", "data.room_name", "string or null", "Password that other clients need"][..],
        ),
        ("RoomJoined", &["data.peers[].candidates[].priority"]),
    ] {
        let text = page.get(&format!("({details})('{message}')"));
        assert!(parts.iter().all(|part| text.as_str().unwrap().contains(part)), "{text}");
    }
    page.assert_layout("messages", 300);
    browser.assert_requests_and_no_errors(&own, 10);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn start_page_lists_the_enabled_dialects_and_a_moqt_echo() {
    let browser = Chromium::start();
    let server = Server::start_signaling(&["--dialect", "webrtc"]);
    let page = browser.open(&format!("http://{}/", server.address), None);
    // A probe without a room needs the jamjam dialect.
    page.until(&format!("text('#command') === 'curl http://{}/health'", server.address));
    let shown = page.get("[words('dt').join(), words('dd code')[0], words('.cards li:not([hidden]) a').join()]");
    let url = format!("ws://{}/?roomId=…&token=…&userId=…&userName=…", server.address);
    assert_eq!(shown, json!(["webrtc", url, "WebRTC call"]));
    // The document names the listen host of the echo. The browser reaches all addresses at the host of the page.
    let local = ", on the machine of the server only";
    for (listen_host, host, local) in
        [("localhost", "localhost", local), ("0.0.0.0", "127.0.0.1", ""), ("[::]", "127.0.0.1", "")]
    {
        let text = page.get(&format!(
            "import('/static/start.js').then(({{ moqtEntry }}) => moqtEntry('https://{listen_host}:4443/echo')[1].textContent)"
        ));
        assert_eq!(text, format!("MOQT echo over WebTransport (UDP){local} https://{host}:4443/echo"));
    }
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn api_page_sends_requests_and_follows_the_color_scheme() {
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    let browser = Chromium::start();
    let page = browser.open(&format!("http://{}/docs", server.address), Some(["admin", "sesame"]));
    page.until("one('.opblock') !== null");
    assert!(page.get("text('.info .title')").as_str().unwrap().starts_with("jamjam-dev signaling-server"));
    for step in [".opblock-summary-control", ".try-out__btn", ".execute"] {
        page.click(&format!("#operations-monitoring-health {step}"));
    }
    let response = page.until("text('#operations-monitoring-health .live-responses-table .response')");
    let response = response.as_str().unwrap();
    assert!(response.starts_with("200") && response.contains("\"status\": \"ok\""), "{response}");
    for (scheme, background) in [("light", "rgb(250, 250, 250)"), ("dark", "rgb(28, 32, 34)")] {
        page.use_colors(scheme);
        page.until(&format!("getComputedStyle(document.body).backgroundColor === '{background}'"));
    }
    browser.assert_requests_and_no_errors(&format!("http://{}/", server.address), 6);
}

/// Runs with loss in both directions, without loss, without any reply, and with audio.
const RUNS: [(&str, &str); 4] = [
    (
        "bad",
        "probe --embedded --packet audio --delay 20 --duration 3s --interval 5ms --loss 3%,60% --jitter 9ms --seed 3 --loss-direction --profile lan-music",
    ),
    ("good", "probe --embedded --delay 20 --count 200 --interval 5ms --max-loss 50%"),
    ("unanswered", "probe --to 127.0.0.1:1 --count 5 --timeout 100ms"),
    ("send", "send --tone 440 --duration 1s --embedded --delay 20 --loss 5% --seed 1"),
];

/// Writes the report page of a run and opens it.
fn open_report<'a>(browser: &'a Chromium, (name, line): (&str, &str), folder: &Path) -> Page<'a> {
    let file = folder.join(name).with_extension("html");
    let words: Vec<&str> = line.split(' ').chain(["--html", file.to_str().unwrap()]).collect();
    run(&words, |_| {});
    let page = browser.open(&format!("file://{}", file.display()), None);
    page.until("one('footer') !== null");
    page
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn report_pages_are_readable_on_screens_and_on_paper() {
    let folder = TempDir::new().unwrap();
    let browser = Chromium::start();
    for run in RUNS {
        let page = open_report(&browser, run, folder.path());
        page.assert_layout(run.0, 30);
        let outside = "all('.chart text').filter((label) => label.checkVisibility()).filter((label) => { \
                       const [box, card] = [label, label.closest('.chart')].map((one) => one.getBoundingClientRect()); \
                       return box.left < card.left || box.right > card.right; }).map((label) => label.textContent)";
        for width in [390, 1_280] {
            page.resize(width, 4_000);
            assert_eq!(page.get(outside), json!([]), "{} {width}", run.0);
        }
        page.command("Emulation.setEmulatedMedia", &json!({"media": "print"}));
        // The width of A4 paper in CSS pixels, without margins.
        page.resize(718, 1_000);
        let cut_off = "all('.wide').filter((box) => box.checkVisibility() && \
                       (box.scrollWidth > 718 || getComputedStyle(box).overflowX !== 'visible')).length";
        let players = "all('.preview').filter((one) => one.checkVisibility()).length";
        let printed = [cut_off, "tooWide().length", players].map(|count| page.get(count));
        assert_eq!(printed, [0; 3].map(Value::from), "{} printed", run.0);
    }
    browser.assert_requests_and_no_errors(&format!("file://{}", folder.path().display()), 1);
}
