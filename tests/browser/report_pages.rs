//! The HTML reports of `probe` and `send`: layout, contrast, the script and the printed page.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chromium::{Chromium, Page};
use crate::page_checks::{CONTRAST, PAGE_FUNCTIONS, assert_requests_and_no_errors, colors, press};
use test_support::server::process::run;

/// Runs with loss in both directions, without loss, without any reply, and with audio. Names for screenshots come first.
const RUNS: [(&str, &str); 4] = [
    (
        "bad",
        "probe --embedded --packet audio --delay 20 --duration 3s --interval 5ms --loss 3%,60% --jitter 9ms --seed 3 --loss-direction --profile lan-music",
    ),
    ("good", "probe --embedded --delay 20 --count 200 --interval 5ms --max-loss 50%"),
    ("unanswered", "probe --to 127.0.0.1:1 --count 5 --timeout 100ms"),
    ("send", "send --tone 440 --duration 1s --embedded --delay 20 --loss 5% --seed 1"),
];

/// Writes the page of a run and opens it.
fn open(browser: &mut Chromium, line: &str, file: &Path) -> Page {
    let words: Vec<&str> = line.split(' ').chain(["--html", file.to_str().unwrap()]).collect();
    run(&words, |_| {});
    let page = browser.page_with_login(&format!("file://{}", file.display()), "", "");
    browser.evaluate(&page, PAGE_FUNCTIONS);
    browser.evaluate(&page, &format!("{PAGE_FUNCTIONS} until(() => document.readyState === 'complete' && document.querySelector('footer')).then(() => null)"));
    page
}

/// Whether the page has no horizontal scroll bar.
const FITS: &str = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";

fn resize(browser: &mut Chromium, page: &Page, width: u32, height: u32) {
    let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
    browser.command(page, "Emulation.setDeviceMetricsOverride", &size);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn report_pages_fit_two_widths_and_have_contrast_in_both_color_schemes() {
    let folder = TempDir::new().unwrap();
    let mut browser = Chromium::start();
    for (name, line) in RUNS {
        let page = open(&mut browser, line, &folder.path().join(format!("{name}.html")));
        for width in [390, 1_280] {
            resize(&mut browser, &page, width, 4_000);
            for scheme in ["light", "dark"] {
                colors(&mut browser, &page, scheme);
                assert_eq!(browser.evaluate(&page, FITS), true, "{name} {width}");
                let contrast = browser.evaluate(&page, CONTRAST);
                let [texts, ratio, text] = &contrast.as_array().unwrap()[..] else { panic!("three values") };
                assert!(texts.as_u64() > Some(30) && ratio.as_f64() >= Some(4.5), "{name} {scheme}: {ratio} {text}");
                // Labels of a chart stay inside its card.
                let outside = "all('.chart span, .chart li').filter((label) => { if (!label.checkVisibility()) return false; \
                               const [box, card] = [label, label.closest('.chart')].map((one) => one.getBoundingClientRect()); \
                               return box.left < card.left || box.right > card.right; }).map((label) => label.textContent)";
                assert_eq!(browser.evaluate(&page, outside), json!([]), "{name} {width}");
                browser.screenshot(&page, &format!("report-{name}-{width}-{scheme}.png"));
            }
        }
    }
    assert_requests_and_no_errors(&browser, &format!("file://{}", folder.path().display()), 1);
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn arrow_keys_and_pointer_show_the_values_of_an_interval() {
    let folder = TempDir::new().unwrap();
    let mut browser = Chromium::start();
    let page = open(&mut browser, RUNS[0].1, &folder.path().join("page.html"));
    resize(&mut browser, &page, 1_280, 1_000);
    let readout = "words('#readout')[0]";
    browser.evaluate(&page, "document.querySelector('.plot').focus()");
    press(&mut browser, &page, "ArrowRight");
    press(&mut browser, &page, "ArrowRight");
    let text = browser.evaluate(&page, readout);
    assert!(text.as_str().unwrap().starts_with("from 1 s · sent "), "{text}");
    press(&mut browser, &page, "ArrowLeft");
    let text = browser.evaluate(&page, readout);
    assert!(text.as_str().unwrap().starts_with("from 0 s · sent "), "{text}");
    // The pointer is at 80 % of the width of a run of three seconds.
    let at = browser.evaluate(
        &page,
        "(() => { const box = document.querySelector('.plot').getBoundingClientRect(); return [box.left + box.width * 0.8, box.top + 20]; })()",
    );
    let moved = json!({"type": "mouseMoved", "x": at[0], "y": at[1]});
    browser.command(&page, "Input.dispatchMouseEvent", &moved);
    let text =
        browser.evaluate(&page, "until(() => words('#readout')[0].startsWith('from 2 s') && words('#readout')[0])");
    assert!(text.as_str().unwrap().contains(" · returned "), "{text}");
}

#[test]
#[ignore = "needs Chromium: .ci/full"]
fn printed_page_has_no_players_and_no_cut_off_tables() {
    let folder = TempDir::new().unwrap();
    let mut browser = Chromium::start();
    let page = open(&mut browser, RUNS[3].1, &folder.path().join("page.html"));
    browser.command(&page, "Emulation.setEmulatedMedia", &json!({"media": "print"}));
    // The width of A4 paper in CSS pixels, without margins.
    resize(&mut browser, &page, 718, 1_000);
    let cut_off = "all('.wide').filter((box) => box.checkVisibility() && (box.scrollWidth > 718 || getComputedStyle(box).overflowX !== 'visible')).length";
    assert_eq!(browser.evaluate(&page, cut_off), 0);
    assert_eq!(browser.evaluate(&page, FITS), true);
    let hidden = "all('audio, #readout, details').filter((one) => one.checkVisibility()).length";
    assert_eq!(browser.evaluate(&page, hidden), Value::from(0));
}
