//! The program serves everything that its `OpenAPI` document describes. No spelling of a path bypasses the login.

use std::collections::BTreeSet;

use boon::{Compiler, Schemas};
use jamjam_dev::signaling::Dialect;
use serde_json::Value;

use super::login::{ANN, JSON, RIGHT, WRONG, is_challenge};
use crate::signaling_server::{start_with_password, webrtc_member};
use test_support::server::{Server, get, request, send};

/// The paths that require the login.
const PROTECTED: &str = "/docs /docs/ /docs/swagger.json /openapi.json /console /console/state /console/disconnect \
                         /console/close-room /examples/qr.svg /admin/shutdown /admin/bbx/rooms /admin/bbx/rooms/1234 \
                         /admin/bbx/param /admin/bbx/params/freq /admin/bbx/visualization \
                         /admin/bbx/events /admin/links /metrics /health?detailed=true";

fn document(server: &Server) -> Value {
    let response = request(server, "GET", "/openapi.json", &[RIGHT]);
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"));
    response.json()
}

#[test]
fn messages_are_described_for_the_enabled_dialects() {
    let server = start_with_password(&[]);
    let all = document(&server);
    assert_eq!(request(&server, "GET", "/docs/swagger.json", &[RIGHT]).body, all.to_string());
    assert_eq!((&all["openapi"], &all["info"]["version"]), (&"3.1.0".into(), &env!("CARGO_PKG_VERSION").into()));
    let messages = get(&server, "/docs/asyncapi.json").json();
    assert_eq!((&messages["asyncapi"], &messages["info"]["version"]), (&"3.0.0".into(), &all["info"]["version"]));
    let described: BTreeSet<&str> =
        members(&messages["channels"]).filter_map(|(_, channel)| channel["tags"][0]["name"].as_str()).collect();
    assert_eq!(described, Dialect::ALL.map(Dialect::name).into());
    for document in [&all, &messages] {
        let text = document.to_string();
        let pointers = text.split("\"$ref\":\"#").skip(1).filter_map(|reference| reference.split('"').next());
        assert!(pointers.inspect(|it| assert!(document.pointer(it).is_some(), "{it}")).count() > 60);
    }
    let webrtc = start_with_password(&["--dialect", "webrtc"]);
    assert_eq!(members(&get(&webrtc, "/docs/asyncapi.json").json()["channels"]).count(), 1);
    let paths: BTreeSet<String> = members(&document(&webrtc)["paths"]).map(|(path, _)| path.clone()).collect();
    assert!(paths.contains("/auth/token") && !paths.iter().any(|path| path.contains("bbx")), "{paths:?}");
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().unwrap().iter()
}

#[test]
fn path_parameters_and_security_schemes_are_defined() {
    let document = document(&start_with_password(&[]));
    let operations =
        members(&document["paths"]).flat_map(|(path, item)| members(item).map(move |(_, operation)| (path, operation)));
    for (path, operation) in operations {
        let in_path: BTreeSet<&str> = path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let required = parameters.filter(|one| one["in"] == "path" && one["required"] == true);
        assert_eq!(required.filter_map(|one| one["name"].as_str()).collect::<BTreeSet<_>>(), in_path, "{path}");
        let needed = operation["security"].as_array().into_iter().flatten();
        for (scheme, _) in needed.flat_map(members) {
            assert!(document["components"]["securitySchemes"][scheme].is_object(), "{path}: {scheme}");
        }
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
        let body = response.json();
        schemas.validate(&body, index).unwrap_or_else(|error| panic!("{method} {path}: {error:#}\n{body}"));
        // An empty object would match every schema that requires no member.
        assert!(body.as_object().is_some_and(|members| !members.is_empty()), "{body}");
    };
    let _member = webrtc_member(server.address, "r", "u");
    check("GET", "/health", &[], "", "/health", 200);
    check("GET", "/health?detailed=true", &[RIGHT], "", "/health", 200);
    check("GET", "/health?detailed=true", &[], "", "/health", 401);
    check("GET", "/rooms", &[], "", "/rooms", 200);
    check("POST", "/auth/token", &[], r#"{"clientId":"a","room":"r"}"#, "/auth/token", 200);
    check("POST", "/auth/token", &[], "", "/auth/token", 429);
    let token = format!("Authorization: Bearer {ANN}");
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
}

/// Spellings of a path, in which `{}` is the path without its first slash.
const FORMS: &str = "//{} ///{} /./{} /../{} /x/../{} /health/../{} /docs/../{} /%2e/{} /%2e%2e/{} /x/%2e%2e/{} /%2f{} \
                     /.%2f{} /%5c{} /;/{} /{};x /{}/ /{}// /{}/. /{}/.. /{}%2f /{}%00 /{}%20 /{}. /{}? /{}?x=/health \
                     /{}?token=admin /{}#x http://x/{} http://x//{} http://x/../{}";

/// Alternative spellings of `path`, such as dot segments or percent-encoded characters, each of which some HTTP server treats as `path`.
fn spellings(path: &str) -> Vec<String> {
    let bare = path.trim_start_matches('/');
    let (first, rest) = bare.split_once('/').unwrap_or((bare, ""));
    let mut spellings: Vec<String> = FORMS.split_whitespace().map(|form| form.replace("{}", bare)).collect();
    spellings.push(format!("/{}/{rest}", first.to_uppercase()));
    spellings.push(format!("/%{:02x}{}/{rest}", first.as_bytes()[0], &first[1..]));
    spellings.push(format!("/{first}%2f{rest}"));
    spellings.push(format!("/{first}//{rest}"));
    spellings.push(format!("/{first}/./{rest}"));
    spellings.push(format!("/rooms/{bare}"));
    spellings
}

#[test]
fn every_spelling_of_a_protected_path_needs_the_login() {
    let mut server = start_with_password(&["--host", "0.0.0.0", "--trust-proxy"]);
    let mut clients = 0_u32;
    for target in PROTECTED.split(' ') {
        for spelling in spellings(target).into_iter().chain([target.to_owned()]) {
            let methods = ["GET", "POST", "HEAD", "OPTIONS", "DELETE"];
            for method in &methods[..if spelling == target { 5 } else { 2 }] {
                // Each request has an address of its own, so that the limit on failed logins does not hide a missing check.
                clients += 1;
                let forwarded =
                    &*format!("X-Forwarded-For: 10.{}.{}.{}", clients >> 16, clients >> 8 & 255, clients & 255);
                let body = if *method == "POST" { "{}" } else { "" };
                // Only `GET` of the health is protected.
                let is_exact = spelling == target && (*method == "GET" || !target.starts_with("/health"));
                for headers in [&[JSON, forwarded][..], &[JSON, WRONG, forwarded]] {
                    let response = send(&server, method, &spelling, headers, body);
                    let what = format!("{method} {spelling}: {} {}", response.status, response.body);
                    assert!(!is_exact || *method == "HEAD" || is_challenge(&response), "{what}");
                    // Some spellings mean a public page: the start page or the health without details.
                    let is_public = [204, 200].contains(&response.status)
                        && (response.header("content-type").starts_with("text/html")
                            || response.header("access-control-allow-origin") == "*");
                    assert!(is_public || [400, 401, 403, 404, 405, 426].contains(&response.status), "{what}");
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
