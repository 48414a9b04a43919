//! What servers ask each other.

mod follow;
mod get_checkpoint;
mod get_entries;
mod get_keys;
mod replicate;
mod report_fork;
mod show_checkpoint;
mod unfollow;
