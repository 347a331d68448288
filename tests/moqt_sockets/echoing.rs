//! An echo server with a certificate of its own, and clients that believe it.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use jamjam_dev::io::moqt::client::{self, Dial, DialError, Outcome};
use jamjam_dev::io::moqt::server::{self, Running, Terms};
use jamjam_dev::io::moqt::{Reading, Totals, Transport};
use jamjam_dev::io::stop::{Reason, Stop};
use jamjam_dev::moqt::client::{Client, Config, Ending, Fact};
use rcgen::CertifiedKey;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// Long enough for a busy machine, and an end for a test that would wait for ever.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) const BOTH: [Transport; 2] = [Transport::Quic, Transport::WebTransport];

/// One certificate for this machine, and its key.
static IDENTITY: LazyLock<(CertificateDer<'static>, Vec<u8>)> = LazyLock::new(|| {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    (cert.der().clone(), signing_key.serialize_der())
});

/// A server at work until it is dropped.
pub(crate) struct Echoing {
    pub(crate) address: SocketAddr,
    pub(crate) totals: Arc<Totals>,
    pub(crate) stop: Stop,
    running: Option<Running>,
}

impl Echoing {
    pub(crate) fn start(terms: Terms) -> Self {
        let bound = server::bind(&[SocketAddr::from(([127, 0, 0, 1], 0))]).unwrap();
        let address = bound.addresses().next().unwrap();
        let (chain, key) = &*IDENTITY;
        let key = PrivatePkcs8KeyDer::from(key.clone()).into();
        let certificate = server::certificate(vec![chain.clone()], key).unwrap();
        let (totals, stop) = (Arc::new(Totals::default()), Stop::default());
        let running = server::serve(bound, certificate, terms, Arc::clone(&totals), &stop).unwrap();
        Self { address, totals, stop, running: Some(running) }
    }

    pub(crate) fn url(&self, transport: Transport, path: &str) -> String {
        let scheme = if transport == Transport::Quic { "moqt" } else { "https" };
        format!("{scheme}://{}{path}", self.address)
    }

    pub(crate) fn dial(&self, transport: Transport) -> Dial {
        Dial::new(self.url(transport, "/echo").parse().unwrap(), believing())
    }

    /// Waits until the counts are as wanted.
    pub(crate) fn wait(&self, what: &str, mut wanted: impl FnMut(&Reading) -> bool) -> Reading {
        let began = Instant::now();
        loop {
            let reading = self.totals.read();
            if wanted(&reading) {
                return reading;
            }
            assert!(began.elapsed() < LONG, "{what}: never, {reading:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// An echo of a few groups, as anybody wants it.
    pub(crate) fn ordinary_echo(&self, transport: Transport) {
        let call = call(&self.dial(transport), groups(3, 2)).unwrap();
        assert_eq!(call.outcome.application.ending(), Some(&Ending::Done));
        assert_eq!(call.came(), [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]);
    }

    /// Stops, and waits for it.
    pub(crate) fn stop(&mut self) {
        self.stop.request(Reason::Terminate);
        if let Some(running) = self.running.take() {
            running.join();
        }
    }
}

impl Drop for Echoing {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// The server's certificate.
pub(crate) fn certificate() -> CertificateDer<'static> {
    IDENTITY.0.clone()
}

/// Believes the server's certificate, and no other.
pub(crate) fn believing() -> Arc<dyn ServerCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).unwrap();
    let provider = Arc::new(ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}

/// So many groups of so many frames.
pub(crate) fn groups(count: u64, frames_per_group: usize) -> Config {
    let interval = Duration::from_millis(4);
    Config { count: Some(count), frames_per_group, interval, timeout: LONG, patience: LONG, ..Config::default() }
}

/// A call that was made, with all its facts.
pub(crate) struct Call {
    pub(crate) outcome: Outcome<Client>,
    pub(crate) facts: Vec<Fact>,
}

impl Call {
    /// Group and frame of all that came back, in the order in which it came.
    pub(crate) fn came(&self) -> Vec<(u64, usize)> {
        let came = self.facts.iter().filter_map(|fact| match *fact {
            Fact::Came { group, frame, intact, .. } => {
                assert!(intact, "group {group} frame {frame} is damaged");
                Some((group, frame))
            }
            _ => None,
        });
        came.collect()
    }
}

/// Calls.
pub(crate) fn call(dial: &Dial, config: Config) -> Result<Call, DialError> {
    let mut facts = Vec::new();
    let observe = |client: &mut Client| facts.extend(std::iter::from_fn(|| client.poll_fact()));
    let outcome = client::run(dial, || Client::new(config.clone()), observe, &Stop::default())?;
    Ok(Call { outcome, facts })
}
