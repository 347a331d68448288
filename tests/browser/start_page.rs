//! The start page and the login link in a browser.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tempfile::TempDir;

use crate::chromium::{Chromium, Page};
use crate::page_checks::{CONTRAST, PAGE_FUNCTIONS, assert_requests_and_no_errors, colors};
use test_support::server::poll_until;
use test_support::server::process::Server;

/// Starts a server without a password. Returns also its login link.
fn start() -> (Server, String, TempDir) {
    let runtime = tempfile::tempdir().unwrap();
    fs::set_permissions(runtime.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut server = Server::start_signaling_as(&["--host", "127.0.0.1", "--port", "0"], |command| {
        command.env("XDG_RUNTIME_DIR", runtime.path());
    });
    let line = server.line_starting_with("http: login link written").message;
    let link = fs::read_to_string(line.rsplit_once("file=").unwrap().1).unwrap().trim().to_owned();
    (server, link, runtime)
}

fn open(browser: &mut Chromium, url: &str, width: u32) -> Page {
    let page = browser.page_with_login(url, "", "");
    let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
    browser.command(&page, "Emulation.setDeviceMetricsOverride", &size);
    browser.evaluate(&page, PAGE_FUNCTIONS);
    // The width depends on the style sheet.
    browser.evaluate(&page, "until(() => document.readyState === 'complete')");
    page
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn start_page_fits_both_widths_and_is_readable_in_both_colors() {
    let (server, _, _runtime) = start();
    let mut browser = Chromium::start();
    let own = format!("http://{}/", server.address);
    for width in [390, 1_280] {
        let page = open(&mut browser, &own, width);
        for scheme in ["light", "dark"] {
            colors(&mut browser, &page, scheme);
            let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.evaluate(&page, overflow), 0, "{width} {scheme}");
            let contrast = browser.evaluate(&page, CONTRAST);
            assert!(contrast[0].as_u64().unwrap() > 15 && contrast[1].as_f64().unwrap() >= 4.5, "{contrast}");
            browser.screenshot(&page, &format!("start-{width}-{scheme}.png"));
        }
        let urls = browser.evaluate(&page, "words('dd code')");
        assert_eq!(urls[0], format!("ws://{}/", server.address));
        assert_requests_and_no_errors(&browser, &own, 2);
    }
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn login_link_opens_the_console_once_and_leaves_the_address_bar() {
    let (server, link, _runtime) = start();
    let mut browser = Chromium::start();
    let page = open(&mut browser, &link, 1_280);
    assert_eq!(browser.evaluate(&page, "location.href"), format!("http://{}/start", server.address));
    assert_eq!(browser.evaluate(&page, "words('#login')[0]"), "You are logged in.");
    assert_eq!(browser.evaluate(&page, "document.cookie"), "", "scripts cannot read the cookie");
    browser.evaluate(&page, "document.querySelector('a[href=\"/console\"]').click()");
    poll_until("a live console", || {
        let state = browser.evaluate(&page, "document.querySelector('#link')?.dataset.state ?? null");
        (state == "live").then_some(())
    });
    // The session belongs to the browser, so a used link shows the explanation, but the console stays open.
    let used = open(&mut browser, &link, 390);
    let text = browser.evaluate(&used, "document.body.innerText");
    assert!(text.as_str().unwrap().contains(&format!("kill -USR1 {}", server.id())), "{text}");
    browser.screenshot(&used, "login-link-used-390.png");
    let again = open(&mut browser, &format!("http://{}/console", server.address), 390);
    browser.evaluate(&again, "until(() => document.querySelector('#link')?.dataset.state === 'live')");
}
