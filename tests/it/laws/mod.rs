//! What holds for every method and every conversation, whatever happens meanwhile.

mod crash;
mod epochs;
mod idempotency;
mod order;
mod replicas;
mod seats;
