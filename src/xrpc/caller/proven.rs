//! A device that signs every call itself, also to read.
//!
//! Invariant: the server refuses a mere session of the account, which a PDS and every app with an app password have.

use super::{Asked, Behalf, Caller, Device, DeviceProof};
use crate::types::Did;
use crate::xrpc::{Fault, Services};

/// A device with a token of its own: in `Authorization`, or beside a service token.
#[derive(Debug)]
pub struct ProvenDevice(pub Device);

impl Caller for ProvenDevice {
    const RULE: &'static str = "Proven Device";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        let proof = match asked.proof {
            DeviceProof::Name => DeviceProof::AsConfigured,
            stricter => stricter,
        };
        Device::prove(cx, Asked { proof, ..asked }).await.map(Self)
    }

    async fn check_body(&mut self, cx: &Services, body: &[u8]) -> Result<(), Fault> {
        self.0.check_body(cx, body).await
    }

    fn behalf(&self) -> Option<Behalf<'_>> {
        self.0.behalf()
    }

    fn did(&self) -> Option<&Did> {
        self.0.did()
    }
}
