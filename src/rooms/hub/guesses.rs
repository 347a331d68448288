//! Who has guessed codes of rooms, wrongly: from one address only so many guesses are looked at.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::Time;

/// Wrong guesses of one address in [`WINDOW`].
const MOST: u32 = 100;

/// Counted from the first of them.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// Addresses that are remembered. Beyond that, the one whose first guess is the oldest is forgotten.
const MOST_ADDRESSES: usize = 4_096;

/// The wrong guesses of each address.
#[derive(Debug, Default)]
pub(in crate::rooms) struct Guesses {
    wrong: HashMap<IpAddr, u32>,
    /// The first guess of each, in the order of their times.
    first: VecDeque<(Time, IpAddr)>,
}

impl Guesses {
    /// Whether `from` has guessed so often that nothing of it is looked at now.
    pub(in crate::rooms) fn are_too_many(&mut self, now: Time, from: IpAddr) -> bool {
        self.forget(now);
        self.wrong.get(&one_client(from)).is_some_and(|wrong| *wrong >= MOST)
    }

    /// `from` has guessed wrongly.
    pub(in crate::rooms) fn wrong(&mut self, now: Time, from: IpAddr) {
        self.forget(now);
        let client = one_client(from);
        if let Some(wrong) = self.wrong.get_mut(&client) {
            *wrong = wrong.saturating_add(1);
            return;
        }
        if self.first.len() >= MOST_ADDRESSES
            && let Some((_, oldest)) = self.first.pop_front()
        {
            self.wrong.remove(&oldest);
        }
        self.wrong.insert(client, 1);
        self.first.push_back((now, client));
    }

    fn forget(&mut self, now: Time) {
        while let Some((_, client)) = self.first.front().filter(|(first, _)| now >= *first + WINDOW) {
            self.wrong.remove(client);
            self.first.pop_front();
        }
    }
}

/// Whoever has one IPv6 address has a whole network of them (RFC 6177).
fn one_client(from: IpAddr) -> IpAddr {
    match from {
        IpAddr::V4(_) => from,
        IpAddr::V6(from) => Ipv6Addr::from_bits(from.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_guesses_are_looked_at_in_a_quarter_of_an_hour() {
        let mut guesses = Guesses::default();
        let [ann, bob] = [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])];
        for second in 0..100 {
            let now = Time::from_millis(second * 1_000);
            assert!(!guesses.are_too_many(now, ann), "{second}");
            guesses.wrong(now, ann);
        }
        assert!(guesses.are_too_many(Time::from_millis(899_999), ann));
        assert!(!guesses.are_too_many(Time::from_millis(899_999), bob));
        assert!(!guesses.are_too_many(Time::from_millis(900_000), ann));
        assert!(guesses.wrong.is_empty() && guesses.first.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_only_so_many_are_remembered() {
        let mut guesses = Guesses::default();
        let one = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]);
        (0..100).for_each(|host| guesses.wrong(Time::ZERO, one(host)));
        assert!(guesses.are_too_many(Time::ZERO, one(500)));
        assert!(!guesses.are_too_many(Time::ZERO, IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1])));
        (0..4_095_u32).for_each(|number| guesses.wrong(Time::ZERO, IpAddr::V4(number.into())));
        assert!(guesses.are_too_many(Time::ZERO, one(500)));
        guesses.wrong(Time::ZERO, IpAddr::from([192, 0, 2, 1]));
        assert!(!guesses.are_too_many(Time::ZERO, one(500)));
        assert_eq!((guesses.wrong.len(), guesses.first.len()), (4_096, 4_096));
    }
}
