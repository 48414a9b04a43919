//! Limits on the calls that one caller has in flight.
//!
//! Invariants: a call holds its slots until the client has received its answer or its connection has ended; a call
//! beyond the slots waits a second at most. Subscriptions have limits of their own (the listeners of the log), and so
//! have peers.

use std::time::Duration;

use axum::response::Response;
use tokio::time::Instant;

use super::{Address, guarded};
use crate::lexicon::Kind;
use crate::limit::{InstanceCount, KeyedSlots, SlotHolder};
use crate::types::{DeviceId, Did};

/// An account has as many slots as this many devices, and so has an address for its unauthenticated calls.
const DEVICES: u32 = 4;
/// Time that a call waits for a slot.
const PATIENCE: Duration = Duration::from_secs(1);

/// The holder of a call's slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOwner {
    /// An unauthenticated call, which counts against its address.
    Address,
    /// An account, by a service token alone.
    Account(Did),
    Device(Did, DeviceId),
    /// A peer, whose requests in flight have a limit of their own.
    Peer,
}

type Session = (Did, Option<DeviceId>);

pub(super) struct CallsInFlight {
    patience: Duration,
    reads: Slots,
    writes: Slots,
}

struct Slots {
    sessions: KeyedSlots<Session>,
    accounts: KeyedSlots<Did>,
    addresses: KeyedSlots<Address>,
}

impl Slots {
    fn new(of_device: u32, instances: &InstanceCount) -> Self {
        let of_account = of_device * DEVICES;
        Self {
            sessions: KeyedSlots::shared(of_device, instances),
            accounts: KeyedSlots::shared(of_account, instances),
            addresses: KeyedSlots::shared(of_account, instances),
        }
    }
}

/// The slots of one call.
#[derive(Default)]
pub struct CallSlots {
    _session: Option<SlotHolder<Session>>,
    _account: Option<SlotHolder<Did>>,
    _address: Option<SlotHolder<Address>>,
}

impl CallSlots {
    /// Holds the slots until the client has received the answer's body.
    pub(in crate::xrpc) fn until_taken(self, response: Response) -> Response {
        response.map(|body| guarded(body, self))
    }
}

impl CallsInFlight {
    /// Limits of `reads` and `writes` for each device, or for the session of an account without a device.
    pub fn new(reads: u32, writes: u32, instances: &InstanceCount) -> Self {
        let (reads, writes) = (Slots::new(reads, instances), Slots::new(writes, instances));
        Self { patience: PATIENCE, reads, writes }
    }

    /// Takes the slots of a further call, if they become free in time.
    pub async fn enter(&self, address: Address, owner: CallOwner, kind: Kind) -> Option<CallSlots> {
        let slots = if kind == Kind::Procedure { &self.writes } else { &self.reads };
        let (account, device) = match owner {
            CallOwner::Peer => return Some(CallSlots::default()),
            CallOwner::Address => {
                let address = slots.addresses.take(address, self.patience).await?;
                return Some(CallSlots { _address: Some(address), ..CallSlots::default() });
            }
            CallOwner::Account(account) => (account, None),
            CallOwner::Device(account, device) => (account, Some(device)),
        };
        let until = Instant::now() + self.patience;
        let session = slots.sessions.take((account.clone(), device), self.patience).await?;
        let account = slots.accounts.take(account, until.saturating_duration_since(Instant::now())).await?;
        Some(CallSlots { _session: Some(session), _account: Some(account), _address: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(account: &str, device: u8) -> CallOwner {
        let id = format!("dev_{}", char::from(b'a' + device).to_string().repeat(26));
        CallOwner::Device(Did::parse(account).unwrap(), DeviceId::parse(&id).unwrap())
    }

    #[tokio::test]
    async fn a_device_has_its_slots_and_an_account_those_of_four_devices() {
        let calls =
            CallsInFlight { patience: Duration::from_millis(20), ..CallsInFlight::new(8, 4, &InstanceCount::alone()) };
        let address = Address::of("192.0.2.1".parse().unwrap());
        let account = "did:web:a.example";
        let mut held = Vec::new();
        for (kind, of_device) in [(Kind::Query, 8), (Kind::Procedure, 4)] {
            for device_number in 0..4 {
                for _ in 0..of_device {
                    held.push(calls.enter(address, device(account, device_number), kind).await.unwrap());
                }
                assert!(calls.enter(address, device(account, device_number), kind).await.is_none());
            }
            assert!(
                calls.enter(address, device(account, 4), kind).await.is_none(),
                "all slots of the account are taken"
            );
            assert!(calls.enter(address, device("did:web:b.example", 0), kind).await.is_some(), "another account");
            assert!(calls.enter(address, CallOwner::Peer, kind).await.is_some());
        }
        held.clear();
        assert!(calls.enter(address, device(account, 4), Kind::Procedure).await.is_some());
    }

    #[tokio::test]
    async fn unauthenticated_callers_share_the_slots_of_their_address() {
        let calls =
            CallsInFlight { patience: Duration::from_millis(20), ..CallsInFlight::new(8, 4, &InstanceCount::alone()) };
        let address = |text: &str| Address::of(text.parse().unwrap());
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(calls.enter(address("2001:db8::1"), CallOwner::Address, Kind::Procedure).await.unwrap());
        }
        assert!(
            calls.enter(address("2001:db8::2"), CallOwner::Address, Kind::Procedure).await.is_none(),
            "one network"
        );
        assert!(calls.enter(address("2001:db8:0:1::1"), CallOwner::Address, Kind::Procedure).await.is_some());
    }
}
