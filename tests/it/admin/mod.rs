//! `blue.catbird.admin.*`.

mod list_accounts;
mod list_actions;
mod name_admin;
mod peers;
mod suspend_account;
