//! Sends one HTTP request with exact bytes, and parses its response.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;

use serde_json::Value;

use super::process::Server;
use super::tcp;

/// A response: status, headers by their lower-case names, body.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error in the body, which must be a JSON object with no other members.
    pub fn error(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        let body = self.json();
        let members = body.as_object().unwrap();
        assert_eq!(members.len(), 1, "{self:?}");
        members["error"].as_str().unwrap().to_owned()
    }
}

/// Sends one request with these headers, and reads until the server closes the connection.
pub fn request(server: &Server, method: &str, path: &str, headers: &[&str]) -> Response {
    send(server, method, path, headers, "")
}

/// Like [`request`], with a body.
pub fn send(server: &Server, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
    send_to(server.address, method, path, headers, body)
}

/// Like [`send`], to a server at any address.
pub fn send_to(server: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
    exchange(tcp(server), method, path, headers, body)
}

/// Like [`send_to`], on a connection, which may use TLS.
pub fn exchange(mut stream: impl Read + Write, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
    let mut head = vec![format!("{method} {path} HTTP/1.1")];
    for (name, usual) in [("Host:", "Host: x"), ("Connection:", "Connection: close")] {
        head.extend((!headers.iter().any(|header| header.starts_with(name))).then(|| usual.to_owned()));
    }
    head.extend((!body.is_empty()).then(|| format!("Content-Length: {}", body.len())));
    head.extend(headers.iter().map(|&header| header.to_owned()));
    // The server may respond before it has read the whole request. Therefore, the request is sent in one write.
    let request = format!("{}\r\n\r\n{body}", head.join("\r\n"));
    let _ = stream.write_all(request.as_bytes());
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let first = line();
    let status = first.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{first}"))[..3].parse().unwrap();
    let mut headers = BTreeMap::new();
    loop {
        let line = line();
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length =
        if method == "HEAD" { 0 } else { headers.get("content-length").map_or(0, |text| text.parse().unwrap()) };
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    if headers.get("connection").map(String::as_str) == Some("close") {
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "{path}: more than the content length");
    }
    Response { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
}

/// Requests a page without additional headers.
pub fn get(server: &Server, path: &str) -> Response {
    request(server, "GET", path, &[])
}
