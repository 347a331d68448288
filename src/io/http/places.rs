//! The places a server has for connections: so many in all, and so many for one address.

use std::any::Any;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::warn;

use super::Bounds;
use crate::io::complaints::Complaints;

/// All places of one server.
#[derive(Debug)]
pub struct Places {
    bounds: Bounds,
    free: Arc<Semaphore>,
    taken: Mutex<HashMap<IpAddr, usize>>,
    refused: AtomicU64,
    late: AtomicU64,
    complaints: Complaints,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    /// For whom it is counted.
    address: OnceLock<IpAddr>,
    /// Whether a whole request has come.
    asked: AtomicBool,
    /// When the connection has lasted long enough.
    until: Mutex<Instant>,
    kept: OnceLock<Box<dyn Any + Send + Sync>>,
    _free: OwnedSemaphorePermit,
}

impl Places {
    /// As many as `bounds` say.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        let most = bounds.connections.unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(most));
        Arc::new(Self {
            bounds,
            free,
            taken: Mutex::default(),
            refused: AtomicU64::new(0),
            late: AtomicU64::new(0),
            complaints: Complaints::default(),
        })
    }

    /// What they were made from.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Connections closed at once because their address had its share.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections closed because no whole request came in time.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Waits for a free place.
    pub(in crate::io) async fn free(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Gives a free place to `address`, unless that has as many as one may. What a proxy brings is counted when it says for whom.
    pub(in crate::io) fn take(self: &Arc<Self>, free: OwnedSemaphorePermit, address: IpAddr) -> Option<Place> {
        let counted = if self.bounds.trust_proxy { None } else { self.count(address).ok()? };
        Some(Place {
            places: Arc::clone(self),
            address: counted.map_or_else(OnceLock::new, OnceLock::from),
            asked: AtomicBool::new(false),
            until: Mutex::new(Instant::now() + self.bounds.lifetime),
            kept: OnceLock::new(),
            _free: free,
        })
    }

    /// Counts one more for `address`, if it is counted at all, unless it has as many as one may.
    fn count(&self, address: IpAddr) -> Result<Option<IpAddr>, Full> {
        let address = party(address);
        // A proxy on this machine brings everybody from one address.
        let Some(most) = self.bounds.per_address.filter(|_| !address.is_loopback()) else { return Ok(None) };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.entry(address).or_default();
        if *of_address >= most {
            if most == 0 {
                taken.remove(&address);
            }
            drop(taken);
            self.refused.fetch_add(1, Ordering::Relaxed);
            if self.complaints.may() {
                warn!("Refused a connection from {address}: it has {most} already");
            }
            return Err(Full);
        }
        *of_address += 1;
        Ok(Some(address))
    }
}

/// An address has as many places as one may.
#[derive(Clone, Copy, Debug)]
struct Full;

impl Place {
    /// Drops `what` when the connection has ended and all that it said has left. Of several things the first.
    pub fn keep(&self, what: impl Any + Send + Sync) {
        let _ = self.kept.set(Box::new(what));
    }

    /// Says for whom a proxy has brought the connection. Whether it may stay: that address may have as many as one may.
    pub fn is_for(&self, address: IpAddr) -> bool {
        if !self.places.bounds.trust_proxy || self.address.get().is_some() {
            return true;
        }
        let counted = self.places.count(address);
        if let Ok(Some(address)) = counted {
            let _ = self.address.set(address);
        }
        counted.is_ok()
    }

    /// The connection may last its lifetime from now on: an answer without an end says so whenever more of it is taken.
    pub fn last(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + self.lifetime();
    }

    /// How long the connection may last after [`Place::last`].
    pub fn lifetime(&self) -> Duration {
        self.places.bounds.lifetime
    }

    /// When the connection has lasted long enough.
    pub(super) fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A whole request has come.
    pub(super) fn asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// The time for a request is over. That is only worth a count if there was none at all.
    pub(super) fn late(&self) {
        if !self.asked.load(Ordering::Relaxed) {
            self.places.late.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whom an address counts as: a whole /64 of IPv6 is one party's to choose from.
pub(in crate::io) fn party(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address.take() else { return };
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_address) = taken.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_has_its_share_and_no_more_and_loopback_is_free() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let long = Duration::from_secs(1);
            let bounds =
                Bounds { connections: None, per_address: Some(2), patience: long, lifetime: long, ..Bounds::default() };
            let places = Places::new(bounds);
            let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
            // The same address as a dual-stack socket tells it.
            let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
            let first = places.take(places.free().await, one).expect("a place");
            let _second = places.take(places.free().await, mapped).expect("a place");
            assert!(places.take(places.free().await, one).is_none());
            assert!(places.take(places.free().await, other).is_some());
            assert_eq!(places.refused(), 1);
            drop(first);
            assert!(places.take(places.free().await, one).is_some());
            // One /64 of IPv6 is one party's, and the next one another's.
            let [a, b, c, other] = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:1", "2001:db8:0:1::1"]
                .map(|text| text.parse::<IpAddr>().expect("an address"));
            let _held = [a, b].map(|address| (address, places.free.clone())).map(|(address, free)| {
                places.take(free.try_acquire_owned().expect("a place"), address).expect("a place")
            });
            assert!(places.take(places.free().await, c).is_none() && places.take(places.free().await, other).is_some());
            assert_eq!(places.refused(), 2);
            let mut local = Vec::new();
            for _ in 0..9 {
                local.push(places.take(places.free().await, IpAddr::from([127, 0, 0, 1])).expect("a place"));
                local.push(places.take(places.free().await, "::1".parse().expect("an address")).expect("a place"));
            }
            assert_eq!(places.refused(), 2);
        });
    }

    #[test]
    fn what_a_proxy_brings_is_counted_for_whom_it_says() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let bounds = Bounds { connections: None, per_address: Some(1), trust_proxy: true, ..Bounds::default() };
            let places = Places::new(bounds);
            let [proxy, one, other] = [9, 1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
            let mut held = Vec::new();
            for _ in 0..4 {
                held.push(places.take(places.free().await, proxy).expect("a place"));
            }
            assert!(held[0].is_for(one) && !held[1].is_for(one) && held[2].is_for(other));
            // A place is somebody's for good.
            assert!(held[0].is_for(other));
            assert_eq!(places.refused(), 1);
            drop(held.remove(0));
            assert!(held[0].is_for(one));
            assert!(places.take(places.free().await, one).is_some(), "a place that nobody is known for");
        });
    }
}
