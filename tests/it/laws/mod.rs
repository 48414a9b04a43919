//! What holds for every method and every conversation, whatever happens meanwhile.

mod crash;
mod epochs;
mod idempotency;
mod order;
mod paging;
mod replicas;
mod seats;
