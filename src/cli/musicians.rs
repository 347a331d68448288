//! `jamjam-dev musicians`: fake musicians in a jamjam room, who send audio to all other members, on one driver.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context;
use clap::builder::{RangedU64ValueParser, Resettable};
use clap::{ArgGroup, ArgMatches};

use super::audio_source::{ExtentArgs, PacketLayout, SOURCE_GROUP, SourceArgs, open_payloads};
use super::client::udp::{Rooms, UdpArgs};
use super::options::credentials::TrustArgs;
use super::options::measurement::{LimitArgs, NetworkArgs, TimeoutArgs};
use super::options::report::ReportArgs;
use super::options::room_target::{Room, RoomArgs, tls_config};
use super::output::{Failure, HEADING_TARGET};
use super::run_origin;
use super::values::ClientLinkMode;
use crate::client::{AudioStreamConfig, Musician, MusicianConfig, PayloadSource, RunConfig, StreamKind};
use crate::io::local_socket::LocalSocketOptions;
use crate::io::os;
use crate::io::stop::StopToken;
use crate::io::udp::{self, DEFAULT_RECEIVE_BUFFER};
use crate::io::websocket::handshake::WebSocketUrl;
use crate::link::LinkKey;
use crate::node_group::NodeGroup;
use crate::report::musicians;
use crate::signaling::client::SharedMembers;
use crate::stats::HostTiming;

/// Put musicians into a jamjam room, who play to each other and to all other members
#[derive(clap::Args)]
#[command(group(ArgGroup::new(SOURCE_GROUP).args(["wav", "tone"]).required(true)))]
#[command(mut_arg("room", |arg| arg.required(true).help("Room: name, unique part of a name, ID or invite code").long_help(Resettable::Reset)))]
pub(crate) struct Args {
    /// Number of musicians
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=20_000), help_heading = HEADING_TARGET)]
    clients: usize,

    /// Whether links must be signed, or are not verified [default: signed where the other member can]
    #[arg(long, value_enum, value_name = "MODE", help_heading = HEADING_TARGET)]
    link: Option<ClientLinkMode>,

    #[command(flatten)]
    room: RoomArgs,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    extent: ExtentArgs,

    #[command(flatten)]
    timing: TimeoutArgs,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    report: ReportArgs,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

/// What a musician plays.
type Source = (Box<dyn PayloadSource + Send>, AudioStreamConfig);

/// Musicians that have joined the room, with their sockets.
type Joined = (Vec<Musician<dyn PayloadSource + Send>>, Vec<UdpSocket>, Rooms);

impl Args {
    /// Plays until finished or `stop` is requested, and reports what was received.
    pub(crate) fn run(mut self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        self.source.extent = self.extent;
        let room = || run_origin::room_name(self.room.room.as_deref().unwrap_or_default()).to_owned();
        self.report.run(room, || self.play(matches, stop))
    }

    fn play(&self, matches: &ArgMatches, stop: &StopToken) -> Result<u8, Failure> {
        let url = self.room.url(matches)?.expect("clap requires the room");
        let local = self.network.options_without_port("by several musicians")?;
        let sources = self.sources(&url)?;
        // Not before: a source may be a silent pipe.
        self.report.files.prepare(stop)?;
        let (nodes, sockets, rooms) = self.join(&self.room.on(url, &self.trust, None), sources, local, stop)?;

        let options = UdpArgs::default().driver_options(0, local);
        let running = udp::spawn_node("client", sockets, NodeGroup::new(nodes, ()), stop.clone(), options);
        let (group, stats) = running.context("cannot start a thread")?.join();
        let (nodes, ()) = group.into_nodes();
        let mut musicians: Vec<_> = nodes.into_iter().map(|node| node.into_results(stats.ended_at)).collect();
        for (musician, kernel_dropped) in musicians.iter_mut().zip(stats.kernel_dropped) {
            musician.run.host_timing = Some(HostTiming { kernel_dropped, ..stats.host_timing.clone() });
        }
        let room = rooms.0.first().map_or("", |session| &session.room_name);
        let mut document = musicians::document(room, &musicians, stop.signal(), &self.limits.limits());
        let delivered = self.report.deliver(&mut document);
        drop(rooms);
        stats.result.context("cannot read from the sockets").and(delivered)?;
        Ok(document.head.exit_code())
    }

    /// What each of them plays: tones a semitone apart, or the same file.
    fn sources(&self, url: &WebSocketUrl) -> Result<Vec<Source>, Failure> {
        // Newer clients expect two channels.
        let is_stereo = self.link.is_some() || url.is_for_newer_clients();
        let open = |number| {
            let source = self.source.for_musician(number, self.clients, is_stereo)?;
            let (source, _, PacketLayout { form, .. }) = open_payloads(&source)?;
            Ok((source, form))
        };
        (0..self.clients).map(open).collect()
    }

    /// Joins the room once for each of the sources.
    fn join(
        &self,
        room: &Room<'_>,
        sources: Vec<Source>,
        local: LocalSocketOptions,
        stop: &StopToken,
    ) -> Result<Joined, Failure> {
        let (tls, count) = (tls_config(&room.url, room.trust)?, sources.len());
        let (mut nodes, mut sockets, mut rooms) = Joined::default();
        for (number, (source, form)) in sources.into_iter().enumerate() {
            let (name, members, seed) =
                (format!("Musician {}", number + 1), SharedMembers::default(), os::random_secret());
            let link_key = (self.link != Some(ClientLinkMode::Unsigned)).then_some(seed);
            let public_key = link_key.as_ref().map(|seed| LinkKey::from_seed(seed).public());
            let client = room.client(&name, public_key)?.with_members(members.clone());
            let session = room.join_as(&tls, client, stop)?;
            let bound = udp::bind(local.address_for(SocketAddr::new(session.local_ip, 0)), DEFAULT_RECEIVE_BUFFER)?;
            session.advertise(bound.address);
            let interval = Duration::from_secs(form.frame_samples.into()) / form.sample_rate;
            let start_delay = interval * number as u32 / count as u32;
            let run = RunConfig::new(bound.address, StreamKind::Audio, self.timing.timeout());
            let run = RunConfig { start_delay, ..run };
            let (allows_plain, entropy) = (self.link != Some(ClientLinkMode::Signed), Box::new(os::random_secret));
            let config = MusicianConfig { name, run, link_key, allows_plain, entropy, members };
            nodes.push(Musician::new(config, form, source));
            sockets.push(bound.socket);
            rooms.0.push(session);
        }
        Ok((nodes, sockets, rooms))
    }
}
