//! What holds for every method and every conversation, whatever happens meanwhile.

mod canary;
mod courier;
mod crash;
mod epochs;
mod idempotency;
mod order;
mod relay;
mod replicas;
mod retention;
mod seats;
