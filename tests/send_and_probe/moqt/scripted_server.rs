//! A MOQT echo server of version gomoqt-2025-02 over raw QUIC, written by hand from the protocol tables. It handles each group as
//! a test defines.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TokioRuntime, VarInt};
use rcgen::generate_simple_self_signed;
use rustls::pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};

const VERSION: [u8; 8] = [0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0];
const PLEASE: &[u8] = b"\x01\x0e\x02\x05japan\x05kyoto\x00";
const SUBSCRIBE: &[u8] = b"\x02\x18\x00\x03\x05japan\x05kyoto\x04text\x00\x00\x00\x00\x00";
const ACTIVE: &[u8] = b"\x14\x01\x03\x05japan\x05kyoto\x04text\x00";
const INFO: &[u8] = &[3, 0, 0, 0];

/// What to do with a group.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerAction {
    /// Returns nothing of it.
    Drop,
    /// Returns this many frames and breaks it off.
    Cut(usize),
    /// Returns its first frame with another first byte.
    Alter,
    /// Returns it twice.
    Twice,
    /// Returns it once the next one has been returned.
    AfterNext,
    /// Returns it, and a group that was never sent.
    Invent,
    /// Gives it up after its first byte.
    Refuse,
    /// Closes the connection with this code in its place.
    Close(u32),
    /// Returns it, and wants no more of the track.
    Unsubscribe,
}

/// The first message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// It selects gomoqt-2025-02.
    Gomoqt202502,
    /// It selects a version that the client did not offer.
    UnofferedVersion,
    /// It selects gomoqt-0.9 and then does nothing. A client that reconnects requests another path.
    Silent,
}

/// What becomes of a server, from one moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It sends nothing more on any stream. Its connection stays open and acknowledges packets.
    Silent,
    /// It stands still, as if its process were stopped: its socket is there and is not read.
    Still,
    /// It is gone without a word, and its port with it.
    Gone,
    /// It is gone without a word, and another, which knows nothing of this one's connections, has its port.
    Again,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::Silent, Self::Still, Self::Gone, Self::Again];
}

/// A server at work.
pub(crate) struct ScriptedServer {
    pub(crate) url: String,
    /// The SHA-256 of its certificate, as `--cert-sha256` takes it.
    pub(crate) sha256: String,
    /// A line for each group that came: its sequence. And a 0 when a fault begins.
    pub(crate) groups: mpsc::Receiver<u64>,
}

impl ScriptedServer {
    /// A server that returns all groups but these.
    pub(crate) fn start(actions: impl IntoIterator<Item = (u64, ServerAction)>) -> Self {
        Self::greeting(&[Greeting::Gomoqt202502], actions)
    }

    /// A server that greets each caller with the next of `greetings`, and all others with the last.
    pub(crate) fn greeting(
        greetings: &'static [Greeting],
        actions: impl IntoIterator<Item = (u64, ServerAction)>,
    ) -> Self {
        Self::serving(greetings, actions, None)
    }

    /// A server that fails at this stage: 0 before it answers the set-up, 1 after that, 2 and 3 after the answer to each of its own questions,
    /// 4 and 5 after its answer to each of ours, and at the n-th group with 5 + n.
    pub(crate) fn failing(stage: u8, fault: Fault) -> Self {
        Self::serving(&[Greeting::Gomoqt202502], [], Some((stage, fault)))
    }

    fn serving(
        greetings: &'static [Greeting],
        actions: impl IntoIterator<Item = (u64, ServerAction)>,
        fault: Option<(u8, Fault)>,
    ) -> Self {
        let actions: BTreeMap<u64, ServerAction> = actions.into_iter().collect();
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let digits: Vec<String> = Sha256::digest(made.cert.der()).iter().map(|byte| format!("{byte:02x}")).collect();
        let sha256 = digits.concat();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider);
        let tls = tls.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_no_client_auth();
        let mut tls = tls.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        tls.alpn_protocols = vec![b"moq-00".to_vec()];
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let (started, address) = mpsc::channel();
        let (received, groups) = mpsc::channel();
        thread::spawn(move || {
            let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let script = Script { greetings, actions, fault, received };
            // A connection dropped with its runtime sends no CLOSE frame.
            let (config, kept) = runtime().block_on(async move {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                started.send(socket.local_addr().unwrap()).unwrap();
                // The port stays reserved in between.
                let kept = matches!(fault, Some((_, Fault::Again))).then(|| socket.try_clone().unwrap());
                let endpoint = endpoint(config.clone(), socket);
                let mut call = 0;
                while let Some(incoming) = endpoint.accept().await {
                    // A client that rejects the certificate disconnects.
                    let Ok(connection) = incoming.await else { continue };
                    // What is lost with the connection is no matter: the client has gone.
                    if serve(&connection, call, &script).await.is_err_and(|gone| gone.is::<Vanished>()) {
                        break;
                    }
                    connection.closed().await;
                    call += 1;
                }
                (config, kept)
            });
            if let Some(socket) = kept {
                runtime().block_on(async move {
                    let endpoint = endpoint(config, socket);
                    // The server receives from each client and sends nothing.
                    let mut kept = Vec::new();
                    while let Some(incoming) = endpoint.accept().await {
                        kept.extend(incoming.await);
                    }
                });
            }
        });
        let address = address.recv().unwrap();
        Self { url: format!("moqt://localhost:{}/echo", address.port()), sha256, groups }
    }

    /// The options that trust its certificate, and more.
    pub(crate) fn with<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["--cert-sha256", &self.sha256], more].concat()
    }
}

/// A server's end on this socket, in the runtime that is entered.
fn endpoint(config: ServerConfig, socket: UdpSocket) -> Endpoint {
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime)).unwrap()
}

/// Whatever ends a conversation before its time.
type Gone = Box<dyn std::error::Error + Send + Sync>;

/// The end of a server that never replies.
#[derive(Debug, thiserror::Error)]
#[error("vanished")]
struct Vanished;

/// What a server does.
struct Script {
    greetings: &'static [Greeting],
    actions: BTreeMap<u64, ServerAction>,
    fault: Option<(u8, Fault)>,
    received: mpsc::Sender<u64>,
}

impl Script {
    /// Fails, if this is the stage.
    async fn reach(&self, stage: u8, connection: &Connection) -> Result<(), Gone> {
        let Some((_, fault)) = self.fault.filter(|(when, _)| *when == stage) else { return Ok(()) };
        self.received.send(0)?;
        match fault {
            Fault::Silent => Err(connection.closed().await.into()),
            Fault::Still => loop {
                thread::park();
            },
            Fault::Gone | Fault::Again => Err(Vanished.into()),
        }
    }
}

async fn byte(stream: &mut RecvStream) -> Result<u8, Gone> {
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    Ok(byte[0])
}

/// A length of one or two bytes, and that number of bytes.
async fn piece(stream: &mut RecvStream) -> Result<Vec<u8>, Gone> {
    let first = byte(stream).await?;
    let length = match first >> 6 {
        0 => usize::from(first),
        1 => usize::from(first & 0x3f) << 8 | usize::from(byte(stream).await?),
        _ => panic!("nothing here is as long"),
    };
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn serve(connection: &Connection, call: usize, script: &Script) -> Result<(), Gone> {
    let Script { greetings, actions, received, .. } = script;
    let (mut send, mut session) = connection.accept_bi().await?;
    assert_eq!(byte(&mut session).await?, 0, "the session stream comes first");
    let hello = piece(&mut session).await?;
    assert!(hello.windows(8).any(|eight| eight == VERSION), "the seed's version is offered: {hello:x?}");
    let is_second = call > 0 && (greetings.first() == Some(&Greeting::Silent) || script.fault.is_some());
    let path: &[u8] = if is_second { b"\x01\x04echo" } else { b"\x01\x05/echo" };
    assert!(hello.ends_with(path), "the path is requested: {hello:x?}");
    script.reach(0, connection).await?;
    match greetings[call.min(greetings.len() - 1)] {
        Greeting::Gomoqt202502 => send.write_all(&[&[9], &VERSION[..], &[0]].concat()).await?,
        Greeting::UnofferedVersion => send.write_all(&[9, 0xc0, 0, 0, 0, 0xff, 0, 0, 1, 0]).await?,
        Greeting::Silent => {
            send.write_all(&[9, 0xc0, 0, 0, 0, 0xfe, 0xed, 0xba, 0xbe, 0]).await?;
            connection.closed().await;
            return Ok(());
        }
    }
    script.reach(1, connection).await?;
    // A side that is let go of is one that is given up.
    let mut kept = vec![(send, session)];
    for (stage, said, answer) in [(2, PLEASE, &ACTIVE[1..]), (3, SUBSCRIBE, &INFO[1..])] {
        let (mut send, mut answered) = connection.open_bi().await?;
        send.write_all(said).await?;
        assert_eq!(piece(&mut answered).await?, answer);
        kept.push((send, answered));
        script.reach(stage, connection).await?;
    }
    for (kind, requested, answer) in [(1, &PLEASE[2..], ACTIVE), (2, &SUBSCRIBE[2..], INFO)] {
        let (mut send, mut requester) = connection.accept_bi().await?;
        assert_eq!((byte(&mut requester).await?, piece(&mut requester).await?), (kind, requested.to_vec()));
        send.write_all(answer).await?;
        kept.push((send, requester));
        script.reach(3 + kind, connection).await?;
    }
    let [_, _, (subscription, _), ..] = &mut kept[..] else { panic!("the third stream is our subscription") };
    let mut held: Option<(u8, Vec<Vec<u8>>)> = None;
    loop {
        let mut stream = connection.accept_uni().await?;
        let begin = [byte(&mut stream).await?].into_iter().chain(piece(&mut stream).await?).collect::<Vec<u8>>();
        let [0, 0, sequence @ 1..=63] = begin[..] else { panic!("no group of the one subscription: {begin:x?}") };
        received.send(sequence.into())?;
        script.reach(5 + sequence, connection).await?;
        let action = actions.get(&sequence.into()).copied();
        if let Some(ServerAction::Refuse) = action {
            stream.stop(VarInt::from_u32(0))?;
            continue;
        }
        if let Some(ServerAction::Close(code)) = action {
            connection.close(code.into(), b"whim");
            return Ok(());
        }
        let mut frames = Vec::new();
        while let Ok(frame) = piece(&mut stream).await {
            frames.push(frame);
        }
        match action {
            Some(ServerAction::Drop | ServerAction::Refuse | ServerAction::Close(_)) => {}
            Some(ServerAction::Cut(most)) => {
                let mut cut = answer(connection, sequence, &frames[..most]).await?;
                // What was written has to be read before the end that is none, or it may be forgotten with it.
                wait_until_read(connection).await?;
                cut.reset(VarInt::from_u32(3))?;
            }
            Some(ServerAction::Alter) => {
                frames[0][0] ^= 1;
                answer(connection, sequence, &frames).await?.finish()?;
            }
            Some(ServerAction::Twice) => {
                answer(connection, sequence, &frames).await?.finish()?;
                answer(connection, sequence, &frames).await?.finish()?;
            }
            Some(ServerAction::AfterNext) => held = Some((sequence, frames)),
            Some(ServerAction::Invent) => {
                answer(connection, sequence, &frames).await?.finish()?;
                answer(connection, 63, &frames[..1]).await?.finish()?;
            }
            Some(ServerAction::Unsubscribe) => {
                answer(connection, sequence, &frames).await?.finish()?;
                wait_until_read(connection).await?;
                subscription.finish()?;
            }
            None => answer(connection, sequence, &frames).await?.finish()?,
        }
        if let Some((sequence, frames)) = held.take_if(|(held, _)| *held != sequence) {
            answer(connection, sequence, &frames).await?.finish()?;
        }
    }
}

/// Waits until the client has read what was written: it answers a later request only after that, and where it saw
/// both at once, to the next.
async fn wait_until_read(connection: &Connection) -> Result<(), Gone> {
    for _ in 0..2 {
        let (mut requester, mut answered) = connection.open_bi().await?;
        requester.write_all(PLEASE).await?;
        assert_eq!(piece(&mut answered).await?, &ACTIVE[1..]);
    }
    Ok(())
}

/// Begins a group, and writes frames of it.
async fn answer(connection: &Connection, sequence: u8, frames: &[Vec<u8>]) -> Result<SendStream, Gone> {
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
