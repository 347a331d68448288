//! `jamjam-dev relay`: forwards UDP between clients and a target over a bad network, and reports what it has forwarded.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ColorChoice;
use tracing::{info, warn};

use super::echo_server::BitRateArgs;
use super::options::impairment::PathArgs;
use super::output::{Failure, HEADING_REPORT, ensure_usage, print};
use super::ready_file::{self, Ready, local_authority};
use super::server;
use super::target::Endpoint;
use super::values::{OutputFile, output_file_parser, parse_listen_address};
use crate::address::{HostPort, ParseHostError};
use crate::echo::FIXED_LOG_LINE;
use crate::impairment::Impairment;
use crate::io::local_socket::LocalSocketOptions;
use crate::io::resolve::{self, resolve_until_stopped};
use crate::io::stop::StopToken;
use crate::io::udp::{
    self, Backend, BindError, BoundSocket, DEFAULT_RECEIVE_BUFFER, DEFAULT_SPIN_PERCENT, DriverOptions, IdlePolicy,
};
use crate::io::{files, os};
use crate::relay::{MAX_CLIENTS, Relay, RelayConfig};
use crate::report::relay::RelayReport;

/// Interval at which failures to reach the target are looked for. The target is resolved again after some.
const FAILURE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Forward UDP between real programs over a bad network
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Port for clients, on 127.0.0.1 unless it is ADDR:PORT
    #[arg(value_name = "LISTEN", value_parser = parse_listen_address)]
    listen: SocketAddr,

    /// HOST:PORT to which what clients send is forwarded
    #[arg(value_name = "TARGET", value_parser = parse_target)]
    target: Endpoint,

    #[command(flatten)]
    path: PathArgs,

    /// Impairment from clients to the target only, as "loss 1% delay 30ms"
    ///
    /// The value consists of options without dashes, which replace the other ones in this direction.
    #[arg(long, value_name = "OPTIONS")]
    up: Option<String>,

    /// Impairment from the target to clients only, like --up
    #[arg(long, value_name = "OPTIONS")]
    down: Option<String>,

    #[command(flatten)]
    bit_rate: BitRateArgs,

    /// Write the address for clients to this file (JSON) once clients can send
    #[arg(long, value_name = "FILE", value_parser = output_file_parser())]
    ready_file: Option<OutputFile>,

    /// Print the report as JSON
    #[arg(long, help_heading = HEADING_REPORT)]
    json: bool,

    /// Write the report to this JUnit XML file
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    junit: Option<OutputFile>,
}

impl Args {
    /// Forwards until `stop` is requested, and reports.
    pub(crate) fn run(&self, color: ColorChoice, stop: &StopToken) -> Result<u8, Failure> {
        let impairments = self.impairments()?;
        let limits = self.bit_rate.limits()?;
        let log = server::start_log(false, color)?;
        os::set_process_name(c"relay");
        os::raise_descriptor_limit();
        ready_file::clear(self.ready_file.as_ref())?;
        let BoundSocket { socket, address, .. } = udp::bind(self.listen, DEFAULT_RECEIVE_BUFFER)?;
        let mut upstream = Upstream::connect(&self.target)?;
        ensure_usage!(upstream.target != address, "TARGET {address} is the address on which the relay listens");
        if let Some(file) = &self.junit {
            files::prepare(file).with_context(|| cannot_write(file))?;
        }
        let (observer, outcome_log) = self.path.open_outcome_log()?;
        stop.set_run_started();
        let seed = impairments[0].seed;
        let config = RelayConfig { target: upstream.target, impairments, limits };
        let (targets, new_targets) = mpsc::channel();
        let relay = Relay::new(config, MAX_CLIENTS, new_targets, observer);
        let failures = relay.failures();
        let sockets = std::iter::once(Ok(socket)).chain(upstream.sockets.iter().map(UdpSocket::try_clone));
        let sockets = sockets.collect::<Result<_, _>>().context("cannot open the sockets of the relay")?;
        let options = DriverOptions {
            idle: IdlePolicy::Wait,
            spin_percent: DEFAULT_SPIN_PERCENT,
            backend: Backend::Native,
            follow_address: false,
        };
        let target = upstream.target;
        info!(name: FIXED_LOG_LINE, target: "relay", "relay listening on {address}, target {target}");
        info!(target: "relay", seed, "the seed of the impairment");
        Ready { udp: Some(local_authority(address)), ..Ready::default() }.write(self.ready_file.as_ref())?;
        let running =
            udp::spawn_node("relay", sockets, relay, stop.clone(), options).context("cannot start a thread")?;
        stop.set_serving();
        let mut known_failures = 0;
        while !running.finished_within(Some(FAILURE_CHECK_INTERVAL)) {
            let count = failures.get();
            if count > known_failures {
                known_failures = count;
                upstream.follow(&self.target, &targets, stop);
            }
        }

        let (relay, tally) = running.join();
        let results = relay.into_results();
        let outcome_log = outcome_log.map_or(Ok(()), |log| log.finish());
        drop(log);
        let report = RelayReport::from((&*self.target.to_string(), &results, tally.host_timing.kernel_dropped));
        let junit = self.junit.as_ref().map_or(Ok(()), |file| {
            files::write(file, &report.junit()?).with_context(|| cannot_write(file))
        });
        print(&if self.json { serde_json::to_string_pretty(&report)? } else { report.text().trim_end().to_owned() })?;
        tally.result.context("cannot read from the sockets").and(outcome_log).and(junit)?;
        Ok(0)
    }

    /// The impairment of each direction. Both have the same seed.
    fn impairments(&self) -> Result<[Impairment; 2], Failure> {
        let both = self.path.impairment()?;
        let with = |words: &Option<String>| {
            words.as_deref().map_or(Ok(both.clone()), |words| {
                Ok::<_, Failure>(Impairment { seed: both.seed, ..self.path.with(words)? })
            })
        };
        Ok([with(&self.up)?, with(&self.down)?])
    }
}

/// The sockets that are connected to the target.
struct Upstream {
    sockets: Vec<UdpSocket>,
    target: SocketAddr,
}

impl Upstream {
    /// Connects to the first usable address of the target. Otherwise, returns the error of the first address.
    fn connect(target: &Endpoint) -> Result<Self, Failure> {
        let connect = |peer| -> Result<Self, BindError> {
            let open = || Ok(udp::connect(peer, DEFAULT_RECEIVE_BUFFER, &LocalSocketOptions::default())?.socket);
            let sockets: Vec<UdpSocket> = (0..MAX_CLIENTS).map(|_| open()).collect::<Result<_, BindError>>()?;
            // The system replaces 0.0.0.0 by 127.0.0.1.
            let target = sockets[0].peer_addr().unwrap_or(peer);
            Ok(Self { sockets, target })
        };
        let found = resolve::resolve(&target.host, target.port).context("TARGET")?;
        let mut all = found.into_iter().map(connect);
        // A resolved host has an address.
        let first = all.next().expect("an address");
        Ok(first.or_else(|error| all.find_map(Result::ok).ok_or(error))?)
    }

    /// Resolves the target again after failures to reach it, and connects to its new address if it has moved.
    fn follow(&mut self, target: &Endpoint, targets: &Sender<SocketAddr>, stop: &StopToken) {
        if target.host.parse::<IpAddr>().is_ok() {
            return;
        }
        let found = resolve_until_stopped(&target.host, target.port, stop).unwrap_or_default();
        let mut usable = found.into_iter().filter(|address| address.is_ipv4() == self.target.is_ipv4());
        let Some(moved) = usable.next().filter(|first| *first != self.target && usable.all(|one| one != self.target))
        else {
            return;
        };
        if let Err(error) = self.sockets.iter().try_for_each(|socket| udp::reconnect(&socket.into(), moved)) {
            warn!(target: "relay", address = %moved, %error, "cannot connect to the new address of the target");
            return;
        }
        info!(target: "relay", from = %self.target, to = %moved, "the target has moved");
        self.target = moved;
        // Fails only if the relay has ended.
        _ = targets.send(moved);
    }
}

/// Parses `HOST:PORT`.
fn parse_target(text: &str) -> Result<Endpoint, String> {
    let HostPort { host, port } = text.parse().map_err(|error: ParseHostError| error.to_string())?;
    let port = port.ok_or("give HOST:PORT, such as 127.0.0.1:5000")?;
    Ok(Endpoint { host, port })
}

fn cannot_write(file: &OutputFile) -> String {
    format!("--junit: cannot write {}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn sockets_follow_the_target_to_its_new_address_once() {
        let (targets, received) = mpsc::channel();
        let endpoint = |port| Endpoint { host: "localhost".to_owned(), port };
        let old = SocketAddr::from(([127, 0, 0, 2], 5_000));
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect(old).expect("connected");
        let mut upstream = Upstream { sockets: vec![socket], target: old };
        let stop = StopToken::default();
        (0..2).for_each(|_| upstream.follow(&endpoint(5_000), &targets, &stop));
        let new = SocketAddr::from(([127, 0, 0, 1], 5_000));
        assert_eq!((upstream.target, upstream.sockets[0].peer_addr().ok()), (new, Some(new)));
        assert_eq!(received.try_iter().collect::<Vec<_>>(), [new]);
        // A target that is an address does not move.
        upstream.follow(&Endpoint { host: "127.0.0.3".to_owned(), port: 5_000 }, &targets, &stop);
        assert!(upstream.target == new && received.try_recv().is_err());
    }
}
