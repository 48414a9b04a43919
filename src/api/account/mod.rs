//! Accounts and their devices.
//!
//! Invariants: a device id is derived from its key; a key belongs to the account that proved it, and to no other
//! account while a row names it; every change of the device list is an entry of the account's own stream; only a link
//! of the account's chain, or the start of a chain, certifies a device.

pub mod admission;
mod chain;
mod contacts;
mod get_usage;
mod list_devices;
mod moving;
mod pairing;
mod proof;
mod register_device;
mod revoke_device;
mod store;
mod update_device;

use crate::lexicon::account::{
    get_usage::GetUsage, list_devices::ListDevices, register_device::RegisterDevice, revoke_device::RevokeDevice,
    update_device::UpdateDevice,
};
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new()
        .method::<RegisterDevice, _, _>(register_device::register_device)
        .method::<ListDevices, _, _>(list_devices::list_devices)
        .method::<GetUsage, _, _>(get_usage::get_usage)
        .method::<UpdateDevice, _, _>(update_device::update_device)
        .method::<RevokeDevice, _, _>(revoke_device::revoke_device)
        .merge(pairing::api())
        .merge(contacts::api())
        .merge(moving::api())
}
