//! Commands beside `serve`, as processes of their own.

mod doctor;
mod lexicons;
mod pds;
mod peer;
