//! What servers ask each other (docs/FEDERATION.md).

mod get_keys;

use crate::lexicon::peer::get_keys::GetKeys;
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new().method::<GetKeys, _, _>(get_keys::get_keys)
}
