//! An operator of this server.
//!
//! Invariant: an operator is a certified device of an account in `OPERATOR_DIDS`, and signs each call itself, over the
//! body of a write. A session of the account, which a PDS and apps have, can register a device and begin a new device
//! chain; so a device of a later chain acts only where `OPERATOR_DEVICES` names it.

use super::{Asked, Caller, Device, DeviceProof};
use crate::types::Did;
use crate::xrpc::{CallOwner, Denied, Fault, Services, store};

/// A certified device of an account in `OPERATOR_DIDS`.
#[derive(Debug)]
pub struct Operator(Device);

/// The generation of an account's first device chain.
const FIRST_CHAIN: i32 = 1;

impl Caller for Operator {
    const RULE: &'static str = "Operator";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        let device = Device::prove(cx, Asked { proof: DeviceProof::Always, ..asked }).await?;
        let identity = &cx.config.identity;
        if device.via.is_some() || !device.certified || !identity.operators.contains(&device.author.did) {
            return Err(Denied::NotOperator.into());
        }
        let trusted = if identity.operator_devices.is_empty() {
            let generation =
                store::find_chain_generation(cx.storage.authentication(), device.author.account_id).await?;
            generation == Some(FIRST_CHAIN)
        } else {
            identity.operator_devices.contains(&device.author.device)
        };
        if trusted { Ok(Self(device)) } else { Err(Denied::OperatorDeviceUnknown.into()) }
    }

    async fn check_body(&mut self, cx: &Services, body: &[u8]) -> Result<(), Fault> {
        self.0.check_body(cx, body).await
    }

    fn call_owner(&self) -> CallOwner {
        self.0.call_owner()
    }

    fn did(&self) -> Option<&Did> {
        self.0.did()
    }
}

impl Operator {
    /// The name of the acting device in the log of operators' actions.
    pub fn name(&self) -> String {
        format!("{} {}", self.0.author.did, self.0.author.device)
    }
}
