//! `blue.catbird.admin.*`.

mod list_accounts;
mod suspend_account;
