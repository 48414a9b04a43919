//! Whether one lexicon may take another's place under the same name (AT Protocol, "Lexicon evolution"; lexicons/README.md).
//!
//! Invariant: what this does not understand counts as breaking. Old data must be valid in the new lexicon, and new data
//! in the old one, because both are in use at once. So a limit may neither become tighter nor wider, save in what
//! callers alone write (parameters and inputs that stand in the method itself): there it may become wider.

use serde_json::{Map, Value};

/// Who writes values of a schema.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Callers alone: a reader of another age is never met.
    Callers,
    Anyone,
}

static NOTHING: Value = Value::Null;

/// What of the way from `old` to `new` is not additive, each with its place.
pub(super) fn breaking(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Found(Vec::new());
    for key in ["$type", "lexicon", "id"] {
        found.same(old, new, key, "");
    }
    for (name, old) in members(&old["defs"]) {
        let path = format!("#{name}");
        match new["defs"].get(name) {
            None => found.say(&path, "is gone"),
            Some(new) => found.definition(old, new, &path),
        }
    }
    found.0
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The strings of a list; nothing else can stand where this is asked.
fn strings<'v>(value: &'v Value, key: &str) -> Vec<&'v str> {
    value[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// How a limit moved.
enum Move {
    None,
    Tighter,
    Wider,
}

struct Found(Vec<String>);

impl Found {
    fn say(&mut self, path: &str, what: impl AsRef<str>) {
        self.0.push(format!("{path} {}", what.as_ref()).trim_start().to_owned());
    }

    fn same(&mut self, old: &Value, new: &Value, key: &str, path: &str) {
        let (old, new) = (old.get(key).unwrap_or(&NOTHING), new.get(key).unwrap_or(&NOTHING));
        if old != new {
            self.say(path, format!("has {key} {new} instead of {old}"));
        }
    }

    /// Every key that stands in one of the two, with both values, without those that are for people alone.
    fn keys<'v>(old: &'v Value, new: &'v Value) -> Vec<&'v str> {
        const PROSE: [&str; 5] = ["description", "examples", "title", "detail", "type"];
        let all = members(old).chain(members(new).filter(|(key, _)| old.get(key.as_str()).is_none()));
        all.map(|(key, _)| key.as_str()).filter(|key| !PROSE.contains(key)).collect()
    }

    fn definition(&mut self, old: &Value, new: &Value, path: &str) {
        if old["type"] != new["type"] {
            return self.same(old, new, "type", path);
        }
        match old["type"].as_str() {
            Some("query" | "procedure" | "subscription") => {
                for key in Self::keys(old, new) {
                    let (path, old, new) = (format!("{path}/{key}"), &old[key], &new[key]);
                    match key {
                        "parameters" => self.object(old, new, &path, Side::Callers),
                        "input" => self.body(old, new, &path, Side::Callers),
                        "output" | "message" => self.body(old, new, &path, Side::Anyone),
                        "errors" => self.errors(old, new, &path),
                        _ if old == new => {}
                        _ => self.unknown(&path),
                    }
                }
            }
            Some("record") => {
                for key in Self::keys(old, new) {
                    match key {
                        "key" => self.same(old, new, key, path),
                        "record" => self.schema(&old[key], &new[key], &format!("{path}/record"), Side::Anyone),
                        _ if old.get(key) != new.get(key) => self.unknown(&format!("{path}/{key}")),
                        _ => {}
                    }
                }
            }
            Some("permission-set") => self.permissions(&old["permissions"], &new["permissions"], path),
            _ => self.schema(old, new, path, Side::Anyone),
        }
    }

    fn unknown(&mut self, path: &str) {
        self.say(path, "changed, and whether that is additive is not known");
    }

    fn body(&mut self, old: &Value, new: &Value, path: &str, side: Side) {
        if old.is_null() || new.is_null() {
            // An answer that was empty may begin to say something.
            if !(old.is_null() && side == Side::Anyone) {
                self.say(path, if new.is_null() { "is gone" } else { "is new" });
            }
            return;
        }
        for key in Self::keys(old, new) {
            match key {
                "schema" => self.schema(&old[key], &new[key], &format!("{path}/schema"), side),
                _ => self.same(old, new, key, path),
            }
        }
    }

    fn errors(&mut self, old: &Value, new: &Value, path: &str) {
        let has = |name: &Value| new.as_array().into_iter().flatten().any(|error| error["name"] == *name);
        for name in old.as_array().into_iter().flatten().map(|error| &error["name"]).filter(|name| !has(name)) {
            self.say(path, format!("no longer declares {name}"));
        }
    }

    /// What a set granted before, it grants.
    fn permissions(&mut self, old: &Value, new: &Value, path: &str) {
        let grants = |set: &Value| -> Vec<(String, String)> {
            let list = set.as_array().into_iter().flatten();
            list.flat_map(|permission| {
                let mut rest: Map<String, Value> = permission.as_object().cloned().unwrap_or_default();
                let names = ["lxm", "collection"].iter().flat_map(|key| {
                    let names = strings(permission, key).into_iter().map(str::to_owned).collect::<Vec<_>>();
                    rest.remove(*key);
                    names
                });
                let names: Vec<String> = names.collect();
                let how = Value::from(rest).to_string();
                names.into_iter().map(move |name| (name, how.clone()))
            })
            .collect()
        };
        let granted = grants(new);
        for (name, _) in grants(old).into_iter().filter(|grant| !granted.contains(grant)) {
            self.say(path, format!("no longer grants {name} in the same way"));
        }
    }

    fn schema(&mut self, old: &Value, new: &Value, path: &str, side: Side) {
        if old.get("type") != new.get("type") {
            return self.same(old, new, "type", path);
        }
        if matches!(old["type"].as_str(), Some("object" | "params")) {
            return self.object(old, new, path, side);
        }
        for key in Self::keys(old, new) {
            let moved = match key {
                "items" => {
                    self.schema(&old[key], &new[key], &format!("{path}/items"), side);
                    continue;
                }
                "ref" => {
                    self.same(old, new, key, path);
                    continue;
                }
                "knownValues" => {
                    for value in strings(old, key).into_iter().filter(|value| !strings(new, key).contains(value)) {
                        self.say(path, format!("no longer knows the value {value}"));
                    }
                    continue;
                }
                // To fill in what was left out before is to add; another filling changes what callers meant.
                "default" if old.get(key).is_none() => continue,
                "minLength" | "minGraphemes" | "minimum" => bound(old, new, key, i64::MIN),
                "maxLength" | "maxGraphemes" | "maximum" | "maxSize" => bound(new, old, key, i64::MAX),
                "refs" => choice(old, new, key, new["closed"] != true),
                "enum" | "accept" => choice(old, new, key, false),
                "closed" => match (&old[key], &new[key]) {
                    (_, Value::Bool(true)) if old[key] != true => Move::Tighter,
                    (Value::Bool(true), _) if new[key] != true => Move::Wider,
                    _ => Move::None,
                },
                "const" | "format" => match (old.get(key), new.get(key)) {
                    (Some(old), Some(new)) if old == new => Move::None,
                    (Some(_), None) => Move::Wider,
                    _ => Move::Tighter,
                },
                _ if old.get(key) == new.get(key) => Move::None,
                _ => {
                    self.unknown(&format!("{path}/{key}"));
                    continue;
                }
            };
            let [before, after] = [old, new].map(|schema| schema.get(key).unwrap_or(&NOTHING));
            match moved {
                Move::Tighter => self.say(path, format!("is narrower: {key} {after} instead of {before}")),
                Move::Wider if side == Side::Anyone => {
                    self.say(path, format!("is wider than old readers take: {key} {after} instead of {before}"));
                }
                Move::Wider | Move::None => {}
            }
        }
    }

    /// Also parameters, which may be absent altogether.
    fn object(&mut self, old: &Value, new: &Value, path: &str, side: Side) {
        for (name, old) in members(&old["properties"]) {
            let path = format!("{path}/{name}");
            match new["properties"].get(name) {
                None => self.say(&path, "is gone"),
                Some(new) => self.schema(old, new, &path, side),
            }
        }
        let [required, due] = [old, new].map(|object| strings(object, "required"));
        for name in due.iter().filter(|name| !required.contains(name)) {
            self.say(&format!("{path}/{name}"), "is newly required");
        }
        if side == Side::Anyone {
            for name in required.iter().filter(|name| !due.contains(name)) {
                self.say(&format!("{path}/{name}"), "is no longer required, and old readers count on it");
            }
        }
        let [nullable, may_be] = [old, new].map(|object| strings(object, "nullable"));
        for name in nullable.iter().filter(|name| !may_be.contains(name)) {
            self.say(&format!("{path}/{name}"), "may no longer be null");
        }
        for name in may_be.iter().filter(|name| side == Side::Anyone && !nullable.contains(name)) {
            self.say(&format!("{path}/{name}"), "may be null, and old readers do not take that");
        }
        for key in Self::keys(old, new) {
            let known = ["properties", "required", "nullable"].contains(&key);
            if !known && old.get(key) != new.get(key) {
                self.unknown(&format!("{path}/{key}"));
            }
        }
    }
}

/// A lower bound that rises is tighter; an upper bound is one with the two turned round. `none` is what no bound means.
fn bound(lower: &Value, higher: &Value, key: &str, none: i64) -> Move {
    let [from, to] = [lower, higher].map(|schema| schema[key].as_i64().unwrap_or(none));
    match from.cmp(&to) {
        std::cmp::Ordering::Equal => Move::None,
        std::cmp::Ordering::Less => Move::Tighter,
        std::cmp::Ordering::Greater => Move::Wider,
    }
}

/// A list of what is allowed; no list allows everything. Who reads an open one passes over what it does not know.
fn choice(old: &Value, new: &Value, key: &str, open: bool) -> Move {
    let [(before, had), (after, has)] = [old, new].map(|schema| {
        let list = schema[key].as_array().map(Vec::as_slice).unwrap_or_default();
        (list, schema.get(key).is_some())
    });
    match (had, has) {
        (true, false) => return Move::Wider,
        (false, true) => return Move::Tighter,
        _ => {}
    }
    if before.iter().any(|value| !after.contains(value)) {
        Move::Tighter
    } else if !open && after.iter().any(|value| !before.contains(value)) {
        Move::Wider
    } else {
        Move::None
    }
}

#[cfg(test)]
mod tests;
