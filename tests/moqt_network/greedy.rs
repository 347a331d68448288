//! 128 clients that send as much as they can and do not read, against the program. Its resident memory stays within the memory budget
//! plus 64 MiB. A moderate client beside them keeps its connection and its echo.
//!
//! ```text
//! PROGRAM=target/release/jamjam-dev cargo test --test moqt_network greedy -- --ignored --nocapture
//! ```

#![cfg(target_os = "linux")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jamjam_dev::io::moqt::connect::MoqtConnectOptions;
use jamjam_dev::memory_budget::DEFAULT_MEMORY_BUDGET;
use jamjam_dev::moqt::client::MoqtRunOutcome;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use test_support::certificate::Authority;
use test_support::server::process::Server;

use crate::manual_client::receive;
use crate::test_server::{all_frames, groups, run_client};

const CLIENTS: usize = 128;

/// Frames of 65,536 bytes.
const FRAMES_PER_GROUP: usize = 16;

/// Connects from `source`, sets up a track, subscribes to its echo, and sends groups until the server closes the connection.
async fn send_greedily(
    server: SocketAddr,
    source: Ipv4Addr,
    roots: Arc<RootCertStore>,
    sent: &AtomicU64,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"moq-00".to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport.stream_receive_window((64_u32 << 10).into()).receive_window((128_u32 << 10).into());
    transport.keep_alive_interval(Some(Duration::from_secs(5)));
    config.transport_config(Arc::new(transport));
    let endpoint = Endpoint::client((source, 0).into())?;
    let connection = endpoint.connect_with(config, server, "localhost")?.await?;
    let pieces = test_support::moqt_golden::pieces("gomoqt-2025-02.txt");
    let (mut session_send, mut session_recv) = connection.open_bi().await?;
    session_send.write_all(&pieces["session-client-quic"]).await?;
    receive(&mut session_recv, pieces["session-server"].len()).await;
    let (mut announce_send, mut announce_request) = connection.accept_bi().await?;
    receive(&mut announce_request, pieces["announce-please"].len()).await;
    announce_send.write_all(&pieces["announce-active"]).await?;
    let (mut wanted_send, mut wanted) = connection.accept_bi().await?;
    receive(&mut wanted, pieces["subscribe"].len()).await;
    wanted_send.write_all(&pieces["info"]).await?;
    let (mut subscribe_send, mut subscribe_recv) = connection.open_bi().await?;
    subscribe_send.write_all(&pieces["subscribe"]).await?;
    receive(&mut subscribe_recv, pieces["info"].len()).await;
    let frame = [b"\x80\x01\x00\x00".to_vec(), vec![7; 65_536]].concat();
    let mut open = Vec::new();
    for sequence in (1_u8..=63).cycle() {
        let mut group = connection.open_uni().await?;
        group.write_all(&[0x00, 0x02, 0x00, sequence]).await?;
        for _ in 0..FRAMES_PER_GROUP {
            group.write_all(&frame).await?;
            sent.fetch_add(65_536, Ordering::Relaxed);
        }
        // Half of the groups stay incomplete.
        if sequence % 2 == 0 {
            group.finish()?;
        } else if open.len() < 60 {
            open.push(group);
        }
    }
    Ok(())
}

/// Runs the clients from these addresses for 15 s. Prints and checks the memory of the server.
fn run(what: &str, source: impl Fn(usize) -> Ipv4Addr) {
    let authority = Authority::new();
    let pair = authority.certify();
    let server = Server::start_as(&[&["--moqt", "127.0.0.1:0", "--moqt-only"], &pair.options()[..]].concat(), |_| {});
    let certificate = CertificateDer::from_pem_file(authority.own()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let roots = Arc::new(roots);
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider).build().unwrap();
    let url = format!("moqt://localhost:{}/echo", server.address.port()).parse().unwrap();
    let moderate = std::thread::spawn(move || {
        let mut config = groups(60, 2);
        config.group_interval = Duration::from_millis(250);
        run_client(&MoqtConnectOptions::new(url, verifier), &config).unwrap()
    });
    let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clients = std::thread::spawn({
        let (sent, stop, address) = (Arc::clone(&sent), Arc::clone(&stop), server.address);
        let sources: Vec<Ipv4Addr> = (0..CLIENTS).map(source).collect();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for source in sources {
                    let (roots, sent, stop) = (Arc::clone(&roots), Arc::clone(&sent), Arc::clone(&stop));
                    tokio::spawn(async move {
                        // A client whose connection is closed comes back.
                        while !stop.load(Ordering::Relaxed) {
                            let _ = send_greedily(address, source, Arc::clone(&roots), &sent).await;
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                    });
                }
                while !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
    });
    let (began, mut peak) = (Instant::now(), 0_u64);
    while began.elapsed() < Duration::from_secs(15) {
        peak = peak.max(server.status("VmRSS").parse().unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    let run = moderate.join().unwrap();
    stop.store(true, Ordering::Relaxed);
    clients.join().unwrap();
    let limit = (DEFAULT_MEMORY_BUDGET >> 10) + (64 << 10);
    println!(
        "{what}: {} MiB sent, peak {} MiB, limit {} MiB",
        sent.load(Ordering::Relaxed) >> 20,
        peak >> 10,
        limit >> 10
    );
    assert_eq!(run.outcome.handler.outcome(), Some(&MoqtRunOutcome::Completed), "{what}");
    assert_eq!(run.returned_frames(), all_frames(60, 2), "{what}");
    assert!(peak <= limit, "{what}: {peak} KiB");
    let stopped = server.stop("TERM");
    println!("{}", stopped.lines.iter().rfind(|line| line.contains("moqt")).map_or("", String::as_str));
}

#[test]
#[ignore = "takes 30 s and measures the memory of an optimized program"]
fn greedy_clients_stay_within_the_memory_budget() {
    run("one address", |_| Ipv4Addr::new(127, 1, 0, 1));
    run("128 addresses", |number| Ipv4Addr::new(127, 1, 1, number as u8 + 1));
}
