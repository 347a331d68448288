//! `jamjam-dev relay`: forwards UDP between clients and a target over a bad network, and reports what it has forwarded.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ColorChoice;
use tracing::{info, warn};

use super::echo_server::BitRateArgs;
use super::options::impairment::{OutcomeLogFile, PathArgs};
use super::output::{Failure, HEADING_REPORT, ensure_usage, print_report};
use super::ready_file::{Ready, ReadyFileArgs, local_authority};
use super::server;
use super::target::Endpoint;
use super::values::{OutputFile, output_file_parser, parse_listen_address};
use crate::address::{HostPort, ParseHostError};
use crate::echo::FIXED_LOG_LINE;
use crate::io::local_socket::LocalSocketOptions;
use crate::io::resolve::{resolve, resolve_until_stopped};
use crate::io::stop::StopToken;
use crate::io::udp::{self, Backend, BoundSocket, DEFAULT_RECEIVE_BUFFER, DriverOptions};
use crate::io::{files, os};
use crate::relay::{MAX_CLIENTS, Relay};
use crate::report::relay::RelayReport;

/// Interval at which errors of the target are looked for. After some, it is resolved again.
const ERROR_CHECK_INTERVAL: Duration = Duration::from_secs(1);

const CANNOT_WRITE: &str = "--junit: cannot write the report";

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

    /// Impairment from clients to TARGET only, as "loss 1% delay 30ms"
    ///
    /// The value consists of options without dashes, which replace the other ones in this direction.
    #[arg(long, value_name = "OPTIONS")]
    up: Option<String>,

    /// Impairment from TARGET to clients only, like --up
    #[arg(long, value_name = "OPTIONS")]
    down: Option<String>,

    #[command(flatten)]
    bit_rate: BitRateArgs,

    #[command(flatten)]
    ready_file: ReadyFileArgs,

    /// Print the report as JSON
    #[arg(long, help_heading = HEADING_REPORT)]
    json: bool,

    /// Write the report to this JUnit XML file
    ///
    /// The exit code is then 1 if there are findings, and 4 if they are only those of this host.
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    junit: Option<OutputFile>,
}

impl Args {
    /// Forwards until `stop` is requested, and reports.
    pub(crate) fn run(&self, color: ColorChoice, stop: &StopToken) -> Result<u8, Failure> {
        let both = self.path.impairment()?;
        let [up, down] =
            [&self.up, &self.down].map(|words| self.path.with(&both, words.as_deref().unwrap_or_default()));
        let impairments = [up?, down?];
        let limits = self.bit_rate.limits()?;
        let log = server::start_log(false, color)?;
        os::set_process_name(c"relay");
        os::raise_descriptor_limit();
        self.ready_file.clear()?;
        let BoundSocket { socket, address, .. } = udp::bind(self.listen, DEFAULT_RECEIVE_BUFFER)?;
        let mut target = resolve(&self.target.host, self.target.port).context("TARGET")?[0];
        let is_here = target.ip() == address.ip() || address.ip().is_unspecified() && target.ip().is_loopback();
        ensure_usage!(
            !is_here || target.port() != address.port(),
            "the relay listens on TARGET itself; give another address"
        );
        let connect = || udp::connect(target, DEFAULT_RECEIVE_BUFFER, &LocalSocketOptions::default());
        let upstream = (0..MAX_CLIENTS).map(|_| Ok(connect()?.socket)).collect::<Result<Vec<UdpSocket>>>()?;
        let sockets = std::iter::once(&socket).chain(&upstream).map(UdpSocket::try_clone);
        let sockets = sockets.collect::<Result<_, _>>().context("cannot open the sockets of the relay")?;
        self.junit.as_ref().map_or(Ok(()), |file| files::prepare(file)).context(CANNOT_WRITE)?;
        let (observer, outcome_log) = self.path.impairment.open_outcome_log("from,to,direction")?;
        stop.set_run_started();
        info!(name: FIXED_LOG_LINE, target: "relay", "relay listening on {address}, target {target}");
        info!(target: "relay", seed = impairments[0].seed, "to repeat the impairment, give this seed");
        let (new_targets, targets) = mpsc::channel();
        let relay = Relay::new((target, targets), MAX_CLIENTS, impairments, limits, observer);
        let unreachable = Arc::clone(&relay.unreachable);
        let options = DriverOptions::server(udp::DEFAULT_SPIN_PERCENT, Backend::Native);
        let running =
            udp::spawn_node("relay", sockets, relay, stop.clone(), options).context("cannot start a thread")?;
        self.ready_file.write(&Ready { udp: Some(local_authority(address)), ..Ready::default() })?;
        stop.set_serving();
        let mut known = 0;
        while !running.finished_within(Some(ERROR_CHECK_INTERVAL)) {
            let errors = unreachable.get() - known;
            if errors == 0 {
                continue;
            }
            known += errors;
            warn!(target: "relay", address = %target, errors, "nothing listens at the target (ICMP port unreachable)");
            let found = resolve_until_stopped(&self.target.host, self.target.port, stop).unwrap_or_default();
            if let Some(moved) = moved(&found, target)
                && upstream.iter().all(|socket| udp::reconnect(&socket.into(), moved).is_ok())
            {
                info!(target: "relay", from = %target, to = %moved, "the target has moved");
                // Fails only if the relay has ended.
                _ = new_targets.send(moved);
                target = moved;
            }
        }

        let (relay, tally) = running.join();
        let (results, dropped) = (relay.into_results(), tally.host_timing.kernel_dropped);
        let outcome_log = outcome_log.map_or(Ok(()), OutcomeLogFile::finish);
        drop(log);
        let report = RelayReport::from((self.target.to_string(), &results, unreachable.get(), dropped));
        print_report(&report, self.json, || report.text())?;
        if let Some(file) = &self.junit {
            files::write(file, &report.junit()?).context(CANNOT_WRITE)?;
        }
        tally.result.context("cannot read from the sockets").and(outcome_log)?;
        Ok(self.junit.as_ref().map_or(0, |_| report.verdict.exit_code()))
    }
}

/// The first address of the same IP version, if none of those found is `target`.
fn moved(found: &[SocketAddr], target: SocketAddr) -> Option<SocketAddr> {
    let first = found.iter().find(|address| address.is_ipv4() == target.is_ipv4())?;
    (!found.contains(&target)).then_some(*first)
}

/// Parses `HOST:PORT`.
fn parse_target(text: &str) -> Result<Endpoint, String> {
    let HostPort { host, port } = text.parse().map_err(|error: ParseHostError| error.to_string())?;
    Ok(Endpoint { host, port: port.ok_or("give HOST:PORT, such as 127.0.0.1:5000")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_has_moved_if_none_of_its_addresses_is_the_current_one() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let [old, new, other, v6] = ["192.0.2.1:5", "192.0.2.2:5", "192.0.2.3:5", "[2001:db8::1]:5"].map(address);
        for (found, expected) in [
            (&[][..], None),
            (&[old], None),
            (&[new, old], None),
            (&[v6], None),
            (&[new], Some(new)),
            (&[v6, new, other], Some(new)),
        ] {
            assert_eq!(moved(found, old), expected, "{found:?}");
        }
    }
}
