use std::error::Error;

/// An error and its causes in one line. A cause that is already in the text is not repeated: many errors quote theirs.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    for cause in std::iter::successors(error.source(), |error| (*error).source()) {
        let cause = cause.to_string();
        if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the file: {0}")]
    struct Quoting(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("no keys")]
    struct Silent(#[source] Quoting);

    #[test]
    fn each_cause_is_told_once() {
        let error = Silent(Quoting(std::io::Error::other("denied")));
        assert_eq!(causes(&error), "no keys: cannot open the file: denied");
    }
}
