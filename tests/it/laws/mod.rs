//! What holds for every method and every conversation, whatever happens meanwhile.

mod adopt;
mod crash;
mod epochs;
mod idempotency;
mod order;
mod paging;
mod replay;
mod replicas;
mod restore;
mod seats;
