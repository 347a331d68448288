//! `docs/troubleshooting.md` contains the messages in the code: the errors of connections, the advice on them, and the causes and remedies
//! of close codes. The test program `program` runs a case for each row.

use std::fs;

use super::plain_words::root;

/// Errors without a row. The server has no part in the first ones. A DNS server that does not answer cannot be simulated in a test. The
/// error for a certificate of a MOQT server is printed with the advice for `wss://`.
const LOCAL_ERRORS: &[&str] = &[
    "cannot start the event loop of the network client",
    "cannot open a UDP socket",
    "interrupted before the connection was established",
    "interrupted before the room was joined",
    "cannot start a thread",
    "no address found for",
    "certificate not accepted",
];

fn source(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The part of `text` from `start` to the next line that contains only `}`.
fn item<'a>(text: &'a str, start: &str) -> &'a str {
    let from = text.find(start).unwrap_or_else(|| panic!("{start} is missing"));
    let length = text[from..].find("\n}\n").unwrap_or_else(|| panic!("{start} has no end"));
    &text[from..from + length]
}

/// The string literals in `code`, without comments and with joined lines.
fn literals(code: &str) -> Vec<String> {
    let mut joined = String::new();
    for line in code.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        match line.strip_suffix('\\') {
            Some(continued) => joined.push_str(continued),
            None => joined.extend([line, "\n"]),
        }
    }
    joined.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The longest part of a message without placeholders.
fn fixed_part(message: &str) -> &str {
    let parts = message.split('{').map(|part| part.split_once('}').map_or(part, |(_, fixed)| fixed));
    parts.max_by_key(|part| part.len()).unwrap_or_default().trim_matches(['`', ' '])
}

/// The beginning of a text, which identifies it.
fn beginning(text: &str) -> &str {
    text.get(..30).unwrap_or(text)
}

#[test]
fn every_connection_error_is_in_the_table_of_symptoms() {
    let page = source("docs/troubleshooting.md");
    let mut missing = Vec::new();
    let mut checked = 0;
    for (path, items) in [
        ("src/io/websocket/handshake.rs", &["pub enum UpgradeFailure"][..]),
        ("src/io/websocket/connect.rs", &["pub enum WebSocketConnectError"]),
        ("src/io/moqt/connect.rs", &["pub enum MoqtConnectError"]),
        ("src/signaling/client.rs", &["pub enum RoomError"]),
        ("src/io/signaling/client.rs", &["pub enum RoomSessionError"]),
    ] {
        let text = source(path);
        for name in items {
            for attribute in item(&text, name).split("#[error(").skip(1) {
                let Some(message) = literals(attribute.split("\n    ///").next().unwrap()).into_iter().next() else {
                    continue;
                };
                let fixed = fixed_part(&message);
                checked += 1;
                let is_documented = fixed.is_empty() || page.contains(beginning(fixed));
                if !is_documented && !LOCAL_ERRORS.iter().any(|local| message.starts_with(local)) {
                    missing.push(format!("{path}: {message}"));
                }
            }
        }
    }
    for (path, name) in [
        ("src/io/websocket/connect.rs", "fn timeout_advice"),
        ("src/io/websocket/handshake.rs", "fn status_advice"),
        ("src/io/moqt/no_reply.rs", "impl fmt::Display for PortUse"),
        ("src/io/moqt/connect.rs", "impl MoqtConnectOptions {"),
        ("src/io/moqt/connect.rs", "fn selected_version"),
        ("src/io/moqt/connect.rs", "async fn connect_webtransport"),
        ("src/io/moqt/connect.rs", "impl MoqtConnectError {"),
    ] {
        for message in literals(item(&source(path), name)) {
            let fixed = fixed_part(&message);
            checked += 1;
            let is_local = LOCAL_ERRORS.iter().any(|local| message.starts_with(local));
            if fixed.len() > 15 && !is_local && !page.contains(beginning(fixed)) {
                missing.push(format!("{path}: {message}"));
            }
        }
    }
    assert!(checked > 45, "{checked}");
    assert!(missing.is_empty(), "without a row in docs/troubleshooting.md:\n{}", missing.join("\n"));
}

#[test]
fn every_close_diagnosis_is_in_the_table_of_close_codes() {
    let page = source("docs/troubleshooting.md");
    let code = source("src/signaling/close_code.rs");
    let texts = [item(&code, "const DIAGNOSES"), item(&code, "pub fn diagnose")].map(literals).concat();
    // Parts of close reasons are in lower case, and the page contains whole reasons.
    let page = page.to_lowercase() + &page;
    assert!(texts.len() > 90, "{}", texts.len());
    let missing: Vec<String> = texts.into_iter().filter(|text| !page.contains(text.as_str())).collect();
    assert!(missing.is_empty(), "not in docs/troubleshooting.md:\n{}", missing.join("\n"));
}

#[test]
fn every_row_of_the_table_of_symptoms_has_a_case() {
    let page = source("docs/troubleshooting.md");
    let cases = literals(&source("tests/program/send_and_probe/troubleshooting.rs"));
    let close_codes = page.find("\n## Close codes\n").unwrap()..page.find("\n## MOQT\n").unwrap();
    let rows = page[..close_codes.start].lines().chain(page[close_codes.end..].lines());
    let messages: Vec<&str> = rows
        .filter_map(|row| row.strip_prefix("| `"))
        .map(|row| row.split(" | ").next().unwrap())
        .map(|cell| cell.strip_prefix("` ").unwrap_or(cell).trim_end_matches(" ``"))
        .map(|cell| if cell.matches('`').count() == 1 { cell.trim_end_matches('`') } else { cell })
        .collect();
    assert!(messages.len() > 75, "{}", messages.len());
    let untested: Vec<&&str> = messages.iter().filter(|message| !cases.iter().any(|case| case == **message)).collect();
    assert!(untested.is_empty(), "without a case: {untested:#?}");
}
