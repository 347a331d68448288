//! Headless Chromium, controlled over its debugging protocol.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use test_support::server::{TEST_TIMEOUT, poll_until};

/// A browser that runs, with a profile of its own. It is killed when dropped.
pub(crate) struct Chromium {
    child: Child,
    socket: WebSocket<TcpStream>,
    calls: u64,
    /// Responses that no call has taken yet.
    answers: BTreeMap<u64, Value>,
    /// Events of the enabled domains.
    news: Vec<Value>,
    /// Credentials for pages that request a login.
    login: Option<[String; 2]>,
    _profile: TempDir,
}

/// A page, by its session.
pub(crate) struct Page(String);

/// A call whose answer is still to come.
pub(crate) struct Call(u64);

impl Chromium {
    /// Starts the program that `CHROMIUM` names, or `chromium`.
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        let child = Command::new(&program)
            .args(["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu"])
            // As root, as in containers, and with certificates of the tests' own making.
            .args(["--no-sandbox", "--disable-dev-shm-usage", "--ignore-certificate-errors"])
            // Host candidates as addresses: there is no mDNS responder for .local names here.
            .arg("--disable-features=WebRtcHideLocalIpsWithMdns")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}; name one with CHROMIUM"));
        let stdout_text = profile.path().join("DevToolsActivePort");
        let (port, path) = poll_until("Chromium's port", || {
            let stdout_text = fs::read_to_string(&stdout_text).ok()?;
            let (port, path) = stdout_text.split_once('\n')?;
            path.starts_with('/').then(|| (port.to_owned(), path.trim().to_owned()))
        });
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).unwrap();
        Self { child, socket, calls: 0, answers: BTreeMap::new(), news: Vec::new(), login: None, _profile: profile }
    }

    fn call(&mut self, method: &str, params: &Value, session: Option<&str>) -> Call {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": params});
        if let Some(session) = session {
            call["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(call.to_string())).unwrap();
        Call(self.calls)
    }

    /// The answer to a call.
    fn answer(&mut self, call: &Call) -> Value {
        loop {
            if let Some(result) = self.answers.remove(&call.0) {
                return result;
            }
            let message = self.socket.read().unwrap();
            let mut message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            // Without a number it is news.
            if let Some(id) = message["id"].as_u64() {
                assert!(message["error"].is_null(), "{message}");
                self.answers.insert(id, message["result"].take());
            } else {
                self.go_on(&message);
                self.news.push(message);
            }
        }
    }

    /// A new page at `url`, with this script in it.
    pub(crate) fn page(&mut self, url: &str, script: &str) -> Page {
        let call = self.call("Target.createTarget", &json!({"url": url}), None);
        let target = self.answer(&call)["targetId"].take();
        let call = self.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}), None);
        let session = self.answer(&call)["sessionId"].as_str().unwrap().to_owned();
        let page = Page(session);
        self.evaluate(&page, &format!("{script}; null"));
        page
    }

    /// Lets a request go on that waits for us, with the login where it waits for that.
    fn go_on(&mut self, message: &Value) {
        let session = message["sessionId"].as_str();
        let id = &message["params"]["requestId"];
        match (message["method"].as_str(), self.login.clone()) {
            (Some("Fetch.authRequired"), Some([name, password])) => {
                let with = json!({"response": "ProvideCredentials", "username": name, "password": password});
                self.call("Fetch.continueWithAuth", &json!({"requestId": id, "authChallengeResponse": with}), session);
            }
            (Some("Fetch.requestPaused"), _) => {
                self.call("Fetch.continueRequest", &json!({"requestId": id}), session);
            }
            _ => {}
        }
    }

    /// Goes to `url` on a new page and logs in there; requests and errors of the page are recorded from then on.
    pub(crate) fn page_behind(&mut self, url: &str, name: &str, password: &str) -> Page {
        self.login = Some([name.to_owned(), password.to_owned()]);
        let page = self.page("about:blank", "null");
        for domain in ["Network", "Log", "Runtime", "Page"] {
            self.command(&page, &format!("{domain}.enable"), &json!({}));
        }
        self.command(&page, "Fetch.enable", &json!({"handleAuthRequests": true}));
        self.news.clear();
        self.command(&page, "Page.navigate", &json!({"url": url}));
        page
    }

    /// Sends a command for a page, and waits for its response.
    pub(crate) fn command(&mut self, page: &Page, method: &str, params: &Value) -> Value {
        let call = self.call(method, params, Some(&page.0));
        self.answer(&call)
    }

    /// The events received so far.
    pub(crate) fn news(&self) -> &[Value] {
        &self.news
    }

    /// Keeps a picture of the page where `SCREENSHOTS` names a folder for it.
    pub(crate) fn picture(&mut self, page: &Page, name: &str) {
        let Some(folder) = std::env::var_os("SCREENSHOTS") else { return };
        let taken = self.command(page, "Page.captureScreenshot", &json!({"format": "png"}));
        let bytes = STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        fs::write(Path::new(&folder).join(name), bytes).unwrap();
    }

    /// Begins to evaluate an expression, and to wait for it where it is a promise.
    pub(crate) fn begin(&mut self, page: &Page, expression: &str) -> Call {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        self.call("Runtime.evaluate", &params, Some(&page.0))
    }

    /// What it has come to.
    pub(crate) fn end(&mut self, call: &Call) -> Value {
        let mut result = self.answer(call);
        assert!(result["exceptionDetails"].is_null(), "{result}");
        result["result"]["value"].take()
    }

    pub(crate) fn evaluate(&mut self, page: &Page, expression: &str) -> Value {
        let call = self.begin(page, expression);
        self.end(&call)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
