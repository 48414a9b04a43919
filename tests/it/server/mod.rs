//! What holds for every method, and what is not a method.

mod bounds;
pub mod callers;
mod corpora;
mod describe;
mod development;
mod did_document;
mod errors;
pub mod examples;
mod full_disk;
mod health;
mod instances;
mod layers;
mod limits;
mod log_lines;
mod matrix;
mod migrations;
mod pooler;
mod requests;
mod roles;
mod silent_postgres;
mod slow_clients;
mod start;
mod tls_postgres;
mod unsafe_postgres;
