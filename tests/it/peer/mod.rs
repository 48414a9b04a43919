//! What servers ask each other.

pub mod deliver;
mod follow;
mod get_checkpoint;
mod get_entries;
mod get_keys;
mod move_seats;
mod replicate;
mod report_fork;
mod show_checkpoint;
mod transfer_home;
mod unfollow;
