//! Look-ups of the devices that call: many devices to one statement.

use std::collections::HashMap;

use super::Fault;
use super::store::{self, DeviceRow};
use crate::storage::{Error, SharedStatement, StatementQueue, Storage};
use crate::types::DeviceId;

/// Finds devices by their ids. Cheap to clone.
#[derive(Clone)]
pub struct DeviceLookups(StatementQueue<FindDevices>);

struct FindDevices(Storage);

impl SharedStatement for FindDevices {
    type Item = String;
    type Answer = Option<DeviceRow>;

    const NAME: &'static str = "devices";
    const STATEMENTS: usize = 2;

    async fn run(&self, devices: &[String]) -> Result<Vec<Option<DeviceRow>>, Error> {
        let rows = store::find_devices(self.0.authentication(), devices).await?;
        let rows: HashMap<String, DeviceRow> = rows.into_iter().map(|row| (row.public_id.clone(), row)).collect();
        Ok(devices.iter().map(|device| rows.get(device).cloned()).collect())
    }
}

impl DeviceLookups {
    pub fn new(storage: Storage) -> Self {
        Self(StatementQueue::new(FindDevices(storage)))
    }

    /// The row of a device of this server's accounts, if there is one.
    pub(super) async fn find(&self, device: &DeviceId) -> Result<Option<DeviceRow>, Fault> {
        Ok(self.0.ask(device.to_string()).await?)
    }
}
