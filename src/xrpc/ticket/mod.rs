//! Tickets, which replace a device's token where no header can carry one (a browser's WebSocket and EventSource).
//!
//! Invariants: a ticket is good for one call of the method that it names, on any instance, within its time; the server
//! stores only a hash of its text. The answer hides the fault of a ticket: unknown, spent, expired, for another method,
//! or of a revoked device or a suspended account are all `BadTicket`.

mod store;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Asked, CallOwner, Caller, Device, Fault, Services};
use crate::identity::TokenRefused;
use crate::lexicon::Kind;
use crate::types::{Did, Hash, UnixMillis};

/// Milliseconds that a ticket waits for its call.
const LIFE_MS: i64 = 30_000;
/// Open tickets of one device; one more ends the oldest.
const OPEN_PER_DEVICE: i64 = 10;
/// The parameter that carries it.
const PARAM: &str = "ticket";

/// A device, by its own token or by a ticket that it got with one.
#[derive(Debug, Clone)]
pub struct DeviceOrTicket(Device);

impl DeviceOrTicket {
    pub fn device(&self) -> &Device {
        &self.0
    }
}

impl Caller for DeviceOrTicket {
    const RULE: &'static str = "Device or Ticket";

    async fn prove(cx: &Services, asked: Asked<'_>) -> Result<Self, Fault> {
        debug_assert_ne!(asked.kind, Kind::Procedure, "a ticket proves who listens, and nothing else");
        let query = asked.parts.uri.query().unwrap_or_default();
        let given =
            url::form_urlencoded::parse(query.as_bytes()).find(|(name, text)| name == PARAM && !text.is_empty());
        // A ticket is judged as a ticket, whatever the headers say.
        let device = match given {
            Some((_, ticket)) => {
                cx.limits.may_prove(asked.visit, None)?;
                let device = spend(cx, &ticket, asked.nsid).await?;
                cx.limits.proven(asked.visit, asked.class, &device.author.did)?;
                device
            }
            None => Device::prove(cx, asked).await?,
        };
        Ok(Self(device))
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

/// A new ticket of this device for this method, and until when it can be spent.
pub async fn issue(cx: &Services, device_row: i64, nsid: &str) -> Result<(String, UnixMillis), Fault> {
    let ticket = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let now = cx.clock.now();
    let expires_at = UnixMillis(now.0 + LIFE_MS);
    let mut tx = cx.storage.begin().await?;
    store::make_room(tx.conn(), device_row, OPEN_PER_DEVICE - 1, now.to_datetime()).await?;
    store::insert(tx.conn(), &hash(&ticket), device_row, nsid, expires_at.to_datetime()).await?;
    tx.commit().await?;
    Ok((ticket, expires_at))
}

async fn spend(cx: &Services, ticket: &str, nsid: &str) -> Result<Device, Fault> {
    let now = cx.clock.now().to_datetime();
    let spent = store::spend(cx.storage.authentication(), &hash(ticket), nsid, now).await?;
    spent.ok_or(Fault::Unauthenticated(TokenRefused::BadTicket))
}

fn hash(ticket: &str) -> Hash {
    Hash::labelled("rookery ticket v1", ticket.as_bytes())
}
