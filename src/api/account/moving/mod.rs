//! Accounts that move to another server, and accounts that move here.
//!
//! Invariants: an export has only the account's own data and its own Welcomes, nothing of others; the account's DID
//! alone decides where it lives, and no method here.

mod export_data;
mod import_data;
mod store;

use crate::lexicon::account::{export_data::ExportData, import_data::ImportData};
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new().method::<ExportData, _, _>(export_data::export_data).method::<ImportData, _, _>(import_data::import_data)
}
