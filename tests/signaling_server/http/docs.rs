//! The description of the HTTP API and its page: all of it from the program, and behind the login however it is asked for.

use boon::{Compiler, Schemas};
use serde_json::Value;

use crate::http::ask::{ask, get, send};
use crate::http::login::{JSON, RIGHT, WRONG};
use test_support::server::process::Server;

const PAGES: [&str; 9] = [
    "/docs",
    "/docs/",
    "/docs/swagger.json",
    "/openapi.json",
    "/docs/page.js",
    "/docs/page.css",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
    "/docs/favicon-32x32.png",
];

fn guarded(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--docs-password", "sesame"], options].concat())
}

fn document(server: &Server) -> Value {
    let answer = ask(server, "GET", "/openapi.json", &[RIGHT]);
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn the_page_and_all_it_needs_come_from_here_and_take_the_login() {
    let server = guarded(&["--rate-limit-login", "off"]);
    for path in PAGES {
        for headers in [&[][..], &[WRONG]] {
            let answer = ask(&server, "GET", path, headers);
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Basic realm=\"docs\""), "{path}");
        }
        let head = ask(&server, "HEAD", path, &[RIGHT]);
        assert_eq!((head.status, head.header("x-content-type-options")), (200, "nosniff"), "{path}");
        assert_eq!(head.header("cache-control"), "private, no-cache", "{path}");
        let policy = head.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{path}: {policy}");
        // Nothing of another host, no script in the page itself, nothing made of strings.
        assert!(!policy.contains("http") && !policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        let packed = path.contains("swagger-ui") || path.contains("favicon");
        assert_eq!(head.header("content-encoding"), if packed { "gzip" } else { "" }, "{path}");
    }
    for page in ["/docs", "/docs/"] {
        let answer = ask(&server, "GET", page, &[RIGHT]);
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert!(answer.body.contains("/docs/swagger-ui-bundle.js") && !answer.body.contains("://"), "{}", answer.body);
    }
    assert!(!ask(&server, "GET", "/docs/page.js", &[RIGHT]).body.contains("://"));
    assert_eq!(document(&server).to_string(), {
        let answer = ask(&server, "GET", "/docs/swagger.json", &[RIGHT]);
        serde_json::from_str::<Value>(&answer.body).unwrap().to_string()
    });
    // The rest of Swagger UI is not served: one of its pages has a script in it.
    for path in
        ["/docs/oauth2-redirect.html", "/docs/index.html", "/docs/x", "/docs/..", "/docs/%2e%2e%2fx", "/docs/%ff"]
    {
        assert_eq!(ask(&server, "GET", path, &[RIGHT]).error(), "Not found", "{path}");
    }
}

#[test]
fn the_document_tells_of_the_dialects_that_are_spoken() {
    let all = document(&guarded(&[]));
    assert_eq!(all["openapi"], "3.1.0");
    assert_eq!(all["info"]["version"], env!("CARGO_PKG_VERSION"));
    let about = all["info"]["description"].as_str().unwrap();
    for dialect in ["jamjam", "bbx", "webrtc", "broadcast"] {
        assert!(about.contains(&format!("| {dialect} | `/")), "{about}");
    }
    assert!(all["paths"]["/auth/token"].is_object());
    let alone = document(&guarded(&["--dialect", "webrtc"]));
    assert!(alone["paths"]["/auth/token"].is_null() && alone["paths"]["/rooms"].is_object());
    let tags: Vec<&str> = alone["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    assert!(tags.contains(&"monitoring") && !tags.contains(&"broadcast"), "{tags:?}");
}

#[test]
fn answers_are_what_the_document_says() {
    let server = guarded(&["--hmac-secret", "test-secret", "--rate-limit-token", "1/15m"]);
    let document = document(&server);
    let mut compiler = Compiler::new();
    compiler.add_resource("memory:///openapi.json", document.clone()).unwrap();
    let mut is = |method: &str, path: &str, headers: &[&str], body: &str, described: &str, status: u16| {
        let answer = send(&server, method, path, headers, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        let operation = &document["paths"][described][method.to_lowercase()];
        let schema = &operation["responses"][status.to_string()]["content"]["application/json"]["schema"]["$ref"];
        let schema = schema.as_str().unwrap_or_else(|| panic!("{method} {path} {status}: {operation}"));
        let mut schemas = Schemas::new();
        let index = compiler.compile(&format!("memory:///openapi.json{schema}"), &mut schemas).unwrap();
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        schemas.validate(&told, index).unwrap_or_else(|error| panic!("{method} {path}: {error:#}\n{told}"));
        // What has no members cannot be wrong.
        assert!(told.as_object().is_some_and(|members| !members.is_empty()), "{told}");
    };
    let url = format!("ws://{}/?roomId=r&userId=u&userName=n", server.address);
    let stream = std::net::TcpStream::connect(server.address).unwrap();
    let (mut socket, _) = tungstenite::client(url, stream).unwrap();
    socket.read().unwrap();
    is("GET", "/health", &[], "", "/health", 200);
    is("GET", "/health?detailed=true", &[RIGHT], "", "/health", 200);
    is("GET", "/health?detailed=true", &[], "", "/health", 401);
    is("GET", "/rooms", &[], "", "/rooms", 200);
    is("POST", "/auth/token", &[], r#"{"clientId":"a","room":"r"}"#, "/auth/token", 200);
    is("POST", "/auth/token", &[], "", "/auth/token", 429);
    let token = format!("Authorization: Bearer {}", crate::http::login::ANN);
    is("POST", "/radio/postcontent", &[&token], "{}", "/{room}/postcontent", 200);
    is("POST", "/radio/postcontent", &[&token], "", "/{room}/postcontent", 400);
    is("POST", "/radio/postcontent", &[], "", "/{room}/postcontent", 401);
    let typed = r#"{"type":"x","timestamp":"2026-01-01T00:00:00Z","data":{}}"#;
    is("POST", "/rooms/radio/post", &[&token], typed, "/rooms/{room}/post", 202);
    is("POST", "/rooms/radio/post", &[&token], "{}", "/rooms/{room}/post", 422);
    let rooms = "/admin/bbx/rooms";
    is("POST", rooms, &[RIGHT, JSON], r#"{"expiresIn":60}"#, rooms, 201);
    is("POST", rooms, &[RIGHT, JSON], r#"{"expires":60}"#, rooms, 422);
    is("GET", rooms, &[RIGHT], "", rooms, 200);
    is("DELETE", "/admin/bbx/rooms/nowhere", &[RIGHT, JSON], "", "/admin/bbx/rooms/{code}", 404);
    is("POST", "/admin/bbx/param", &[RIGHT, JSON], r#"{"name":"a","value":1}"#, "/admin/bbx/param", 200);
    is("PUT", "/admin/bbx/params/a", &[RIGHT, JSON], r#"{"min":0,"max":1}"#, "/admin/bbx/params/{name}", 200);
    is("POST", "/admin/bbx/visualization", &[RIGHT, JSON], r#"{"data":[1]}"#, "/admin/bbx/visualization", 200);
    is("POST", "/admin/shutdown", &[RIGHT], "{}", "/admin/shutdown", 403);
    is("POST", "/admin/shutdown", &[RIGHT, JSON], "{}", "/admin/shutdown", 202);
}

/// Other spellings of a path, of which some server somewhere takes each for the path.
fn spellings(path: &str) -> Vec<String> {
    let bare = path.trim_start_matches('/');
    let (first, rest) = bare.split_once('/').unwrap_or((bare, ""));
    let mut spellings: Vec<String> = [
        "//{}",
        "///{}",
        "/./{}",
        "/../{}",
        "/x/../{}",
        "/health/../{}",
        "/docs/../{}",
        "/%2e/{}",
        "/%2e%2e/{}",
        "/x/%2e%2e/{}",
        "/%2f{}",
        "/.%2f{}",
        "/%5c{}",
        "/;/{}",
        "/{};x",
        "/{}/",
        "/{}//",
        "/{}/.",
        "/{}/..",
        "/{}%2f",
        "/{}%00",
        "/{}%20",
        "/{}.",
        "/{}?",
        "/{}?x=/health",
        "/{}?login=admin",
        "/{}#x",
        "http://x/{}",
        "http://x//{}",
        "http://x/../{}",
    ]
    .iter()
    .map(|form| form.replace("{}", bare))
    .collect();
    spellings.push(format!("/{}/{rest}", first.to_uppercase()));
    spellings.push(format!("/%{:02x}{}/{rest}", first.as_bytes()[0], &first[1..]));
    spellings.push(format!("/{first}%2f{rest}"));
    spellings.push(format!("/{first}//{rest}"));
    spellings.push(format!("/{first}/./{rest}"));
    spellings.push(format!("/rooms/{bare}"));
    spellings
}

#[test]
fn no_spelling_of_a_path_gets_around_the_login() {
    let mut server = guarded(&["--host", "0.0.0.0", "--rate-limit-login", "off"]);
    let targets = [
        &PAGES[..],
        &["/admin/shutdown", "/admin/bbx/rooms", "/admin/bbx/events", "/metrics", "/health?detailed=true"],
    ]
    .concat();
    for target in targets {
        for spelling in spellings(target).into_iter().chain([target.to_owned()]) {
            for (method, body) in
                [("GET", ""), ("HEAD", ""), ("OPTIONS", ""), ("POST", "{}"), ("PUT", "{}"), ("BREW", "")]
            {
                for headers in [&[JSON][..], &[JSON, WRONG]] {
                    let answer = send(&server, method, &spelling, headers, body);
                    let what = format!("{method} {spelling}: {} {}", answer.status, answer.body);
                    let is_plain_health = answer.status == 200 && answer.body.contains("\"uptime\"");
                    let is_head_of_health = method == "HEAD" && answer.header("access-control-allow-origin") == "*";
                    if !(is_plain_health || is_head_of_health) {
                        assert!([204, 302, 400, 401, 403, 404, 405, 426].contains(&answer.status), "{what}");
                        assert!(answer.status != 302 || answer.header("location") == "/docs", "{what}");
                    }
                    for protected in
                        ["swagger", "openapi", "jamjam_signaling_", "stopping", "code", "connected", "details\":"]
                    {
                        assert!(!answer.body.contains(protected), "{what}");
                    }
                }
            }
        }
    }
    assert!(server.is_running());
    assert_eq!(get(&server, "/healthz").status, 200);
}
