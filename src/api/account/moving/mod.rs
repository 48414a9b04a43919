//! Accounts that go to another server, and those that come.
//!
//! Invariants: what an account takes with it is its own word and its own Welcomes, nothing of others; where it lives says
//! its DID, and no method here.

mod export_data;
mod import_data;
mod store;

use crate::lexicon::account::{export_data::ExportData, import_data::ImportData};
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new().method::<ExportData, _, _>(export_data::export_data).method::<ImportData, _, _>(import_data::import_data)
}
