//! Several clients of one UDP target, each with a socket of its own, on one driver.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;

use super::udp::{ConnectedTarget, stop_embedded};
use super::{ClientArgs, FinishedRun};
use crate::cli::live_view::LiveView;
use crate::cli::output::{Failure, ensure_usage};
use crate::cli::plan::UdpPeer;
use crate::client::{ClientNode, LiveSnapshot, ProbeConfig, RunConfig, SharedRecord, StopSignal, Workload};
use crate::io::os;
use crate::io::stop::StopToken;
use crate::report::clients::merge_clients;
use crate::report::ramp::Ramp;
use crate::time::saturating_nanos;

impl ClientArgs {
    /// The number of clients, if there are several.
    pub(crate) fn several_clients(&self) -> Option<usize> {
        self.clients.filter(|clients| *clients > 1 || self.ramp)
    }

    /// Runs `count` clients of `peer` with the workloads that `workload` returns; its argument is whether the client has a link. The starts of
    /// the clients are spread over the interval of `packets`, which are those of each client.
    pub(crate) fn run_clients<S: Workload + Send + 'static>(
        &self,
        peer: &UdpPeer<'_>,
        count: usize,
        (packets, replies_expected): (ProbeConfig, bool),
        mut workload: impl FnMut(bool) -> S,
        stop: &StopToken,
    ) -> Result<FinishedRun, Failure> {
        self.network.options_without_port("with several clients")?;
        ensure_usage!(
            !self.ramp || self.limits().any(),
            "--ramp needs a limit that ends it; give --profile internet-music or --max-p99 50ms"
        );
        os::raise_descriptor_limit();
        let first = self.connect(peer, S::RUN_KIND.name(), stop)?;
        let ConnectedTarget { address, name, waited, embedded, rooms, .. } = first;
        let signing = first.link.as_ref().and_then(|link| link.signing.clone());
        let shared = Arc::new(Mutex::new(SharedRecord::default()));
        let spread = packets.interval / count as u32;
        let (mut sockets, mut clients, mut ramp): (_, Vec<ClientNode<S>>, _) =
            (vec![first.bound.socket], Vec::new(), None);
        let mut link = first.link;
        for number in 0..count {
            if number > 0 {
                let next = self.connect_socket(address, String::new(), signing.clone())?;
                sockets.push(next.bound.socket);
                link = next.link;
            }
            let start = ramp.as_ref().map_or(Duration::ZERO, |ramp: &Ramp| ramp.start_of(number));
            let run = self.run_config((address, waited), packets.stream_kind, replies_expected);
            let (start_delay, shared) = (start + spread * number as u32, Some(Arc::clone(&shared)));
            let run = RunConfig { start_delay, shared, ..run };
            let client = ClientNode::new(run, workload(link.is_some()), Box::new(())).with_link(link.take());
            if number == 0 && self.ramp {
                ramp = Some(Ramp::new(self.limits(), count, client.plan(&name)));
            }
            clients.push(client);
        }
        let total = packets.count.map(|packets| packets.saturating_mul(count as u64));
        let mut view = LiveView::new(false, total);
        let figures: Vec<_> = clients.iter().map(ClientNode::live_figures).collect();
        let mut has_ramp_ended = false;
        let (finished, error) = self.run_all(sockets, clients, stop, &mut || {
            let all = LiveSnapshot::sum(figures.iter().map(|figures| figures.snapshot()));
            if let Some(view) = &mut view {
                view.update(&all);
            }
            if let Some(ramp) = ramp.as_mut().filter(|_| !has_ramp_ended) {
                has_ramp_ended = ramp.poll(all.at, &SharedRecord::lock(&shared));
                if has_ramp_ended && stop.signal().is_none() {
                    stop.request(StopSignal::ClosedPipe);
                }
            }
        })?;
        drop(view);
        let begun = finished.enumerate().filter_map(|(number, client)| {
            let bytes = client.client.bytes();
            let run = client.into_run(&name, None, stop, &mut ()).run;
            let has_begun = run.duration_ns > 0 || run.link.is_some_and(|link| link.failure.is_some());
            // A ramp ends before all clients have begun.
            (number == 0 || has_begun || !self.ramp).then_some((run, bytes))
        });
        let mut run = merge_clients(begun, &self.limits(), &shared).context("no client has run")?;
        if has_ramp_ended {
            run.interrupted = None;
        }
        if let Some(wait) = &mut run.readiness_wait {
            wait.waited_ns += saturating_nanos(waited);
        }
        let finished = FinishedRun::new(run, error.or(stop_embedded(embedded)), None);
        Ok(FinishedRun { ramp, close: Box::new(|| drop(rooms)), ..finished })
    }
}
