//! Lines about the progress of a run, on standard error: the table and the JSON object have standard output.

#[expect(clippy::print_stderr, reason = "a run of minutes shows its progress")]
pub fn note(line: &str) {
    eprintln!("… {line}");
}
