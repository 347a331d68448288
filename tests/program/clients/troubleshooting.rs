//! The errors of `probe` for servers that do not answer as they should name a likely cause and a remedy. Certificates are tested in
//! `certificates`, runs over UDP without replies in `packet_counts`, rooms in `rooms`.

use std::fmt::{Display, Write as _};
use std::io::{Read, Write, copy, sink};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use jamjam_dev::report::{ClosePhase, diagnose_close};
use jamjam_dev::signaling::Dialect;
use quinn::Endpoint;
use socket2::{Domain, Socket, Type};
use test_support::certificate::Authority;
use test_support::client::{
    ProgramOutput, Server as Echo, ServerAction as EchoAction, closed_tcp_port, closed_udp_port, run, together,
};
use test_support::server::Server as Signaling;
use test_support::snapshot;

use crate::clients::certificates::showing;
use crate::clients::moqt::scripted_server::{Fault, ScriptedServer, ServerAction, configure};
use crate::clients::websocket::scripted_server::{ServerConnection, answers, raw, serve};

fn probe(to: impl Display, options: &str) -> ProgramOutput {
    // Servers that answer must do so in time even on a busy machine. A run that waits for the end of a time limit sets a shorter one, and
    // most of its packets time out before or after a pause of this host.
    let is_limited = options.contains("--timeout");
    let packets = if is_limited { "--count 2 --interval 3s" } else { "--count 3 --interval 2ms --timeout 30s" };
    run(&format!("probe --to {to} {packets} {options}"))
}

fn ws(address: SocketAddr, options: &str) -> ProgramOutput {
    probe(format!("ws://{address}"), options)
}

fn wss(address: SocketAddr) -> ProgramOutput {
    probe(format!("wss://{address}"), "--insecure")
}

fn moqt(address: SocketAddr, options: &str) -> ProgramOutput {
    probe(format!("moqt://{address}/echo"), &format!("--insecure {options}"))
}

fn webtransport(address: SocketAddr, options: &str) -> ProgramOutput {
    probe(format!("https://{address}/echo"), &format!("--insecure {options}"))
}

/// A server, and a run against it.
type Case = (&'static str, fn() -> ProgramOutput);

/// Runs all cases, some at a time, and compares their exit codes and errors with a snapshot.
#[track_caller]
fn assert_errors(snapshot: &str, cases: &[Case]) {
    let errors = cases.chunks(12).flat_map(|some| together(some, |(name, run)| error(name, &run())));
    snapshot::assert_matches(snapshot, &errors.collect::<String>());
}

/// The case, its exit code, and the first warning of the report or the error, with `PORT` for the number of each port.
fn error(case: &str, output: &ProgramOutput) -> String {
    let is_warning = |line: &&str| line.starts_with("warning: ") && !line.contains(" did not run for ");
    let warning = output.stdout.lines().find(is_warning);
    let text = warning.or(output.stderr.lines().last()).unwrap_or_default();
    let mut parts = text.split("127.0.0.1:");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked += "127.0.0.1:PORT";
        masked += part.trim_start_matches(|letter: char| letter.is_ascii_digit());
    }
    format!("{case}: exit code {}\n{masked}\n\n", output.code)
}

/// A socket that receives and never replies.
fn silent_udp() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A TCP server that sends this first and then answers nothing.
fn greeting(bytes: &'static [u8]) -> SocketAddr {
    raw(move |_, mut stream| {
        let _ = stream.write_all(bytes);
        let _ = copy(&mut stream, &mut sink());
    })
}

/// A TCP server that reads the first bytes, answers with `answer` if they begin with one of `first`, and closes the connection.
fn closing(first: &'static [u8], answer: &'static [u8]) -> SocketAddr {
    raw(move |_, mut stream| {
        let mut bytes = [0; 4_096];
        if stream.read(&mut bytes).unwrap_or(0) > 0 && first.contains(&bytes[0]) {
            let _ = stream.write_all(answer);
        }
    })
}

/// A TLS server that answers plain HTTP with `error`.
fn tls_only(error: &'static [u8]) -> SocketAddr {
    raw(move |_, mut stream| {
        let mut first = [0; 2_048];
        let is_read = stream.read(&mut first).is_ok();
        let _ = stream.write_all(if is_read && first[0] == 0x16 { HANDSHAKE_FAILURE } else { error });
    })
}

/// Probes a server that closes the connection after this many messages.
fn closed_after(messages: usize, code: Option<u16>) -> ProgramOutput {
    let server = serve(move |_, mut connection| {
        for message in [WELCOME, r#"{"type":"pong"}"#].into_iter().take(messages) {
            connection.send_text(message);
            connection.receive();
        }
        if let Some(code) = code {
            connection.close(code, "whim");
        }
    });
    run(&format!("probe --to ws://{server} --dialect webrtc --count 1000 --interval 20ms --timeout 10s"))
}

/// Accepts every upgrade, sends `welcome`, and sends `answer` to each message.
fn speaking(welcome: &'static str, answer: &'static str) -> SocketAddr {
    serve(move |_, mut connection: ServerConnection| {
        connection.send_text(welcome);
        while connection.receive().is_some() {
            connection.send_text(answer);
        }
    })
}

const HANDSHAKE_FAILURE: &[u8] = &[0x15, 3, 3, 0, 2, 2, 40];
const WELCOME: &str = r#"{"type":"welcome"}"#;

#[test]
fn websocket_errors_name_cause_and_remedy() {
    assert_errors(
        "clients/websocket_errors",
        &[
            ("full queue of connections", || {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
                socket.listen(0).unwrap();
                let address = socket.local_addr().unwrap().as_socket().unwrap();
                let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
                let _streams: Vec<TcpStream> = (0..16).map_while(connect).collect();
                ws(address, "--timeout 3s")
            }),
            ("closed port", || {
                let (_socket, closed) = closed_tcp_port();
                ws(closed, "")
            }),
            ("no TLS handshake", || probe(format!("wss://{}", greeting(b"")), "--insecure --timeout 3s")),
            ("no answer to the upgrade", || ws(greeting(b""), "--timeout 3s")),
            ("SSH instead of TLS", || wss(greeting(b"SSH-2.0-OpenSSH_9.9\r\n"))),
            ("closed during the TLS handshake", || wss(closing(b"", b""))),
            ("closed without an HTTP response", || ws(closing(b"", b""), "")),
            ("fatal alert", || wss(answers(HANDSHAKE_FAILURE))),
            ("certificate of another key", || {
                let authority = Authority::new();
                let other = authority.certify_for("other", (2000, 1, 1), (2200, 1, 1));
                wss(showing(&other.cert, &authority.certify().key))
            }),
            ("TLS server: OpenSSL", || ws(closing(&[0x16], HANDSHAKE_FAILURE), "")),
            ("TLS server: alert", || ws(answers(&[0x15, 3, 1, 0, 2, 2, 10]), "--wait-for 20s")),
            ("TLS server: nginx", || {
                ws(tls_only(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), "--wait-for 20s")
            }),
            ("TLS server: Go", || ws(tls_only(b"HTTP/1.0 400 Bad Request\r\n\r\n"), "")),
            ("HTTP server: answers GET only", || wss(closing(b"G", b"HTTP/1.1 404 Not Found\r\n\r\n"))),
            ("HTTP server: status 400", || wss(answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"))),
            ("closed before requests", || closed_after(0, Some(1008))),
            ("closed before replies", || closed_after(1, Some(1008))),
            ("closed after replies", || closed_after(2, Some(1008))),
            ("closed without a close code", || closed_after(1, None)),
            ("webrtc: no welcome message", || ws(speaking("{}", "{}"), "--dialect webrtc --timeout 3s")),
            ("bbx: wrong room code", || ws(Signaling::start_signaling(&[]).address, "--dialect bbx --room 0000")),
            ("jamjam: other messages", || ws(speaking("{}", "{}"), "--timeout 3s")),
            ("bbx: other messages", || ws(speaking("{}", "{}"), "--dialect bbx --timeout 3s")),
            ("webrtc: other messages", || {
                ws(
                    speaking(WELCOME, r#"{"type":"participants-list","participants":[]}"#),
                    "--dialect webrtc --timeout 3s",
                )
            }),
            ("broadcast: no messages", || {
                let server = serve(|_, mut connection| {
                    connection.send_text(WELCOME);
                    while connection.receive().is_some() {}
                });
                probe(format!("ws://{server}/radio"), "--timeout 3s")
            }),
            ("reserved opcode", || {
                let server = serve(|_, mut connection| {
                    connection.receive();
                    drop(connection.socket.get_mut().write_all(&[0x83, 0]));
                });
                ws(server, "")
            }),
            ("webrtc server probed as jamjam", || {
                // With code 3, if the connection is closed before the first request.
                ProgramOutput { code: 1, ..ws(Signaling::start_signaling(&["--dialect", "webrtc"]).address, "") }
            }),
            ("room: other dialect", || run(&format!("probe --room jam --signaling-url ws://{}", speaking("{}", "{}")))),
            ("room: closed without a close code", || {
                let server = serve(|_, mut connection| drop(connection.receive()));
                run(&format!("probe --room jam --signaling-url ws://{server}"))
            }),
        ],
    );
}

/// Responses that are not HTTP or not an upgrade are tested in `src/io/websocket/handshake.rs`.
#[test]
fn http_responses_to_an_upgrade_name_cause_and_remedy() {
    let responses = [
        "301 Moved Permanently\r\nLocation: wss://else.example/ws",
        "400 Bad Request\r\nContent-Length: 0",
        "401 Unauthorized\r\nWWW-Authenticate: Basic",
        "403 Forbidden",
        "404 Not Found",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
    ];
    let errors = responses.map(|response| {
        let server = answers(format!("HTTP/1.1 {response}\r\n\r\n").leak().as_bytes());
        error(response.lines().next().unwrap(), &ws(server, ""))
    });
    snapshot::assert_matches("clients/upgrade_responses", &errors.concat());
}

const CLOSES: &str = "clients/close_diagnoses";

/// The file lists the codes and reasons. Add a line such as `Some(1008) "Room is full"` there, and `UPDATE_SNAPSHOTS=1` adds its diagnoses.
#[test]
fn close_diagnosis_depends_on_code_reason_and_progress() {
    let file = snapshot::committed(CLOSES);
    let mut closes: Vec<(Option<u16>, &str)> = Vec::new();
    for line in file.lines() {
        let (code, rest) = line.split_once(" \"").unwrap();
        let code = code.trim_matches(|letter: char| !letter.is_ascii_digit()).parse().ok();
        closes.push((code, rest.split('"').next().unwrap()));
    }
    closes.dedup();
    assert!(closes.len() > 60, "{}", closes.len());
    let mut text = String::new();
    for (code, reason) in closes {
        let mut before = None;
        for dialect in [Dialect::WebRtc, Dialect::Broadcast] {
            for phase in [ClosePhase::BeforeRequests, ClosePhase::BeforeReplies, ClosePhase::AfterReplies] {
                let diagnosis = diagnose_close(dialect, code, reason, phase);
                // A line is omitted if it would repeat the diagnosis of the line before.
                if before.replace(diagnosis) != Some(diagnosis) {
                    _ = writeln!(text, "{code:?} {reason:?} {dialect:?} {phase:?}: {diagnosis}");
                }
            }
        }
    }
    snapshot::assert_matches(CLOSES, &text);
}

#[test]
fn connection_time_out_is_wait_for_else_timeout_else_5_s() {
    let (_socket, udp) = silent_udp();
    let tcp = greeting(b"");
    let cases = [
        ("--timeout 1500ms", "1.500 s", "1.5s"),
        ("--timeout 10ms", "1.000 s", "1s"),
        ("--timeout 30s --wait-for 1200ms", "1.200 s", "1.2s"),
        ("", "5.000 s", "5s"),
    ];
    together(cases, |(options, in_moqt, in_websocket)| {
        let output = run(&format!("probe --to moqt://{udp}/echo {options}"));
        assert!(output.stdout.contains(&format!("within {in_moqt}: ")), "{output:?}");
        let output = run(&format!("probe --to ws://{tcp} {options}"));
        assert!(output.stdout.contains(&format!("handshake within {in_websocket}. ")), "{output:?}");
    });
}

/// A QUIC server with this ALPN protocol that refuses connections, or sends `answer` on the first stream of each client.
fn quic_server(alpn: &'static [u8], refuses: bool, answer: &'static [u8]) -> SocketAddr {
    let (config, _) = configure(alpn);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let endpoint = runtime.block_on(async { Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap() });
    let address = endpoint.local_addr().unwrap();
    thread::spawn(move || {
        runtime.block_on(async {
            let mut streams = Vec::new();
            while let Some(incoming) = endpoint.accept().await {
                if refuses {
                    incoming.refuse();
                } else if let Ok(connection) = incoming.await
                    && let Ok((mut send, recv)) = connection.accept_bi().await
                {
                    send.write_all(answer).await.unwrap();
                    streams.push((connection, send, recv));
                }
            }
        });
    });
    address
}

#[test]
fn moqt_errors_name_cause_and_remedy() {
    assert_errors(
        "clients/moqt_errors",
        &[
            ("closed port", || {
                let (_reserved, address) = closed_udp_port();
                moqt(address, "--timeout 3s")
            }),
            ("UDP echo server", || moqt(Echo::with_actions(|_| EchoAction::Reply).address, "--timeout 3s")),
            ("other UDP server", || {
                let (socket, address) = silent_udp();
                thread::spawn(move || {
                    while let Ok((_, from)) = socket.recv_from(&mut [0; 2_048]) {
                        let _ = socket.send_to(b"another protocol", from);
                    }
                });
                moqt(address, "--timeout 3s")
            }),
            ("TCP server", || {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                moqt(listener.local_addr().unwrap(), "--timeout 3s")
            }),
            ("no port", || probe("https://127.0.0.1/echo", "--insecure --timeout 3s")),
            ("HTTP/3 only", || moqt(quic_server(b"h3", false, b""), "--timeout 10s")),
            ("other version", || moqt(quic_server(b"moq-00", false, b""), "--moqt-version moq-lite-04 --timeout 10s")),
            ("raw QUIC only", || webtransport(quic_server(b"moq-00", false, b""), "--timeout 10s")),
            ("refused connection", || moqt(quic_server(b"moq-00", true, b""), "--timeout 10s")),
            // A HEADERS frame with the status 200, as an index into QPACK's static table.
            ("WebTransport without a version", || {
                webtransport(
                    quic_server(b"h3", false, b"\x01\x03\x00\x00\xd9"),
                    "--moqt-version moq-lite-04 --timeout 10s",
                )
            }),
            ("no WebTransport response", || webtransport(quic_server(b"h3", false, b""), "--timeout 10s")),
            ("no setup", || moqt(quic_server(b"moq-00", false, b""), "--timeout 10s")),
            ("no subscription", || probe(&ScriptedServer::failing(1, Fault::Silent).url, "--insecure --timeout 10s")),
            ("reset subscription", || {
                probe(&ScriptedServer::start([(1, ServerAction::ResetSubscription(3))]).url, "--insecure --timeout 10s")
            }),
            ("dropped groups", || {
                probe(
                    &ScriptedServer::start([1, 2, 3].map(|group| (group, ServerAction::Drop))).url,
                    "--insecure --timeout 3s",
                )
            }),
            ("closed connection", || {
                probe(&ScriptedServer::start([(1, ServerAction::Close(0x2a))]).url, "--insecure --timeout 10s")
            }),
        ],
    );
}
