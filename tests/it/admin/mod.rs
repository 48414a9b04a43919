//! `blue.catbird.admin.*`.

mod list_accounts;
mod peers;
mod suspend_account;
