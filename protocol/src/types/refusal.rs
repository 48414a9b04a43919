use serde_json::{Map, Value};

/// What a client is told beside the name of an error: a sentence, and values to act on.
///
/// A PDS proxy forwards only the sentence, so it also holds the values in words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detail {
    pub message: String,
    pub data: Map<String, Value>,
}

impl Detail {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: Map::new() }
    }

    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), value.into());
        self
    }
}

impl<T: Into<String>> From<T> for Detail {
    fn from(message: T) -> Self {
        Self::new(message)
    }
}

/// A method's own errors, as its lexicon declares them. Generated enums implement this.
pub trait Named: std::fmt::Debug + Sized + Send + Sync + 'static {
    /// Every declared name with its HTTP status.
    const NAMES: &'static [(&'static str, u16)];

    fn name(&self) -> &'static str;
    fn status(&self) -> u16;
    fn detail(&self) -> &Detail;

    /// The variant of that name, if this method declares it.
    fn from_name(name: &str, detail: Detail) -> Option<Self>;
}

/// An engine's refusal: the name that a method's lexicon must declare, and its detail.
///
/// Engines know no lexicon; `xrpc::Failure` turns this into the method's own variant.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name}: {}", detail.message)]
pub struct Refusal {
    pub name: &'static str,
    pub detail: Detail,
}

impl Refusal {
    pub fn new(name: &'static str, detail: impl Into<Detail>) -> Self {
        Self { name, detail: detail.into() }
    }
}
