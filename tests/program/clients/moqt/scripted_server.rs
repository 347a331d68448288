//! A MOQT echo server of version gomoqt-2025-02 over raw QUIC, written by hand from the protocol tables. Each test scripts its groups.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TokioRuntime};
use rcgen::generate_simple_self_signed;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

const VERSION: [u8; 8] = [0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0];
const ANNOUNCE_PLEASE: &[u8] = b"\x01\x0e\x02\x05japan\x05kyoto\x00";
const SUBSCRIBE: &[u8] = b"\x02\x18\x00\x03\x05japan\x05kyoto\x04text\x00\x00\x00\x00\x00";
const ANNOUNCE_ACTIVE: &[u8] = b"\x14\x01\x03\x05japan\x05kyoto\x04text\x00";
const INFO: &[u8] = &[3, 0, 0, 0];

/// The server's reaction to a group that it receives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerAction {
    /// Does not send the group back.
    Drop,
    /// Sends the group back with the first byte of its first frame changed.
    Damage,
    /// Sends the group back twice.
    Twice,
    /// Closes the connection with this code, and does not send the group back.
    Close(u32),
    /// Resets the client's subscription with this code, and does not send the group back.
    ResetSubscription(u32),
}

/// How the server fails once the run reaches a given stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server sends nothing more on any stream. The QUIC connection stays open and acknowledges packets.
    Silent,
    /// The server stalls, as if its process were stopped. Its socket stays open and is not read.
    Stalled,
    /// The server disappears without closing the connection, and its port is closed.
    Vanished,
}

/// No other test has a server at this address, so that none gets the port of one that has vanished. Only Linux has such addresses without set-up.
const OWN_IP: Ipv4Addr = if cfg!(target_os = "linux") { Ipv4Addr::new(127, 0, 0, 77) } else { Ipv4Addr::LOCALHOST };

/// A running server.
pub(crate) struct ScriptedServer {
    pub(crate) url: String,
    /// The SHA-256 of its certificate, as `--cert-sha256` expects it.
    pub(crate) sha256: String,
    /// The sequence number (1 to 63) of each group that arrives at the server, and 0 when a fault begins.
    pub(crate) groups: mpsc::Receiver<u64>,
}

impl ScriptedServer {
    /// A server with special actions for the groups of these sequence numbers. It sends all other groups back.
    pub(crate) fn start(actions: impl IntoIterator<Item = (u64, ServerAction)>) -> Self {
        Self::serving(false, actions, None)
    }

    /// A server that selects gomoqt-0.9 in the first session and then sends nothing, so the client connects again with another path.
    pub(crate) fn silent_at_first() -> Self {
        Self::serving(true, [], None)
    }

    /// A server that fails before (stage 0) or after (1) its setup response, after the client's responses to its `ANNOUNCE_PLEASE` (2) and
    /// SUBSCRIBE (3), after its responses to those of the client (4, 5), or when the n-th group arrives (5 + n).
    pub(crate) fn failing(stage: u8, fault: Fault) -> Self {
        Self::serving(false, [], Some((stage, fault)))
    }

    fn serving(
        is_silent_at_first: bool,
        actions: impl IntoIterator<Item = (u64, ServerAction)>,
        fault: Option<(u8, Fault)>,
    ) -> Self {
        let actions: BTreeMap<u64, ServerAction> = actions.into_iter().collect();
        let (config, certificate) = configure(b"moq-00");
        let digits: Vec<String> = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
        let sha256 = digits.concat();
        let (started, address) = mpsc::channel();
        let (received, groups) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let script = Script { is_silent_at_first, actions, fault, received };
            // If a connection is dropped together with its runtime, the connection sends no CLOSE frame.
            runtime.block_on(async move {
                let socket = UdpSocket::bind((OWN_IP, 0)).unwrap();
                started.send(socket.local_addr().unwrap()).unwrap();
                let endpoint = EndpointConfig::default();
                let endpoint = Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime)).unwrap();
                let mut connection_number = 0;
                while let Some(incoming) = endpoint.accept().await {
                    // A client that rejects the certificate disconnects.
                    let Ok(connection) = incoming.await else { continue };
                    // Errors of the connection are ignored: the client has ended.
                    if serve(&connection, connection_number, &script).await.is_err_and(|error| error.is::<Vanished>()) {
                        break;
                    }
                    connection.closed().await;
                    connection_number += 1;
                }
            });
        });
        let address = address.recv().unwrap();
        Self { url: format!("moqt://{address}/echo"), sha256, groups }
    }

    /// These options, and the one that makes the client trust this server's certificate.
    pub(crate) fn trusted(&self, options: &str) -> String {
        format!("--cert-sha256 {} {options}", self.sha256)
    }
}

/// The configuration of a QUIC server with this ALPN protocol, and its certificate.
pub(crate) fn configure(alpn: &[u8]) -> (ServerConfig, CertificateDer<'static>) {
    let generated = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = generated.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(generated.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut tls = tls.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    (ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap())), certificate)
}

/// An error that ends a session early.
type SessionError = Box<dyn std::error::Error + Send + Sync>;

/// The server stops replying.
#[derive(Debug, thiserror::Error)]
#[error("vanished")]
struct Vanished;

/// The configuration of a server.
struct Script {
    is_silent_at_first: bool,
    actions: BTreeMap<u64, ServerAction>,
    fault: Option<(u8, Fault)>,
    received: mpsc::Sender<u64>,
}

impl Script {
    /// Simulates the configured fault if it begins at this stage. Otherwise, returns `Ok`.
    async fn fail_if_reached(&self, stage: u8, connection: &Connection) -> Result<(), SessionError> {
        let Some((_, fault)) = self.fault.filter(|(when, _)| *when == stage) else { return Ok(()) };
        self.received.send(0)?;
        match fault {
            Fault::Silent => Err(connection.closed().await.into()),
            Fault::Stalled => loop {
                thread::park();
            },
            Fault::Vanished => Err(Vanished.into()),
        }
    }
}

async fn byte(stream: &mut RecvStream) -> Result<u8, SessionError> {
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    Ok(byte[0])
}

/// Reads a length field, which takes one or two bytes. Then reads and returns as many bytes as this field states.
async fn length_prefixed(stream: &mut RecvStream) -> Result<Vec<u8>, SessionError> {
    let first = byte(stream).await?;
    let length = match first >> 6 {
        0 => usize::from(first),
        1 => usize::from(first & 0x3f) << 8 | usize::from(byte(stream).await?),
        _ => panic!("longer than any message here"),
    };
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn serve(connection: &Connection, connection_number: usize, script: &Script) -> Result<(), SessionError> {
    let Script { is_silent_at_first, actions, received, .. } = script;
    let (mut send, mut session) = connection.accept_bi().await?;
    assert_eq!(byte(&mut session).await?, 0, "the session stream comes first");
    let client_setup = length_prefixed(&mut session).await?;
    assert!(client_setup.windows(8).any(|eight| eight == VERSION), "gomoqt-2025-02 is offered: {client_setup:x?}");
    let is_second = connection_number > 0 && (*is_silent_at_first || script.fault.is_some());
    let path: &[u8] = if is_second { b"\x01\x04echo" } else { b"\x01\x05/echo" };
    assert!(client_setup.ends_with(path), "the path is requested: {client_setup:x?}");
    script.fail_if_reached(0, connection).await?;
    if *is_silent_at_first && connection_number == 0 {
        send.write_all(&[9, 0xc0, 0, 0, 0, 0xfe, 0xed, 0xba, 0xbe, 0]).await?;
        connection.closed().await;
        return Ok(());
    }
    send.write_all(&[&[9], &VERSION[..], &[0]].concat()).await?;
    script.fail_if_reached(1, connection).await?;
    // Dropping either half of a stream would reset or stop it.
    let mut open_streams = vec![(send, session)];
    for (stage, message, answer) in [(2, ANNOUNCE_PLEASE, &ANNOUNCE_ACTIVE[1..]), (3, SUBSCRIBE, &INFO[1..])] {
        let (mut send, mut answered) = connection.open_bi().await?;
        send.write_all(message).await?;
        assert_eq!(length_prefixed(&mut answered).await?, answer);
        open_streams.push((send, answered));
        script.fail_if_reached(stage, connection).await?;
    }
    for (kind, requested, answer) in [(1, &ANNOUNCE_PLEASE[2..], ANNOUNCE_ACTIVE), (2, &SUBSCRIBE[2..], INFO)] {
        let (mut send, mut requester) = connection.accept_bi().await?;
        assert_eq!((byte(&mut requester).await?, length_prefixed(&mut requester).await?), (kind, requested.to_vec()));
        send.write_all(answer).await?;
        open_streams.push((send, requester));
        script.fail_if_reached(3 + kind, connection).await?;
    }
    let (client_subscription, _) = open_streams.last_mut().unwrap();
    loop {
        let mut stream = connection.accept_uni().await?;
        let begin =
            [byte(&mut stream).await?].into_iter().chain(length_prefixed(&mut stream).await?).collect::<Vec<u8>>();
        let [0, 0, sequence @ 1..=63] = begin[..] else {
            panic!("this is not a group of the only subscription: {begin:x?}")
        };
        received.send(sequence.into())?;
        script.fail_if_reached(5 + sequence, connection).await?;
        let action = actions.get(&sequence.into()).copied();
        if let Some(ServerAction::Close(code)) = action {
            connection.close(code.into(), b"whim");
            return Ok(());
        }
        let mut frames = Vec::new();
        while let Ok(frame) = length_prefixed(&mut stream).await {
            frames.push(frame);
        }
        match action {
            Some(ServerAction::ResetSubscription(code)) => client_subscription.reset(code.into())?,
            Some(ServerAction::Drop | ServerAction::Close(_)) => {}
            Some(ServerAction::Damage) => {
                frames[0][0] ^= 1;
                return_frames(connection, sequence, &frames).await?.finish()?;
            }
            Some(ServerAction::Twice) => {
                return_frames(connection, sequence, &frames).await?.finish()?;
                return_frames(connection, sequence, &frames).await?.finish()?;
            }
            None => return_frames(connection, sequence, &frames).await?.finish()?,
        }
    }
}

/// Opens a group stream and writes frames to it.
async fn return_frames(connection: &Connection, sequence: u8, frames: &[Vec<u8>]) -> Result<SendStream, SessionError> {
    let mut stream = connection.open_uni().await?;
    let mut bytes = vec![0, 2, 0, sequence];
    for frame in frames {
        let length = u16::try_from(frame.len()).unwrap();
        bytes.extend((length | 0x4000).to_be_bytes());
        bytes.extend(frame);
    }
    stream.write_all(&bytes).await?;
    Ok(stream)
}
