//! What the demo says while it runs: one line for each thing that matters, with the time since the beginning.

use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shared by all who have something to say.
pub(crate) struct Transcript {
    began: Instant,
    /// What is being done, for whoever asks where it hangs.
    step: Mutex<String>,
}

impl Transcript {
    pub fn begin() -> Self {
        Self { began: Instant::now(), step: Mutex::new("beginning".to_owned()) }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A new part of the story.
    pub fn act(&self, title: &str) {
        self.step(title);
        write(&format!("\n{title}"));
    }

    /// What comes next, without a line.
    pub fn step(&self, step: &str) {
        step.clone_into(&mut self.step.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is being done now.
    pub fn where_it_is(&self) -> String {
        self.step.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something happened.
    pub fn say(&self, line: impl Display) {
        write(&format!("{:7.2}s  {line}", self.elapsed().as_secs_f64()));
    }
}

/// The last line: one JSON object.
pub(crate) fn last_line(report: &serde_json::Value) {
    write(&report.to_string());
}

/// Whoever closed our output is not interested; the exit code still tells.
fn write(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
