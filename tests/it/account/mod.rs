//! `blue.catbird.account.*`.

mod list_devices;
mod register_device;
mod revoke_device;
