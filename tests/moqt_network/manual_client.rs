//! A manually driven client: all of its bytes, including HTTP/3, are defined in this file.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use jamjam_dev::moqt::Transport;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::crypto::ring;
use test_support::TEST_TIMEOUT;

use crate::test_server::{TestServer, trusting_verifier};

/// The prefix of a unidirectional stream of session 0. The session id is the number of the request's stream, which is stream 0.
const UNI: &[u8] = b"\x40\x54\x00";
const BIDI: &[u8] = b"\x40\x41\x00";

/// An HTTP/3 control stream. Its SETTINGS frame contains only the setting that enables datagrams (0x33), as in the original gomoqt client.
const SETTINGS: &[u8] = b"\x00\x04\x02\x33\x01";
/// HTTP/3's other streams: the two QPACK streams, and a stream of a reserved type.
const OTHER_STREAMS: [&[u8]; 3] = [b"\x02", b"\x03", b"\x21nothing"];

/// The messages of the version with which the clients are driven.
pub(crate) fn golden() -> BTreeMap<String, Vec<u8>> {
    test_support::moqt_golden::pieces("gomoqt-2025-02.txt")
}

/// Runs a test on its own runtime. The timeout, which ends a test that hangs, is far longer than the timeouts inside the test.
pub(crate) fn run_async<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let end = tokio::time::timeout(10 * TEST_TIMEOUT, test).await.expect("the test does not hang");
        // The tasks of the client send its close, so that the server does not wait for it when the test stops the server.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        end
    })
}

/// A connection on which nothing has been sent yet.
pub(crate) async fn connect(server: &TestServer, alpn: &[u8], transport: TransportConfig) -> (Endpoint, Connection) {
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(trusting_verifier())
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport));
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let connection = endpoint.connect_with(config, server.address, "localhost").unwrap().await.unwrap();
    (endpoint, connection)
}

/// A manually driven client.
pub(crate) struct ManualClient {
    pub(crate) connection: Connection,
    /// The stream of the request over WebTransport; `None` over raw QUIC.
    pub(crate) request: Option<(SendStream, RecvStream)>,
    _endpoint: Endpoint,
    _open_streams: Vec<SendStream>,
}

impl ManualClient {
    /// Connects to the server. If the transport is WebTransport, also requests a session at `/echo`.
    pub(crate) async fn open(server: &TestServer, over: Transport) -> Self {
        Self::open_with(server, over, TransportConfig::default()).await
    }

    pub(crate) async fn open_with(server: &TestServer, over: Transport, transport: TransportConfig) -> Self {
        if over == Transport::Quic {
            let (endpoint, connection) = connect(server, b"moq-00", transport).await;
            return Self { connection, request: None, _endpoint: endpoint, _open_streams: Vec::new() };
        }
        let head = request("CONNECT", b"webtransport", b"/echo");
        let mut manual_client = Self::open_with_request(server, &head, transport).await;
        assert_eq!(manual_client.status().await, 200);
        manual_client
    }

    /// Sends the MOQT setup, and checks the server's response. The session lasts until the returned stream is dropped.
    pub(crate) async fn set_up(&self) -> (SendStream, RecvStream) {
        let pieces = golden();
        let setup = if self.request.is_none() { "session-client-quic" } else { "session-client" };
        let (send, mut recv) = self.bidi(&pieces[setup]).await;
        assert_eq!(receive(&mut recv, pieces["session-server"].len()).await, pieces["session-server"]);
        (send, recv)
    }

    /// Connects over HTTP/3 and sends the head of a request.
    pub(crate) async fn open_with_request(server: &TestServer, head: &[u8], transport: TransportConfig) -> Self {
        let (endpoint, connection) = connect(server, b"h3", transport).await;
        let mut open_streams = Vec::new();
        for bytes in [SETTINGS].into_iter().chain(OTHER_STREAMS) {
            let mut stream = connection.open_uni().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            open_streams.push(stream);
        }
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(head).await.unwrap();
        Self { connection, request: Some((send, recv)), _endpoint: endpoint, _open_streams: open_streams }
    }

    /// The status of the server's response.
    pub(crate) async fn status(&mut self) -> u16 {
        self.response().await.0
    }

    /// The status of the response, an index into QPACK's static table, and the selected protocol with its quotes, a literal (RFC 9204,
    /// appendix A and section 4.5.6).
    pub(crate) async fn response(&mut self) -> (u16, Option<String>) {
        let recv = &mut self.request.as_mut().unwrap().1;
        let mut start = [0; 2];
        recv.read_exact(&mut start).await.unwrap();
        assert_eq!(start[0], 0x01, "HEADERS");
        let mut payload_len = usize::from(start[1]);
        if payload_len >= 0x40 {
            payload_len = (payload_len & 0x3f) << 8 | usize::from(receive(recv, 1).await[0]);
        }
        let payload = receive(recv, payload_len).await;
        let field = b"\x27\x04wt-protocol";
        let protocol = payload.windows(field.len()).position(|bytes| bytes == field).map(|at| {
            let value = &payload[at + field.len()..];
            String::from_utf8(value[1..=usize::from(value[0])].to_vec()).unwrap()
        });
        let status = match payload[..] {
            [0, 0, 0xd9, ..] => 200,
            [0, 0, 0xdb, ..] => 404,
            [0, 0, 0xff, 4, ..] => 400,
            _ => panic!("no known status: {payload:x?}"),
        };
        (status, protocol)
    }

    fn prefix<'a>(&self, prefix: &'a [u8]) -> &'a [u8] {
        if self.request.is_some() { prefix } else { &[] }
    }

    /// Opens a bidirectional stream and sends bytes.
    pub(crate) async fn bidi(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        // The server may close before everything is sent.
        let _ = send.write_all(&[self.prefix(BIDI), bytes].concat()).await;
        (send, recv)
    }

    /// Opens a unidirectional stream and sends bytes.
    pub(crate) async fn uni(&self, bytes: &[u8]) -> SendStream {
        let mut send = self.connection.open_uni().await.unwrap();
        send.write_all(&[self.prefix(UNI), bytes].concat()).await.unwrap();
        send
    }

    /// The next bidirectional stream that the server opens.
    pub(crate) async fn accept_bidi(&self) -> (SendStream, RecvStream) {
        let (send, mut recv) = self.connection.accept_bi().await.unwrap();
        let prefix = self.prefix(BIDI);
        assert_eq!(receive(&mut recv, prefix.len()).await, prefix);
        (send, recv)
    }

    /// Waits until the server has closed the WebTransport session. Returns code and reason.
    pub(crate) async fn closed(&mut self) -> (u64, String) {
        let (_, recv) = self.request.as_mut().unwrap();
        // A DATA frame with a capsule of type 0x2843. The capsule contains a 4-byte code and the reason.
        let bytes = recv.read_to_end(2_048).await.unwrap();
        let (frame, bytes) = bytes.split_first().unwrap();
        let (length, capsule) = length(bytes);
        assert_eq!((*frame, length), (0x00, capsule.len()), "the stream contains one DATA frame and nothing else");
        let value = capsule.strip_prefix(b"\x68\x43").expect("CLOSE_WEBTRANSPORT_SESSION");
        let (length, value) = self::length(value);
        assert_eq!(length, value.len());
        let (code, reason) = value.split_first_chunk().unwrap();
        self.connection.close(VarInt::from_u32(0x100), b"");
        (u32::from_be_bytes(*code).into(), String::from_utf8(reason.to_vec()).unwrap())
    }
}

/// Parses a length of one or two bytes. Returns the length and the bytes after it.
fn length(bytes: &[u8]) -> (usize, &[u8]) {
    match bytes {
        [first @ 0..=0x3f, rest @ ..] => (usize::from(*first), rest),
        [first @ 0x40..=0x7f, second, rest @ ..] => (usize::from(*first & 0x3f) << 8 | usize::from(*second), rest),
        _ => panic!("no short length: {bytes:x?}"),
    }
}

/// Reads this number of bytes from a stream.
pub(crate) async fn receive(recv: &mut RecvStream, bytes: usize) -> Vec<u8> {
    let mut received = vec![0; bytes];
    recv.read_exact(&mut received).await.unwrap();
    received
}

/// The head of a request, as literal fields (RFC 9204, section 4.5.6). No name or value exceeds 126 bytes.
pub(crate) fn request(method: &str, protocol: &[u8], path: &[u8]) -> Vec<u8> {
    request_with(method, protocol, path, b"")
}

/// Like [`request`], with a value of `wt-available-protocols`, unless it is empty.
pub(crate) fn request_with(method: &str, protocol: &[u8], path: &[u8], offer: &[u8]) -> Vec<u8> {
    let mut fields = b"\x00\x00".to_vec();
    let pairs: [(&str, &[u8]); 6] = [
        (":method", method.as_bytes()),
        (":scheme", b"https"),
        (":authority", b"localhost"),
        (":path", path),
        (":protocol", protocol),
        ("wt-available-protocols", offer),
    ];
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        match name.len() {
            length @ 0..7 => fields.push(0x20 | length as u8),
            length => fields.extend([0x27, length as u8 - 7]),
        }
        fields.extend(name.as_bytes());
        fields.push(value.len() as u8);
        fields.extend(value);
    }
    let mut head = vec![0x01, 0x40, fields.len() as u8];
    head.extend(fields);
    head
}
