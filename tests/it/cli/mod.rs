//! Commands beside `serve`, as processes of their own.

mod lexicons;
mod pds;
