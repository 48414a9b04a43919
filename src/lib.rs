pub mod types;
pub mod lexicon;
pub mod config;
pub mod telemetry;
pub mod storage;
pub mod log;
