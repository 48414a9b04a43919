//! What to write: this program's lexicons against what a repository holds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{OURS, changes};

/// A lexicon as a repository holds it.
#[derive(Debug, Clone)]
pub(super) struct Published {
    /// The version, by its hash: a write names it, so that it replaces nothing else.
    pub cid: String,
    pub record: Value,
}

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Create,
    /// What is there now, and what of the change is not additive.
    Change {
        cid: String,
        breaks: Vec<String>,
    },
    Keep,
}

#[derive(Debug)]
pub(super) struct Plan {
    /// In the order of the records.
    pub steps: Vec<(&'static str, Value, Step)>,
    /// Ours, published, and known no more.
    pub gone: Vec<String>,
}

impl Plan {
    pub fn new(records: Vec<(&'static str, Value)>, published: &BTreeMap<String, Published>) -> Self {
        let is_known = |nsid: &str| records.iter().any(|(known, _)| *known == nsid);
        let gone = published.keys().filter(|nsid| nsid.starts_with(OURS) && !is_known(nsid)).cloned().collect();
        let step = |nsid: &str, record: &Value| match published.get(nsid) {
            None => Step::Create,
            Some(there) if there.record == *record => Step::Keep,
            Some(there) => Step::Change { cid: there.cid.clone(), breaks: changes::breaking(&there.record, record) },
        };
        let steps = records
            .into_iter()
            .map(|(nsid, record)| {
                let step = step(nsid, &record);
                (nsid, record, step)
            })
            .collect();
        Self { steps, gone }
    }

    /// Every change that is not additive: whose, and what.
    pub fn breaks(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.steps.iter().flat_map(|(nsid, _, step)| {
            let breaks = match step {
                Step::Change { breaks, .. } => breaks.as_slice(),
                _ => &[],
            };
            breaks.iter().map(|what| (*nsid, what.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::{Plan, Published, Step};

    #[test]
    fn each_lexicon_is_created_changed_or_kept_and_what_is_gone_is_named_and_stays() {
        let doc = |id: &str, text: &str| json!({ "lexicon": 1, "id": id, "defs": { "main": { "description": text } } });
        let (new, old, same) = ("blue.catbird.a.new", "blue.catbird.a.old", "blue.catbird.a.same");
        let there = |record| Published { cid: "bafy".into(), record };
        let published = BTreeMap::from([
            (old.to_owned(), there(doc(old, "before"))),
            (same.to_owned(), there(doc(same, "same"))),
            ("blue.catbird.a.gone".to_owned(), there(json!({}))),
            ("com.example.theirs".to_owned(), there(json!({}))),
        ]);
        let records = [(new, "x"), (old, "after"), (same, "same")].map(|(id, text)| (id, doc(id, text)));
        let plan = Plan::new(records.to_vec(), &published);
        let steps: Vec<_> = plan.steps.iter().map(|(nsid, _, step)| (*nsid, step)).collect();
        let change = Step::Change { cid: "bafy".into(), breaks: Vec::new() };
        assert_eq!(steps, [(new, &Step::Create), (old, &change), (same, &Step::Keep)]);
        assert_eq!(plan.gone, ["blue.catbird.a.gone"]);
    }
}
