/// Why a value does not obey its lexicon. Safe to show: it names fields and limits, never contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Violation {
    /// Slashes between names and indexes, from `params`, `input`, `output` or `message`: `input/adds/0/device`.
    pub path: String,
    pub message: String,
}

/// Where a check stands. It lives on the stack, so that a body without faults costs no allocation.
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    pub fn root(name: &'a str) -> Self {
        Self { parent: None, step: Step::Name(name) }
    }

    /// `name` comes from a lexicon, never from the value.
    pub fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Name(name) }
    }

    pub fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    pub fn violation(&self, message: impl Into<String>) -> Violation {
        let mut steps = Vec::new();
        let mut at = Some(self);
        while let Some(path) = at {
            steps.push(match path.step {
                Step::Name(name) => name.to_owned(),
                Step::Index(index) => index.to_string(),
            });
            at = path.parent;
        }
        steps.reverse();
        Violation { path: steps.join("/"), message: message.into() }
    }
}
