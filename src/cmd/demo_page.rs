//! `echo-server --demo-page`: where a person opens MOQT in a browser.

use std::net::TcpListener;
use std::str::FromStr;

use anyhow::Context;
use tracing::{info, warn};

use super::Failure;
use super::args::Listen;
use super::moqt_options::{HEADING, WANTED};
use crate::io::http;
use crate::io::moqt::Target;
use crate::io::moqt::server::Terms;
use crate::io::moqt_page::{self, Certificate, Facts};
use crate::io::stop::Stop;
use crate::io::tls::identity::Identity;

/// Whether and where there is a page.
#[derive(Debug, clap::Args)]
pub struct DemoPageArgs {
    /// Serve a page on which a browser on this machine, and no other, speaks to the MOQT echo: a port, or a loopback address and one
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = on_loopback, requires = WANTED, help_heading = HEADING)]
    demo_page: Option<Listen>,
}

impl DemoPageArgs {
    /// Listens there.
    pub fn bind(&self) -> Result<Option<DemoPage>, Failure> {
        let Some(Listen(address)) = self.demo_page else { return Ok(None) };
        let listener = http::bind(address).with_context(|| format!("cannot listen on {address} for --demo-page"));
        listener.map(|listener| Some(DemoPage(listener))).map_err(Failure::unusable)
    }
}

/// The page's own place.
pub struct DemoPage(TcpListener);

impl DemoPage {
    /// Serves the page for the echo at `target`, which shows `identity`, until `stop` is requested.
    pub fn serve(self, target: &Target, identity: Identity, terms: &Terms, stop: &Stop) -> std::io::Result<()> {
        let address = self.0.local_addr()?;
        let origin = Target { path: String::new(), ..target.clone() }.to_string();
        let (path, echo) = (target.path.clone(), &terms.echo);
        let (prefix, delay_ms) = (echo.prefix.0.clone(), echo.delay.as_secs_f64() * 1e3);
        let own = origin.clone();
        let facts = move || {
            let certificate = Certificate::of(&identity.own());
            let certificate =
                certificate.inspect_err(|error| warn!("The demo page cannot read the certificate: {error}"));
            Some(Facts {
                origin: own.clone(),
                path: path.clone(),
                prefix: prefix.clone(),
                delay_ms,
                certificate: certificate.ok()?,
            })
        };
        http::spawn("demo-page", self.0, moqt_page::router(&origin, facts), stop)?;
        info!("Demo page on http://{address}/");
        Ok(())
    }
}

/// Reads a place on this machine: whoever opened the page from elsewhere would be asked to trust a hash that came unprotected.
fn on_loopback(text: &str) -> Result<Listen, String> {
    let listen = Listen::from_str(text)?;
    if listen.0.ip().is_loopback() {
        return Ok(listen);
    }
    Err("the page is for this machine alone: give 127.0.0.1:PORT, [::1]:PORT or a port; from elsewhere, forward that port (ssh -L)".to_owned())
}
