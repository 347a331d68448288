//! Several UDP targets of `probe`, which one driver measures at the same time.

use std::iter;
use std::time::Duration;

use super::{ClientArgs, FinishedRun};
use crate::cli::live_view::LiveView;
use crate::cli::output::{Failure, unless_hung_up};
use crate::cli::target::Endpoint;
use crate::client::{ClientNode, ProbeConfig, ProbeWorkload, RunConfig, RunKind, RunResults, StopSignal};
use crate::io::clock;
use crate::io::stop::StopToken;
use crate::report::targets::TargetsReport;

impl ClientArgs {
    /// Sends the packets of `config`, whose number is limited, to each of `targets`, and reports which is best. A target whose name cannot be
    /// resolved, or to which no socket can be connected, has no results.
    pub(crate) fn probe_targets(
        &self,
        targets: &[Endpoint],
        config: ProbeConfig,
        stop: &StopToken,
    ) -> Result<u8, Failure> {
        self.files.prepare(stop)?;
        let (mut sockets, mut clients, mut peers, mut unreachable) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, endpoint) in (0..).zip(targets) {
            match (self.connect_to_host(endpoint, None, stop), stop.signal()) {
                (Ok(target), _) => {
                    let start_delay = config.interval * index / targets.len() as u32;
                    let run = self.run_config((target.address, Duration::ZERO), config.stream_kind, true);
                    let run = RunConfig { blocks_of: config.count, start_delay, ..run };
                    let workload = ProbeWorkload::new(config).with_link(target.link.is_some());
                    clients.push(ClientNode::new(run, workload, Box::new(())).with_link(target.link));
                    sockets.push(target.bound.socket);
                    peers.push((target.name, target.strays));
                }
                (Err(_), Some(signal)) => return Err(Failure::interrupted(signal, "interrupted while connecting")),
                (Err(failure), None) => {
                    let run = RunResults::new(RunKind::Probe, endpoint.to_string(), config.stream_kind);
                    unreachable.push(FinishedRun::new(run, Some(failure.error), None));
                }
            }
        }
        let (mut runs, mut error) = (Vec::new(), None);
        if !clients.is_empty() {
            let names: Vec<&str> = peers.iter().map(|(name, _)| &**name).collect();
            let views = LiveView::of_targets(&names, config.count);
            let mut views: Vec<_> = views.into_iter().zip(clients.iter().map(ClientNode::live_figures)).collect();
            let started_unix_ms = clock::unix_ms();
            let mut look = || views.iter_mut().for_each(|(view, live)| view.update(&live.snapshot()));
            let (finished, ended_by) = self.run_all(sockets, clients, stop, &mut look)?;
            drop(views);
            error = ended_by;
            for (client, (name, strays)) in iter::zip(finished, peers) {
                let mut run = client.into_run(&name, None, stop, &mut ());
                run.add_strays(strays);
                run.run.started_unix_ms = started_unix_ms;
                runs.push(run);
            }
        }
        let code = runs.is_empty().then_some(3);
        let interrupted = runs.iter().find_map(|finished| finished.run.interrupted);
        runs.append(&mut unreachable);
        let runs = runs.into_iter().map(|finished| {
            let FinishedRun { run, error, .. } = finished.with_interval(config.interval);
            (run, error.map(|error| format!("{error:#}")))
        });
        let report = TargetsReport::new(runs.collect(), &self.limits());
        let files = self.files.write_targets(&report);
        unless_hung_up(self.print_targets(&report), stop.signal())?;
        error.or(files.err()).map_or(Ok(()), Err)?;
        Ok(interrupted.map(StopSignal::exit_code).or(code).unwrap_or_else(|| report.exit_code()))
    }
}
