//! The start page in a browser.

use serde_json::json;

use crate::chromium::{Chromium, Page};
use crate::page_checks::{CONTRAST, PAGE_FUNCTIONS, assert_requests_and_no_errors, colors};
use test_support::server::process::Server;

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
    let server = Server::start_signaling(&[]);
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
