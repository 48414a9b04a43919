//! Permission sets: what an OAuth client may ask an account for as a whole (AT Protocol, "Permission sets").
//!
//! Invariant: every method that a client calls is in exactly the sets of its group, so that none is forgotten and none
//! is granted by accident. A PDS passes over what it does not take, without a word; so everything here is refused that
//! it would not honour: another resource, an audience, a name outside of the set's own group prefix.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::document::{Document, Kind};

/// Each group, and the sets that hold all of its methods. The methods of operators and of servers are in none, because
/// no client may ask for their rights; `server` is in none, because its methods ask for no right.
const SETS_OF_GROUP: [(&str, &[&str]); 6] = [
    ("account", &[CHAT_CLIENT]),
    ("admin", &[]),
    ("event", &[CHAT_CLIENT]),
    ("mls", &[CHAT_CLIENT]),
    ("peer", &[]),
    ("server", &[]),
];
const CHAT_CLIENT: &str = "blue.catbird.authFullChatClient";

/// Each record, and the sets that may write it.
const SETS_OF_RECORD: [(&str, &[&str]); 1] = [("blue.catbird.mls.declaration", &[CHAT_CLIENT])];

/// Characters of what a person reads before agreeing.
const TITLE_MAX: usize = 64;
const DETAIL_MAX: usize = 256;

/// What one set grants.
struct Granted<'d> {
    set: &'d str,
    methods: BTreeSet<&'d str>,
    records: BTreeSet<&'d str>,
}

/// Judges every set by itself, then all of them against the methods and records that there are.
pub fn check(documents: &[Document]) -> Result<()> {
    let (mut granted, mut methods, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for document in documents {
        match document.kind().with_context(|| document.path.clone())? {
            Kind::Method => methods.push(document),
            Kind::Record => records.push(document),
            Kind::PermissionSet => granted.push(set(document).with_context(|| document.path.clone())?),
            Kind::Defs => {}
        }
    }
    let due = |table: &[(&str, &'static [&'static str])], key: &str| -> Result<BTreeSet<&str>> {
        let (_, sets) = table.iter().find(|(name, _)| *name == key).with_context(|| {
            format!("{key} has no place in a permission set; say in lexicons/gen/src/permissions.rs where it belongs")
        })?;
        Ok(sets.iter().copied().collect())
    };
    for (document, kind) in methods.iter().map(|m| (m, Kind::Method)).chain(records.iter().map(|r| (r, Kind::Record))) {
        let nsid = document.nsid.as_str();
        let (due, listed): (_, fn(&Granted<'_>, &str) -> bool) = match kind {
            Kind::Record => (due(&SETS_OF_RECORD, nsid)?, |set, nsid| set.records.contains(nsid)),
            _ => {
                let group = document.group.as_deref().context("a method without group")?;
                (due(&SETS_OF_GROUP, group)?, |set, nsid| set.methods.contains(nsid))
            }
        };
        let found: BTreeSet<&str> = granted.iter().filter(|set| listed(set, nsid)).map(|set| set.set).collect();
        ensure!(found == due, "{nsid} belongs in the permission sets {due:?}, but stands in {found:?}");
    }
    for set in &granted {
        let known = |nsid: &&str| methods.iter().chain(&records).any(|document| document.nsid == **nsid);
        if let Some(stranger) = set.methods.iter().chain(&set.records).find(|nsid| !known(nsid)) {
            bail!("{}: there is no {stranger}", set.set);
        }
    }
    Ok(())
}

fn set(document: &Document) -> Result<Granted<'_>> {
    let main = document.main().and_then(Value::as_object).context("main is not an object")?;
    only(main, &["type", "title", "detail", "description", "permissions"])?;
    for (name, most) in [("title", TITLE_MAX), ("detail", DETAIL_MAX)] {
        let text = main.get(name).and_then(Value::as_str).with_context(|| format!("the set has no {name}"))?;
        ensure!((1..=most).contains(&text.chars().count()), "{name} is not 1 to {most} characters");
    }
    let mut granted = Granted { set: &document.nsid, methods: BTreeSet::new(), records: BTreeSet::new() };
    for permission in main.get("permissions").and_then(Value::as_array).context("permissions is not an array")? {
        let permission = permission.as_object().context("a permission is not an object")?;
        ensure!(permission.get("type").is_some_and(|kind| kind == "permission"), "expected the type permission");
        match permission.get("resource").and_then(Value::as_str) {
            Some("rpc") => {
                only(permission, &["type", "resource", "inheritAud", "lxm"])?;
                let inherits = permission.get("inheritAud").is_some_and(|flag| flag == true);
                ensure!(inherits, "rpc without inheritAud: true; the audience is the client's to name");
                names(permission, "lxm", &document.nsid, &mut granted.methods)?;
            }
            Some("repo") => {
                only(permission, &["type", "resource", "action", "collection"])?;
                let actions = permission.get("action").and_then(Value::as_array).context("repo without action")?;
                let known = |action: &Value| ["create", "update", "delete"].contains(&action.as_str().unwrap_or(""));
                ensure!(!actions.is_empty() && actions.iter().all(known), "an action is create, update or delete");
                names(permission, "collection", &document.nsid, &mut granted.records)?;
            }
            other => bail!("the resource {other:?} cannot stand in a set; rpc and repo can"),
        }
    }
    Ok(granted)
}

/// The NSIDs of a list: sorted, each once, and under the group prefix of the set, as a PDS demands.
fn names<'d>(permission: &'d Map<String, Value>, key: &str, set: &str, into: &mut BTreeSet<&'d str>) -> Result<()> {
    let list = permission.get(key).and_then(Value::as_array).with_context(|| format!("{key} is not an array"))?;
    ensure!(!list.is_empty(), "{key} is empty");
    let prefix = set.rsplit_once('.').map(|(prefix, _)| format!("{prefix}.")).context("the set's name has no group")?;
    let mut before = "";
    for nsid in list {
        let nsid = nsid.as_str().with_context(|| format!("{key} holds something else than names"))?;
        ensure!(nsid.starts_with(&prefix), "{nsid} is outside of {prefix}*, and a PDS would pass over all of {key}");
        ensure!(nsid > before, "{nsid} stands twice or not in its order");
        before = nsid;
        into.insert(nsid);
    }
    Ok(())
}

fn only(object: &Map<String, Value>, keys: &[&str]) -> Result<()> {
    match object.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(stray) => bail!("{stray} is not known here; known are {}", keys.join(", ")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Document, check};

    fn document(nsid: &str, main: Value) -> Document {
        let mut parts = nsid.split('.').skip(2).map(str::to_owned).collect::<Vec<_>>();
        let name = parts.pop().unwrap();
        let defs = json!({ "main": main }).as_object().unwrap().clone();
        Document { nsid: nsid.to_owned(), group: parts.pop(), name, path: nsid.to_owned(), description: None, defs }
    }

    fn set(change: impl FnOnce(&mut Value)) -> Document {
        let mut main = json!({ "type": "permission-set", "title": "Chat", "detail": "All of it.", "permissions": [
            { "type": "permission", "resource": "rpc", "inheritAud": true,
              "lxm": ["blue.catbird.event.subscribe", "blue.catbird.mls.sendMessage"] },
            { "type": "permission", "resource": "repo", "action": ["create"],
              "collection": ["blue.catbird.mls.declaration"] },
        ] });
        change(&mut main);
        document("blue.catbird.authFullChatClient", main)
    }

    fn refusal(set: Document, more: &[(&str, &str)]) -> Option<String> {
        let mut documents = vec![
            document("blue.catbird.mls.sendMessage", json!({ "type": "procedure" })),
            document("blue.catbird.event.subscribe", json!({ "type": "subscription" })),
            document("blue.catbird.admin.listAccounts", json!({ "type": "query" })),
            document("blue.catbird.mls.declaration", json!({ "type": "record" })),
            set,
        ];
        documents.extend(more.iter().map(|(nsid, kind)| document(nsid, json!({ "type": kind }))));
        check(&documents).err().map(|error| format!("{error:#}"))
    }

    #[test]
    fn a_set_that_holds_what_belongs_there_passes() {
        assert_eq!(refusal(set(|_| {}), &[]), None);
    }

    #[test]
    fn a_method_or_record_that_was_forgotten_or_listed_by_accident_is_named() {
        let forgotten = refusal(set(|_| {}), &[("blue.catbird.mls.leaveConvo", "procedure")]).unwrap();
        assert!(forgotten.starts_with("blue.catbird.mls.leaveConvo belongs in"), "{forgotten}");
        let homeless = refusal(set(|_| {}), &[("blue.catbird.sync.pullRecords", "query")]).unwrap();
        assert!(homeless.starts_with("sync has no place in a permission set"), "{homeless}");
        let record = refusal(set(|_| {}), &[("blue.catbird.mls.profile", "record")]).unwrap();
        assert!(record.starts_with("blue.catbird.mls.profile has no place"), "{record}");
        let admin = |set: &mut Value| {
            set["permissions"][0]["lxm"].as_array_mut().unwrap().insert(0, "blue.catbird.admin.listAccounts".into());
        };
        let admin = refusal(set(admin), &[]).unwrap();
        assert!(admin.starts_with("blue.catbird.admin.listAccounts belongs in the permission sets {}"), "{admin}");
        let more =
            |set: &mut Value| set["permissions"][0]["lxm"].as_array_mut().unwrap().push("blue.catbird.mls.x".into());
        assert!(refusal(set(more), &[]).unwrap().contains("there is no blue.catbird.mls.x"));
    }

    #[test]
    fn what_a_pds_would_pass_over_is_refused() {
        for (pointer, value, why) in [
            ("/permissions/0/lxm/0", json!("app.bsky.feed.getTimeline"), "outside of blue.catbird.*"),
            ("/permissions/0/lxm/1", json!("blue.catbird.event.subscribe"), "stands twice"),
            ("/permissions/0/lxm", json!([]), "lxm is empty"),
            ("/permissions/0/lxm/0", json!("*"), "outside of"),
            ("/permissions/0/inheritAud", json!(false), "inheritAud"),
            ("/permissions/0/resource", json!("blob"), "cannot stand in a set"),
            ("/permissions/0/type", json!("permit"), "expected the type permission"),
            ("/permissions/1/action/0", json!("read"), "an action is"),
            ("/permissions/1/collection/0", json!("blue.catbird.mls.sendMessage"), "belongs in the permission sets"),
            ("/title", json!(""), "title is not 1 to 64 characters"),
            ("/detail", json!("x".repeat(257)), "detail is not 1 to 256 characters"),
        ] {
            let said = refusal(set(|set| *set.pointer_mut(pointer).unwrap() = value), &[]).expect(pointer);
            assert!(said.contains(why), "{pointer}: {said}");
        }
        let said = refusal(set(|set| set["permissions"][0]["aud"] = json!("*")), &[]).unwrap();
        assert!(said.contains("aud is not known here"), "{said}");
        let said = refusal(document("blue.catbird.authFullChatClient", json!({ "type": "token" })), &[]).unwrap();
        assert!(said.contains("neither a method, nor a record, nor a permission set"), "{said}");
    }
}
