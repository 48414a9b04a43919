//! What holds for every method, and what is not a method.

mod callers;
mod corpora;
mod did_document;
mod errors;
mod examples;
mod health;
mod layers;
mod log_lines;
mod matrix;
mod requests;
mod slow_clients;
mod unsafe_postgres;
