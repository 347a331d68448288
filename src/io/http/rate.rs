//! So many requests of one address in so much time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::places::party;

/// Addresses that are remembered; beyond them the one whose time is over first is forgotten.
const MOST: usize = 100_000;

/// A number of requests in a time, counted from the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub most: u32,
    /// In how much time.
    pub per: Duration,
}

/// What addresses have asked.
#[derive(Debug)]
pub struct Rates {
    rate: Option<Rate>,
    /// When each one's time is over, and how often it has asked.
    asked: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl Rates {
    /// Nobody has asked yet. `None` lets everybody ask.
    pub fn new(rate: Option<Rate>) -> Self {
        Self { rate, asked: Mutex::default() }
    }

    /// How long `address` has to wait until one more request is taken, if it has to. It does not count as one.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let Rate { most, .. } = self.rate?;
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, times) = *asked.get(&party(address))?;
        (times >= most && until > now).then(|| until - now)
    }

    /// One more request of `address`, or of its /64 of IPv6; or how long it has to wait until one is taken.
    pub fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let Some(Rate { most, per }) = self.rate else { return Ok(()) };
        let address = party(address);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= MOST && !asked.contains_key(&address) {
            asked.retain(|_, (until, _)| *until > now);
            let first = asked.iter().min_by_key(|(_, (until, _))| *until).map(|(address, _)| *address);
            if let Some(first) = first.filter(|_| asked.len() >= MOST) {
                asked.remove(&first);
            }
        }
        let (until, times) = asked.entry(address).or_insert((now + per, 0));
        if *until <= now {
            (*until, *times) = (now + per, 0);
        }
        if *times >= most {
            return Err(*until - now);
        }
        *times += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_again_when_its_time_is_over() {
        let rates = Rates::new(Some(Rate { most: 2, per: Duration::from_secs(10) }));
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(rates.take(one, start).is_ok() && rates.take(one, after(4)).is_ok());
        assert_eq!(rates.take(one, after(4)), Err(Duration::from_secs(6)));
        assert_eq!((rates.wait(one, after(5)), rates.wait(other, after(5))), (Some(Duration::from_secs(5)), None));
        assert_eq!(rates.wait(one, after(10)), None);
        assert!(rates.take(other, after(4)).is_ok());
        assert!(rates.take(one, after(10)).is_ok() && rates.take(one, after(11)).is_ok());
        assert_eq!(rates.take(one, after(11)), Err(Duration::from_secs(9)));
        let endless = Rates::new(None);
        assert!((0..1_000).all(|_| endless.take(one, start).is_ok()));
    }
}
