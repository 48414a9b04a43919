//! `blue.catbird.account.*`.

mod admission;
mod list_devices;
mod register_device;
mod revoke_device;
