//! The head of HTTP requests and responses. A whole connection of the server reads arbitrary bytes. The client's address, the login, the
//! origin and the WebSocket upgrade are decided as a second, simpler implementation decides them. The client reads an arbitrary response.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jamjam_dev::io::connection_permit::{ConnectionLimiter, ConnectionLimits};
use jamjam_dev::io::http::forwarded::TrustedProxies;
use jamjam_dev::io::http::login::{Credentials, Login, RequestSource};
use jamjam_dev::io::http::{ConnectionInfo, csrf, serve_connection};
use jamjam_dev::io::websocket::handshake::{ClientHandshake, UpgradeFailure, accept_upgrade, is_upgrade_request};
use jamjam_dev::time::Time;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::input::Input;

/// Maximum length of a request head, in bytes, and the bytes of one read that may follow it.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The first byte selects the peer and its trust. The second byte is the length of the pieces. The rest is what the peer sends.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (config, piece) = (input.byte(), 1 + usize::from(input.byte()));
    if config & 0x80 != 0 {
        check_client(input.rest(), piece);
    } else {
        check_server(config, piece, input.rest());
    }
}

/// What the router has received.
#[derive(Clone, Debug)]
struct Seen {
    info: SocketAddr,
    is_forwarded: bool,
    method: Method,
    headers: HeaderMap,
    upgrade: Option<Result<(), String>>,
}

/// A connection of which the peer has sent everything and closed its side.
struct Stream {
    unread: Vec<u8>,
    read: usize,
    piece: usize,
    written: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let end = self.unread.len().min(self.read + self.piece.min(buffer.remaining()));
        buffer.put_slice(&self.unread[self.read..end]);
        self.read = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.lock().expect("no panic").extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn proxies(config: u8) -> Option<TrustedProxies> {
    let networks = ["10.0.0.0/8", "2001:db8::/32"];
    match config & 3 {
        0 => None,
        hops @ 1..=2 => NonZeroUsize::new(hops.into()).map(TrustedProxies::Hops),
        _ => Some(TrustedProxies::Networks(networks.iter().map(|text| text.parse().expect("a network")).collect())),
    }
}

fn check_server(config: u8, piece: usize, request: &[u8]) {
    let peer = match config >> 2 & 3 {
        0 => Ipv4Addr::LOCALHOST,
        1 => Ipv4Addr::new(10, 1, 2, 3),
        _ => Ipv4Addr::new(192, 0, 2, 7),
    };
    let peer = SocketAddr::from((peer, 4_000));
    let proxies = proxies(config);
    let (seen, written) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let stream = Stream { unread: request.to_vec(), read: 0, piece, written: Arc::clone(&written) };
    serve(stream, peer, proxies.clone(), &seen);

    let (seen, written) = (seen.lock().expect("no panic"), written.lock().expect("no panic"));
    assert!(written.is_empty() || written.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&written));
    assert!(written.len() <= 400 * (seen.len() + 1), "{} bytes for {} requests", written.len(), seen.len());
    let Some(first) = seen.first() else { return };
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Request::new(&mut headers);
    // Empty lines before a request are ignored.
    let status = parsed.parse(request).expect("the server accepts only what httparse accepts");
    let httparse::Status::Complete(len) = status else { panic!("the head is incomplete") };
    assert!(len <= MAX_HEAD_BYTES + piece + 512, "the head has {len} bytes");
    assert_eq!(parsed.method, Some(first.method.as_str()));
    // The server joins equal lengths.
    let is_length = |name: &str| name.eq_ignore_ascii_case("content-length");
    let expected = parsed.headers.iter().filter(|header| !is_length(header.name)).count();
    assert_eq!(first.headers.iter().filter(|(name, _)| !is_length(name.as_str())).count(), expected);
    check_forwarded(first, peer, proxies.as_ref(), parsed.headers);
    check_decisions(first);
    if let Some(Ok(())) = &first.upgrade {
        check_upgrade(first, parsed.headers, &written);
    }
}

fn serve(stream: Stream, peer: SocketAddr, proxies: Option<TrustedProxies>, seen: &Arc<Mutex<Vec<Seen>>>) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    let seen = Arc::clone(seen);
    let router = Router::new().fallback(move |mut request: Request| {
        let (info, headers) = (request.extensions().get::<ConnectionInfo>().cloned(), request.headers().clone());
        let info = info.expect("the server adds the connection");
        let upgraded = is_upgrade_request(&headers).then(|| accept_upgrade(&mut request, async |_| {}));
        let (upgrade, response) = match upgraded {
            None => (None, Response::new(Body::from("ok"))),
            Some(Ok(response)) => (Some(Ok(())), response),
            Some(Err(error)) => (Some(Err(error.to_string())), Response::new(Body::from("no"))),
        };
        seen.lock().expect("no panic").push(Seen {
            info: info.source,
            is_forwarded: info.is_forwarded,
            method: request.method().clone(),
            headers,
            upgrade,
        });
        async move { response }
    });
    let limits = ConnectionLimits { trusted_proxies: proxies, ..ConnectionLimits::default() };
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let limiter = ConnectionLimiter::new(limits.clone());
            let slot = limiter.acquire().await;
            let permit = Arc::new(limiter.assign(slot, peer.ip()).expect("the first connection"));
            let (_running, stopping) = watch::channel(false);
            let info = ConnectionInfo { source: peer, is_forwarded: false, permit, stopping };
            serve_connection(stream, info, router, limits).await;
            tokio::task::yield_now().await;
        });
    });
}

/// Determines the client's address from the raw headers.
fn check_forwarded(seen: &Seen, peer: SocketAddr, proxies: Option<&TrustedProxies>, headers: &[httparse::Header<'_>]) {
    let is_in_network = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 10,
        IpAddr::V6(ip) => ip.segments()[..2] == [0x2001, 0xdb8],
    };
    let is_text = |value: &[u8]| value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    let mut entries: Vec<Option<IpAddr>> = Vec::new();
    for header in headers.iter().filter(|header| header.name.eq_ignore_ascii_case("x-forwarded-for")) {
        let value = if is_text(header.value) { header.value } else { b"" };
        for entry in value.split(|byte| *byte == b',') {
            let entry = std::str::from_utf8(entry).expect("ASCII").trim();
            let address = entry.parse::<SocketAddr>().map(|address| address.ip());
            let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
            entries.push(bare.parse().or(address).ok().map(|ip: IpAddr| ip.to_canonical()));
        }
    }
    let expected = match proxies {
        None => None,
        Some(TrustedProxies::Hops(hops)) => {
            let entry = entries.len().checked_sub(hops.get()).and_then(|index| entries[index]);
            entry.filter(|_| peer.ip().is_loopback())
        }
        Some(TrustedProxies::Networks(_)) => {
            let outside = entries.iter().rposition(|entry| !entry.is_some_and(is_in_network));
            let entry = outside.map_or_else(|| entries.first().copied().flatten(), |index| entries[index]);
            entry.filter(|_| peer.ip().is_loopback() || is_in_network(peer.ip()))
        }
    };
    assert_eq!((seen.is_forwarded, seen.info.ip()), (expected.is_some(), expected.unwrap_or(peer.ip())));
    assert_eq!(seen.info.port(), peer.port());
}

/// The login and the check of the origin.
fn check_decisions(seen: &Seen) {
    let login = Login::new(Credentials::new("ann", "s3cret"));
    let source = RequestSource { address: seen.info.ip(), is_forwarded: seen.is_forwarded };
    let decided = login.check(&seen.headers, source, Time::ZERO);
    let values: Vec<&[u8]> = seen.headers.get_all("authorization").iter().map(HeaderValue::as_bytes).collect();
    if decided.is_ok() {
        let [value] = values[..] else { panic!("{values:?} is accepted") };
        let text = std::str::from_utf8(value).expect("a valid login is ASCII");
        let (scheme, encoded) = text.trim().split_once(' ').expect("a scheme");
        assert!(scheme.eq_ignore_ascii_case("basic") && encoded.trim() == STANDARD.encode("ann:s3cret"), "{text}");
    } else {
        assert!(values != [b"Basic YW5uOnMzY3JldA=="]);
    }
    assert_eq!(login.failed.load(Ordering::Relaxed), u64::from(decided.is_err() && !values.is_empty()));

    let is_safe = matches!(seen.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let has =
        |name: &str, value: &str| seen.headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes());
    if !csrf::is_forbidden(&seen.method, &seen.headers) {
        let is_own = !has("origin", "null") && !has("origin", "https://evil.example") || has("host", "evil.example");
        assert!(is_safe || is_own || has("sec-fetch-site", "same-origin") || has("sec-fetch-site", "none"));
        let is_other_site = has("sec-fetch-site", "cross-site") || has("sec-fetch-site", "same-site");
        let is_link = is_safe && (has("sec-fetch-mode", "navigate") || !seen.headers.contains_key("sec-fetch-mode"));
        assert!(is_link || !is_other_site);
    }
}

fn check_upgrade(seen: &Seen, headers: &[httparse::Header<'_>], written: &[u8]) {
    let named = |name: &str| -> Vec<&[u8]> {
        headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value).collect()
    };
    assert_eq!(seen.method, Method::GET);
    let [key] = named("sec-websocket-key")[..] else { panic!("not exactly one key") };
    assert_eq!((key.len(), named("host").len()), (24, 1));
    assert!(named("upgrade")[0].eq_ignore_ascii_case(b"websocket") && named("transfer-encoding").is_empty());
    let accept =
        STANDARD.encode(Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize());
    let written = String::from_utf8_lossy(written);
    assert!(written.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{written}");
    assert!(written.contains(&format!("sec-websocket-accept: {accept}\r\n")), "{written}");
}

/// Replaced by the valid value of `Sec-WebSocket-Accept`.
const ACCEPT_PLACEHOLDER: &[u8] = b"$KEY";

fn check_client(response: &[u8], piece: usize) {
    let mut handshake = ClientHandshake::new(&"ws://h/p?q".parse().expect("a URL"), &[]);
    let request = std::str::from_utf8(handshake.request()).expect("ASCII").to_owned();
    let key = request.split("Sec-WebSocket-Key: ").nth(1).expect("a key").trim_end();
    let accept =
        STANDARD.encode(Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize());
    let mut bytes = Vec::with_capacity(response.len());
    let mut rest = response;
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(ACCEPT_PLACEHOLDER) {
            bytes.extend_from_slice(accept.as_bytes());
            rest = after;
        } else {
            bytes.push(*first);
            rest = &rest[1..];
        }
    }
    let mut outcome = Ok(None);
    for part in bytes.chunks(piece).chain([&[][..]]) {
        outcome = handshake.on_read(part).map(|after_response| after_response.map(drop));
        if !matches!(outcome, Ok(None)) {
            break;
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Response::new(&mut headers);
    let is_parsed = parsed.parse(&bytes).is_ok_and(|status| status.is_complete());
    let has = |name: &str, value: &str| {
        let mut named = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.any(|header| String::from_utf8_lossy(header.value).to_ascii_lowercase().contains(value))
    };
    match outcome {
        Ok(Some(())) => {
            assert!(is_parsed && parsed.code == Some(101));
            assert!(has("upgrade", "websocket") && has("connection", "upgrade"));
            assert!(has("sec-websocket-accept", &accept.to_ascii_lowercase()));
            assert!(!has("sec-websocket-protocol", "") && !has("sec-websocket-extensions", ""));
        }
        Ok(None) => panic!("the end of the response is ignored"),
        Err(UpgradeFailure::Closed) => assert!(!is_parsed),
        Err(UpgradeFailure::Status { status, location }) => {
            assert!(is_parsed && parsed.code == Some(status.as_u16()) && status != StatusCode::SWITCHING_PROTOCOLS);
            assert!(location.is_none_or(|location| !location.contains(char::is_control)));
        }
        Err(UpgradeFailure::Header(_) | UpgradeFailure::UnrequestedHeader(_)) => {
            assert!(is_parsed && parsed.code == Some(101));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
