//! Headless Chromium, controlled over its debugging protocol.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::client::Program;
use test_support::server::{poll_until, tcp};
use tungstenite::{Message, WebSocket};

/// JavaScript functions of every page.
const FUNCTIONS: &str = r#"
    // Functions for the tests: wait until an expression is true, find elements, read their text, and fill in forms.
    globalThis.until = async (what) => {
      for (;;) {
        const found = what();
        if (found) return found;
        await new Promise((again) => setTimeout(again, 20));
      }
    };
    globalThis.all = (selector) => [...document.querySelectorAll(selector)];
    globalThis.one = (selector) => document.querySelector(selector);
    globalThis.text = (selector) => one(selector)?.textContent ?? "";
    globalThis.words = (selector) => all(selector).map((element) => element.innerText.replace(/\s+/g, " ").trim());
    globalThis.type = (selector, text) => {
      one(selector).value = text;
      one(selector).dispatchEvent(new Event("input", { bubbles: true }));
    };
    // Elements that are wider than the window.
    globalThis.tooWide = () => {
      const { scrollWidth, clientWidth } = document.documentElement;
      const isOutside = (element) => element.getBoundingClientRect().right > innerWidth + 1;
      return scrollWidth <= clientWidth ? [] : all("body *").filter(isOutside).map((element) => element.outerHTML.slice(0, 80));
    };
    // The number of visible texts, the lowest contrast ratio (WCAG 2.2, 1.4.3) to the nearest background color, and the text with it.
    globalThis.contrast = () => {
      const luminance = (rgb) => rgb.map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
      const read = (color) => color.match(/[\d.]+/g).map(Number);
      const behind = (one) => {
        for (; one; one = one.parentElement) {
          const [r, g, b, a = 1] = read(getComputedStyle(one).backgroundColor);
          if (a > 0) return [r, g, b];
        }
      };
      const hasText = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
      const texts = all("body *").filter((one) => one.checkVisibility() && hasText(one));
      const ratios = texts.map((one) => {
        const colors = [luminance(read(getComputedStyle(one).color).slice(0, 3)), luminance(behind(one))];
        const [light, dark] = colors.sort((a, b) => b - a);
        return [(light + 0.05) / (dark + 0.05), one.textContent.slice(0, 40)];
      });
      return [ratios.length, ...ratios.sort((a, b) => a[0] - b[0])[0]];
    };
    null"#;

/// The name and password of pages that need a login.
pub(crate) type Login = Option<[&'static str; 2]>;

/// A running browser with its own profile. The browser is killed when this value is dropped.
pub(crate) struct Chromium {
    _program: Program,
    protocol: RefCell<Protocol>,
    _profile: TempDir,
}

/// The connection to the browser.
struct Protocol {
    socket: WebSocket<TcpStream>,
    calls: u64,
    /// The requests and errors of all pages.
    events: Vec<Value>,
    /// The login of each debugging session.
    logins: BTreeMap<String, Login>,
}

impl Chromium {
    /// Starts the program that the environment variable `CHROMIUM` names (default: `chromium`).
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        let child = Command::new(&program)
            .args(["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu"])
            // These options allow running as root (as in containers) and accept self-signed certificates.
            .args(["--no-sandbox", "--disable-dev-shm-usage", "--ignore-certificate-errors"])
            // Host candidates must contain addresses, because there is no mDNS responder for .local names here.
            .arg("--disable-features=WebRtcHideLocalIpsWithMdns")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}; set CHROMIUM to its path"));
        let port_file = profile.path().join("DevToolsActivePort");
        let (port, path) = poll_until("Chromium's port", || {
            let text = fs::read_to_string(&port_file).ok()?;
            let (port, path) = text.split_once('\n')?;
            path.starts_with('/').then(|| (port.to_owned(), path.trim().to_owned()))
        });
        let stream = tcp(([127, 0, 0, 1], port.parse().unwrap()).into());
        let (socket, _) = tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).unwrap();
        let protocol = RefCell::new(Protocol { socket, calls: 0, events: Vec::new(), logins: BTreeMap::new() });
        Self { _program: Program(child), protocol, _profile: profile }
    }

    /// Opens `url` in a new page. The requests and errors of the page are recorded.
    pub(crate) fn open(&self, url: &str, login: Login) -> Page<'_> {
        let mut protocol = self.protocol.borrow_mut();
        let target = protocol.run("Target.createTarget", &json!({"url": "about:blank"}), None)["targetId"].take();
        let attached = protocol.run("Target.attachToTarget", &json!({"targetId": target, "flatten": true}), None);
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        protocol.logins.insert(session.clone(), login);
        drop(protocol);
        let page = Page { browser: self, session };
        for domain in ["Network", "Log", "Runtime", "Page"] {
            page.command(&format!("{domain}.enable"), &json!({}));
        }
        page.resize(1_280, 900);
        // A blank page that is navigated to may not connect to this machine.
        if url != "about:blank" {
            page.command("Fetch.enable", &json!({"handleAuthRequests": true}));
            page.navigate(url);
        }
        page
    }

    /// Checks that at least `count` requests were sent and that there were no errors. Every URL must begin with `own` or `data:`.
    pub(crate) fn assert_requests_and_no_errors(&self, own: &str, count: usize) {
        let protocol = self.protocol.borrow();
        let of = |method: &'static str| protocol.events.iter().filter(move |event| event["method"] == method);
        let urls = of("Network.requestWillBeSent").map(|event| event["params"]["request"]["url"].as_str().unwrap());
        let urls: Vec<&str> = urls.filter(|url| !url.starts_with("about:")).collect();
        assert!(urls.iter().all(|url| url.starts_with(own) || url.starts_with("data:")), "{urls:?}");
        assert!(urls.len() >= count, "{urls:?}");
        // Hints, such as how to name a password field, have the levels `verbose` and `info`.
        let is_hint =
            |event: &Value| ["verbose", "info"].iter().any(|level| event["params"]["entry"]["level"] == *level);
        let events = of("Log.entryAdded").chain(of("Runtime.consoleAPICalled")).chain(of("Runtime.exceptionThrown"));
        let errors: Vec<&Value> = events.filter(|event| !is_hint(event)).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

impl Protocol {
    /// Sends a command. Returns its id.
    fn call(&mut self, method: &str, params: &Value, session: Option<&str>) -> u64 {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": params});
        if let Some(session) = session {
            call["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(call.to_string())).unwrap();
        self.calls
    }

    /// Sends a command, and waits for its response.
    fn run(&mut self, method: &str, params: &Value, session: Option<&str>) -> Value {
        let id = self.call(method, params, session);
        loop {
            let read = self.socket.read();
            let message = read.unwrap_or_else(|error| panic!("no response to {method} {params}: {error}"));
            let mut message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            assert!(message["error"].is_null(), "{message}");
            if message["id"] == id {
                return message["result"].take();
            }
            // A message without an id is an event.
            if message["id"].is_null() {
                self.continue_request(&message);
                self.events.push(message);
            }
        }
    }

    /// Continues a paused request. If the page has no login, a required login is canceled, as by a user who closes the browser's dialog.
    fn continue_request(&mut self, message: &Value) {
        let session = message["sessionId"].as_str();
        let id = &message["params"]["requestId"];
        match message["method"].as_str() {
            Some("Fetch.authRequired") => {
                let response = match session.and_then(|session| *self.logins.get(session)?) {
                    Some([name, password]) => {
                        json!({"response": "ProvideCredentials", "username": name, "password": password})
                    }
                    None => json!({"response": "CancelAuth"}),
                };
                let params = json!({"requestId": id, "authChallengeResponse": response});
                self.call("Fetch.continueWithAuth", &params, session);
            }
            Some("Fetch.requestPaused") => _ = self.call("Fetch.continueRequest", &json!({"requestId": id}), session),
            _ => {}
        }
    }
}

/// A page of a browser.
pub(crate) struct Page<'a> {
    browser: &'a Chromium,
    session: String,
}

impl Page<'_> {
    /// Sends a command, and waits for its response.
    pub(crate) fn command(&self, method: &str, params: &Value) -> Value {
        self.browser.protocol.borrow_mut().run(method, params, Some(&self.session))
    }

    /// Loads another URL and waits until it is complete.
    pub(crate) fn navigate(&self, url: &str) {
        self.command("Page.navigate", &json!({"url": url}));
        self.get(FUNCTIONS);
        self.until("document.readyState === 'complete'");
    }

    /// The value of an expression. If it is a promise, the page awaits it.
    pub(crate) fn get(&self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut result = self.command("Runtime.evaluate", &params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true, and returns its value.
    pub(crate) fn until(&self, expression: &str) -> Value {
        self.get(&format!("until(() => {expression})"))
    }

    /// Clicks the first element that the selector finds.
    pub(crate) fn click(&self, selector: &str) {
        self.get(&format!("until(() => one({})).then((found) => found.click())", json!(selector)));
    }

    /// Enters a text into a field.
    pub(crate) fn fill(&self, selector: &str, text: &str) {
        self.get(&format!("type({}, {})", json!(selector), json!(text)));
    }

    /// Presses and releases a key.
    pub(crate) fn press(&self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            key if key.len() == 1 => (0, key),
            _ => (0, ""),
        };
        for (kind, text) in [("keyDown", text), ("keyUp", "")] {
            let event = json!({"type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code});
            self.command("Input.dispatchKeyEvent", &event);
        }
    }

    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.command("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Sets the color scheme of the system: light or dark.
    pub(crate) fn use_colors(&self, scheme: &str) {
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.command("Emulation.setEmulatedMedia", &scheme);
    }

    /// Checks in the window of a phone and of a desktop, in both color schemes: at least `min_texts` texts are visible, all have sufficient
    /// contrast, and nothing is wider than the window.
    pub(crate) fn assert_layout(&self, name: &str, min_texts: u64) {
        // Chromium draws only the page in front.
        self.command("Page.bringToFront", &json!({}));
        for (width, scheme) in [(390, "light"), (390, "dark"), (1_280, "dark"), (1_280, "light")] {
            self.resize(width, 1_600);
            self.use_colors(scheme);
            assert_eq!(self.get("tooWide()"), json!([]), "{name} {width}");
            let contrast = self.get("contrast()");
            let is_readable = contrast[0].as_u64() >= Some(min_texts) && contrast[1].as_f64() >= Some(4.5);
            assert!(is_readable, "{name} {width} {scheme}: {contrast}");
        }
    }
}
