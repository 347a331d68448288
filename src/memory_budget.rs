//! One budget for all memory that remote clients make a process hold: delayed packets, queues, rooms, requests and connections.
//!
//! Memory is charged to the source address that causes it; an IPv6 /64 is one source. A source may hold at most as many bytes as are free.
//! Alone, it can use half of the budget; `n` equally greedy sources can use `n / (n + 1)` of it. Therefore, some memory always remains for
//! another client, and the source that holds most reaches its limit first. Its new data is refused. If the connections of a source
//! already hold more than is free, some are closed, first those of the source that holds most ([`MemoryBudget::source_to_cut`]).
//!
//! Thousands of sources can leave so little free that moderate clients would hold more. Therefore, a source that already holds memory may
//! also hold the geometric mean of what is free and a small amount. The small amount is a 2,048th of the budget. What is free can then become
//! small, but never 0.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use crate::address::source_network;

/// Default budget in bytes. With it, the process fits in a container of 512 MiB.
pub const DEFAULT_MEMORY_BUDGET: u64 = 320 << 20;

/// The small amount is the limit divided by this number: 160 KiB of the default budget.
const SMALL_AMOUNT_DIVISOR: u64 = 2_048;

/// The source of memory that no single client causes.
pub const NO_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The source may not hold more memory now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this address has reached its share of the memory budget")]
pub struct BudgetExceeded;

/// Called after a source has reached its share.
type PressureListener = Box<dyn Fn() + Send + Sync>;

/// The memory that all clients of a process hold, and its limit.
pub struct MemoryBudget {
    limit: u64,
    state: Mutex<BudgetState>,
    listeners: Mutex<Vec<PressureListener>>,
}

#[derive(Debug, Default)]
struct BudgetState {
    /// Bytes charged to sources.
    used: u64,
    /// Further bytes, of connections that are being closed. They are freed soon and count towards no source.
    closing: u64,
    refused: u64,
    connections_closed: u64,
    sources: HashMap<IpAddr, SourceMemory>,
}

/// What one source holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SourceMemory {
    bytes: u64,
    /// The part of `bytes` that is freed if the connections of the source are closed.
    connection_bytes: u64,
}

/// What holds memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// A connection that can be closed.
    Connection,
    /// A connection of a proxy, whose client is not known yet, or a source on this machine. Only the limit of the budget applies.
    Exempt,
    Other,
}

/// The state of a budget at one point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetUsage {
    /// Charged bytes.
    pub used: u64,
    /// Number of charges that were refused, and of failed checks.
    pub refused: u64,
    /// Number of connections that were closed to free memory.
    pub connections_closed: u64,
}

impl MemoryBudget {
    /// A budget of `limit` bytes. `None`: no limit.
    pub fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self { limit: limit.unwrap_or(u64::MAX), ..Self::default() })
    }

    /// The limit in bytes, if there is one.
    pub fn limit(&self) -> Option<u64> {
        (self.limit != u64::MAX).then_some(self.limit)
    }

    /// The current usage.
    pub fn usage(&self) -> BudgetUsage {
        let state = self.lock();
        BudgetUsage {
            used: state.used + state.closing,
            refused: state.refused,
            connections_closed: state.connections_closed,
        }
    }

    /// Calls `listener` each time a source has reached its share. The listener may read the budget, but must not charge
    /// memory: this could call the listeners again.
    pub fn on_pressure(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Charges `bytes` to `source`, unless the source would then hold more than its share.
    pub fn try_charge(&self, source: IpAddr, bytes: u64) -> Result<(), BudgetExceeded> {
        self.try_add(source, bytes, Holder::Other)
    }

    /// Charges `bytes` to a source that is exempt from its share. Only the limit of the budget applies.
    pub fn try_charge_exempt(&self, source: IpAddr, bytes: u64) -> Result<(), BudgetExceeded> {
        self.try_add(source, bytes, Holder::Exempt)
    }

    /// The number of bytes that are not charged.
    pub fn free(&self) -> u64 {
        self.limit.saturating_sub(self.lock().used)
    }

    fn try_add(&self, source: IpAddr, bytes: u64, holder: Holder) -> Result<(), BudgetExceeded> {
        if bytes == 0 {
            return Ok(());
        }
        let mut state = self.lock();
        let used = state.used.saturating_add(bytes);
        let before = state.held_by(source);
        let is_allowed = match holder {
            Holder::Exempt => true,
            // A new source may hold less. Otherwise, new attackers would leave too little for other new clients.
            _ if before == 0 => bytes <= self.limit.saturating_sub(used),
            _ => self.is_within_share(before.saturating_add(bytes), used),
        };
        if is_allowed && used <= self.limit {
            state.add(source, bytes, holder);
            return Ok(());
        }
        Err(self.refuse(state))
    }

    /// Counts a refusal, and notifies the listeners after the lock is released.
    fn refuse(&self, mut state: MutexGuard<'_, BudgetState>) -> BudgetExceeded {
        state.refused += 1;
        drop(state);
        self.notify_listeners();
        BudgetExceeded
    }

    /// Charges `bytes`, which are held already, to `source`. Notifies the listeners if the source holds more than its share.
    fn add_held(&self, source: IpAddr, bytes: u64, holder: Holder) {
        let mut state = self.lock();
        let held = state.add(source, bytes, holder);
        let is_within_share = self.is_within_share(held, state.used);
        drop(state);
        if !is_within_share {
            self.notify_listeners();
        }
    }

    /// An error if `source` holds more than its share.
    fn check(&self, source: IpAddr) -> Result<(), BudgetExceeded> {
        let state = self.lock();
        if self.is_within_share(state.held_by(source), state.used) {
            return Ok(());
        }
        Err(self.refuse(state))
    }

    /// Whether a source may hold `held` bytes while all sources hold `used` bytes.
    fn is_within_share(&self, held: u64, used: u64) -> bool {
        let free = self.limit.saturating_sub(used);
        held <= free || u128::from(held).pow(2) <= u128::from(self.small_amount()) * u128::from(free)
    }

    fn small_amount(&self) -> u64 {
        self.limit / SMALL_AMOUNT_DIVISOR
    }

    /// The largest number of bytes that [`MemoryBudget::try_charge`] would accept from `source` now.
    pub fn allowance(&self, source: IpAddr) -> u64 {
        let state = self.lock();
        let held = state.held_by(source);
        let free = self.limit.saturating_sub(state.used);
        drop(state);
        if held == 0 {
            return free / 2;
        }
        // Solves `total² <= small * (free - (total - held))` for `total`, the bytes that the source then holds.
        let small = u128::from(self.small_amount());
        let total = ((small.pow(2) + 4 * small * (u128::from(held) + u128::from(free))).isqrt() - small) / 2;
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        (free.saturating_sub(held) / 2).max(total.saturating_sub(held))
    }

    /// Releases `bytes` that were charged to `source`.
    pub fn release(&self, source: IpAddr, bytes: u64) {
        self.lock().remove(source, bytes, Holder::Other);
    }

    /// The source whose connections hold most, if they hold more than its share. Its largest connection is to be closed.
    pub fn source_to_cut(&self) -> Option<IpAddr> {
        let state = self.lock();
        let held = state.sources.iter().map(|(source, memory)| (memory.connection_bytes, *source));
        held.max().filter(|(bytes, _)| !self.is_within_share(*bytes, state.used)).map(|(_, source)| source)
    }

    /// Counts a connection that was closed because of [`MemoryBudget::source_to_cut`].
    pub fn count_closed_connection(&self) {
        self.lock().connections_closed += 1;
    }

    fn notify_listeners(&self) {
        for listener in &*self.listeners.lock().unwrap_or_else(PoisonError::into_inner) {
            listener();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BudgetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryBudget {
    /// No limit.
    fn default() -> Self {
        Self { limit: u64::MAX, state: Mutex::default(), listeners: Mutex::default() }
    }
}

impl BudgetState {
    fn held_by(&self, source: IpAddr) -> u64 {
        self.sources.get(&source_network(source)).map_or(0, |memory| memory.bytes)
    }

    /// Returns the number of bytes that the source then holds.
    fn add(&mut self, source: IpAddr, bytes: u64, holder: Holder) -> u64 {
        self.used += bytes;
        let memory = self.sources.entry(source_network(source)).or_default();
        memory.bytes += bytes;
        match holder {
            Holder::Connection => memory.connection_bytes += bytes,
            Holder::Exempt | Holder::Other => {}
        }
        memory.bytes
    }

    fn remove(&mut self, source: IpAddr, bytes: u64, holder: Holder) {
        self.used -= bytes;
        let source = source_network(source);
        let Some(memory) = self.sources.get_mut(&source) else { return };
        memory.bytes -= bytes;
        match holder {
            Holder::Connection => memory.connection_bytes -= bytes,
            Holder::Exempt | Holder::Other => {}
        }
        if memory.bytes == 0 {
            self.sources.remove(&source);
        }
    }
}

/// Two configurations are equal if their budgets have the same limit.
impl PartialEq for MemoryBudget {
    fn eq(&self, other: &Self) -> bool {
        self.limit == other.limit
    }
}

impl Eq for MemoryBudget {}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MemoryBudget")
            .field("limit", &self.limit)
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

/// Memory that is charged until this value is dropped.
#[derive(Debug)]
pub struct MemoryCharge {
    budget: Arc<MemoryBudget>,
    source: IpAddr,
    bytes: u64,
}

impl MemoryCharge {
    /// Charges `bytes` to `source`, unless the budget refuses them.
    pub fn new(budget: &Arc<MemoryBudget>, source: IpAddr, bytes: u64) -> Result<Self, BudgetExceeded> {
        let mut charge = Self::empty(budget, source);
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Charges `bytes` to a proxy for a connection whose client is not known yet, unless the limit would be exceeded.
    pub fn new_for_proxy(budget: &Arc<MemoryBudget>, proxy: IpAddr, bytes: u64) -> Result<Self, BudgetExceeded> {
        budget.try_add(proxy, bytes, Holder::Exempt)?;
        Ok(Self { budget: Arc::clone(budget), source: proxy, bytes })
    }

    /// A charge of 0 bytes to `source`.
    pub fn empty(budget: &Arc<MemoryBudget>, source: IpAddr) -> Self {
        Self { budget: Arc::clone(budget), source, bytes: 0 }
    }

    /// Charges `bytes`, which are held already, to `source`.
    pub fn held(budget: &Arc<MemoryBudget>, source: IpAddr, bytes: u64) -> Self {
        budget.add_held(source, bytes, Holder::Other);
        Self { budget: Arc::clone(budget), source, bytes }
    }

    /// Charges `bytes` more, unless the budget refuses them.
    pub fn grow(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        self.budget.try_charge(self.source, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// An error if the source holds more than its share. The share becomes smaller when other sources need memory.
    pub fn check(&self) -> Result<(), BudgetExceeded> {
        self.budget.check(self.source)
    }

    /// The source that the memory is charged to.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// Releases `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.budget.release(self.source, bytes);
    }

    /// Charges the same bytes to a connection that can be closed from now on.
    pub fn into_connection(mut self) -> ConnectionMemory {
        let bytes = std::mem::take(&mut self.bytes);
        let mut state = self.budget.lock();
        state.remove(self.source, bytes, Holder::Other);
        state.add(self.source, bytes, Holder::Connection);
        drop(state);
        ConnectionMemory::held(&self.budget, self.source, bytes)
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.budget.release(self.source, self.bytes);
    }
}

/// The memory of one connection that can be closed to free it. Dropping this value releases the memory.
#[derive(Debug)]
pub struct ConnectionMemory {
    budget: Arc<MemoryBudget>,
    source: IpAddr,
    charge: Mutex<ConnectionCharge>,
}

#[derive(Debug)]
struct ConnectionCharge {
    bytes: u64,
    /// Whether the connection is being closed. The bytes no longer change.
    is_closed: bool,
}

impl ConnectionMemory {
    /// Charges a new connection of `source` with `bytes`, unless the budget refuses them.
    pub fn open(budget: &Arc<MemoryBudget>, source: IpAddr, bytes: u64) -> Result<Self, BudgetExceeded> {
        budget.try_add(source, bytes, Holder::Connection)?;
        Ok(Self::held(budget, source, bytes))
    }

    /// The memory of a connection that is charged already.
    fn held(budget: &Arc<MemoryBudget>, source: IpAddr, bytes: u64) -> Self {
        let charge = Mutex::new(ConnectionCharge { bytes, is_closed: false });
        Self { budget: Arc::clone(budget), source: source_network(source), charge }
    }

    /// The source that the memory is charged to.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// Charged bytes.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Charges `bytes` more, unless the budget refuses them.
    pub fn grow(&self, bytes: u64) -> Result<(), BudgetExceeded> {
        let Some(mut charge) = self.lock_open() else { return Ok(()) };
        self.budget.try_add(self.source, bytes, Holder::Connection)?;
        charge.bytes += bytes;
        Ok(())
    }

    /// Whether the source may hold twice as much as it does.
    pub fn is_half_of_share_free(&self) -> bool {
        let state = self.budget.lock();
        self.budget.is_within_share(state.held_by(self.source).saturating_mul(2), state.used)
    }

    /// Releases `bytes`.
    pub fn shrink(&self, bytes: u64) {
        if let Some(mut charge) = self.lock_open() {
            charge.bytes -= bytes;
            self.budget.lock().remove(self.source, bytes, Holder::Connection);
        }
    }

    /// Changes the charge to `bytes`, which are held already, unless the connection was closed. Returns the number of bytes that the source
    /// may hold in addition.
    pub fn set(&self, bytes: u64) -> u64 {
        let Some(mut charge) = self.lock_open() else { return 0 };
        let before = std::mem::replace(&mut charge.bytes, bytes);
        if bytes > before {
            self.budget.add_held(self.source, bytes - before, Holder::Connection);
        } else if bytes < before {
            self.budget.lock().remove(self.source, before - bytes, Holder::Connection);
        }
        self.budget.allowance(self.source)
    }

    /// The connection is being closed. Its memory stays in use until this value is dropped, but no longer counts towards its source. No other
    /// connection is closed in its place. Later changes have no effect.
    pub fn close(&self) {
        let Some(mut charge) = self.lock_open() else { return };
        charge.is_closed = true;
        let mut state = self.budget.lock();
        state.remove(self.source, charge.bytes, Holder::Connection);
        state.closing += charge.bytes;
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionCharge> {
        self.charge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if the connection is being closed.
    fn lock_open(&self) -> Option<MutexGuard<'_, ConnectionCharge>> {
        Some(self.lock()).filter(|charge| !charge.is_closed)
    }
}

impl Drop for ConnectionMemory {
    fn drop(&mut self) {
        self.close();
        let bytes = self.bytes();
        self.budget.lock().closing -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    fn source(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    /// Charges units of ten bytes to `from` until the budget refuses. Returns the charged bytes.
    fn fill(budget: &MemoryBudget, from: IpAddr) -> u64 {
        (0..1_000).take_while(|_| budget.try_charge(from, 10).is_ok()).count() as u64 * 10
    }

    #[test]
    fn each_further_source_gets_half_of_the_free_memory() {
        let budget = MemoryBudget::new(Some(1_000));
        let filled: Vec<u64> = (1..=4).map(|number| fill(&budget, source(number))).collect();
        assert_eq!(filled, [500, 250, 120, 60]);
        assert_eq!(budget.usage(), BudgetUsage { used: 930, refused: 4, connections_closed: 0 });
        budget.release(source(1), 500);
        assert_eq!((fill(&budget, source(1)), fill(&budget, source(4))), (280, 110));
    }

    #[test]
    fn addresses_of_an_ipv6_64_share_their_memory() {
        let budget = MemoryBudget::new(Some(1_000));
        let [a, b, c] = ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"].map(|text| text.parse().expect("an IP"));
        assert_eq!((fill(&budget, a), fill(&budget, b), fill(&budget, c)), (500, 0, 250));
        assert_eq!(MemoryBudget::new(None).try_charge(a, u64::MAX / 2), Ok(()));
    }

    #[test]
    fn connections_of_the_largest_source_are_cut_until_each_holds_at_most_what_is_free() {
        let budget = MemoryBudget::new(Some(1_000));
        let mut connections: Vec<ConnectionMemory> = (1..=4)
            .map(|number| ConnectionMemory::open(&budget, source(number), 10).expect("within the budget"))
            .collect();
        assert_eq!(budget.source_to_cut(), None);
        // Closing connections would not free the packets of addresses 4 and 9.
        let packets = [4, 9].map(|number| MemoryCharge::held(&budget, source(number), 200));
        assert_eq!((connections[0].set(200), connections[1].set(150)), (85, 40));
        assert_eq!(budget.source_to_cut(), None);
        assert_eq!((connections[2].set(80), connections[3].set(120)), (40, 0));
        let mut cut = Vec::new();
        while let Some(source) = budget.source_to_cut() {
            cut.push(source);
            connections.retain(|connection| connection.source() != source);
        }
        assert_eq!(cut, [source(1)]);
        assert_eq!((budget.usage().used, connections.len()), (750, 3));
        // A closed connection cannot grow. No other connection is closed while it still holds its memory.
        connections[1].set(260);
        assert_eq!((budget.source_to_cut(), budget.usage().used), (Some(source(3)), 930));
        connections[1].close();
        assert_eq!((budget.source_to_cut(), connections[1].set(500), budget.usage().used), (None, 0, 930));
        drop((connections, packets));
        assert!(budget.lock().sources.is_empty());
    }

    #[test]
    fn half_of_the_share_of_a_single_source_is_a_third_of_the_budget() {
        let budget = MemoryBudget::new(Some(999));
        let connection = ConnectionMemory::open(&budget, source(1), 333).expect("within the budget");
        assert!(connection.is_half_of_share_free());
        connection.grow(1).expect("within the budget");
        assert!(!connection.is_half_of_share_free());
    }

    #[test]
    fn proxy_may_hold_all_that_is_free() {
        let budget = MemoryBudget::new(Some(100));
        let mut connections: Vec<MemoryCharge> =
            (0..20).filter_map(|_| MemoryCharge::new_for_proxy(&budget, source(1), 9).ok()).collect();
        assert_eq!((connections.len(), budget.usage().used, budget.source_to_cut()), (11, 99, None));
        connections.truncate(2);
        assert_eq!(budget.usage().used, 18);
    }

    #[test]
    fn sources_that_hold_little_are_served_beside_thousands_of_others() {
        // A small amount is 1,000 bytes.
        let budget = MemoryBudget::new(Some(2_048_000));
        let moderate = ConnectionMemory::open(&budget, source(1), 100).expect("within the budget");
        let other = |number: u32| IpAddr::V4(number.into());
        while (1_000..6_000).filter(|number| budget.try_charge(other(*number), 10).is_ok()).count() > 0 {}
        // Without the small amount, each of the 5,000 sources could hold 409 bytes, and the moderate client as well. With it, they can hold
        // 400, and 400² / 1,000 = 160 bytes stay free.
        let free = |budget: &MemoryBudget| 2_048_000 - budget.usage().used;
        assert!((100..300).contains(&free(&budget)), "{}", free(&budget));
        // Clients that hold less are served.
        assert_eq!((moderate.grow(50), budget.source_to_cut()), (Ok(()), None));
        moderate.shrink(50);
        assert_eq!(budget.try_charge(source(2), 50), Ok(()));
        budget.release(source(2), 50);
        // More than the share, and more than the limit.
        moderate.set(400);
        assert_eq!(budget.source_to_cut(), Some(source(1)));
        moderate.set(100);
        assert_eq!(budget.source_to_cut(), None);
        let packets = MemoryCharge::held(&budget, source(2), 400);
        assert_eq!(budget.source_to_cut(), Some(source(1)));
        // The check fails until the source holds at most its share.
        assert_eq!(packets.check(), Err(BudgetExceeded));
        drop(packets);
        let packets = MemoryCharge::held(&budget, source(2), 40);
        assert_eq!(packets.check(), Ok(()));
    }

    #[test]
    fn listeners_are_called_under_pressure_only() {
        let budget = MemoryBudget::new(Some(100));
        let calls = Arc::new(AtomicUsize::new(0));
        let listened = Arc::clone(&calls);
        budget.on_pressure(move || {
            listened.fetch_add(1, Ordering::Relaxed);
        });
        let mut charges = vec![MemoryCharge::held(&budget, source(1), 40), MemoryCharge::held(&budget, source(2), 20)];
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        assert_eq!(budget.try_charge(source(1), 30), Err(BudgetExceeded));
        charges.push(MemoryCharge::held(&budget, source(2), 70));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        assert_eq!(charges[2].check(), Err(BudgetExceeded));
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    proptest! {
        #[test]
        fn allowance_is_the_largest_accepted_charge(
            limit in 1_u64..1 << 40, used in 0_u64..1 << 40, held in prop_oneof![0_u64..1 << 40, 0_u64..1_000_000]
        ) {
            let budget = MemoryBudget::new(Some(limit));
            let _used = MemoryCharge::held(&budget, source(1), used);
            let _held = MemoryCharge::held(&budget, source(2), held);
            let allowance = budget.allowance(source(2));
            prop_assert_eq!(budget.try_charge(source(2), allowance + 1), Err(BudgetExceeded));
            prop_assert_eq!(budget.try_charge(source(2), allowance), Ok(()));
        }

        #[test]
        fn sums_match_and_refusable_charges_never_exceed_the_limit(
            steps in prop::collection::vec((1_u8..5, 0_u64..400, any::<bool>()), 1..200)
        ) {
            let budget = MemoryBudget::new(Some(1_000));
            let mut held = [0_u64; 5];
            for (number, bytes, is_charge) in steps {
                let held_by_source = &mut held[usize::from(number)];
                if !is_charge {
                    let released = bytes.min(*held_by_source);
                    budget.release(source(number), released);
                    *held_by_source -= released;
                } else if budget.try_charge(source(number), bytes).is_ok() {
                    *held_by_source += bytes;
                }
                let used = budget.usage().used;
                prop_assert_eq!(used, held.iter().sum::<u64>());
                prop_assert!(used <= 1_000);
                prop_assert_eq!(budget.lock().sources.len(), held.iter().filter(|bytes| **bytes > 0).count());
            }
        }
    }
}
