//! The `OpenAPI` document and its page. The program serves everything that the document describes. Alternative spellings of a path do
//! not bypass the login.

use boon::{Compiler, Schemas};
use jamjam_dev::signaling::Dialect;
use serde_json::Value;

use crate::signaling_server::http::login::{JSON, RIGHT, WRONG};
use crate::signaling_server::http::request::{get, request, send};
use test_support::server::process::Server;

const PAGES: [&str; 4] = ["/docs", "/docs/", "/docs/swagger.json", "/openapi.json"];

fn start_with_password(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--docs-password", "sesame"], options].concat())
}

fn document(server: &Server) -> Value {
    let response = request(server, "GET", "/openapi.json", &[RIGHT]);
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"));
    serde_json::from_str(&response.body).unwrap()
}

#[test]
fn page_and_its_resources_are_embedded_and_need_the_login() {
    let server = start_with_password(&[]);
    for path in PAGES {
        for headers in [&[][..], &[WRONG]] {
            let response = request(&server, "GET", path, headers);
            assert_eq!((response.status, response.header("www-authenticate")), (401, "Basic realm=\"docs\""), "{path}");
        }
        let head = request(&server, "HEAD", path, &[RIGHT]);
        assert_eq!((head.status, head.header("x-content-type-options")), (200, "nosniff"), "{path}");
        assert_eq!(head.header("cache-control"), "private, no-cache", "{path}");
        let policy = head.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{path}: {policy}");
        // The policy permits no other host, no inline scripts and no code from strings.
        assert!(!policy.contains("http") && !policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    }
    for page in ["/docs", "/docs/"] {
        let response = request(&server, "GET", page, &[RIGHT]);
        assert_eq!(response.header("content-type"), "text/html; charset=utf-8");
        assert!(
            response.body.contains("/static/swagger-ui-bundle.js") && !response.body.contains("://"),
            "{}",
            response.body
        );
    }
    assert!(!get(&server, "/static/docs.js").body.contains("://"));
    for (file, encoding) in [("swagger-ui-bundle.js", "gzip"), ("swagger-ui.css", "gzip"), ("favicon-32x32.png", "")] {
        let head = request(&server, "HEAD", &format!("/static/{file}"), &[]);
        assert_eq!((head.status, head.header("content-encoding")), (200, encoding), "{file}");
    }
    assert_eq!(document(&server).to_string(), {
        let response = request(&server, "GET", "/docs/swagger.json", &[RIGHT]);
        serde_json::from_str::<Value>(&response.body).unwrap().to_string()
    });
    // Other paths below `/docs` are not served. For example, `oauth2-redirect.html` is a file of Swagger UI that runs a script. The page
    // does not need this file.
    for path in
        ["/docs/oauth2-redirect.html", "/docs/index.html", "/docs/x", "/docs/..", "/docs/%2e%2e%2fx", "/docs/%ff"]
    {
        assert_eq!(request(&server, "GET", path, &[RIGHT]).error(), "Not found", "{path}");
    }
}

#[test]
fn document_describes_the_enabled_dialects() {
    let all = document(&start_with_password(&[]));
    assert_eq!(all["openapi"], "3.1.0");
    assert_eq!(all["info"]["version"], env!("CARGO_PKG_VERSION"));
    let about = all["info"]["description"].as_str().unwrap();
    for dialect in Dialect::ALL.map(Dialect::name) {
        assert!(about.contains(&format!("| {dialect} | `/")), "{about}");
    }
    assert!(all["paths"]["/auth/token"].is_object());
    let alone = document(&start_with_password(&["--dialect", "webrtc"]));
    // Tokens also admit to WebRTC rooms.
    assert!(alone["paths"]["/auth/token"].is_object() && alone["paths"]["/rooms"].is_object());
    assert!(document(&start_with_password(&["--dialect", "bbx"]))["paths"]["/auth/token"].is_null());
    let tags: Vec<&str> = alone["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    assert!(tags.contains(&"monitoring") && !tags.contains(&"broadcast"), "{tags:?}");
}

#[test]
fn asyncapi_document_describes_the_enabled_dialects() {
    let document = |options: &[&str]| -> Value {
        let response = get(&Server::start_signaling(options), "/docs/asyncapi.json");
        assert_eq!((response.status, response.header("content-type")), (200, "application/json"));
        serde_json::from_str(&response.body).unwrap()
    };
    let all = document(&[]);
    assert_eq!((&all["asyncapi"], &all["info"]["version"]), (&"3.0.0".into(), &env!("CARGO_PKG_VERSION").into()));
    let dialects = |document: &Value| -> Vec<Value> {
        document["channels"].as_object().unwrap().values().map(|channel| channel["tags"][0]["name"].clone()).collect()
    };
    for dialect in Dialect::ALL.map(Dialect::name) {
        assert!(dialects(&all).contains(&dialect.into()), "{dialect}");
    }
    assert_eq!(dialects(&document(&["--dialect", "webrtc"])), ["webrtc"]);
    let channel = &document(&["--broadcast-envelope", "dynode"])["channels"]["broadcast"];
    assert!(channel["messages"]["server.broadcast"].is_object(), "{channel}");
}

#[test]
fn page_of_messages_is_public_and_loads_nothing_from_elsewhere() {
    let server = Server::start_signaling(&[]);
    let page = get(&server, "/docs/messages");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self'; "), "{page:?}");
    assert!(page.body.contains("/static/messages.js") && !page.body.contains("://"), "{}", page.body);
    let script = get(&server, "/static/messages.js");
    assert_eq!((script.status, script.header("content-type")), (200, "text/javascript; charset=utf-8"));
    assert!(script.body.lines().count() <= 120 && !script.body.contains("innerHTML"), "{}", script.body);
    assert_eq!(get(&server, "/static/messages.css").header("content-type"), "text/css; charset=utf-8");
    for path in ["/static/x", "/static/..", "/docs/messages/x"] {
        assert_eq!(get(&server, path).error(), "Not found", "{path}");
    }
}

#[test]
fn responses_match_the_document() {
    let server = start_with_password(&["--hmac-secret", "test-secret", "--rate-limit-token", "1/15m"]);
    let document = document(&server);
    let mut compiler = Compiler::new();
    compiler.add_resource("memory:///openapi.json", document.clone()).unwrap();
    let mut check = |method: &str, path: &str, headers: &[&str], body: &str, described: &str, status: u16| {
        let response = send(&server, method, path, headers, body);
        assert_eq!(response.status, status, "{method} {path}: {}", response.body);
        let operation = &document["paths"][described][method.to_lowercase()];
        let schema = &operation["responses"][status.to_string()]["content"]["application/json"]["schema"]["$ref"];
        let schema = schema.as_str().unwrap_or_else(|| panic!("{method} {path} {status}: {operation}"));
        let mut schemas = Schemas::new();
        let index = compiler.compile(&format!("memory:///openapi.json{schema}"), &mut schemas).unwrap();
        let body: Value = serde_json::from_str(&response.body).unwrap();
        schemas.validate(&body, index).unwrap_or_else(|error| panic!("{method} {path}: {error:#}\n{body}"));
        // An empty object would match every schema that requires no member.
        assert!(body.as_object().is_some_and(|members| !members.is_empty()), "{body}");
    };
    let url = format!("ws://{}/?roomId=r&userId=u&userName=n", server.address);
    let stream = std::net::TcpStream::connect(server.address).unwrap();
    let (mut socket, _) = tungstenite::client(url, stream).unwrap();
    socket.read().unwrap();
    check("GET", "/health", &[], "", "/health", 200);
    check("GET", "/health?detailed=true", &[RIGHT], "", "/health", 200);
    check("GET", "/health?detailed=true", &[], "", "/health", 401);
    check("GET", "/rooms", &[], "", "/rooms", 200);
    check("POST", "/auth/token", &[], r#"{"clientId":"a","room":"r"}"#, "/auth/token", 200);
    check("POST", "/auth/token", &[], "", "/auth/token", 429);
    let token = format!("Authorization: Bearer {}", crate::signaling_server::http::login::ANN);
    check("POST", "/radio/postcontent", &[&token], "{}", "/{room}/postcontent", 200);
    check("POST", "/radio/postcontent", &[&token], "", "/{room}/postcontent", 400);
    check("POST", "/radio/postcontent", &[], "", "/{room}/postcontent", 401);
    let typed = r#"{"type":"x","timestamp":"2026-01-01T00:00:00Z","data":{}}"#;
    check("POST", "/rooms/radio/post", &[&token], typed, "/rooms/{room}/post", 202);
    check("POST", "/rooms/radio/post", &[&token], "{}", "/rooms/{room}/post", 422);
    let rooms = "/admin/bbx/rooms";
    check("POST", rooms, &[RIGHT, JSON], r#"{"expiresIn":60}"#, rooms, 201);
    check("POST", rooms, &[RIGHT, JSON], r#"{"expires":60}"#, rooms, 422);
    check("GET", rooms, &[RIGHT], "", rooms, 200);
    check("DELETE", "/admin/bbx/rooms/nowhere", &[RIGHT, JSON], "", "/admin/bbx/rooms/{code}", 404);
    check("POST", "/admin/bbx/param", &[RIGHT, JSON], r#"{"name":"a","value":1}"#, "/admin/bbx/param", 200);
    check("PUT", "/admin/bbx/params/a", &[RIGHT, JSON], r#"{"min":0,"max":1}"#, "/admin/bbx/params/{name}", 200);
    check("POST", "/admin/bbx/visualization", &[RIGHT, JSON], r#"{"data":[1]}"#, "/admin/bbx/visualization", 200);
    check("POST", "/admin/shutdown", &[RIGHT, "Origin: null"], "{}", "/admin/shutdown", 403);
    check("POST", "/admin/shutdown", &[RIGHT, JSON], "{}", "/admin/shutdown", 202);
}

/// Alternative spellings of `path`, for example with dot segments or percent-encoded characters. For each spelling, there are HTTP servers
/// that treat it as equivalent to `path`.
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
        "/{}?token=admin",
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
fn no_spelling_of_a_path_bypasses_the_login() {
    let mut server = start_with_password(&["--host", "0.0.0.0", "--trust-proxy"]);
    let targets = [
        &PAGES[..],
        &["/admin/shutdown", "/admin/bbx/rooms", "/admin/bbx/events", "/metrics", "/health?detailed=true"],
    ]
    .concat();
    let mut clients = 0_u32;
    for target in targets {
        for spelling in spellings(target).into_iter().chain([target.to_owned()]) {
            for (method, body) in
                [("GET", ""), ("HEAD", ""), ("OPTIONS", ""), ("POST", "{}"), ("PUT", "{}"), ("BREW", "")]
            {
                // Each request has an address of its own, so that the limit on failed logins does not hide a missing check.
                clients += 1;
                let forwarded =
                    &*format!("X-Forwarded-For: 10.{}.{}.{}", clients >> 16, clients >> 8 & 255, clients & 255);
                for headers in [&[JSON, forwarded][..], &[JSON, WRONG, forwarded]] {
                    let response = send(&server, method, &spelling, headers, body);
                    let what = format!("{method} {spelling}: {} {}", response.status, response.body);
                    let is_plain_health = response.status == 200 && response.body.contains("\"uptime\"");
                    let is_head_of_health = method == "HEAD" && response.header("access-control-allow-origin") == "*";
                    if !(is_plain_health || is_head_of_health) {
                        // Some spellings mean `/`, the public start page.
                        let is_start_page =
                            response.status == 200 && response.header("content-type").starts_with("text/html");
                        let statuses = [204, 400, 401, 403, 404, 405, 426];
                        assert!(is_start_page || statuses.contains(&response.status), "{what}");
                    }
                    for protected in
                        ["swagger", "openapi", "jamjam_signaling_", "stopping", "code", "connected", "details\":"]
                    {
                        assert!(!response.body.contains(protected), "{what}");
                    }
                }
            }
        }
    }
    assert!(server.is_running());
    assert_eq!(get(&server, "/healthz").status, 200);
}
