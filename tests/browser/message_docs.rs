//! The page that documents the WebSocket messages. It needs no login.

use serde_json::{Value, json};
use test_support::server::process::Server;

use crate::chromium::{Chromium, Page};
use crate::page_checks::{CONTRAST, PAGE_FUNCTIONS, assert_requests_and_no_errors, colors};

fn open(browser: &mut Chromium, server: &Server, width: u32) -> Page {
    let page = browser.page_with_login(&format!("http://{}/docs/messages", server.address), "", "");
    let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
    browser.command(&page, "Emulation.setDeviceMetricsOverride", &size);
    browser.evaluate(&page, PAGE_FUNCTIONS);
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
    let server = Server::start_signaling(&[]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server, 1_280);
    let documented = browser.evaluate(
        &page,
        "fetch(new URL('/docs/asyncapi.json', location.origin)).then((answer) => answer.json()).then(({ channels }) => \
         Object.entries(channels).map(([id, channel]) => [id, Object.keys(channel.messages).length]))",
    );
    let shown = browser.evaluate(
        &page,
        "all('#channels > section').map((one) => [one.id.replace('channel-', ''), one.querySelectorAll('details').length])",
    );
    assert_eq!(documented, shown);
    assert!(shown.as_array().unwrap().len() == 7, "{shown}");
    let mut details = |name: &str| {
        let open = format!(
            "(() => {{ const one = all('#channel-jamjam details').find((one) => one.querySelector('code').textContent === '{name}'); \
             one.open = true; return one.innerText; }})()"
        );
        browser.evaluate(&page, &open).as_str().unwrap().to_owned()
    };
    let room = details("CreateRoom");
    for part in ["CreateRoom client → server", "data.room_name", "string or null", "Password that other clients need"]
    {
        assert!(room.contains(part), "{part}: {room}");
    }
    let peer = details("RoomJoined");
    assert!(peer.contains("data.peers[].candidates[].priority"), "{peer}");
    browser.evaluate(&page, "document.querySelector('#channel-jamjam').scrollIntoView()");
    browser.screenshot(&page, "messages-document.png");
    assert_no_errors(&browser, &server);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn page_fits_narrow_and_wide_windows_with_sufficient_contrast() {
    let server = Server::start_signaling(&[]);
    let mut browser = Chromium::start();
    for width in [390, 1_280] {
        let page = open(&mut browser, &server, width);
        browser.evaluate(&page, "all('details').forEach((one) => { one.open = true; })");
        let wide = "all('body *').filter((one) => !one.closest('.wide') && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))";
        assert_eq!(browser.evaluate(&page, wide), json!([]), "{width}");
        assert_eq!(
            browser.evaluate(&page, "document.documentElement.scrollWidth <= document.documentElement.clientWidth"),
            true
        );
        for scheme in ["light", "dark"] {
            colors(&mut browser, &page, scheme);
            let lowest: Value = browser.evaluate(&page, CONTRAST);
            assert!(lowest[0].as_u64().unwrap() > 300 && lowest[1].as_f64().unwrap() >= 4.5, "{scheme}: {lowest}");
            browser.evaluate(&page, "document.getElementById('channel-webrtc').scrollIntoView()");
            browser.screenshot(&page, &format!("messages-{width}-{scheme}.png"));
        }
        assert_no_errors(&browser, &server);
    }
}
