//! The limit on the memory that remote clients make a process hold: connections, incomplete messages, queued messages, request bodies, room
//! state, and delayed packets.
//!
//! All of it is taken from one budget while it is held. What does not fit is refused, and only the client that needs it notices. An address
//! (an IPv6 /64 is one address) may hold an eighth of the budget, except loopback, from which a proxy on this host connects for all its
//! clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use thiserror::Error;

use crate::address::source_network;
use crate::lock::lock;

/// Default budget in bytes. With it, the process fits in a container of 512 MiB.
pub const DEFAULT_MEMORY_BUDGET: u64 = 320 << 20;

/// An address may hold the budget divided by this number.
const ADDRESS_DIVISOR: u64 = 8;

/// The budget has no room, or the address has reached its limit.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the memory budget is used up, or this address holds an eighth of it")]
pub struct OverBudget;

/// The memory that all clients of a process hold, and its limit.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: u64,
    held: Mutex<HeldMemory>,
}

#[derive(Debug, Default)]
struct HeldMemory {
    total: u64,
    by_address: HashMap<IpAddr, u64>,
    refused: u64,
}

impl MemoryBudget {
    /// A budget of `limit` bytes. `None`: no limit.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self { limit: limit.unwrap_or(u64::MAX), held: Mutex::default() })
    }

    /// The limit in bytes, if there is one.
    pub fn limit(&self) -> Option<u64> {
        (self.limit != u64::MAX).then_some(self.limit)
    }

    /// Bytes that are held.
    pub fn held(&self) -> u64 {
        lock(&self.held).total
    }

    /// Whether more than half of the limit is held.
    pub fn is_scarce(&self) -> bool {
        self.held() > self.limit / 2
    }

    /// How often memory was refused.
    pub fn refused(&self) -> u64 {
        lock(&self.held).refused
    }

    /// Opens the account of a client at `address`. It holds `prepaid` bytes from now on, and the client may always use these. `None`: the
    /// address has no limit.
    pub fn open(self: &Arc<Self>, address: Option<IpAddr>, prepaid: u64) -> Result<Arc<MemoryAccount>, OverBudget> {
        let account = self.account(address);
        account.prepay(prepaid)?;
        Ok(account)
    }

    /// An empty account. `None`: data of many clients, of which only the total is limited.
    pub fn account(self: &Arc<Self>, address: Option<IpAddr>) -> Arc<MemoryAccount> {
        let address = address.map(source_network).filter(|address| !address.is_loopback());
        let state = Mutex::new(AccountState { prepaid: 0, used: 0 });
        Arc::new(MemoryAccount { budget: Arc::clone(self), address, state })
    }

    /// Changes what an account holds. With `is_limited`, growth is refused if it exceeds a limit.
    fn change(&self, address: Option<IpAddr>, before: u64, after: u64, is_limited: bool) -> Result<(), OverBudget> {
        if before == after {
            return Ok(());
        }
        let mut held = lock(&self.held);
        let total = (held.total - before).saturating_add(after);
        let of_address = address.map(|address| {
            let others = held.by_address.get(&address).map_or(0, |bytes| bytes - before);
            (address, others.saturating_add(after))
        });
        let is_over = total > self.limit || of_address.is_some_and(|(_, bytes)| bytes > self.limit / ADDRESS_DIVISOR);
        if is_limited && after > before && is_over {
            held.refused += 1;
            return Err(OverBudget);
        }
        held.total = total;
        match of_address {
            Some((address, 0)) => drop(held.by_address.remove(&address)),
            Some((address, bytes)) => drop(held.by_address.insert(address, bytes)),
            None => {}
        }
        Ok(())
    }
}

/// What one client holds: its prepaid bytes, and what it uses beyond them.
#[derive(Debug)]
pub struct MemoryAccount {
    budget: Arc<MemoryBudget>,
    address: Option<IpAddr>,
    state: Mutex<AccountState>,
}

#[derive(Clone, Copy, Debug)]
struct AccountState {
    prepaid: u64,
    used: u64,
}

impl MemoryAccount {
    /// Uses `bytes` until the permit is dropped.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Result<MemoryPermit, OverBudget> {
        self.update(|state| state.used += bytes, true)?;
        Ok(MemoryPermit { account: Arc::clone(self), bytes })
    }

    /// Like [`MemoryAccount::take`], but only while at least half of the budget, and of the share of the address, is free: for data that stays
    /// after its client has left, and must not keep new clients out.
    pub fn take_to_keep(self: &Arc<Self>, bytes: u64) -> Result<MemoryPermit, OverBudget> {
        let share = self.address.map_or(self.budget.limit, |_| self.budget.limit / ADDRESS_DIVISOR);
        if self.budget.is_scarce() || self.available() < share / 2 {
            lock(&self.budget.held).refused += 1;
            return Err(OverBudget);
        }
        self.take(bytes)
    }

    /// Like [`MemoryAccount::take`], even if a limit is exceeded: for data that exists already, and for what the server has to send.
    pub fn hold(self: &Arc<Self>, bytes: u64) -> MemoryPermit {
        let _ = self.update(|state| state.used += bytes, false);
        MemoryPermit { account: Arc::clone(self), bytes }
    }

    /// How many more bytes the client could take now.
    pub fn available(&self) -> u64 {
        let held = lock(&self.budget.held);
        let of_address = self.address.map_or(0, |address| held.by_address.get(&address).copied().unwrap_or(0));
        let limit = if self.address.is_some() { self.budget.limit / ADDRESS_DIVISOR } else { u64::MAX };
        self.budget.limit.saturating_sub(held.total).min(limit.saturating_sub(of_address))
    }

    /// Whether the client uses more than its prepaid bytes while a limit is reached, because of memory that was not refused to it.
    pub fn is_over(&self) -> bool {
        let state = *lock(&self.state);
        state.used > state.prepaid && self.available() == 0
    }

    /// Sets the bytes that the client may always use.
    pub fn prepay(&self, prepaid: u64) -> Result<(), OverBudget> {
        self.update(|state| state.prepaid = prepaid, true)
    }

    fn update(&self, change: impl FnOnce(&mut AccountState), is_limited: bool) -> Result<(), OverBudget> {
        let mut state = lock(&self.state);
        let mut changed = *state;
        change(&mut changed);
        let held = |state: AccountState| state.prepaid.max(state.used);
        self.budget.change(self.address, held(*state), held(changed), is_limited)?;
        *state = changed;
        Ok(())
    }
}

impl Drop for MemoryAccount {
    fn drop(&mut self) {
        let _ = self.update(|state| *state = AccountState { prepaid: 0, used: 0 }, false);
    }
}

/// Memory that is held until this value is dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    account: Arc<MemoryAccount>,
    bytes: u64,
}

impl MemoryPermit {
    /// Changes the permit to `bytes`.
    pub fn resize(&mut self, bytes: u64) -> Result<(), OverBudget> {
        let before = self.bytes;
        self.account.update(|state| state.used = state.used - before + bytes, true)?;
        self.bytes = bytes;
        Ok(())
    }

    /// `data` as bytes that hold this memory until the last reference to them is dropped.
    pub fn attach(self, data: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        Bytes::from_owner(HeldData { data, _memory: self })
    }
}

struct HeldData<T> {
    data: T,
    _memory: MemoryPermit,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for HeldData<T> {
    fn as_ref(&self) -> &[u8] {
        self.data.as_ref()
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        let _ = self.account.update(|state| state.used -= self.bytes, false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(host: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, host])
    }

    #[test]
    fn an_address_holds_an_eighth_and_loopback_everything() {
        let budget = MemoryBudget::new(Some(800));
        let one = budget.open(Some(address(1)), 40).expect("within the limits");
        let other_of_same = budget.open(Some(address(1)), 40).expect("within the limits");
        assert_eq!((budget.open(Some(address(1)), 21).map(drop), one.available()), (Err(OverBudget), 20));
        // 40 bytes are prepaid.
        let permits = (one.take(40).expect("prepaid"), one.take(20).expect("an eighth"));
        assert_eq!(one.take(1).map(drop), Err(OverBudget));
        assert_eq!((budget.held(), budget.refused()), (100, 2));
        let local = budget.open(Some(IpAddr::from([127, 0, 0, 1])), 0).expect("0 bytes");
        let all = local.take(700).expect("loopback is exempt");
        assert_eq!(budget.open(Some(address(2)), 1).map(drop), Err(OverBudget));
        drop((all, one, other_of_same));
        assert_eq!(budget.held(), 60);
        drop(permits);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn data_that_stays_leaves_half_of_the_budget_free() {
        let budget = MemoryBudget::new(Some(800));
        let account = budget.account(None);
        let kept = account.take_to_keep(401).expect("nothing is held");
        assert_eq!((account.take_to_keep(1).map(drop), budget.refused()), (Err(OverBudget), 1));
        let _taken = account.take(399).expect("within the limit");
        drop(kept);
        assert!(account.take_to_keep(1).is_ok());
        // Half of the share of an address, which is an eighth, stays free as well.
        let one = budget.account(Some(address(1)));
        let _kept = one.take_to_keep(51).expect("nothing is held");
        assert_eq!((one.take_to_keep(1).map(drop), one.take(49).map(drop)), (Err(OverBudget), Ok(())));
    }

    #[test]
    fn prepaid_memory_is_never_refused_and_held_memory_shows_as_over() {
        let budget = MemoryBudget::new(Some(800));
        let client = budget.open(Some(address(1)), 50).expect("within the limits");
        let _others = budget.open(None, 750).expect("within the limits");
        let permit = client.take(50).expect("prepaid");
        assert!(!client.is_over());
        let more = client.hold(1);
        assert!(client.is_over() && budget.held() == 801);
        drop(more);
        assert!(!client.is_over());
        drop((client, permit));
        assert_eq!(budget.held(), 750);
    }

    proptest! {
        #[test]
        fn total_is_what_the_accounts_hold(
            actions in prop::collection::vec((0_u8..4, 0_usize..3, 0_u64..60), 1..60),
        ) {
            let budget = MemoryBudget::new(Some(400));
            let accounts = [Some(address(1)), Some(address(1)), None].map(|address| budget.open(address, 10).expect("30 bytes"));
            let mut permits: Vec<(usize, MemoryPermit)> = Vec::new();
            let mut prepaid = [10_u64; 3];
            for (action, index, bytes) in actions {
                match action {
                    0 => permits.extend(accounts[index].take(bytes).ok().map(|permit| (index, permit))),
                    1 => permits.push((index, accounts[index].hold(bytes))),
                    2 => prepaid[index] = accounts[index].prepay(bytes).map_or(prepaid[index], |()| bytes),
                    _ if !permits.is_empty() => drop(permits.swap_remove(index % permits.len())),
                    _ => {}
                }
                let of = |account| permits.iter().filter(move |(of, _)| *of == account);
                let used = |account| of(account).map(|(_, permit)| permit.bytes).sum::<u64>();
                prop_assert_eq!(budget.held(), (0..3).map(|account| used(account).max(prepaid[account])).sum::<u64>());
            }
            drop((accounts, permits));
            prop_assert_eq!(budget.held(), 0);
            prop_assert!(lock(&budget.held).by_address.is_empty());
        }
    }
}
