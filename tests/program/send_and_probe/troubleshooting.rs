//! Every row of docs/troubleshooting.md: a server shows the symptom, and `probe` or `send` prints the message, the cause and the remedy of
//! the row with its exit code. A row without a case fails, and so does a case without a row.

#![cfg(unix)]

use std::collections::BTreeSet;
use std::io::{Read, Write, copy, sink};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, ServerConfig};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use test_support::certificate::Authority;
use test_support::client::at_once;
use test_support::client::program::{ProgramOutput, run_args, start_line};
use test_support::client::server::{Server as Echo, ServerAction as EchoAction, closed_tcp_port, closed_udp_port};
use test_support::client::signaling_member::SignalingMember;
use test_support::server::process::Server as Signaling;

use crate::send_and_probe::certificates::showing;
use crate::send_and_probe::moqt::own_server;
use crate::send_and_probe::moqt::scripted_server::{Fault, Greeting, ScriptedServer, ServerAction};
use crate::send_and_probe::websocket::scripted_server::{ServerConnection, answers, raw, serve};

const PAGE: &str = include_str!("../../../docs/troubleshooting.md");

/// The cells of each table row in the section with this heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE.split(&format!("\n## {heading}\n")).nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| ")).skip(2);
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// The text of a cell in inline code.
fn code(cell: &str) -> &str {
    let inner = cell.trim_matches('`');
    if cell.starts_with("``") { inner.strip_prefix(' ').unwrap().strip_suffix(' ').unwrap() } else { inner }
}

/// Checks that the fixed parts of `message` occur in this order.
fn assert_contains(output: &ProgramOutput, message: &str) {
    let text = format!("{}{}", output.stdout, output.stderr);
    let mut rest = text.as_str();
    for part in message.split('…').map(str::trim) {
        let Some(at) = rest.find(part) else { panic!("{message:?} is missing:\n{text}") };
        rest = &rest[at + part.len()..];
    }
}

/// A run that shows a symptom.
type Case = (&'static str, fn() -> ProgramOutput);

/// Runs all cases of a section, some at a time.
fn check(heading: &str, cases: &[Case]) {
    let rows = rows(heading);
    let documented: BTreeSet<&str> = rows.iter().map(|row| code(row[0])).collect();
    let tested: BTreeSet<&str> = cases.iter().map(|(message, _)| *message).collect();
    assert_eq!(documented, tested, "rows and cases differ");
    assert_eq!((rows.len(), cases.len()), (documented.len(), tested.len()), "a row or a case occurs twice");
    for some in cases.chunks(12) {
        at_once(some, |(message, run)| {
            let row = rows.iter().find(|row| code(row[0]) == *message).unwrap();
            assert!(row.len() == 4 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
            let output = run();
            assert_contains(&output, message);
            assert_eq!(output.code.to_string(), row[1], "{message}: {output:?}");
        });
    }
}

fn probe(to: impl AsRef<str>, more: &[&str]) -> ProgramOutput {
    let line = ["probe", "--to", to.as_ref(), "--count", "3", "--interval", "2ms", "--timeout", "1s"];
    run_args(line.iter().chain(more))
}

fn ws(address: SocketAddr, more: &[&str]) -> ProgramOutput {
    probe(format!("ws://{address}"), more)
}

fn wss(address: SocketAddr, more: &[&str]) -> ProgramOutput {
    probe(format!("wss://{address}"), more)
}

/// A socket that receives and never replies.
fn silent_udp() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A UDP server of another protocol.
fn other_udp_server() -> SocketAddr {
    let (socket, address) = silent_udp();
    thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 2_048]) {
            let _ = socket.send_to(b"another protocol", from);
        }
    });
    address
}

/// A TCP server that accepts connections and never answers.
fn silent_tcp() -> SocketAddr {
    raw(|_, mut stream| drop(copy(&mut stream, &mut sink())))
}

/// A TCP server that sends this greeting first.
fn greeting(bytes: &'static [u8]) -> SocketAddr {
    raw(move |_, mut stream| {
        let _ = stream.write_all(bytes);
        let _ = copy(&mut stream, &mut sink());
    })
}

/// A TCP port that answers no connection request: its queue of connections is full.
fn full_port() -> (Socket, Vec<TcpStream>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let streams = (0..16).map_while(connect).collect();
    (socket, streams, address)
}

/// Answers every connection request with an upgrade and reads all messages.
fn accepting(does: fn(&mut ServerConnection)) -> SocketAddr {
    serve(move |_, mut connection| {
        does(&mut connection);
        while connection.receive().is_some() {}
    })
}

/// A QUIC server with this ALPN protocol that accepts connections and sends nothing, or refuses them.
fn quic_server(alpn: &'static [u8], refuses: bool) -> String {
    answering_quic_server(alpn, refuses, b"")
}

/// Like [`quic_server`]. If `answer` is not empty, the server sends it on the first stream of each client.
fn answering_quic_server(alpn: &'static [u8], refuses: bool, answer: &'static [u8]) -> String {
    let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut tls = tls.with_no_client_auth().with_single_cert(vec![generated.cert.der().clone()], key).unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let endpoint = runtime.block_on(async { Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap() });
    let address = endpoint.local_addr().unwrap();
    thread::spawn(move || {
        runtime.block_on(async {
            let (mut connections, mut streams) = (Vec::new(), Vec::new());
            while let Some(incoming) = endpoint.accept().await {
                if refuses {
                    incoming.refuse();
                } else if answer.is_empty() {
                    connections.push(incoming.await);
                } else {
                    let (mut send, recv) = incoming.await.unwrap().accept_bi().await.unwrap();
                    send.write_all(answer).await.unwrap();
                    streams.push((send, recv));
                }
            }
        });
    });
    address.to_string()
}

#[test]
fn every_udp_symptom_has_its_message() {
    check(
        "UDP",
        &[
            (
                "the port is closed or a firewall rejects packets (ICMP port unreachable): likely, because ICMP port unreachable was received",
                || {
                    let (_reserved, address) = closed_udp_port();
                    probe(address.to_string(), &[])
                },
            ),
            (
                "the host is wrong, a firewall drops UDP, or the server restricts sources (--allow): likely, because no datagram arrived",
                || {
                    let (_socket, address) = silent_udp();
                    // This form of 127.0.0.1 hides from the program that the target is this host.
                    probe(format!("127.1:{}", address.port()), &[])
                },
            ),
            (
                "the server does not answer LATENCY_PING: likely, because a program on this host has the port open",
                || probe(quic_server(b"moq-00", false), &[]),
            ),
            ("the server does not answer LATENCY_PING: likely, because … arrived without a matching request", || {
                probe(other_udp_server().to_string(), &[])
            }),
            (
                "failed: the port answered with nothing but ICMP port unreachable for …, so the run ended early",
                || {
                    let (_reserved, address) = closed_udp_port();
                    run_args(format!("send --tone 440 --duration 60s --to {address}").split(' '))
                },
            ),
            (
                "the server does not return AUDIO, or its delay exceeds the run duration: likely, because … arrived. Give --delay or \
             a longer --timeout, or --link unsigned if the server requires encrypted links",
                || {
                    let server = Echo::with_audio(|_| EchoAction::Silence);
                    let line =
                        format!("send --tone 440 --duration 20ms --delay 0ms --timeout 300ms --to {}", server.to());
                    run_args(line.split(' '))
                },
            ),
            ("ICMP port unreachable was received during the run", || {
                let server = Echo::correct();
                let line = format!("probe --to {} --count 300 --interval 5ms --timeout 300ms", server.to());
                let program = start_line(&line);
                server.wait_for(10);
                drop(server);
                program.end()
            }),
            ("cannot find an address for host `no.such.host.invalid`:", || probe("no.such.host.invalid:5000", &[])),
        ],
    );
}

#[test]
fn every_websocket_symptom_has_its_message() {
    let cases: Vec<Case> = [connection_cases(), certificate_cases(), response_cases(), dialect_cases()].concat();
    check("WebSocket", &cases);
}

fn connection_cases() -> Vec<Case> {
    vec![
        ("cannot probe ws://…: cannot find an address for host", || probe("ws://no.such.host.invalid", &[])),
        (
            "cannot connect to …: Connection refused (os error …). No program listens on this TCP port, or a firewall rejects it",
            || {
                let (_socket, closed) = closed_tcp_port();
                ws(closed, &[])
            },
        ),
        ("no reply from … within …. A firewall drops packets, or the host is down", || {
            let (_socket, _streams, address) = full_port();
            ws(address, &[])
        }),
        ("accepts TCP connections, but did not complete the TLS handshake within", || wss(silent_tcp(), &[])),
        ("accepts TCP connections, but did not answer the WebSocket upgrade within", || ws(silent_tcp(), &[])),
        ("failed: the server uses TLS; use wss:// instead of ws://", || {
            let authority = Authority::new();
            let server = Signaling::start_signaling(&authority.certify().options());
            ws(server.address, &[])
        }),
        ("failed: the server does not use TLS; use ws:// instead of wss://", || {
            wss(Signaling::start_signaling(&[]).address, &[])
        }),
        (
            "failed: the server does not use TLS; another program probably listens on this port, so check the port",
            || wss(greeting(b"SSH-2.0-OpenSSH_9.9\r\n"), &[]),
        ),
        ("failed: the server closed the connection during the TLS handshake", || {
            wss(raw(|_, mut stream| drop(stream.read(&mut [0; 4_096]))), &[])
        }),
        ("failed: the server rejected the TLS handshake (alert", || {
            // A fatal alert: `handshake_failure`.
            wss(answers(&[0x15, 3, 3, 0, 2, 2, 40]), &[])
        }),
    ]
}

/// A server with a certificate that the client rejects. Returns its port.
fn certified(authority: &Authority, name: &str, from: (i32, u8, u8), until: (i32, u8, u8)) -> u16 {
    let pair = authority.certify_for(name, from, until);
    showing(&pair.cert, &pair.key).port()
}

fn certificate_cases() -> Vec<Case> {
    fn trusting(authority: &Authority, to: &str) -> ProgramOutput {
        probe(to, &["--ca", authority.own().to_str().unwrap()])
    }
    vec![
        (
            "certificate not trusted: self-signed or unknown CA; trust its CA with --ca FILE, or use --insecure for a test. The \
             certificate has the SHA-256 fingerprint … then give --cert-sha256",
            || {
                let authority = Authority::new();
                wss(Signaling::start_signaling(&authority.certify().options()).address, &[])
            },
        ),
        ("TLS with … failed: invalid peer certificate: BadSignature", || {
            let authority = Authority::new();
            let other = authority.certify_for("other", (2000, 1, 1), (2200, 1, 1));
            let server = showing(&other.cert, &authority.certify().key);
            probe(format!("wss://localhost:{}", server.port()), &["--insecure"])
        }),
        ("certificate fingerprint mismatch: expected … got", || {
            let authority = Authority::new();
            let server = Signaling::start_signaling(&authority.certify().options());
            wss(server.address, &["--cert-sha256", &"0".repeat(64)])
        }),
        ("certificate has expired; renew it on the server", || {
            let authority = Authority::new();
            let port = certified(&authority, "old", (2000, 1, 1), (2001, 1, 1));
            trusting(&authority, &format!("wss://localhost:{port}"))
        }),
        ("certificate is not valid yet; check the clocks", || {
            let authority = Authority::new();
            let port = certified(&authority, "new", (2199, 1, 1), (2200, 1, 1));
            trusting(&authority, &format!("wss://localhost:{port}"))
        }),
        ("certificate not valid for name", || {
            let authority = Authority::new();
            let pair = authority.certify();
            let server = Signaling::start_signaling(&[&["--host", "0.0.0.0"][..], &pair.options()].concat());
            trusting(&authority, &format!("wss://127.0.0.2:{}", server.address.port()))
        }),
        ("certificate is a CA certificate (CA:TRUE)", || {
            let authority = Authority::new();
            let server = Signaling::start_signaling(&authority.own_as_server().options());
            trusting(&authority, &format!("wss://localhost:{}", server.address.port()))
        }),
    ]
}

fn response_cases() -> Vec<Case> {
    vec![
        ("the response is not HTTP. Another program probably listens on this port", || {
            ws(greeting(b"SSH-2.0-OpenSSH_9.9\r\n"), &[])
        }),
        ("HTTP 301 Moved Permanently redirects to wss://else.example/ws; use that address", || {
            ws(answers(b"HTTP/1.1 301 Moved Permanently\r\nLocation: wss://else.example/ws\r\n\r\n"), &[])
        }),
        ("HTTP 302 Found redirects, but the response has no Location header", || {
            ws(answers(b"HTTP/1.1 302 Found\r\n\r\n"), &[])
        }),
        ("HTTP 400 Bad Request; there is no signaling server at this path", || {
            ws(answers(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), &[])
        }),
        ("HTTP 401 Unauthorized; the server or a proxy requires a login", || {
            ws(answers(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n\r\n"), &[])
        }),
        ("HTTP 403 Forbidden; the server or a proxy does not permit this client", || {
            ws(answers(b"HTTP/1.1 403 Forbidden\r\n\r\n"), &[])
        }),
        ("HTTP 404 Not Found; there is no signaling server at this path", || {
            let server = Signaling::start_signaling(&[]);
            probe(format!("ws://{}/v1/other", server.address), &[])
        }),
        ("HTTP 426 Upgrade Required; a proxy removed the Upgrade header of the request", || {
            ws(answers(b"HTTP/1.1 426 Upgrade Required\r\n\r\n"), &[])
        }),
        ("HTTP 200 OK; the response is not WebSocket. A proxy does not forward the Upgrade header", || {
            ws(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello"), &[])
        }),
        ("HTTP 429 Too Many Requests; this host sent too many requests", || {
            ws(answers(b"HTTP/1.1 429 Too Many Requests\r\n\r\n"), &[])
        }),
        ("HTTP 500 Internal Server Error; the server failed; check its log", || {
            ws(answers(b"HTTP/1.1 500 Internal Server Error\r\n\r\n"), &[])
        }),
        ("HTTP 502 Bad Gateway; a proxy cannot reach the signaling server behind it", || {
            ws(answers(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), &[])
        }),
        ("HTTP 503 Service Unavailable; the server is full or not ready", || {
            ws(answers(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), &[])
        }),
        ("HTTP 504 Gateway Timeout; a proxy cannot reach the signaling server behind it", || {
            ws(answers(b"HTTP/1.1 504 Gateway Timeout\r\n\r\n"), &[])
        }),
        ("the response has no valid upgrade header, so a proxy or the server does not support WebSocket", || {
            ws(answers(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), &[])
        }),
        ("the response has the header sec-websocket-protocol, which the client did not request", || {
            ws(
                raw(|_, stream| {
                    use tungstenite::handshake::server::{Request, Response};
                    #[expect(clippy::result_large_err, reason = "the library's own type")]
                    let add = |_: &Request, mut response: Response| {
                        response.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
                        Ok(response)
                    };
                    drop(tungstenite::accept_hdr(stream, add));
                }),
                &[],
            )
        }),
        ("the response header is longer than 65536 bytes. Another program probably listens on this port", || {
            ws(
                raw(|_, mut stream| {
                    let _ = stream.read(&mut [0; 2_048]);
                    let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(70_000)).as_bytes());
                    let _ = copy(&mut stream, &mut sink());
                }),
                &[],
            )
        }),
        ("the server closed the connection without responding", || {
            ws(raw(|_, mut stream| drop(stream.read(&mut [0; 4_096]))), &[])
        }),
    ]
}

fn dialect_cases() -> Vec<Case> {
    vec![
        ("cannot join the room: no welcome message within …: check --dialect and the room", || {
            ws(accepting(|_| ()), &["--dialect", "webrtc"])
        }),
        (
            "cannot join the room: Invalid room code: give --room with the code of a room that exists and is not full",
            || ws(Signaling::start_signaling(&[]).address, &["--dialect", "bbx", "--room", "0000"]),
        ),
        ("the server accepts the connection but does not answer ListRooms with RoomList (no message arrived)", || {
            ws(accepting(|_| ()), &[])
        }),
        ("the server accepts the connection but does not answer broadcast with broadcast (no message arrived)", || {
            let server = accepting(|connection| connection.send_text(r#"{"type":"welcome"}"#));
            probe(format!("ws://{server}/radio"), &[])
        }),
        (
            "the server accepts the connection but does not answer ping with pong (no message arrived). Check that the server speaks bbx",
            || ws(accepting(|_| ()), &["--dialect", "bbx"]),
        ),
        (
            "the server accepts the connection but does not answer ping with pong (other messages arrived). Check that the server speaks \
             webrtc",
            || {
                let server = accepting(|connection| {
                    connection.send_text(r#"{"type":"welcome"}"#);
                    while connection.receive().is_some() {
                        connection.send_text(r#"{"type":"participants-list","participants":[]}"#);
                    }
                });
                ws(server, &["--dialect", "webrtc"])
            },
        ),
        ("the first error that the server reported: Unknown message type", || {
            let server = accepting(|connection| {
                connection.receive();
                connection.send_text(json!({"type": "Error", "data": {"message": "Unknown message type"}}).to_string());
            });
            ws(server, &[])
        }),
        (
            "the connection broke: … the server or a proxy violated the WebSocket protocol, or the network failed",
            || {
                // A frame with a reserved opcode.
                ws(accepting(|connection| drop(connection.socket.get_mut().write_all(&[0x83, 0]))), &[])
            },
        ),
    ]
}

/// How far the connection gets before the server closes it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Progress {
    Join,
    Request,
    Reply,
}

/// Probes a server that closes the connection at this point.
fn closed(dialect: &'static str, code: Option<u16>, reason: &'static str, progress: Progress) -> ProgramOutput {
    let server = serve(move |number, mut connection| {
        if progress != Progress::Join {
            connection.send_text(r#"{"type":"welcome"}"#);
            if number > 0 {
                // A member of a broadcast room that only receives.
                while connection.receive().is_some() {}
                return;
            }
            connection.receive();
        }
        if progress == Progress::Reply {
            connection.send_text(r#"{"type":"pong"}"#);
            connection.receive();
        }
        if let Some(code) = code {
            connection.close(code, reason);
        }
    });
    // The server closes the connection before the last request.
    let line = ["--dialect", dialect, "--count", "1000", "--interval", "20ms", "--timeout", "10s"];
    run_args(["probe", "--to", &format!("ws://{server}")].iter().chain(&line))
}

#[test]
fn every_close_code_has_its_cause_and_remedy() {
    let mut cases = Vec::new();
    for row in rows("Close codes") {
        let [code_cell, reason_cell, when, cause, remedy] = row[..] else { panic!("{row:?}") };
        let code_number = code_cell.split(' ').next().unwrap().parse().ok();
        let reasons: Vec<&str> = match reason_cell {
            "any" if code_number.is_none() => vec![""],
            "any" | "other" => vec!["", "whim"],
            "empty, in a broadcast room" => vec![""],
            texts => texts.split(", ").map(code).collect(),
        };
        let dialect = if reason_cell.contains("broadcast") { "broadcast" } else { "webrtc" };
        let progresses: &[Progress] = match when {
            "at any time" => &[Progress::Join, Progress::Request, Progress::Reply],
            "during the join" => &[Progress::Join],
            "before the first reply" | "after the join" => &[Progress::Request],
            "during the join or before the first reply" => &[Progress::Join, Progress::Request],
            "before the first reply or after replies" => &[Progress::Request, Progress::Reply],
            "after replies" => &[Progress::Reply],
            other => panic!("unknown time: {other}"),
        };
        for (reason, progress) in reasons.iter().flat_map(|reason| progresses.iter().map(move |at| (*reason, *at))) {
            cases.push((dialect, code_number, reason, progress, cause, remedy));
        }
    }
    assert!(cases.len() > 100, "{}", cases.len());
    for some in cases.chunks(12) {
        at_once(some, |&(dialect, code, reason, progress, cause, remedy)| {
            let output = closed(dialect, code, reason, progress);
            let in_parentheses = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
            let shown = match code {
                Some(code) => format!("with code {code}{in_parentheses}"),
                None => "without a close code".to_owned(),
            };
            assert_contains(&output, &format!("the server closed the connection {shown}: {cause}. {remedy}\n"));
            assert_eq!(output.code, 1, "{output:?}");
        });
    }
}

#[test]
fn webrtc_only_server_is_not_reported_as_a_rate_limit() {
    let server = Signaling::start_signaling(&["--dialect", "webrtc"]);
    let output = ws(server.address, &[]);
    assert_contains(&output, "with code 1008 (Missing required parameters): the URL lacks a parameter");
    assert_contains(&output, "give --dialect webrtc");
    assert!(!output.stdout.contains("--interval"), "{}", output.stdout);
}

#[test]
fn wrong_scheme_is_found_by_each_kind_of_evidence() {
    const NGINX: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>\
        <h1>400 Bad Request</h1><center>The plain HTTP request was sent to HTTPS port</center></html>";
    const GO: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    // The servers send the body later than the header.
    let in_two_parts = |bytes: &'static [u8]| {
        raw(move |_, mut stream: TcpStream| {
            let _ = stream.read(&mut [0; 2_048]);
            let header = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            let _ = stream.set_nodelay(true);
            let _ = stream.write_all(&bytes[..header]);
            thread::yield_now();
            let _ = stream.write_all(&bytes[header..]);
        })
    };
    // Like OpenSSL: closes a plain connection without an answer, and answers TLS.
    let tls_only = raw(|_, mut stream| {
        let mut first = [0; 2_048];
        let read = stream.read(&mut first).unwrap_or(0);
        if read > 0 && first[0] == 0x16 {
            let _ = stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]);
        }
    });
    for server in [in_two_parts(NGINX), in_two_parts(GO), tls_only, answers(&[0x15, 3, 1, 0, 2, 2, 10])] {
        for options in [&[][..], &["--wait-for", "20s"]] {
            let output = ws(server, options);
            assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
            assert_contains(&output, "the server uses TLS; use wss:// instead of ws://\n");
        }
    }
    // Closes a connection that begins with TLS without an answer, and answers HTTP.
    let http_only = raw(|_, mut stream| {
        let mut first = [0; 2_048];
        if stream.read(&mut first).unwrap_or(0) > 0 && first[0] == b'G' {
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n");
        }
    });
    for server in [http_only, answers(b"HTTP/1.1 400 Bad Request\r\n\r\n")] {
        let output = wss(server, &[]);
        assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
        assert_contains(&output, "the server does not use TLS; use ws:// instead of wss://\n");
    }
}

#[test]
fn scheme_check_of_a_wss_url_sends_no_token_in_plain_text() {
    let (sender, received) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let server = raw(move |_, mut stream| {
        let mut bytes = vec![0; 4_096];
        let read = stream.read(&mut bytes).unwrap_or(0);
        bytes.truncate(read);
        let _ = sender.lock().unwrap().send(bytes);
    });
    let output = probe(format!("wss://{server}/radio?token=secret-token"), &[]);
    assert_eq!(output.code, 3, "{output:?}");
    let all: Vec<Vec<u8>> = received.try_iter().collect();
    assert_eq!(all.len(), 2, "the connection and the check");
    for bytes in all {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("secret-token") && !text.contains("radio"), "{text}");
    }
}

#[test]
fn connection_time_out_is_wait_for_else_timeout_else_5_s() {
    let (_socket, udp) = silent_udp();
    let tcp = silent_tcp();
    let cases = [
        ("--timeout 1500ms", "1.500 s", "1.5s"),
        ("--timeout 10ms", "1.000 s", "1s"),
        ("--timeout 30s --wait-for 1200ms", "1.200 s", "1.2s"),
        ("", "5.000 s", "5s"),
    ];
    at_once(cases, |(options, in_moqt, in_websocket)| {
        let run = |to: String| {
            let started = std::time::Instant::now();
            let output = run_args(["probe", "--to", &to].into_iter().chain(options.split_whitespace()));
            assert!(started.elapsed() < Duration::from_secs(25), "{output:?}");
            output
        };
        assert_contains(&run(format!("moqt://{udp}/echo")), &format!("within {in_moqt}: "));
        assert_contains(&run(format!("ws://{tcp}")), &format!("WebSocket upgrade within {in_websocket}. "));
    });
}

fn moqt(address: impl std::fmt::Display, more: &[&str]) -> ProgramOutput {
    probe(format!("moqt://{address}/echo"), &[&["--insecure"], more].concat())
}

#[test]
fn every_moqt_symptom_has_its_message() {
    check(
        "MOQT",
        &[
            ("no reply from … within …: no server listens there, or a firewall drops UDP", || {
                let (_socket, address) = silent_udp();
                moqt(address, &[])
            }),
            (
                "no reply from … within …: no program listens on this UDP port, because ICMP port unreachable was received",
                || {
                    let (_reserved, address) = closed_udp_port();
                    moqt(address, &[])
                },
            ),
            ("no reply from … within …: a UDP echo server listens on this port, not a MOQT server", || {
                let server = Echo::with_actions(|_| EchoAction::Reply);
                moqt(server.address, &[])
            }),
            ("no reply from … within …: a UDP server that does not speak QUIC listens on this port", || {
                moqt(other_udp_server(), &[])
            }),
            ("no reply from … within …: a TCP server listens on this port, but MOQT uses UDP", || {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                moqt(listener.local_addr().unwrap(), &[])
            }),
            ("(the URL has no port, so port 443 was used; MOQT echo servers listen on 4443)", || {
                probe("https://127.0.0.1/echo", &["--insecure"])
            }),
            (
                "supports QUIC, but not MOQT over raw QUIC (moq-lite-04, moq-lite-03, moq-00); try https:// with the same address",
                || moqt(quic_server(b"h3", false), &[]),
            ),
            (
                "supports QUIC, but not MOQT over raw QUIC (moq-lite-04); omit --moqt-version to offer all versions, or try https:// \
                 with the same address",
                || moqt(quic_server(b"moq-00", false), &["--moqt-version", "moq-lite-04"]),
            ),
            ("supports QUIC, but not HTTP/3; try moqt:// with the same address", || {
                probe(format!("https://{}/echo", quic_server(b"moq-00", false)), &["--insecure"])
            }),
            ("cannot connect to …: the server accepts no more connections at the moment", || {
                moqt(quic_server(b"moq-00", true), &[])
            }),
            (
                "cannot use moqt://…: certificate not trusted: self-signed or unknown CA; … then give --cert-sha256",
                || probe(&ScriptedServer::start([]).url, &[]),
            ),
            ("rejected the WebTransport session: HTTP status 404; our server has the path /echo", || {
                let server = own_server::Server::start(Duration::ZERO);
                probe(format!("https://127.0.0.1:{}/wrong", server.port), &["--insecure"])
            }),
            (
                "no common MOQT version with …: offered moq-lite-04 (wt-available-protocols), and the server selected none (no wt-protocol)",
                || {
                    // A HEADERS frame with the status 200, as an index into QPACK's static table.
                    let address = answering_quic_server(b"h3", false, b"\x01\x03\x00\x00\xd9");
                    let options = ["--insecure", "--moqt-version", "moq-lite-04"];
                    probe(format!("https://{address}/echo"), &options)
                },
            ),
            ("no response to the WebTransport request within", || {
                probe(format!("https://{}/echo", quic_server(b"h3", false)), &["--insecure"])
            }),
            ("the server selected version …, which was not offered", || {
                let server = ScriptedServer::greeting(&[Greeting::UnofferedVersion], []);
                probe(&server.url, &["--insecure"])
            }),
            ("setup timed out after … s: check the URL and its path", || moqt(quic_server(b"moq-00", false), &[])),
            (
                "the server did not subscribe to our track: the server speaks this MOQT version but does not echo this track",
                || probe(&ScriptedServer::failing(1, Fault::Silent).url, &["--insecure"]),
            ),
            (
                "the server ended our subscription with code 0x3: the server speaks this MOQT version but does not echo this track",
                || {
                    let server = ScriptedServer::start([(1, ServerAction::ResetSubscription(3))]);
                    probe(&server.url, &["--insecure"])
                },
            ),
            ("both subscriptions to … succeeded, but the server does not return this client's frames", || {
                let server = ScriptedServer::start([1, 2, 3].map(|group| (group, ServerAction::Drop)));
                probe(&server.url, &["--insecure"])
            }),
            (
                "the server closed the connection with code 0x2a (whim): the server or a device on the path closed the connection",
                || {
                    let server = ScriptedServer::start([(1, ServerAction::Close(0x2a))]);
                    probe(&server.url, &["--insecure"])
                },
            ),
        ],
    );
}

/// Lists the rooms of a server.
fn list(address: SocketAddr) -> ProgramOutput {
    run_args(["send", "--list-rooms", "--signaling-url", &format!("ws://{address}")])
}

/// Probes a member of a room.
fn join(address: SocketAddr, room: &str, more: &[&str]) -> ProgramOutput {
    let url = format!("ws://{address}");
    let line = ["probe", "--count", "3", "--timeout", "1s", "--signaling-url", &url, "--room", room];
    run_args(line.iter().chain(more))
}

#[test]
fn every_room_symptom_has_its_message() {
    check(
        "Rooms",
        &[
            ("cannot list the rooms of …: cannot connect to", || {
                let (_socket, closed) = closed_tcp_port();
                list(closed)
            }),
            (
                "cannot join a room on …: no reply from the server within 10 s. It probably speaks another dialect",
                || join(accepting(|_| ()), "jam", &[]),
            ),
            (
                "cannot join a room on …: the server closed the connection without a close code: the server or a proxy dropped the \
             connection without an answer",
                || join(serve(|_, mut connection| drop(connection.receive())), "jam", &[]),
            ),
            ("no room matches `nowhere`; the server has no rooms", || {
                join(Signaling::start_signaling(&[]).address, "nowhere", &[])
            }),
            ("several rooms match `jam`; give the id or invite code of one of these rooms", || {
                let server = Signaling::start_signaling(&[]);
                let _members = [(); 2].map(|()| SignalingMember::with_room(server.address, "jam", None));
                join(server.address, "jam", &[])
            }),
            ("the server rejected the request for room `jam`: Room is full", || {
                let server = accepting(|connection| {
                    connection.receive();
                    let room = json!({"id": "1a2b3c4d", "name": "jam", "peer_count": 10, "max_peers": 10, "has_password": false,
                    "invite_code": "ABC234"});
                    connection.send_text(json!({"type": "RoomList", "data": {"rooms": [room]}}).to_string());
                    connection.receive();
                    connection.send_text(json!({"type": "Error", "data": {"message": "Room is full"}}).to_string());
                });
                join(server, "jam", &[])
            }),
            ("room `jam` needs a password; give --password-file", || {
                let server = Signaling::start_signaling(&[]);
                let _member = SignalingMember::with_room(server.address, "jam", Some("secret"));
                join(server.address, "jam", &[])
            }),
            ("wrong password for room `jam`", || {
                let server = Signaling::start_signaling(&[]);
                let _member = SignalingMember::with_room(server.address, "jam", Some("secret"));
                join(server.address, "jam", &["--password-file", "rustfmt.toml"])
            }),
            ("room `jam` has no other member to send to", || {
                let server = accepting(|connection| {
                    connection.receive();
                    let room = json!({"id": "1a2b3c4d", "name": "jam", "peer_count": 0, "max_peers": 10, "has_password": false,
                    "invite_code": "ABC234"});
                    connection.send_text(json!({"type": "RoomList", "data": {"rooms": [room]}}).to_string());
                    connection.receive();
                    let joined = json!({"room_id": "1a2b3c4d", "peer_id": "p", "peers": []});
                    connection.send_text(json!({"type": "RoomJoined", "data": joined}).to_string());
                });
                join(server, "jam", &[])
            }),
            ("no member of room `jam` has published an address (members: Echo Bot)", || {
                let server = Signaling::start_signaling(&[]);
                let _member = SignalingMember::with_room(server.address, "jam", None);
                join(server.address, "jam", &[])
            }),
            (
                "no member of room `jam` replies to KEEPALIVE: … If you know a member's address, give --to instead of --room",
                || {
                    let server = Signaling::start_signaling(&[]);
                    let (_socket, silent) = silent_udp();
                    let _member = SignalingMember::with_address(server.address, "jam", None, silent);
                    join(server.address, "jam", &[])
                },
            ),
        ],
    );
}
