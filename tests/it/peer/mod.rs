//! What servers ask each other about streams.

mod follow;
mod get_checkpoint;
mod get_entries;
mod replicate;
mod report_fork;
mod show_checkpoint;
mod unfollow;
