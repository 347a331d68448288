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

/// A running browser with its own profile. The browser is killed when this value is dropped.
pub(crate) struct Chromium {
    child: Child,
    socket: WebSocket<TcpStream>,
    calls: u64,
    /// Responses that no call has read yet.
    responses: BTreeMap<u64, Value>,
    /// Events that the browser sent for the enabled `DevTools` domains, such as `Network`.
    events: Vec<Value>,
    /// Credentials for pages that request a login.
    login: Option<[String; 2]>,
    _profile: TempDir,
}

/// A page, identified by the id of its debugging session.
pub(crate) struct Page(String);

/// A call whose response has not been read yet.
pub(crate) struct Call {
    id: u64,
    request: String,
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
        let stdout_text = profile.path().join("DevToolsActivePort");
        let (port, path) = poll_until("Chromium's port", || {
            let stdout_text = fs::read_to_string(&stdout_text).ok()?;
            let (port, path) = stdout_text.split_once('\n')?;
            path.starts_with('/').then(|| (port.to_owned(), path.trim().to_owned()))
        });
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).unwrap();
        Self { child, socket, calls: 0, responses: BTreeMap::new(), events: Vec::new(), login: None, _profile: profile }
    }

    fn call(&mut self, method: &str, params: &Value, session: Option<&str>) -> Call {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": params});
        if let Some(session) = session {
            call["sessionId"] = json!(session);
        }
        let request = call.to_string();
        self.socket.send(Message::text(request.clone())).unwrap();
        Call { id: self.calls, request }
    }

    /// Waits for the response to a call.
    fn response(&mut self, call: &Call) -> Value {
        loop {
            if let Some(result) = self.responses.remove(&call.id) {
                return result;
            }
            let read = self.socket.read();
            let message =
                read.unwrap_or_else(|error| panic!("no response of the browser to {}: {error}", call.request));
            let mut message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            // A message without an id is an event.
            if let Some(id) = message["id"].as_u64() {
                assert!(message["error"].is_null(), "{message}");
                self.responses.insert(id, message["result"].take());
            } else {
                self.continue_request(&message);
                self.events.push(message);
            }
        }
    }

    /// Opens `url` in a new page, and then runs `script` in the page.
    pub(crate) fn page(&mut self, url: &str, script: &str) -> Page {
        let call = self.call("Target.createTarget", &json!({"url": url}), None);
        let target = self.response(&call)["targetId"].take();
        let call = self.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}), None);
        let session = self.response(&call)["sessionId"].as_str().unwrap().to_owned();
        let page = Page(session);
        self.evaluate(&page, &format!("{script}; null"));
        page
    }

    /// Continues a paused request. If the request requires a login, the browser sends the credentials, or cancels the login if there are
    /// none.
    fn continue_request(&mut self, message: &Value) {
        let session = message["sessionId"].as_str();
        let id = &message["params"]["requestId"];
        match (message["method"].as_str(), self.login.clone()) {
            (Some("Fetch.authRequired"), Some([name, password])) => {
                let with = json!({"response": "ProvideCredentials", "username": name, "password": password});
                self.call("Fetch.continueWithAuth", &json!({"requestId": id, "authChallengeResponse": with}), session);
            }
            (Some("Fetch.authRequired"), None) => {
                let with = json!({"response": "CancelAuth"});
                self.call("Fetch.continueWithAuth", &json!({"requestId": id, "authChallengeResponse": with}), session);
            }
            (Some("Fetch.requestPaused"), _) => {
                self.call("Fetch.continueRequest", &json!({"requestId": id}), session);
            }
            _ => {}
        }
    }

    /// Opens `url` in a new page and logs in. Requests and errors of the page are recorded from the start.
    pub(crate) fn page_with_login(&mut self, url: &str, name: &str, password: &str) -> Page {
        self.login = Some([name.to_owned(), password.to_owned()]);
        let page = self.page("about:blank", "null");
        for domain in ["Network", "Log", "Runtime", "Page"] {
            self.command(&page, &format!("{domain}.enable"), &json!({}));
        }
        self.command(&page, "Fetch.enable", &json!({"handleAuthRequests": true}));
        self.events.clear();
        self.command(&page, "Page.navigate", &json!({"url": url}));
        page
    }

    /// Sends a command for a page, and waits for its response.
    pub(crate) fn command(&mut self, page: &Page, method: &str, params: &Value) -> Value {
        let call = self.call(method, params, Some(&page.0));
        self.response(&call)
    }

    /// The events received so far.
    pub(crate) fn events(&self) -> &[Value] {
        &self.events
    }

    /// Saves a screenshot of the page in the folder that the environment variable `SCREENSHOTS` names. If the variable is not set, does
    /// nothing.
    pub(crate) fn screenshot(&mut self, page: &Page, name: &str) {
        let Some(folder) = std::env::var_os("SCREENSHOTS") else { return };
        let taken = self.command(page, "Page.captureScreenshot", &json!({"format": "png"}));
        let bytes = STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        fs::write(Path::new(&folder).join(name), bytes).unwrap();
    }

    /// Starts evaluating an expression. If the result is a promise, the page awaits it.
    pub(crate) fn begin(&mut self, page: &Page, expression: &str) -> Call {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        self.call("Runtime.evaluate", &params, Some(&page.0))
    }

    /// Waits for an evaluation that [`Self::begin`] started, and returns the result.
    pub(crate) fn end(&mut self, call: &Call) -> Value {
        let mut result = self.response(call);
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
