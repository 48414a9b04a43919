//! Documents as a typed tree.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::Example;
use super::format::Format;
use crate::lexicon::Kind;

/// Where a definition stands in [`Catalog::definitions`].
pub(super) type Definition = usize;

pub(super) enum Schema {
    Boolean {
        only: Option<bool>,
    },
    Integer(Integer),
    Text(Text),
    Bytes(Size),
    CidLink,
    Blob(Blob),
    /// Any object of the data model.
    Unknown,
    Array(Box<Array>),
    Object(Object),
    /// A string that is the token's own name.
    Token(String),
    Ref(Definition),
    Union(Union),
    /// A ref to a document that was not loaded: nothing can be said of a value, so every value fails.
    Missing,
}

/// Limits of a length: bytes of text, decoded bytes, or items.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub min: usize,
    pub max: usize,
}

pub(super) struct Integer {
    pub min: i64,
    pub max: i64,
    /// The values of `const` or `enum`.
    pub only: Option<Vec<i64>>,
}

pub(super) struct Text {
    pub format: Option<Format>,
    pub size: Size,
    pub graphemes: Size,
    /// The values of `const` or `enum`.
    pub only: Option<Vec<String>>,
}

pub(super) struct Blob {
    /// Media types; `image/*` for all of a kind. Empty for any.
    pub accept: Vec<String>,
    pub max_size: u64,
}

pub(super) struct Array {
    pub items: Schema,
    pub size: Size,
}

#[derive(Default)]
pub(super) struct Object {
    pub properties: BTreeMap<String, Property>,
    pub required: Vec<String>,
}

pub(super) struct Property {
    pub schema: Schema,
    pub nullable: bool,
    /// Filled in for parameters only.
    pub default: Option<Value>,
}

pub(super) struct Union {
    /// Full type names: `nsid` for a main definition, else `nsid#name`.
    pub types: Vec<(String, Definition)>,
    pub closed: bool,
}

pub(super) struct MethodSchema {
    pub kind: Kind,
    pub params: Object,
    pub input: Option<Schema>,
    /// The answer, or the message of a subscription.
    pub output: Option<Schema>,
    /// The answer comes event by event.
    pub streams: bool,
    pub errors: Vec<String>,
    pub examples: Vec<Example>,
}

pub(super) struct RecordSchema {
    pub at: Definition,
    /// Whole records, each with its `$type`.
    pub examples: Vec<Value>,
}

#[derive(Default)]
pub(super) struct Catalog {
    /// By NSID.
    pub methods: BTreeMap<String, MethodSchema>,
    /// By NSID.
    pub records: BTreeMap<String, RecordSchema>,
    pub definitions: Vec<Schema>,
    /// `nsid#name`, also for main definitions.
    pub names: HashMap<String, Definition>,
    /// Refs to documents that were not loaded.
    pub missing: Vec<String>,
}

impl Catalog {
    /// By its full name `nsid#name`.
    pub fn definition(&self, name: &str) -> Option<&Schema> {
        self.names.get(name).and_then(|at| self.definitions.get(*at))
    }
}
