//! An echo server with its own certificate, and clients that trust it.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

use jamjam_dev::client::StopSignal;
use jamjam_dev::io::moqt::client::{self, SessionRecord};
use jamjam_dev::io::moqt::connect::{MoqtConnectError, MoqtConnectOptions};
use jamjam_dev::io::moqt::server::{self, MoqtServerConfig, ServerThread};
use jamjam_dev::io::moqt::{CounterSnapshot, ServerCounters, bind_all};
use jamjam_dev::io::stop::StopToken;
use jamjam_dev::io::udp::BoundSocket;
use jamjam_dev::moqt::Transport;
use jamjam_dev::moqt::client::{MoqtClient, MoqtClientConfig, MoqtClientEvent, MoqtRunOutcome};
use rcgen::CertifiedKey;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign;
use test_support::TEST_TIMEOUT;

use crate::manual_client::run_async;

pub(crate) const BOTH: [Transport; 2] = [Transport::Quic, Transport::WebTransport];

/// One certificate for this machine, and its key.
static IDENTITY: LazyLock<(CertificateDer<'static>, Vec<u8>)> = LazyLock::new(|| {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    (cert.der().clone(), signing_key.serialize_der())
});

/// A server that runs until it is dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) totals: Arc<ServerCounters>,
    stop: StopToken,
    running: Option<ServerThread>,
    /// A shared or exclusive guard of `ACCESS`.
    _access: Box<dyn Any>,
}

/// While the memory of a server is measured, no other server runs. The lock protects no data, so a poisoned lock is ignored.
static ACCESS: RwLock<()> = RwLock::new(());

impl TestServer {
    pub(crate) fn start(config: MoqtServerConfig) -> Self {
        Self::start_on(bind_loopback(), config)
    }

    /// Starts a server with exclusive access: no other server runs in this test program.
    pub(crate) fn start_alone(config: MoqtServerConfig) -> Self {
        let guard = ACCESS.write().unwrap_or_else(PoisonError::into_inner);
        Self::start_with(Box::new(guard), bind_loopback(), config)
    }

    /// Starts a server on sockets that are bound already.
    pub(crate) fn start_on(bound: Vec<BoundSocket>, config: MoqtServerConfig) -> Self {
        let guard = ACCESS.read().unwrap_or_else(PoisonError::into_inner);
        Self::start_with(Box::new(guard), bound, config)
    }

    fn start_with(access: Box<dyn Any>, bound: Vec<BoundSocket>, config: MoqtServerConfig) -> Self {
        let address = bound[0].address;
        let (chain, key) = &*IDENTITY;
        let key = PrivatePkcs8KeyDer::from(key.clone()).into();
        let key = sign::CertifiedKey::from_der(vec![chain.clone()], key, &ring::default_provider()).unwrap();
        let certificate = Arc::new(sign::SingleCertAndKey::from(key));
        let (totals, stop) = (Arc::new(ServerCounters::default()), StopToken::default());
        let running = server::spawn(bound, certificate, config, Arc::clone(&totals), &stop).unwrap();
        Self { address, totals, stop, running: Some(running), _access: access }
    }

    pub(crate) fn connect_options(&self, transport: Transport) -> MoqtConnectOptions {
        let url = format!("{}://{}/echo", transport.scheme(), self.address);
        MoqtConnectOptions::new(url.parse().unwrap(), trusting_verifier())
    }

    /// Waits until the counters satisfy `wanted`. Meanwhile, every `ManualClient` on the same runtime continues.
    pub(crate) async fn until(&self, what: &str, mut wanted: impl FnMut(&CounterSnapshot) -> bool) -> CounterSnapshot {
        let read = || {
            let reading = self.totals.snapshot();
            if wanted(&reading) { Ok(reading) } else { Err(format!("{what}: never, {reading:#?}")) }
        };
        until(read).await
    }

    /// Like [`Self::until`], outside of a runtime.
    pub(crate) fn wait(&self, what: &str, wanted: impl FnMut(&CounterSnapshot) -> bool) -> CounterSnapshot {
        run_async(self.until(what, wanted))
    }

    /// Checks that a few groups are echoed with default options.
    pub(crate) fn ordinary_echo(&self, transport: Transport) {
        // On another thread, because the runtime of a `ManualClient` may already run on this one.
        let options = self.connect_options(transport);
        let run =
            std::thread::scope(|scope| scope.spawn(|| run_client(&options, &groups(3, 2)).unwrap()).join().unwrap());
        assert_eq!(run.client.outcome(), Some(&MoqtRunOutcome::Completed));
        assert_eq!(run.returned_frames(), all_frames(3, 2));
    }
}

/// Polls until `observe` returns a value. Its last error says what did not happen.
pub(crate) async fn until<T>(mut observe: impl FnMut() -> Result<T, String>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let mut error = String::new();
    let seen = tokio::time::timeout(TEST_TIMEOUT, async {
        loop {
            match observe() {
                Ok(seen) => return seen,
                Err(what) => error = what,
            }
            ticks.tick().await;
        }
    });
    seen.await.unwrap_or_else(|_| panic!("{error}"))
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.request(StopSignal::Terminate);
        if let Some(running) = self.running.take().filter(|_| !std::thread::panicking()) {
            running.join();
        }
    }
}

fn bind_loopback() -> Vec<BoundSocket> {
    bind_all(&[SocketAddr::from(([127, 0, 0, 1], 0))]).unwrap()
}

/// A verifier that trusts only the server's certificate.
pub(crate) fn trusting_verifier() -> Arc<dyn ServerCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(IDENTITY.0.clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}

/// A configuration with this number of groups and frames per group.
pub(crate) fn groups(count: u64, frames_per_group: usize) -> MoqtClientConfig {
    let group_interval = Duration::from_millis(4);
    MoqtClientConfig {
        group_count: Some(count),
        frames_per_group,
        group_interval,
        reply_timeout: TEST_TIMEOUT,
        subscribe_timeout: TEST_TIMEOUT,
        ..MoqtClientConfig::default()
    }
}

/// A finished client run with its events.
pub(crate) struct ClientRun {
    pub(crate) client: MoqtClient,
    pub(crate) events: Vec<MoqtClientEvent>,
}

impl ClientRun {
    /// The returned frames of each group, in order of arrival. Each group has its own stream, so groups may overtake each other.
    pub(crate) fn returned_frames(&self) -> BTreeMap<u64, Vec<usize>> {
        let mut returned_frames: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for event in &self.events {
            if let MoqtClientEvent::FrameReturned { group, frame, intact, .. } = *event {
                assert!(intact, "group {group} frame {frame} is damaged");
                returned_frames.entry(group).or_default().push(frame);
            }
        }
        returned_frames
    }
}

/// Maps each group number from 1 to `groups` to the indexes of all frames of the group, in order.
pub(crate) fn all_frames(groups: u64, frames: usize) -> BTreeMap<u64, Vec<usize>> {
    (1..=groups).map(|group| (group, (0..frames).collect())).collect()
}

/// Runs a client.
pub(crate) fn run_client(
    options: &MoqtConnectOptions,
    config: &MoqtClientConfig,
) -> Result<ClientRun, MoqtConnectError> {
    let mut events = Vec::new();
    let observe =
        |client: &mut MoqtClient, _: &SessionRecord<'_>| events.extend(std::iter::from_fn(|| client.poll_event()));
    let client = client::run_session(options, || MoqtClient::new(config.clone()), observe, &StopToken::default())?;
    Ok(ClientRun { client, events })
}
