//! The places a server has for connections: so many in all, so many for one address, and few for those who have not shown
//! yet that they are where they say.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::io::http::party;

/// Handshakes under way from which on addresses have to be proved. An address that is made up can then hold no more places
/// than these, and is sent nothing but a short packet for each of its long ones.
const UNPROVED: usize = 8;

/// What is done with somebody who comes.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Here is a place.
    Come(Place),
    /// Prove the address first.
    Prove,
    /// All places are taken.
    Full,
    /// All that one address may have are taken.
    Share,
}

/// The places of one server.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    most: usize,
    per_source: usize,
    all: usize,
    handshakes: usize,
    of_source: HashMap<IpAddr, usize>,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    source: IpAddr,
    in_handshake: bool,
}

impl Places {
    pub(super) fn new(most: usize, per_source: usize) -> Self {
        Self(Arc::new(Mutex::new(Taken { most, per_source, all: 0, handshakes: 0, of_source: HashMap::new() })))
    }

    /// Judges who comes from `address`.
    pub(super) fn ask(&self, address: IpAddr, proved: bool) -> Verdict {
        let source = party(address);
        let mut taken = self.taken();
        if taken.all >= taken.most {
            return Verdict::Full;
        }
        if !proved && taken.handshakes >= UNPROVED.min(taken.most / 2) {
            return Verdict::Prove;
        }
        let of_source = taken.of_source.get(&source).copied().unwrap_or_default();
        if of_source >= taken.per_source && !source.is_loopback() {
            return Verdict::Share;
        }
        taken.all += 1;
        taken.handshakes += 1;
        taken.of_source.insert(source, of_source + 1);
        Verdict::Come(Place { places: self.clone(), source, in_handshake: true })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The handshake is done.
    pub(super) fn settle(&mut self) {
        if std::mem::take(&mut self.in_handshake) {
            self.places.taken().handshakes -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.settle();
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(of_source) = taken.of_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                taken.of_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn come(places: &Places, from: &str) -> Place {
        match places.ask(address(from), true) {
            Verdict::Come(mut place) => {
                place.settle();
                place
            }
            other => panic!("{from}: {other:?}"),
        }
    }

    #[test]
    fn there_are_so_many_places_and_so_many_for_one_address() {
        let places = Places::new(5, 2);
        let first = come(&places, "192.0.2.1");
        let _second = come(&places, "::ffff:192.0.2.1");
        assert!(matches!(places.ask(address("192.0.2.1"), true), Verdict::Share));
        // One /64 of IPv6 is one party's.
        let _held = [come(&places, "2001:db8::1"), come(&places, "2001:db8::2")];
        assert!(matches!(places.ask(address("2001:db8::3"), true), Verdict::Share));
        let _fifth = come(&places, "2001:db8:0:1::1");
        assert!(matches!(places.ask(address("192.0.2.9"), true), Verdict::Full));
        drop(first);
        drop(come(&places, "192.0.2.1"));
        let local = Places::new(100, 2);
        let held: Vec<Place> = (0..20).flat_map(|_| [come(&local, "127.0.0.1"), come(&local, "::1")]).collect();
        assert_eq!(held.len(), 40);
    }

    #[test]
    fn who_has_not_proved_an_address_waits_while_many_handshakes_are_under_way() {
        let places = Places::new(100, 100);
        let from = address("192.0.2.1");
        let mut held = Vec::new();
        for _ in 0..8 {
            let Verdict::Come(place) = places.ask(from, false) else { panic!("no place") };
            held.push(place);
        }
        assert!(matches!(places.ask(address("192.0.2.2"), false), Verdict::Prove));
        assert!(matches!(places.ask(address("192.0.2.2"), true), Verdict::Come(_)));
        held[0].settle();
        assert!(matches!(places.ask(from, false), Verdict::Come(_)));
    }
}
