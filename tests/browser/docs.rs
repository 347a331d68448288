//! The page that documents the HTTP API and lets users try it out.

use serde_json::json;

use crate::chromium::{Chromium, Page};
use test_support::server::process::Server;

/// JavaScript functions: `there` waits for an element, and `click` waits for an element and clicks it.
const PAGE_FUNCTIONS: &str = "
    globalThis.there = async (selector) => {
        for (;;) {
            const found = document.querySelector(selector);
            if (found) return found;
            await new Promise((again) => setTimeout(again, 10));
        }
    };
    globalThis.click = async (selector) => { (await there(selector)).click(); };
";

/// Checks that all requests went to the server and that there were no errors.
fn assert_requests_and_no_errors(browser: &Chromium, server: &Server) {
    let of = |method: &'static str| browser.events().iter().filter(move |event| event["method"] == method);
    let mut requests = 0;
    for request in of("Network.requestWillBeSent") {
        let url = request["params"]["request"]["url"].as_str().unwrap();
        assert!(url.starts_with(&format!("http://{}/", server.address)) || url.starts_with("data:"), "{url}");
        requests += 1;
    }
    assert!(requests >= 6, "{requests} requests seen");
    for error in of("Log.entryAdded").chain(of("Runtime.consoleAPICalled")).chain(of("Runtime.exceptionThrown")) {
        let level = &error["params"]["entry"]["level"];
        assert!(level == "verbose" || level == "info", "{error}");
    }
}

fn open(browser: &mut Chromium, server: &Server) -> Page {
    let page = browser.page_with_login(&format!("http://{}/docs", server.address), "admin", "sesame");
    let size = json!({"width": 1_200, "height": 1_600, "deviceScaleFactor": 1, "mobile": false});
    browser.command(&page, "Emulation.setDeviceMetricsOverride", &size);
    browser.evaluate(&page, PAGE_FUNCTIONS);
    browser.evaluate(&page, "there('.opblock').then(() => null)");
    page
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn docs_page_works_and_loads_nothing_from_other_hosts() {
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server);
    let title = browser.evaluate(&page, "document.querySelector('.info .title').textContent");
    assert!(title.as_str().unwrap().starts_with("jamjam-dev signaling-server"), "{title}");
    browser.screenshot(&page, "docs-light.png");
    let tried = "(async () => {
        await click('#operations-monitoring-health .opblock-summary-control');
        await click('#operations-monitoring-health .try-out__btn');
        await click('#operations-monitoring-health .execute');
        const answer = await there('#operations-monitoring-health .live-responses-table .response');
        return answer.textContent;
    })()";
    let response = browser.evaluate(&page, tried);
    let response = response.as_str().unwrap();
    assert!(response.starts_with("200") && response.contains("\"status\": \"ok\""), "{response}");
    browser.screenshot(&page, "docs-tried-light.png");
    assert_requests_and_no_errors(&browser, &server);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn docs_page_follows_the_system_color_scheme() {
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    let mut browser = Chromium::start();
    let page = open(&mut browser, &server);
    let background = |browser: &mut Chromium, scheme: &str| {
        let dark = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.command(&page, "Emulation.setEmulatedMedia", &dark);
        let class = "document.documentElement.classList.contains('dark-mode')";
        let wait = format!(
            "(async () => {{ while ({class} !== {}) await new Promise((again) => setTimeout(again, 10)); }})()",
            scheme == "dark"
        );
        browser.evaluate(&page, &wait);
        browser.evaluate(&page, "getComputedStyle(document.body).backgroundColor")
    };
    assert_eq!(background(&mut browser, "light"), "rgb(250, 250, 250)");
    assert_eq!(background(&mut browser, "dark"), "rgb(28, 32, 34)");
    browser.evaluate(&page, "click('#operations-tokens-issueToken .opblock-summary-control')");
    browser.evaluate(&page, "there('#operations-tokens-issueToken .responses-wrapper').then(() => null)");
    browser.screenshot(&page, "docs-dark.png");
    assert_requests_and_no_errors(&browser, &server);
}
