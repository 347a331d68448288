//! The certificate that a server shows. One that the server has made itself is made anew in time, also while it runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{info, warn};
use x509_cert::time::Time;

use super::fingerprint::Fingerprint;
use super::self_made::SelfMade;
use crate::io::complaints::Complaints;

/// A certificate with its key, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Certified {
    pub(super) key: Arc<CertifiedKey>,
    /// Its last moment, UTC.
    pub(super) until: Time,
    /// Whether it says of itself that it is an authority's.
    pub(super) authority: bool,
    /// When it should be another one, if it can be.
    pub(super) renew: Option<SystemTime>,
}

impl Certified {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.own())
    }

    pub(super) fn own(&self) -> CertificateDer<'static> {
        // A chain is never empty here; nothing at all has a fingerprint too.
        self.key.cert.first().cloned().unwrap_or_else(|| CertificateDer::from_slice(&[]))
    }
}

/// What clients are shown: whatever name they ask for, the one certificate that there is.
#[derive(Debug)]
pub(super) struct Shown {
    now: Mutex<Certified>,
    maker: Option<SelfMade>,
    complaints: Complaints,
}

impl Shown {
    /// A certificate that is shown until the end.
    pub(super) fn fixed(certified: Certified) -> Self {
        Self { now: Mutex::new(certified), maker: None, complaints: Complaints::default() }
    }

    /// One that `maker` makes anew when it is time to.
    pub(super) fn renewed(certified: Certified, maker: SelfMade) -> Self {
        Self { maker: Some(maker), ..Self::fixed(certified) }
    }

    /// The one that is shown at `time`. Making a new one takes a moment, once in days: whoever comes then waits for it.
    pub(super) fn at(&self, time: SystemTime) -> Certified {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(maker) = self.maker.as_ref().filter(|_| now.renew.is_some_and(|renew| time >= renew)) {
            match maker.certify(time) {
                Ok(new) => {
                    *now = new;
                    info!("A new certificate, valid until {}, has SHA-256 {}", now.until, now.fingerprint());
                }
                Err(error) if self.complaints.may() => {
                    warn!("The certificate is valid until {}, and there is no new one: {error}", now.until);
                }
                Err(_) => {}
            }
        }
        now.clone()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(SystemTime::now()).key)
    }
}
