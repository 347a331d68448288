//! The login link: who may use it, how often, and where the server writes it. Every malicious use has its own test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::signaling_server::http::login::{JSON, RIGHT};
use crate::signaling_server::http::request::{Response, request, send, send_to};
use test_support::certificate::Authority;
use test_support::server::process::{Server, program};
use test_support::server::{TEST_TIMEOUT, poll_until};

const LOGGED: &str = "http: login link written; open the link in this file, it works once file=";
const HTML: &str = "Accept: text/html,application/xhtml+xml";

/// A server without a password, whose runtime folder is private.
struct LinkServer {
    server: Server,
    runtime: TempDir,
}

impl LinkServer {
    fn start(options: &[&str]) -> Self {
        Self::start_with_level("info", options)
    }

    fn start_with_level(level: &str, options: &[&str]) -> Self {
        let runtime = tempfile::tempdir().unwrap();
        fs::set_permissions(runtime.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let port = if options.contains(&"--port") { &[][..] } else { &["--port", "0"] };
        let host = if options.contains(&"--host") { &[][..] } else { &["--host", "127.0.0.1"] };
        let server = Server::start_signaling_as(&[host, port, options].concat(), |command| {
            command.env("XDG_RUNTIME_DIR", runtime.path()).env("RUST_LOG", level);
        });
        Self { server, runtime }
    }

    fn file(&mut self) -> PathBuf {
        let line = self.server.line_starting_with(LOGGED);
        assert_eq!(line.level, "INFO");
        line.message.strip_prefix(LOGGED).unwrap().into()
    }

    /// The path and query of the link that the server has written.
    fn link(&mut self) -> String {
        link_in(&self.file(), self.server.address)
    }

    /// Requests a path as a browser on this machine.
    fn browse(&self, path: &str, headers: &[&str]) -> Response {
        let host = format!("Host: {}", self.server.address);
        request(&self.server, "GET", path, &[&[&*host], headers].concat())
    }

    /// Uses the link. Returns the `Cookie` header of the new session.
    fn log_in(&mut self) -> String {
        let link = self.link();
        cookie(&self.browse(&link, &[]))
    }

    /// The secrets in the files of the runtime folder.
    fn secrets(&self) -> Vec<String> {
        let files = fs::read_dir(self.runtime.path()).unwrap();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

/// The first link in a file, without scheme and host.
fn link_in(file: &Path, address: SocketAddr) -> String {
    let text = fs::read_to_string(file).unwrap();
    let port = address.port();
    let link = text.lines().next().unwrap();
    let link = link.strip_prefix(&format!("http://127.0.0.1:{port}")).unwrap_or_else(|| panic!("{link}"));
    let secret = link.strip_prefix("/start?login=").unwrap();
    assert!(secret.len() == 43, "256 bits in base64: {secret}");
    link.to_owned()
}

/// The `Cookie` header for the session that a response starts.
fn cookie(response: &Response) -> String {
    assert_eq!((response.status, response.header("location")), (303, "/start"), "{response:?}");
    let pair = response.header("set-cookie").split(';').next().unwrap();
    format!("Cookie: {pair}")
}

fn is_rejected(response: &Response, status: u16) -> bool {
    response.status == status && response.header("set-cookie").is_empty() && !response.error().is_empty()
}

#[test]
fn link_starts_a_session_that_opens_all_pages_of_the_operator() {
    let mut server = LinkServer::start(&["--host", "0.0.0.0"]);
    let link = server.link();
    let address = server.server.address;
    let host = format!("Host: 127.0.0.1:{}", address.port());
    let response = request(&server.server, "GET", &link, &[&host]);
    let port = address.port();
    let set_cookie = response.header("set-cookie");
    assert!(set_cookie.starts_with(&format!("jamjam-dev-{port}=")), "{set_cookie}");
    assert!(set_cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{set_cookie}");
    assert_eq!(response.header("referrer-policy"), "no-referrer");
    assert_eq!(response.header("cache-control"), "no-store");
    let cookie = cookie(&response);
    for path in [
        "/console",
        "/console/state",
        "/docs",
        "/openapi.json",
        "/admin/bbx/rooms",
        "/metrics",
        "/health?detailed=true",
    ] {
        let without = request(&server.server, "GET", path, &[&host]);
        assert_eq!(without.status, 401, "{path}");
        assert_eq!(request(&server.server, "GET", path, &[&host, &cookie]).status, 200, "{path}");
    }
    assert!(request(&server.server, "GET", "/start", &[&host, &cookie]).body.contains("You are logged in"));
    server.server.line_starting_with("http: login link used source=127.0.0.1");
    assert_eq!(send(&server.server, "POST", "/admin/shutdown", &[&host, &cookie, JSON], "{}").status, 202);
    assert_eq!(server.server.wait(), Some(0));
}

#[test]
fn cookie_is_secure_if_the_server_uses_tls() {
    use jamjam_dev::io::tls::client::TrustPolicy;
    use std::io::{Read, Write};
    let authority = Authority::new();
    let pair = authority.certify();
    let options = pair.options();
    let mut server = LinkServer::start(&options.iter().map(AsRef::as_ref).collect::<Vec<&str>>());
    let file = server.file();
    let link = fs::read_to_string(file).unwrap();
    let port = server.server.address.port();
    let link = link.trim().strip_prefix(&format!("https://localhost:{port}")).unwrap_or_else(|| panic!("{link}"));
    let trust = TrustPolicy { accept_any: true, ..TrustPolicy::default() };
    let config = trust.client_config().unwrap();
    let mut tls = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut stream = std::net::TcpStream::connect(server.server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut stream);
    write!(stream, "GET {link} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response);
    assert!(response.starts_with("HTTP/1.1 303 ") && response.contains("; Path=/; Secure\r\n"), "{response}");
}

#[test]
fn link_works_once() {
    let mut server = LinkServer::start(&[]);
    let link = server.link();
    let cookie = cookie(&server.browse(&link, &[]));
    for _ in 0..3 {
        assert!(is_rejected(&server.browse(&link, &[]), 401));
    }
    assert_eq!(server.browse("/console", &[&cookie]).status, 200, "the session remains");
    assert_eq!(server.secrets(), [""; 0], "the file is removed");
}

#[test]
fn concurrent_uses_of_the_link_start_one_session() {
    let mut server = LinkServer::start(&["--rate-limit-login", "off"]);
    let link = server.link();
    let address = server.server.address;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| send_to(address, "GET", &link, &[&format!("Host: {address}")], "").status))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 303).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 15, "{statuses:?}");
}

#[test]
fn head_and_prefetch_requests_do_not_use_up_the_link() {
    let mut server = LinkServer::start(&[]);
    let link = server.link();
    let host = format!("Host: {}", server.server.address);
    let head = request(&server.server, "HEAD", &link, &[&host]);
    assert_eq!((head.status, head.header("set-cookie")), (200, ""));
    for header in [
        "Sec-Purpose: prefetch;prerender",
        "Purpose: prefetch",
        "X-Moz: prefetch",
        "Sec-Fetch-Mode: no-cors",
        "Sec-Fetch-Dest: iframe",
    ] {
        assert!(is_rejected(&server.browse(&link, &[header]), 403), "{header}");
    }
    for method in ["POST", "OPTIONS", "PUT"] {
        assert_eq!(send(&server.server, method, &link, &[&host], "").status, 405, "{method}");
    }
    cookie(&server.browse(&link, &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]));
}

#[test]
fn guesses_of_another_site_do_not_block_the_login() {
    let mut server = LinkServer::start(&["--rate-limit-login", "20/15m"]);
    let link = server.link();
    // A page of another site opens the link in a new tab.
    for site in ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"].into_iter().cycle().take(50) {
        let opened = [site, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"];
        assert!(is_rejected(&server.browse("/start?login=x", &opened), 403), "{site}");
        assert!(is_rejected(&server.browse(&link, &opened), 403), "{site}");
    }
    cookie(&server.browse(&link, &["Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]));
}

#[test]
fn cookie_is_secure_behind_a_proxy_with_tls() {
    for (scheme, is_secure) in [("https", true), ("http", false)] {
        let mut server = LinkServer::start(&["--admin-token-remote", "--trust-proxy", "1"]);
        let link = server.link();
        let forwarded = ["X-Forwarded-For: 192.0.2.7", &format!("X-Forwarded-Proto: {scheme}")];
        let response = server.browse(&link, &forwarded);
        assert_eq!(
            (response.status, response.header("set-cookie").ends_with("; Secure")),
            (303, is_secure),
            "{scheme}"
        );
    }
}

/// The addresses of this machine other than loopback.
#[cfg(target_os = "linux")]
fn other_addresses() -> Vec<std::net::IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().unwrap();
    let addresses = interfaces.filter_map(|one| Some(one.address?.as_sockaddr_in()?.ip().into()));
    addresses.filter(|ip: &std::net::IpAddr| !ip.is_loopback()).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn link_from_another_host_is_rejected() {
    let Some(ip) = other_addresses().first().copied() else {
        eprintln!("SKIPPED: this machine has only loopback addresses");
        return;
    };
    let mut server = LinkServer::start(&["--host", "0.0.0.0"]);
    let link = server.link();
    let address = SocketAddr::new(ip, server.server.address.port());
    let from_other_host = |path: &str, headers: &[&str]| send_to(address, "GET", path, headers, "");
    // The client is not on loopback, whatever it claims.
    for host in [format!("Host: {address}"), format!("Host: 127.0.0.1:{}", address.port())] {
        assert!(is_rejected(&from_other_host(&link, &[&host]), 403), "{host}");
        assert!(is_rejected(&from_other_host(&link, &[&host, "X-Forwarded-For: 127.0.0.1"]), 403), "{host}");
    }
    let local = format!("Host: 127.0.0.1:{}", address.port());
    let cookie = cookie(&request(&server.server, "GET", &link, &[&local]));
    assert_eq!(from_other_host("/console", &[&local, &cookie]).status, 401, "a stolen cookie");
    let response = from_other_host("/console", &[&local]);
    assert!(!response.error().contains(&server.server.id().to_string()), "{response:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn link_works_from_another_host_if_the_operator_permits_it() {
    let Some(ip) = other_addresses().first().copied() else {
        eprintln!("SKIPPED: this machine has only loopback addresses");
        return;
    };
    let mut server = LinkServer::start(&["--host", "0.0.0.0", "--admin-token-remote"]);
    let file = server.file();
    let address = SocketAddr::new(ip, server.server.address.port());
    let links = fs::read_to_string(&file).unwrap();
    let link = links.lines().find_map(|link| link.strip_prefix(&format!("http://{address}"))).expect(&links);
    let cookie = cookie(&send_to(address, "GET", link, &[], ""));
    assert_eq!(send_to(address, "GET", "/console", &[&cookie], "").status, 200);
    assert!(!file.exists());
}

#[test]
fn link_through_a_proxy_is_rejected() {
    for options in [&[][..], &["--trust-proxy"]] {
        let mut server = LinkServer::start(options);
        let link = server.link();
        for header in [
            "X-Forwarded-For: 192.0.2.1",
            "X-Forwarded-For: 127.0.0.1",
            "Forwarded: for=192.0.2.1",
            "X-Real-IP: 192.0.2.1",
            "Via: 1.1 proxy",
        ] {
            assert!(is_rejected(&server.browse(&link, &[header]), 403), "{options:?} {header}");
        }
        let cookie = cookie(&server.browse(&link, &[]));
        assert_eq!(server.browse("/console", &[&cookie, "X-Forwarded-For: 127.0.0.1"]).status, 401, "{options:?}");
        assert_eq!(server.browse("/console", &[&cookie]).status, 200, "{options:?}");
    }
}

/// A name of another site that resolves to loopback (DNS rebinding).
#[test]
fn link_and_cookie_with_a_foreign_host_are_rejected() {
    let mut server = LinkServer::start(&[]);
    let link = server.link();
    let port = server.server.address.port();
    let foreign = [
        "Host: evil.example".to_owned(),
        format!("Host: evil.example:{port}"),
        format!("Host: 127.0.0.1.evil.example:{port}"),
        format!("Host: 127.0.0.1@evil.example:{port}"),
    ];
    for host in &foreign {
        assert!(is_rejected(&request(&server.server, "GET", &link, &[host]), 403), "{host}");
    }
    let cookie = cookie(&server.browse(&link, &[]));
    for host in &foreign {
        assert_eq!(request(&server.server, "GET", "/console", &[host, &cookie]).status, 401, "{host}");
    }
}

#[test]
fn cross_site_page_cannot_use_the_cookie() {
    let mut server = LinkServer::start(&[]);
    let cookie = server.log_in();
    let address = server.server.address;
    let host = format!("Host: {address}");
    let own = format!("Origin: http://{address}");
    let other_port = "Origin: http://127.0.0.1:1".to_owned();
    let post = |headers: &[&str], body| {
        send(&server.server, "POST", "/admin/shutdown", &[&[&*host, &*cookie], headers].concat(), body).status
    };
    for origin in ["Origin: https://evil.example", "Origin: null", &other_port] {
        for body in ["{}", ""] {
            assert_eq!(post(&[JSON, origin], body), 403, "{origin}");
        }
    }
    // A form sends these content types, and no script is needed.
    for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        assert_eq!(post(&[&format!("Content-Type: {form}"), &own], "{}"), 403, "{form}");
    }
    let image = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"];
    assert_eq!(server.browse("/console/state", &[&[&*cookie], &image[..]].concat()).status, 403);
    assert_eq!(post(&[JSON, &own], "{}"), 202);
}

#[test]
fn forged_cookie_and_cookie_of_an_earlier_server_are_rejected() {
    let mut first = LinkServer::start(&[]);
    let cookie = first.log_in();
    let port = first.server.address.port();
    assert_eq!(first.browse("/console", &[&cookie]).status, 200);
    assert_eq!(first.server.stop("TERM").code, Some(0));
    let restarted = LinkServer::start(&["--port", &port.to_string()]);
    let forged = format!("Cookie: jamjam-dev-{port}={}", "A".repeat(43));
    let unnamed = cookie.replace(&format!("jamjam-dev-{port}"), "jamjam-dev");
    for cookie in [cookie, forged, unnamed, format!("Cookie: jamjam-dev-{port}="), "Cookie: x".to_owned()] {
        // An open console sends an old cookie every second. Old cookies must not block the login.
        for _ in 0..30 {
            assert_eq!(restarted.browse("/console", &[&cookie]).status, 401, "{cookie}");
        }
    }
}

#[test]
fn ten_thousand_guesses_are_limited_and_the_server_responds() {
    use std::io::{Read, Write};
    let mut server = LinkServer::start(&["--rate-limit-login", "20/15m"]);
    let link = server.link();
    let started = Instant::now();
    let mut counts = std::collections::BTreeMap::new();
    // One connection sends the guesses in batches, as fast as the server responds.
    let mut stream = std::net::TcpStream::connect(server.server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let port = server.server.address.port();
    for batch in 0..100 {
        let mut guesses = String::new();
        for guess in 0..100 {
            let secret = batch * 100 + guess;
            let request = format!("GET /start?login={secret:043} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
            guesses.push_str(&request);
        }
        stream.write_all(guesses.as_bytes()).unwrap();
        let mut text = String::new();
        while text.matches("HTTP/1.1 ").count() < 100 || !text.ends_with('}') {
            let mut buffer = [0; 8_192];
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the server closed the connection: {text}");
            text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        for status in text.split("HTTP/1.1 ").skip(1).map(|response| response[..3].to_owned()) {
            *counts.entry(status).or_insert(0) += 1;
        }
        assert_eq!(server.browse("/healthz", &[]).status, 200);
    }
    let expected: std::collections::BTreeMap<String, i32> = [("401".to_owned(), 20), ("429".to_owned(), 9_980)].into();
    assert_eq!(counts, expected);
    // Even the right link has to wait, because a limited guess must not be distinguishable from a wrong one.
    assert_eq!(server.browse(&link, &[]).status, 429);
    let stopped = server.server.stop("TERM");
    let lines = stopped.lines.iter().filter(|line| line.contains("login rejected")).count();
    assert!(lines as u64 <= started.elapsed().as_secs() + 2, "{lines} lines");
}

#[test]
fn link_and_cookie_never_appear_in_the_log() {
    let mut server = LinkServer::start_with_level("trace", &[]);
    let link = server.link();
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    request(&server.server, "GET", &link, &upgrade);
    assert_eq!(server.browse(&link, &["Host: evil.example"]).status, 400);
    assert_eq!(request(&server.server, "GET", &link, &["Host: evil.example"]).status, 403);
    let cookie = cookie(&server.browse(&link, &[]));
    server.browse(&link, &[]);
    server.browse("/console/state", &[&cookie]);
    server.server.signal("USR1");
    let second = server.link();
    let secrets = [&link, &second, &cookie].map(|text| text.rsplit('=').next().unwrap().to_owned());
    let stopped = server.server.stop("TERM");
    let log = stopped.lines.concat();
    assert!(stopped.lines.len() > 6, "{log}");
    for secret in secrets {
        assert!(secret.len() == 43 && !log.contains(&secret), "{log}");
    }
}

#[test]
fn link_file_is_private_and_removed_at_exit() {
    for signal in ["TERM", "INT"] {
        let mut server = LinkServer::start(&[]);
        let file = server.file();
        assert_eq!(file.parent(), Some(server.runtime.path()));
        let metadata = fs::symlink_metadata(&file).unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o7777 == 0o600, "{metadata:?}");
        assert_eq!(server.server.stop(signal).code, Some(0));
        assert!(!file.exists(), "{signal}");
    }
}

/// Another user of the temporary folder may prepare links. A runtime folder that others can enter is not used.
#[test]
fn link_file_follows_no_symbolic_link() {
    let folder = tempfile::tempdir().unwrap();
    let (temporary, target) = (folder.path().join("tmp"), folder.path().join("target"));
    fs::create_dir(&temporary).unwrap();
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::create_dir(&target).unwrap();
    for name in ["jamjam-dev-login", "jamjam-dev"] {
        symlink(&target, temporary.join(name)).unwrap();
    }
    let runtime = folder.path().join("runtime");
    symlink(&target, &runtime).unwrap();
    let mut server = Server::start_signaling_as(&["--host", "127.0.0.1", "--port", "0"], |command| {
        command.env("TMPDIR", &temporary).env("XDG_RUNTIME_DIR", &runtime);
    });
    let line = server.line_starting_with(LOGGED);
    let file = PathBuf::from(line.message.strip_prefix(LOGGED).unwrap());
    let own = file.parent().unwrap();
    assert_eq!(own.parent(), Some(&*temporary));
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(own), mode(&file)), (0o700, 0o600));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    server.stop("TERM");
    assert!(!own.exists());
}

#[test]
fn new_link_on_a_signal_replaces_the_unused_one() {
    let mut server = LinkServer::start(&[]);
    let (first_file, session) = (server.file(), server.server.address);
    let first = link_in(&first_file, session);
    server.server.signal("USR1");
    let second_file = server.file();
    let second = link_in(&second_file, session);
    assert!(!first_file.exists() && first != second);
    assert!(is_rejected(&server.browse(&first, &[]), 401));
    let cookie_of_second = cookie(&server.browse(&second, &[]));
    server.server.signal("USR1");
    let third = server.link();
    let cookie_of_third = cookie(&server.browse(&third, &[]));
    for cookie in [cookie_of_second, cookie_of_third] {
        assert_eq!(server.browse("/console", &[&cookie]).status, 200, "both sessions remain");
    }
}

#[test]
fn signal_does_not_stop_a_server_with_a_password() {
    let mut server = LinkServer::start(&["--docs-password", "sesame"]);
    server.server.signal("USR1");
    server.server.line_starting_with("http: SIGUSR1 ignored, because the server accepts no login link");
    assert_eq!(server.browse("/console", &[RIGHT]).status, 200);
    let response = server.browse("/start?login=x", &[]);
    assert_eq!((response.status, response.header("location"), response.header("set-cookie")), (303, "/start", ""));
    assert_eq!(server.browse("/console", &[]).header("www-authenticate"), "Basic realm=\"docs\"");
    assert_eq!(server.secrets(), [""; 0]);
}

#[test]
fn remote_link_option_has_no_effect_with_a_password() {
    let mut server = LinkServer::start(&["--docs-password", "sesame", "--admin-token-remote"]);
    let line = server.server.line_starting_with("http: --admin-token-remote has no effect, because a password is set");
    assert_eq!(line.level, "WARN");
}

#[test]
fn logout_ends_only_the_session_of_the_cookie() {
    let mut server = LinkServer::start(&[]);
    let cookie = server.log_in();
    server.server.signal("USR1");
    let other = server.log_in();
    let host = format!("Host: {}", server.server.address);
    let logout = |headers: &[&str]| request(&server.server, "POST", "/console/logout", &[&[&*host], headers].concat());
    assert_eq!(logout(&[]).status, 401);
    assert_eq!(logout(&[&cookie, "Origin: http://evil.example"]).status, 403);
    assert_eq!(server.browse("/console", &[&cookie]).status, 200);
    let response = logout(&[&cookie]);
    let name = format!("jamjam-dev-{}", server.server.address.port());
    assert_eq!(response.status, 204);
    assert_eq!(response.header("set-cookie"), format!("{name}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0"));
    server.server.line_starting_with("http: session ended source=127.0.0.1");
    assert_eq!(server.browse("/console", &[&cookie]).status, 401);
    assert!(server.browse("/console", &[&other]).body.contains("id=\"logout\""));
    let password = LinkServer::start(&["--docs-password", "sesame"]);
    assert!(!password.browse("/console", &[RIGHT]).body.contains("id=\"logout\""));
    assert_eq!(request(&password.server, "POST", "/console/logout", &[RIGHT]).status, 404);
}

/// A `Basic` challenge would open a dialog in which no password is right.
#[test]
fn response_without_a_session_explains_how_to_get_a_link() {
    let mut server = LinkServer::start(&[]);
    server.file();
    let advice = format!("kill -USR1 {}", server.server.id());
    let page = server.browse("/console", &[HTML]);
    assert_eq!((page.status, page.header("content-type")), (401, "text/html; charset=utf-8"));
    assert_eq!(page.header("www-authenticate"), "Link realm=\"docs\"");
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; "), "{page:?}");
    assert!(page.body.contains(&advice) && page.body.len() < 2_000, "{page:?}");
    let json = server.browse("/console/state", &[]);
    assert!(json.status == 401 && json.error().contains(&advice), "{json:?}");
    let used = server.browse("/start?login=x", &[HTML]);
    assert!(
        used.status == 401 && used.body.contains("has already been used or is invalid") && used.body.contains(&advice),
        "{used:?}"
    );
}

#[test]
fn link_that_cannot_be_written_is_reported() {
    let mut server = Server::start_signaling_as(&["--host", "127.0.0.1", "--port", "0"], |command| {
        command.env("TMPDIR", "/nonexistent").env("XDG_RUNTIME_DIR", "/nonexistent");
    });
    let line = server
        .line_starting_with("http: cannot write the login link to a file; set XDG_RUNTIME_DIR, or set DOCS_PASSWORD ");
    assert_eq!(line.level, "WARN");
    assert_eq!(request(&server, "GET", "/console", &[]).status, 401);
}

#[cfg(target_os = "linux")]
#[test]
fn server_without_loopback_has_no_link() {
    let Some(ip) = other_addresses().first().copied() else {
        eprintln!("SKIPPED: this machine has only loopback addresses");
        return;
    };
    let mut server = LinkServer::start(&["--host", &ip.to_string()]);
    server.server.line_starting_with(
        "http: no password is set, so these pages reject every login; set DOCS_PASSWORD or give --admin-token-remote",
    );
    let response = server.browse("/console", &[]);
    let error = response.error();
    assert!(error.contains("--docs-password-file") && error.contains("--admin-token-remote"), "{response:?}");
    // For `Basic`, a browser would request a password, and no password would be right.
    let page = server.browse("/console", &[HTML]);
    assert_eq!((page.status, page.header("www-authenticate")), (401, "Link realm=\"docs\""));
    assert!(page.body.contains("<code>--admin-token-remote</code>"), "{page:?}");
    assert_eq!(server.secrets(), [""; 0]);
}

/// The tool `script`, which every Linux system has, provides a terminal.
#[cfg(target_os = "linux")]
#[test]
fn terminal_shows_a_new_link_each_time_and_no_file_is_written() {
    let mut printed = std::collections::BTreeSet::new();
    for redirected in ["", " 2>/dev/null"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("address");
        let command = format!(
            "{} signaling-server --host 127.0.0.1 --port 0 --address-file {}{redirected}",
            env!("CARGO_BIN_EXE_jamjam-dev"),
            file.display()
        );
        let mut terminal = Command::new("script");
        for (name, value) in program(&[]).get_envs() {
            match value {
                Some(value) => terminal.env(name, value),
                None => terminal.env_remove(name),
            };
        }
        let mut child = terminal
            .args(["-qefc", &command, "/dev/null"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("Login link")).unwrap();
        let address: SocketAddr = poll_until("an address", || fs::read_to_string(&file).ok()?.trim().parse().ok());
        let link = line.trim_end().strip_prefix(&format!("Login link, valid once: http://{address}")).expect(&line);
        let host = format!("Host: {address}");
        let cookie = cookie(&send_to(address, "GET", link, &[&host], ""));
        assert_eq!(send_to(address, "POST", "/admin/shutdown", &[JSON, &host, &cookie], "{}").status, 202);
        let rest: Vec<String> = lines.collect();
        let secret = link.rsplit('=').next().unwrap();
        assert!(!rest.iter().any(|line| line.contains(secret) || line.contains("link written")), "{rest:?}");
        assert!(child.wait().unwrap().success());
        printed.insert(link.to_owned());
    }
    assert_eq!(printed.len(), 2);
}
