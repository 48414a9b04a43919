//! Checking and storing one key package.

use super::store::{self, Stored};
use crate::lexicon::mls::defs::PublishedKeyPackage;
use crate::mls::key_package;
use crate::storage::Error;
use crate::types::{Bytes, Refusal, UnixMillis};
use crate::xrpc::{Device, Fault, Services, blocking};

/// Packages that wait in one pool, the last-resort one not counted.
const POOL_PACKAGES: i64 = 100;

/// Refused by name, or failed.
pub(super) enum Problem {
    Refused(Refusal),
    Fault(Fault),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// `keys` are those of the calling device.
pub(super) async fn publish(
    cx: &Services,
    caller: &Device,
    keys: &[Vec<u8>],
    bytes: Bytes,
) -> Result<PublishedKeyPackage, Problem> {
    let now = cx.clock.now();
    let (did, device, keys) = (caller.author.did.clone(), caller.author.device.clone(), keys.to_vec());
    let checked = blocking(cx, move || key_package::check(bytes.as_slice(), &did, &device, &keys, now));
    let checked = checked.await.map_err(Problem::Fault)??;

    match store::insert(cx.storage.pool(), &caller.author, &checked, POOL_PACKAGES, now.to_datetime()).await {
        Ok(Stored::Inserted) => Ok(PublishedKeyPackage {
            r#ref: Bytes(checked.reference),
            cipher_suite: u64::from(checked.cipher_suite),
            last_resort: checked.last_resort,
            expires_at: UnixMillis::to_rfc3339(checked.expires_at),
        }),
        Ok(Stored::PoolFull) => {
            let why = format!("{POOL_PACKAGES} key packages of this suite wait already");
            Err(Refusal::new("KeyPackagePoolFull", why).into())
        }
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: Error) -> Problem {
    match error.constraint() {
        Some("key_package_ref_key") => {
            Refusal::new("DuplicateKeyPackage", "this key package was published before").into()
        }
        Some("key_package_device_id_init_key_hash_key") => {
            Refusal::new("InitKeyReused", "another key package of this device has the same init key").into()
        }
        _ => Problem::Fault(error.into()),
    }
}
