//! Keyboard, screenshots and the checks that apply to every page.

use serde_json::{Value, json};

use crate::chromium::{Chromium, Page};

/// JavaScript functions that wait until an expression is true, find elements, and read their text.
pub(crate) const PAGE_FUNCTIONS: &str = r"
    globalThis.until = async (what) => {
        for (;;) {
            const found = what();
            if (found) return found;
            await new Promise((again) => setTimeout(again, 20));
        }
    };
    globalThis.all = (selector) => [...document.querySelectorAll(selector)];
    globalThis.words = (selector) => all(selector).map((element) => element.innerText.replace(/\s+/g, ' ').trim());
";

/// Returns the number of visible texts, the lowest contrast ratio, and the text with that ratio. WCAG 2.2, 1.4.3 defines the ratio between
/// a text and its background. The nearest element with a background color determines the background.
pub(crate) const CONTRAST: &str = "(() => {
    const luminance = (rgb) => rgb.map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const read = (color) => color.match(/[\\d.]+/g).map(Number);
    const behind = (one) => {
        for (; one; one = one.parentElement) {
            const [r, g, b, a = 1] = read(getComputedStyle(one).backgroundColor);
            if (a > 0) return [r, g, b];
        }
    };
    const texts = all('body *').filter((one) => one.checkVisibility() && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
    const ratios = texts.map((one) => {
        const [light, dark] = [luminance(read(getComputedStyle(one).color).slice(0, 3)), luminance(behind(one))].sort((a, b) => b - a);
        return [(light + 0.05) / (dark + 0.05), one.textContent.slice(0, 40)];
    });
    return [ratios.length, ...ratios.sort((a, b) => a[0] - b[0])[0]];
})()";

/// Presses and releases a key.
pub(crate) fn press(browser: &mut Chromium, page: &Page, key: &str) {
    let code = match key {
        "Tab" => 9,
        "Enter" => 13,
        "Escape" => 27,
        _ => 0,
    };
    let text = if key == "Enter" {
        "\r"
    } else if key.len() == 1 {
        key
    } else {
        ""
    };
    browser.command(
        page,
        "Input.dispatchKeyEvent",
        &json!({"type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code}),
    );
    browser.command(
        page,
        "Input.dispatchKeyEvent",
        &json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code}),
    );
}

/// Sets the color scheme of the system: light or dark.
pub(crate) fn colors(browser: &mut Chromium, page: &Page, scheme: &str) {
    let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
    browser.command(page, "Emulation.setEmulatedMedia", &scheme);
}

/// Checks that at least `times` requests were sent and that there were no errors. Every URL must begin with `own` or `data:`.
pub(crate) fn assert_requests_and_no_errors(browser: &Chromium, own: &str, times: usize) {
    let of = |method: &'static str| browser.events().iter().filter(move |event| event["method"] == method);
    let mut requests = 0;
    for request in of("Network.requestWillBeSent") {
        let url = request["params"]["request"]["url"].as_str().unwrap();
        assert!(url.starts_with(own) || url.starts_with("data:"), "{url}");
        requests += 1;
    }
    assert!(requests >= times, "{requests} requests seen");
    // Hints, such as how to name a password field, have the level `verbose`.
    let errors: Vec<&Value> = ["Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"]
        .into_iter()
        .flat_map(of)
        .filter(|event| event["params"]["entry"]["level"] != "verbose")
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}
