//! What an echo server has counted: lines in its log, and the pages of `--metrics`.

use std::fmt::Write;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Context;
use prometheus_client::registry::Registry;
use tracing::info;

use super::Failure;
use crate::echo::{Counters, Exposition, Outside};
use crate::io::http;
use crate::io::log::Log;
use crate::io::moqt::{self, Reading, Totals};
use crate::io::stop::Stop;
use crate::io::udp::KernelDrops;
use crate::stats::Count;

/// Counts of MOQT that always stand in its line; of the others those that have happened.
const ALWAYS: [&str; 3] = ["sessions", "frames_heard", "frames_sent"];

/// All counts of one server.
pub struct Statistics {
    /// Those of UDP, if it is served.
    pub udp: Option<UdpCounts>,
    /// Those of MOQT, if it is served.
    pub moqt: Option<Arc<Totals>>,
    /// The log.
    pub log: Log,
}

/// The counts of the UDP echo.
pub struct UdpCounts {
    /// Those of the node.
    pub counters: Arc<Counters>,
    /// What the kernel dropped.
    pub kernel: Arc<KernelDrops>,
    /// What was not written of the fates, if they are.
    pub fates_dropped: Option<Arc<Count>>,
}

impl Statistics {
    /// Serves the counts over HTTP, if there is where.
    pub fn serve(&self, listener: Option<TcpListener>, stop: &Stop) -> Result<(), Failure> {
        let served = listener.map_or(Ok(()), |listener| self.serve_on(listener, stop));
        served.context("cannot serve metrics").map_err(Failure::unusable)
    }

    fn serve_on(&self, listener: TcpListener, stop: &Stop) -> io::Result<()> {
        info!("Metrics on http://{}/metrics", listener.local_addr()?);
        let mut registry = Registry::default();
        if let Some(UdpCounts { counters, kernel, fates_dropped }) = &self.udp {
            let (kernel, fates, dropped) = (Arc::clone(kernel), fates_dropped.clone(), self.log.dropped());
            let outside = move || Outside {
                kernel_dropped: kernel.read(),
                fate_log_dropped: fates.as_ref().map_or(0, |fates| fates.get()),
                log_dropped: dropped(),
            };
            Exposition::new(Arc::clone(counters), outside).register(&mut registry);
        }
        if let Some(totals) = &self.moqt {
            moqt::exposition::register(Arc::clone(totals), &mut registry);
        }
        let text = http::metrics::text_of(registry);
        http::spawn("metrics", listener, http::metrics::router(text).merge(http::metrics::alive()), stop)
    }

    /// Logs a line for each protocol that is served; UDP's is the last.
    pub fn log(&self) {
        if let Some(totals) = &self.moqt {
            self.log_moqt(&totals.read());
        }
        if let Some(udp) = &self.udp {
            self.log_udp(udp);
        }
    }

    /// Logs the open connections, what always stands there, and every count that is not zero.
    fn log_moqt(&self, reading: &Reading) {
        let mut text = format!("MOQT stats: {}={}", Reading::OPEN, reading.open);
        for (name, _, count) in reading.fields() {
            if count > 0 || ALWAYS.contains(&name) {
                // Writing to a string cannot fail.
                let _ = write!(text, ", {name}={count}");
            }
        }
        if self.udp.is_none() {
            self.add_dropped_lines(&mut text);
        }
        info!(connections_open = reading.open, sessions = reading.counts.sessions, "{text}");
    }

    /// Logs `received`, `sent` and `buffered`, then the signs of life and what the kernel dropped, then every count that
    /// is not zero.
    fn log_udp(&self, udp: &UdpCounts) {
        let kernel_dropped = udp.kernel.read();
        let mut text = String::from("Stats: ");
        for (place, (name, count)) in udp.counters.fields().enumerate() {
            // The seed's three always stand first; of the rest, what has happened.
            if place < 3 || count > 0 {
                let comma = if place == 0 { "" } else { ", " };
                // Writing to a string cannot fail.
                let _ = write!(text, "{comma}{name}={count}");
            }
        }
        let _ = match kernel_dropped {
            Some(dropped) => write!(text, ", kernel_dropped={dropped}"),
            None => write!(text, ", kernel_dropped=unknown"),
        };
        if let Some(dropped @ 1..) = udp.fates_dropped.as_ref().map(|dropped| dropped.get()) {
            let _ = write!(text, ", fate_log_dropped={dropped}");
        }
        self.add_dropped_lines(&mut text);
        let (received, sent) = (udp.counters.received.get(), udp.counters.sent.get());
        let buffered = udp.counters.buffered.get();
        info!(received, sent, buffered, kernel_dropped, "{text}");
    }

    fn add_dropped_lines(&self, text: &mut String) {
        if let dropped @ 1.. = self.log.dropped()() {
            let _ = write!(text, ", log_dropped={dropped}");
        }
    }
}
