//! Fake musicians of `send`: members of a room who send audio to all other members, on one driver.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;

use super::ClientArgs;
use super::udp::Rooms;
use crate::cli::output::{Failure, print_report, unless_hung_up};
use crate::cli::values::ClientLinkMode;
use crate::client::{AudioStreamConfig, Musician, MusicianConfig, PayloadSource, RunConfig, StopSignal, StreamKind};
use crate::io::os;
use crate::io::signaling::discovery::SignalingUrl;
use crate::io::stop::StopToken;
use crate::io::udp;
use crate::link::LinkKey;
use crate::node_group::NodeGroup;
use crate::report::musicians::MusiciansReport;
use crate::signaling::client::SharedMembers;
use crate::stats::HostTiming;

impl ClientArgs {
    /// Joins the room of --room on the server at `url` once for each of the sources, sends until finished, and reports what was received.
    pub(crate) fn play_together(
        &self,
        url: &SignalingUrl,
        sources: impl ExactSizeIterator<Item = Result<(Box<dyn PayloadSource + Send>, AudioStreamConfig), Failure>>,
        stop: &StopToken,
    ) -> Result<u8, Failure> {
        let options = self.network.options_without_port("by several musicians")?;
        let (tls, count) = (self.room.tls_config(url)?, sources.len());
        let (mut nodes, mut sockets, mut rooms) = (Vec::new(), Vec::new(), Rooms::default());
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        // Not before: a source may be a silent pipe.
        stop.set_run_started();
        for (number, (source, form)) in sources.into_iter().enumerate() {
            let (name, members, seed) =
                (format!("Musician {}", number + 1), SharedMembers::default(), os::random_secret());
            let link_key = (self.link != Some(ClientLinkMode::Unsigned)).then_some(seed);
            let public_key = link_key.as_ref().map(|seed| LinkKey::from_seed(seed).public());
            // The first one sees in the list of rooms whether all fit.
            let places = if number == 0 { count } else { 0 };
            let client = self.room.client(&name, public_key)?.with_members(members.clone(), places);
            let session = self.room.join_as((url, &tls), client, stop)?;
            let local = options.address_for(SocketAddr::new(session.local_ip, 0));
            let bound = udp::bind(local, self.socket_buffer.min(1 << 30) as usize)?;
            session.advertise(bound.address);
            let interval = Duration::from_secs(form.frame_samples.into()) / form.sample_rate;
            let start_delay = interval * number as u32 / count as u32;
            let run = RunConfig { start_delay, ..RunConfig::new(bound.address, StreamKind::Audio, self.timeout()) };
            let (allows_plain, entropy) = (self.link != Some(ClientLinkMode::Signed), Box::new(os::random_secret));
            let config = MusicianConfig { name, run, link_key, allows_plain, entropy, members };
            nodes.push(Musician::new(config, form, source));
            sockets.push(bound.socket);
            rooms.0.push(session);
        }
        let running = udp::spawn_node("client", sockets, NodeGroup::new(nodes), stop.clone(), self.driver_options())
            .context("cannot start a thread")?;
        let (group, stats) = running.join();
        let nodes = group.into_nodes().into_iter();
        let mut musicians: Vec<_> = nodes.map(|node| node.into_results(stats.ended_at)).collect();
        for (musician, kernel_dropped) in musicians.iter_mut().zip(stats.kernel_dropped) {
            musician.run.host_timing = Some(HostTiming { kernel_dropped, ..stats.host_timing.clone() });
        }
        let room = rooms.0.first().map_or("", |session| &session.room_name);
        let report = MusiciansReport::from((room, &*musicians, stop.signal(), &self.limits()));
        let printed = print_report(&report, self.json, || self.wrapped(|color| report.text(color)));
        drop(rooms);
        unless_hung_up(printed, stop.signal())?;
        stats.result.context("cannot read from the sockets")?;
        Ok(stop.signal().map_or(report.verdict.result.exit_code(), StopSignal::exit_code))
    }
}
