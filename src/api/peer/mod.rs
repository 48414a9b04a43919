//! What servers ask each other (docs/FEDERATION.md).

mod deliver;
mod get_keys;

use crate::lexicon::peer::{deliver::Deliver, get_keys::GetKeys};
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new().method::<Deliver, _, _>(deliver::deliver).method::<GetKeys, _, _>(get_keys::get_keys)
}
