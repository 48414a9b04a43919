//! What holds for every method, and what is not a method.

mod callers;
mod did_document;
mod errors;
mod examples;
mod health;
mod layers;
mod log_lines;
mod matrix;
mod requests;
mod unsafe_postgres;
