//! A MOQT echo server of the seed's flavour over raw QUIC, written by hand from the protocol's tables, that does to each group what a
//! test tells it to.

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
pub(crate) enum Deed {
    /// Returns nothing of it.
    Drop,
    /// Returns this many frames and breaks it off.
    Cut(usize),
    /// Returns its first frame with another first byte.
    Alter,
    /// Returns it twice.
    Twice,
    /// Returns it once the next one has been returned.
    Hold,
    /// Returns it, and a group that was never sent.
    Invent,
    /// Gives it up after its first byte.
    Refuse,
    /// Closes the connection with this code in its place.
    Close(u32),
    /// Returns it, and wants no more of the track.
    Leave,
}

/// What the server says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// That it speaks the seed's flavour.
    Seed,
    /// That it speaks a version that nobody offered.
    Other,
    /// That it speaks the head's flavour; and then it does nothing. Who calls again asks for another path.
    Mute,
}

/// What becomes of a server, from one moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It says nothing more on any stream. Its connection stays, and answers whoever asks whether it is there.
    Mute,
    /// It stands still, as if its process were stopped: its socket is there and is not read.
    Still,
    /// It is gone without a word, and its port with it.
    Gone,
    /// It is gone without a word, and another, which knows nothing of this one's connections, has its port.
    Again,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::Mute, Self::Still, Self::Gone, Self::Again];
}

/// A server at work.
pub(crate) struct Fake {
    pub(crate) url: String,
    /// The SHA-256 of its certificate, as `--cert-sha256` takes it.
    pub(crate) sha256: String,
    /// A line for each group that came: its sequence. And a 0 when a fault begins.
    pub(crate) groups: mpsc::Receiver<u64>,
}

impl Fake {
    /// A server that returns all groups but these.
    pub(crate) fn start(deeds: impl IntoIterator<Item = (u64, Deed)>) -> Self {
        Self::greeting(&[Greeting::Seed], deeds)
    }

    /// A server that greets each caller with the next of `greetings`, and all others with the last.
    pub(crate) fn greeting(greetings: &'static [Greeting], deeds: impl IntoIterator<Item = (u64, Deed)>) -> Self {
        Self::serving(greetings, deeds, None)
    }

    /// A server that fails at this stage: 0 before it answers the set-up, 1 after that, 2 and 3 after the answer to each of its own questions,
    /// 4 and 5 after its answer to each of ours, and at the n-th group with 5 + n.
    pub(crate) fn failing(stage: u8, fault: Fault) -> Self {
        Self::serving(&[Greeting::Seed], [], Some((stage, fault)))
    }

    fn serving(
        greetings: &'static [Greeting],
        deeds: impl IntoIterator<Item = (u64, Deed)>,
        fault: Option<(u8, Fault)>,
    ) -> Self {
        let deeds: BTreeMap<u64, Deed> = deeds.into_iter().collect();
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
        let (heard, groups) = mpsc::channel();
        thread::spawn(move || {
            let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let script = Script { greetings, deeds, fault, heard };
            // What is dropped with its runtime says nothing to the other end.
            let (config, kept) = runtime().block_on(async move {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                started.send(socket.local_addr().unwrap()).unwrap();
                // Nobody else takes the port in between.
                let kept = matches!(fault, Some((_, Fault::Again))).then(|| socket.try_clone().unwrap());
                let endpoint = endpoint(config.clone(), socket);
                let mut call = 0;
                while let Some(incoming) = endpoint.accept().await {
                    // Whoever does not like the certificate goes away again.
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
                    // Whoever calls is heard, and told nothing.
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

    /// The options with which its certificate is believed, and more.
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

/// The end of a server that says no word.
#[derive(Debug, thiserror::Error)]
#[error("vanished")]
struct Vanished;

/// What a server does.
struct Script {
    greetings: &'static [Greeting],
    deeds: BTreeMap<u64, Deed>,
    fault: Option<(u8, Fault)>,
    heard: mpsc::Sender<u64>,
}

impl Script {
    /// Fails, if this is the stage.
    async fn reach(&self, stage: u8, connection: &Connection) -> Result<(), Gone> {
        let Some((_, fault)) = self.fault.filter(|(when, _)| *when == stage) else { return Ok(()) };
        self.heard.send(0)?;
        match fault {
            Fault::Mute => Err(connection.closed().await.into()),
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

/// A length of one or two bytes, and as many bytes as it says.
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
    let Script { greetings, deeds, heard, .. } = script;
    let (mut send, mut session) = connection.accept_bi().await?;
    assert_eq!(byte(&mut session).await?, 0, "the session stream comes first");
    let hello = piece(&mut session).await?;
    assert!(hello.windows(8).any(|eight| eight == VERSION), "the seed's version is offered: {hello:x?}");
    let is_second = call > 0 && (greetings.first() == Some(&Greeting::Mute) || script.fault.is_some());
    let path: &[u8] = if is_second { b"\x01\x04echo" } else { b"\x01\x05/echo" };
    assert!(hello.ends_with(path), "the path is asked for: {hello:x?}");
    script.reach(0, connection).await?;
    match greetings[call.min(greetings.len() - 1)] {
        Greeting::Seed => send.write_all(&[&[9], &VERSION[..], &[0]].concat()).await?,
        Greeting::Other => send.write_all(&[9, 0xc0, 0, 0, 0, 0xff, 0, 0, 1, 0]).await?,
        Greeting::Mute => {
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
    for (kind, asked, answer) in [(1, &PLEASE[2..], ACTIVE), (2, &SUBSCRIBE[2..], INFO)] {
        let (mut send, mut asking) = connection.accept_bi().await?;
        assert_eq!((byte(&mut asking).await?, piece(&mut asking).await?), (kind, asked.to_vec()));
        send.write_all(answer).await?;
        kept.push((send, asking));
        script.reach(3 + kind, connection).await?;
    }
    let [_, _, (subscription, _), ..] = &mut kept[..] else { panic!("the third stream is our subscription") };
    let mut held: Option<(u8, Vec<Vec<u8>>)> = None;
    loop {
        let mut stream = connection.accept_uni().await?;
        let begin = [byte(&mut stream).await?].into_iter().chain(piece(&mut stream).await?).collect::<Vec<u8>>();
        let [0, 0, sequence @ 1..=63] = begin[..] else { panic!("no group of the one subscription: {begin:x?}") };
        heard.send(sequence.into())?;
        script.reach(5 + sequence, connection).await?;
        let deed = deeds.get(&sequence.into()).copied();
        if let Some(Deed::Refuse) = deed {
            stream.stop(VarInt::from_u32(0))?;
            continue;
        }
        if let Some(Deed::Close(code)) = deed {
            connection.close(code.into(), b"whim");
            return Ok(());
        }
        let mut frames = Vec::new();
        while let Ok(frame) = piece(&mut stream).await {
            frames.push(frame);
        }
        match deed {
            Some(Deed::Drop | Deed::Refuse | Deed::Close(_)) => {}
            Some(Deed::Cut(most)) => {
                let mut cut = answer(connection, sequence, &frames[..most]).await?;
                // What was written has to be read before the end that is none, or it may be forgotten with it.
                be_heard(connection).await?;
                cut.reset(VarInt::from_u32(3))?;
            }
            Some(Deed::Alter) => {
                frames[0][0] ^= 1;
                answer(connection, sequence, &frames).await?.finish()?;
            }
            Some(Deed::Twice) => {
                answer(connection, sequence, &frames).await?.finish()?;
                answer(connection, sequence, &frames).await?.finish()?;
            }
            Some(Deed::Hold) => held = Some((sequence, frames)),
            Some(Deed::Invent) => {
                answer(connection, sequence, &frames).await?.finish()?;
                answer(connection, 63, &frames[..1]).await?.finish()?;
            }
            Some(Deed::Leave) => {
                answer(connection, sequence, &frames).await?.finish()?;
                be_heard(connection).await?;
                subscription.finish()?;
            }
            None => answer(connection, sequence, &frames).await?.finish()?,
        }
        if let Some((sequence, frames)) = held.take_if(|(held, _)| *held != sequence) {
            answer(connection, sequence, &frames).await?.finish()?;
        }
    }
}

/// Waits until the client has read what was written: what it says to a question that left later it says after that, and where it saw
/// both at once, to the next.
async fn be_heard(connection: &Connection) -> Result<(), Gone> {
    for _ in 0..2 {
        let (mut asking, mut answered) = connection.open_bi().await?;
        asking.write_all(PLEASE).await?;
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
