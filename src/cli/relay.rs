//! `jamjam-dev relay`: forwards UDP between clients and a target over a bad network, and reports what it has forwarded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{io, iter, mem};

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::echo_server::BitRateArgs;
use super::options::impairment::{OutcomeLogFile, PathArgs};
use super::options::report::ReportArgs;
use super::output::{Failure, ensure_usage};
use super::ready_file::{Ready, ReadyFileArgs, local_authority};
use super::server;
use super::target::Endpoint;
use super::values::parse_listen_address;
use crate::address::{HostPort, ParseHostError};
use crate::echo::FIXED_LOG_LINE;
use crate::io::reachable;
use crate::io::resolve::{resolve, resolve_until_stopped};
use crate::io::stop::StopToken;
use crate::io::udp::{
    self, Backend, BindError, BoundSocket, DEFAULT_RECEIVE_BUFFER, DriverOptions, NodeThread, StraySocket,
};
use crate::relay::{MAX_CLIENTS, Relay};
use crate::report::relay::{self, RelayCounts};
use crate::stats::Counter;

/// Interval at which it is checked whether the target replies.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Number of intervals without a reply after which the target is resolved again.
const MAX_SILENCE: u32 = 10;

/// Forward UDP between real programs over a bad network
#[derive(clap::Args)]
#[command(mut_arg("junit", |arg| arg.long_help("Write the report to this JUnit XML file\n\nThe exit code is then 1 if there are findings, and 4 if they are only those of this host.")))]
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

    /// Port from which TARGET receives, and at which it reaches the client
    ///
    /// For two programs that have each other's address: the client then has LISTEN as that of TARGET, and TARGET has LISTEN2 as that of the
    /// client. There is one client at a time.
    #[arg(long, hide_short_help = true, value_name = "LISTEN2", value_parser = parse_listen_address)]
    back: Option<SocketAddr>,

    #[command(flatten)]
    bit_rate: BitRateArgs,

    #[command(flatten)]
    ready_file: ReadyFileArgs,

    #[command(flatten)]
    report: ReportArgs,
}

impl Args {
    /// Opens the sockets towards the target, of a relay that listens on `listen`.
    fn open_upstream(&self, listen: SocketAddr) -> Result<Upstream, Failure> {
        let (found, own_ips) = (resolve(&self.target.host, self.target.port).context("TARGET")?, reachable::own_ips());
        let is_listen = self.back.is_some_and(|back| is_same(back, listen, &own_ips));
        ensure_usage!(!is_listen, "--back: the relay already listens there; give another port");
        let any = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()].map(|ip| SocketAddr::new(ip, 0));
        // If the system has IPv6, its sockets reach both.
        let is_ipv6 = found.iter().any(SocketAddr::is_ipv6) && UdpSocket::bind(any[1]).is_ok();
        let (local, count) = self.back.map_or((any[usize::from(is_ipv6)], MAX_CLIENTS), |back| (back, 1));
        let target = found.iter().find(|to| to.is_ipv4() || local.is_ipv6()).copied();
        let target = target.ok_or_else(|| Failure::usage("no address of TARGET can be reached from --back"))?;
        let is_near = target.ip().is_loopback() || own_ips.contains(&target.ip());
        ensure_usage!(
            is_near || !local.ip().is_loopback(),
            "--back {local}: TARGET is another host, which cannot reach this address; give 0.0.0.0:{} or [::]:{0}",
            local.port()
        );
        let bind = |_| Ok(udp::bind(local, DEFAULT_RECEIVE_BUFFER)?.socket);
        let sockets = (0..count).map(bind).collect::<Result<_, BindError>>()?;
        let listens = iter::once(listen).chain(self.back).collect();
        let mut upstream = Upstream { sockets, is_ipv6: local.is_ipv6(), target, listens, own_ips, beside: Vec::new() };
        let is_loop = |to: &SocketAddr| upstream.is_loop(*to);
        ensure_usage!(!found.iter().any(is_loop), "the relay listens on TARGET itself; give another address");
        upstream.connect(target).map_err(|error| BindError::Other(target, error))?;
        Ok(upstream)
    }

    /// Forwards until `stop` is requested, and reports.
    pub(crate) fn run(&self, stop: &StopToken) -> Result<u8, Failure> {
        self.report.run(|| self.target.to_string(), || self.forward(stop))
    }

    fn forward(&self, stop: &StopToken) -> Result<u8, Failure> {
        let both = self.path.impairment()?;
        let [up, down] = [("--up", &self.up), ("--down", &self.down)]
            .map(|(option, words)| self.path.with(&both, (option, words.as_deref().unwrap_or_default())));
        let impairments = [up?, down?];
        let limits = self.bit_rate.limits()?;
        let log = server::start(c"relay", false)?;
        let BoundSocket { socket, address, .. } = udp::bind(self.listen, DEFAULT_RECEIVE_BUFFER)?;
        let mut upstream = self.open_upstream(address)?;
        let sockets = iter::once(&socket).chain(&upstream.sockets).map(UdpSocket::try_clone);
        let sockets = sockets.collect::<Result<_, _>>().context("cannot open the sockets of the relay")?;
        let (observer, outcome_log) = self.path.impairment.open_outcome_log("from,to,direction")?;
        self.ready_file.clear()?;
        self.report.files.prepare(stop)?;
        info!(name: FIXED_LOG_LINE, target: "relay", "relay listening on {address}, target {}", upstream.target);
        let (new_targets, targets) = mpsc::channel();
        let seed = impairments[0].seed;
        let relay = Relay::new((upstream.target, targets), upstream.sockets.len(), impairments, limits, observer);
        let counts = Arc::clone(&relay.counts);
        let options = DriverOptions::server(udp::DEFAULT_SPIN_PERCENT, Backend::Native);
        let running =
            udp::spawn_node("relay", sockets, relay, stop.clone(), options).context("cannot start a thread")?;
        self.ready_file.write(&Ready { udp: Some(local_authority(address)), ..Ready::default() })?;
        stop.set_serving();
        self.follow_target(&running, &mut upstream, &counts, &new_targets, stop);

        let (relay, tally) = running.join();
        let (results, dropped) = (relay.into_results(), tally.host_timing.kernel_dropped);
        let outcome_log = outcome_log.map_or(Ok(()), OutcomeLogFile::finish);
        drop(log);
        let (target, unreachable) = (self.target.to_string(), counts[0].get());
        let counts = RelayCounts { unreachable, kernel_dropped: dropped, strays: upstream.into_strays() };
        let mut document = relay::document(target, seed, &results, counts, self.report.files.junit.is_some());
        let delivered = self.report.deliver(&mut document);
        tally.result.context("cannot read from the sockets").and(outcome_log).and(delivered)?;
        Ok(document.head.exit_code())
    }

    /// Until the relay ends, looks for another address of the target if this one does not reply.
    fn follow_target(
        &self,
        running: &NodeThread<Relay>,
        upstream: &mut Upstream,
        counts: &[Counter; 3],
        new_targets: &mpsc::Sender<SocketAddr>,
        stop: &StopToken,
    ) {
        let mut replies = Replies::default();
        while !running.finished_within(CHECK_INTERVAL) {
            let Some(errors) = replies.check(counts.each_ref().map(Counter::get)) else { continue };
            let from = upstream.target;
            if errors > 0 {
                warn!(target: "relay", address = %from, errors, "nothing listens at the target (ICMP port unreachable)");
            }
            let mut found = resolve_until_stopped(&self.target.host, self.target.port, stop).unwrap_or_default();
            found.retain(|to| to.is_ipv4() || upstream.is_ipv6);
            if next_addresses(found, from, errors > 0).into_iter().any(|next| upstream.connect(next).is_ok())
                && upstream.target != from
            {
                info!(target: "relay", %from, to = %upstream.target, "trying another address of the target");
                // Fails only if the relay has ended.
                _ = new_targets.send(upstream.target);
            }
        }
    }
}

/// The sockets towards the target, which are connected to it.
struct Upstream {
    sockets: Vec<UdpSocket>,
    is_ipv6: bool,
    target: SocketAddr,
    /// Where the relay itself receives.
    listens: Vec<SocketAddr>,
    own_ips: Vec<IpAddr>,
    /// Those that receive what others than the target send.
    beside: Vec<StraySocket>,
}

impl Upstream {
    /// Whether the relay would send to itself.
    fn is_loop(&self, target: SocketAddr) -> bool {
        self.listens.iter().any(|listen| is_same(*listen, target, &self.own_ips))
    }

    /// Connects all sockets to this address of the target.
    fn connect(&mut self, target: SocketAddr) -> io::Result<()> {
        if self.is_loop(target) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.beside.clear();
        self.sockets.iter().try_for_each(|socket| udp::reconnect(&socket.into(), target))?;
        self.beside.extend(self.sockets.iter().filter_map(StraySocket::beside));
        self.target = target;
        Ok(())
    }

    /// Number of datagrams from other sources than the current target, and the first of these.
    fn into_strays(self) -> (u64, Option<SocketAddr>) {
        let received = self.beside.into_iter().map(StraySocket::received);
        received.fold((0, None), |(count, first), (more, source)| (count + more, first.or(source)))
    }
}

/// Whether what is sent to `to` arrives at a socket that is bound to `listen`.
fn is_same(listen: SocketAddr, to: SocketAddr, own_ips: &[IpAddr]) -> bool {
    let ips = [listen, to].map(|address| address.ip().to_canonical());
    let is_own = |ip: &IpAddr| ip.is_loopback() || ip.is_unspecified() || own_ips.contains(ip);
    listen.port() == to.port() && (ips[0] == ips[1] || ips.iter().any(IpAddr::is_unspecified) && ips.iter().all(is_own))
}

/// Decides when another address of the target is looked for.
#[derive(Default)]
struct Replies {
    counts: [u64; 3],
    /// Number of intervals since something was sent to the target, without a reply.
    silence: u32,
}

impl Replies {
    /// After an interval, with the counts of ICMP errors, and of what has come from clients and from the target. If the target is to be resolved
    /// again, the number of errors.
    fn check(&mut self, counts: [u64; 3]) -> Option<u64> {
        let before = mem::replace(&mut self.counts, counts);
        let [errors, up, down] = [0, 1, 2].map(|index| counts[index] - before[index]);
        self.silence = if down > 0 { 0 } else { self.silence + u32::from(up > 0 || self.silence > 0) };
        let is_due = errors > 0 || self.silence >= MAX_SILENCE;
        self.silence *= u32::from(!is_due);
        is_due.then_some(errors)
    }
}

/// The addresses to try in place of `target`, in order, and it last: the next ones if nothing listens there, or else only if it is not
/// among those found.
fn next_addresses(mut found: Vec<SocketAddr>, target: SocketAddr, is_refused: bool) -> Vec<SocketAddr> {
    let known = found.iter().position(|address| *address == target);
    found.rotate_left(known.map_or(0, |known| known + 1));
    if known.is_some() && (found.len() == 1 || !is_refused) { Vec::new() } else { found }
}

/// Parses `HOST:PORT`.
fn parse_target(text: &str) -> Result<Endpoint, String> {
    if text.contains("://") {
        return Err("give HOST:PORT of a UDP program instead of a URL".to_owned());
    }
    let HostPort { host, port } = text.parse().map_err(|error: ParseHostError| error.to_string())?;
    Ok(Endpoint { host, port: port.ok_or("give HOST:PORT, such as 127.0.0.1:5000")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn next_address_is_tried_after_errors_and_a_lost_one_is_left() {
        let [one, two, three] = ["192.0.2.1:5", "192.0.2.2:5", "[2001:db8::1]:5"].map(address);
        for (found, target, after_errors, otherwise) in [
            (&[][..], one, &[][..], &[][..]),
            (&[one], one, &[], &[]),
            (&[one, two], one, &[two, one], &[]),
            (&[one, two, three], two, &[three, one, two], &[]),
            (&[one, two, three], three, &[one, two, three], &[]),
            (&[two, three], one, &[two, three], &[two, three]),
        ] {
            assert_eq!(next_addresses(found.to_vec(), target, true), after_errors, "{found:?}");
            assert_eq!(next_addresses(found.to_vec(), target, false), otherwise, "{found:?}");
        }
    }

    #[test]
    fn target_is_resolved_after_errors_and_after_10_s_without_a_reply() {
        let mut replies = Replies::default();
        // Nothing is sent, and then something is answered.
        assert!([[0, 0, 0]; 30].iter().chain(&[[0, 9, 1]]).all(|counts| replies.check(*counts).is_none()));
        assert_eq!((replies.check([2, 10, 2]), replies.check([2, 10, 2])), (Some(2), None));
        let silent: Vec<_> = (1..=25).map(|second| replies.check([2, 10 + second, 2])).collect();
        let due: Vec<_> = (1..=25).zip(&silent).filter(|(_, due)| due.is_some()).map(|(second, _)| second).collect();
        assert_eq!((due, silent[9]), (vec![10, 20], Some(0)));
    }

    #[test]
    fn relay_that_would_send_to_itself_is_known_by_all_addresses_of_this_host() {
        let own_ips = ["192.0.2.7".parse().expect("an address")];
        for (listen, to, expected) in [
            ("127.0.0.1:5", "127.0.0.1:5", true),
            ("127.0.0.1:5", "127.0.0.1:6", false),
            ("127.0.0.1:5", "127.0.0.2:5", false),
            ("127.0.0.1:5", "192.0.2.7:5", false),
            ("0.0.0.0:5", "192.0.2.7:5", true),
            ("[::]:5", "192.0.2.7:5", true),
            ("0.0.0.0:5", "127.9.9.9:5", true),
            ("0.0.0.0:5", "192.0.2.8:5", false),
            ("192.0.2.7:5", "0.0.0.0:5", true),
            ("[::1]:5", "[::]:5", true),
            ("[::ffff:192.0.2.7]:5", "192.0.2.7:5", true),
        ] {
            assert_eq!(is_same(address(listen), address(to), &own_ips), expected, "{listen} {to}");
        }
    }
}
