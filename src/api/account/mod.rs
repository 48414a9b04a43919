//! Accounts and their devices.
//!
//! Invariants: a device id is derived from its key, and a key belongs to one account for ever; every change of the
//! device list is an entry of the account's own stream; only the first device of an account is certified by itself.

pub mod admission;
mod list_devices;
mod register_device;
mod revoke_device;
mod store;

use crate::lexicon::account::{
    list_devices::ListDevices, register_device::RegisterDevice, revoke_device::RevokeDevice,
};
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new()
        .method::<RegisterDevice, _, _>(register_device::register_device)
        .method::<ListDevices, _, _>(list_devices::list_devices)
        .method::<RevokeDevice, _, _>(revoke_device::revoke_device)
}
