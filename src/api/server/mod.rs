//! Public description of this server, for clients and other servers that do not know it yet.

mod describe;

use crate::lexicon::server::describe::Describe;
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new().method::<Describe, _, _>(describe::describe)
}
