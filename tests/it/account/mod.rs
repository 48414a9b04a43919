//! `blue.catbird.account.*`.

mod admission;
mod approve_pairing;
mod claim_pairing;
pub mod create_pairing;
mod export_data;
mod get_usage;
mod import_data;
mod list_blocks;
mod list_devices;
mod list_relationships;
mod mls_keys;
mod register_device;
mod revoke_device;
mod set_block;
mod set_invitation_policy;
mod set_relationship;
mod update_device;

use rookery::lexicon::account::revoke_device::Input as Revocation;
use rookery::lexicon::event::defs::Event;
use rookery::log::body::{Body, DeviceBody};
use rookery::types::DeviceId;

/// Of a device, without a link.
fn revocation(device: &DeviceId) -> Revocation {
    Revocation { device: device.to_string(), revocation: None }
}

/// What the `#device` entries among these say.
fn device_entries(events: &[Event]) -> Vec<DeviceBody> {
    let entries = events.iter().filter(|event| event.kind == "#device");
    entries.map(|event| DeviceBody::decode(event.body.as_ref().unwrap().as_slice()).unwrap()).collect()
}
