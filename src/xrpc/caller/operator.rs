//! An operator of this server.

use super::{AccountOrDevice, Asked, Caller};
use crate::types::Did;
use crate::xrpc::{CallOwner, Denied, Fault, Services};

/// An account or a device of a DID in `OPERATOR_DIDS`. It need not be registered here.
#[derive(Debug)]
pub struct Operator(AccountOrDevice);

impl Caller for Operator {
    const RULE: &'static str = "Operator";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        let caller = AccountOrDevice::prove(cx, asked).await?;
        if cx.config.identity.operators.contains(caller.account()) {
            Ok(Self(caller))
        } else {
            Err(Denied::NotOperator.into())
        }
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
