//! What servers ask each other.

mod get_keys;
