//! The house rules that a program can check. Every rule is a function over the tree's files that answers with what
//! breaks it; beside each stands a test that shows it failing on a deliberate break.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree fails")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// One text file, by its path from the root of the repository.
struct File {
    path: String,
    text: String,
}

impl File {
    fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// The text without whole-line comments, which may name whatever they explain.
    fn code(&self) -> String {
        self.text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    }

    fn is_rust_of(&self, folder: &str) -> bool {
        self.path.starts_with(folder) && is(&self.path, "rs")
    }

    /// Its path below the crate's sources, for Rust of the server or of the protocol.
    fn in_a_crate(&self) -> Option<&str> {
        let folder = CRATES.iter().find(|folder| self.is_rust_of(folder))?;
        self.path.strip_prefix(folder)
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

fn is(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// Every text file of the tree, without what is built or downloaded.
fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "data", "node_modules"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let path = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                files.push(File { path, text });
            }
        }
    }
    files
}

fn holds(rule: impl Fn(&[File]) -> Vec<String>) {
    let broken = rule(&tree());
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn breaks(rule: impl Fn(&[File]) -> Vec<String>, path: &str, text: &str) {
    let broken = rule(&[File { path: path.to_owned(), text: text.to_owned() }]);
    assert!(!broken.is_empty(), "{path} with {text:?} passed");
}

fn passes(rule: impl Fn(&[File]) -> Vec<String>, path: &str, text: &str) {
    let broken = rule(&[File { path: path.to_owned(), text: text.to_owned() }]);
    assert!(broken.is_empty(), "{broken:?}");
}

/// Whether `word::`, or `use word`, stands in the code as a path of its own.
fn mentions(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '.');
        let rest = &code[at + word.len()..];
        starts && (rest.starts_with("::") || code[..at].ends_with("use ") && rest.starts_with([';', ' ']))
    })
}

// ---- imports point down ----

/// The folders of the crates that have layers. In each, `crate::` means its own modules; those of `protocol/` lie below
/// all others.
const CRATES: &[&str] = &["src/", "protocol/src/"];

/// docs/ARCHITECTURE.md, "Imports point down". A module may import those of smaller numbers, and its own.
const LAYERS: &[(&str, u8)] = &[
    ("vectors", 0),
    ("types", 0),
    ("lexicon", 1),
    ("config", 2),
    ("limit", 3),
    ("telemetry", 3),
    ("storage", 4),
    ("worker", 5),
    ("identity", 6),
    ("mls", 6),
    ("quota", 6),
    ("log", 7),
    ("record", 8),
    ("federation", 8),
    ("xrpc", 9),
    ("api", 10),
    ("server", 11),
    ("cli", 12),
];

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// What follows each `crate::` of the code, as its first two segments. Of `crate::{a::b, c}` it is `a`, `b` and `c`.
fn imports(code: &str) -> Vec<(String, String)> {
    let segment = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let parts: Vec<&str> = match rest.strip_prefix('{') {
            Some(group) => group.split(['}', ';']).next().unwrap_or_default().split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        for part in parts {
            let first = segment(part);
            let second = part[first.len()..].strip_prefix("::").map(segment).unwrap_or_default();
            found.push((first, second));
        }
    }
    found
}

fn imports_point_down(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    let sources = files.iter().filter_map(|file| Some((file, file.in_a_crate()?)));
    for (file, path) in sources {
        let mut segments = path.trim_end_matches(".rs").split('/');
        let module = segments.next().unwrap_or_default();
        let group = segments.next().unwrap_or_default();
        if module == "main" || module == "lib" {
            continue;
        }
        let Some(own) = layer(module) else {
            broken.push(format!("{}: `{module}` has no place in the layers", file.path));
            continue;
        };
        for (target, inside) in imports(&file.code()) {
            if let Some(other) = layer(&target)
                && target != module
                && other >= own
            {
                broken.push(format!("{}: `{module}` imports `{target}`, which is not below it", file.path));
            }
            let sibling = layer("api") == Some(own) && target == "api" && inside != group && group != "mod";
            if sibling {
                broken.push(format!("{}: group `{group}` imports group `{inside}`", file.path));
            }
        }
    }
    broken
}

#[test]
fn a_module_imports_only_what_is_below_it() {
    holds(imports_point_down);
    breaks(imports_point_down, "src/log/writer.rs", "use crate::xrpc::Caller;");
    breaks(imports_point_down, "src/identity/keys.rs", "use crate::mls::Group;");
    breaks(imports_point_down, "src/log/mod.rs", "use crate::{types::Did, api};");
    breaks(imports_point_down, "src/api/mls/store.rs", "use crate::api::account::store;");
    breaks(imports_point_down, "src/helpers/mod.rs", "");
    breaks(imports_point_down, "protocol/src/types/did.rs", "use crate::lexicon::Method;");
    passes(imports_point_down, "src/log/mod.rs", "// not crate::xrpc\nuse crate::storage::Tx;\nuse crate::log::hub;");
    passes(imports_point_down, "src/api/mls/messages/store.rs", "use crate::api::mls::model;");
}

// ---- one owner per heavy dependency ----

const OWNERS: &[(&str, &str)] = &[
    ("openmls", "src/mls/"),
    ("openmls_basic_credential", "src/mls/"),
    ("openmls_rust_crypto", "src/mls/"),
    ("openmls_traits", "src/mls/"),
    ("p256", "protocol/src/identity/"),
    ("k256", "protocol/src/identity/"),
    ("ed25519_dalek", "protocol/src/identity/"),
    ("reqwest", "src/identity/http"),
    ("hickory_resolver", "src/identity/"),
    ("hyper", "src/server/listen/"),
    ("hyper_util", "src/server/listen/"),
    ("governor", "src/limit/"),
    ("metrics_exporter_prometheus", "src/telemetry/"),
    ("redis", "src/log/relay/"),
];

fn one_owner_per_dependency(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.in_a_crate().is_some()) {
        let code = file.code();
        for (dependency, owner) in OWNERS {
            // A module of tests may make with its own hands what the owner must refuse.
            let is_test = file.path.ends_with("/tests.rs");
            if !file.path.starts_with(owner) && !is_test && mentions(&code, dependency) {
                broken.push(format!("{}: {dependency} belongs to {owner}", file.path));
            }
        }
        let reads_environment = code.contains("std::env") || mentions(&code, "env");
        let may =
            ["src/config/", "src/cli/", "protocol/src/vectors.rs"].iter().any(|owner| file.path.starts_with(owner));
        if reads_environment && !may && file.path != "src/main.rs" && file.path != "src/cli.rs" {
            broken.push(format!("{}: the environment belongs to src/config/", file.path));
        }
    }
    broken
}

#[test]
fn a_heavy_dependency_has_one_owner() {
    holds(one_owner_per_dependency);
    breaks(one_owner_per_dependency, "src/log/chain.rs", "use p256::ecdsa::Signature;");
    breaks(one_owner_per_dependency, "src/identity/resolver.rs", "reqwest::get(url)");
    breaks(one_owner_per_dependency, "src/server/mod.rs", "let port = std::env::var(\"PORT\");");
    breaks(one_owner_per_dependency, "src/server/mod.rs", "use std::env;");
    passes(one_owner_per_dependency, "src/config/mod.rs", "std::env::vars_os()");
    passes(one_owner_per_dependency, "src/log/mod.rs", "// env::var, p256::x\nuse crate::mls::p256_name;");
}

// ---- routes are mounted where the law of routes can see them ----

/// Who mounts routes, each with what they are.
const MOUNT: &[(&str, &str)] = &[
    ("src/xrpc/api.rs", "the list of methods"),
    ("src/server/routes.rs", "everything that is served"),
    ("src/server/metrics_page.rs", "/metrics, on a port of its own"),
];

fn routes_are_mounted_in_the_open(files: &[File]) -> Vec<String> {
    let words = ["Router::new(", ".route(", ".route_service(", ".nest(", ".nest_service(", ".fallback_service("];
    let could = |file: &File| ["src/xrpc/", "src/api/", "src/server/"].iter().any(|folder| file.is_rust_of(folder));
    let others = files.iter().filter(|file| could(file) && !MOUNT.iter().any(|(path, _)| *path == file.path));
    others
        .filter(|file| words.iter().any(|word| file.code().contains(word)))
        .map(|file| format!("{}: mounts a route beside the lists that tests/it/laws/routes.rs walks", file.path))
        .collect()
}

#[test]
fn a_route_is_mounted_where_the_law_of_routes_sees_it() {
    holds(routes_are_mounted_in_the_open);
    breaks(routes_are_mounted_in_the_open, "src/server/health.rs", "Router::new().route(\"/health\", get(x))");
    breaks(routes_are_mounted_in_the_open, "src/api/mls/mod.rs", "router.nest(\"/x\", y)");
}

// ---- no lock is stronger than needed ----

/// A row lock that also keeps other transactions from referring to the row is for rows that are deleted.
fn row_locks_leave_references_alone(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.is_rust_of("src/")) {
        for statement in file.code().split("sqlx::query").skip(1) {
            let statement = statement.split(";\n").next().unwrap_or_default();
            if statement.contains("for update") && !statement.contains("delete from") {
                broken.push(format!("{}: `for update` where `for no key update` is enough", file.path));
            }
        }
    }
    broken
}

#[test]
fn a_row_that_is_only_updated_is_locked_without_its_key() {
    holds(row_locks_leave_references_alone);
    let (path, kept) = ("src/log/store/streams.rs", "sqlx::query!(\"select 1 from stream for update\");\n");
    breaks(row_locks_leave_references_alone, path, kept);
    let deleted = "sqlx::query!(\"delete from pairing where id in (select 1 for update skip locked)\");\n";
    passes(row_locks_leave_references_alone, path, deleted);
    passes(row_locks_leave_references_alone, path, &kept.replace("for update", "for no key update"));
}

// ---- what strangers can make grow is counted ----

/// Tables that the migrations give a column `account_id`.
fn tables_of_accounts(files: &[File]) -> Vec<String> {
    let mut tables = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("migrations/") && is(&file.path, "sql")) {
        for statement in file.text.split(';') {
            let words: Vec<&str> = statement.split_whitespace().collect();
            let creates = words.windows(3).find(|words| words[0] == "create" && words[1] == "table");
            let alters = words.windows(3).find(|words| words[0] == "alter" && words[1] == "table");
            let has = words
                .windows(2)
                .any(|words| words[0].trim_start_matches('(') == "account_id" && words[1].starts_with("bigint"));
            let dropped = words.windows(3).find(|words| words[0] == "drop" && words[1] == "table");
            if let Some(words) = dropped {
                tables.retain(|table| table != words[2]);
            }
            if let (Some(words), true) = (creates.or(alters), has) {
                tables.push(words[2].to_owned());
            }
        }
    }
    tables
}

fn tables_of_accounts_are_registered(files: &[File]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str());
    let (register, sums) = (text("src/quota/tables.rs"), text("src/quota/store.rs"));
    let mut broken = Vec::new();
    for table in tables_of_accounts(files) {
        if !register.contains(&format!("(\"{table}\", Counted::")) {
            broken.push(format!("{table}: a table of accounts that src/quota/tables.rs does not register"));
        }
    }
    for line in register.lines().filter(|line| line.contains("Counted::ByAccount)")) {
        let table = line.split('"').nth(1).unwrap_or_default();
        if !sums.contains(&format!("from {table} where account_id = n.id")) {
            broken.push(format!("{table}: registered in src/quota/tables.rs, and not summed in src/quota/store.rs"));
        }
    }
    broken
}

#[test]
fn every_table_of_accounts_is_in_the_register_of_quotas() {
    holds(tables_of_accounts_are_registered);
    breaks(
        tables_of_accounts_are_registered,
        "migrations/1.sql",
        "create table hoard (\n    account_id bigint not null\n);",
    );
    breaks(tables_of_accounts_are_registered, "migrations/1.sql", "alter table x add column account_id bigint;");
    breaks(tables_of_accounts_are_registered, "src/quota/tables.rs", "    (\"hoard\", Counted::ByAccount),");
    assert!(tables_of_accounts(&tree()).len() > 15, "the migrations are read");
}

// ---- SQL has its rooms ----

const SQL: &[&str] = &[
    "query!(",
    "query_as!(",
    "query_scalar!(",
    "query_file!(",
    "sqlx::query(",
    "sqlx::query_as(",
    "sqlx::query_as::<",
    "sqlx::query_scalar(",
    "sqlx::query_scalar::<",
    "QueryBuilder",
    "raw_sql(",
];

fn sql_has_its_rooms(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.is_rust_of("src/") && !file.path.starts_with("src/storage/")) {
        let code = file.code();
        // A test may look into the database wherever it stands.
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        if !in_a_store(&file.path)
            && let Some(word) = SQL.iter().find(|word| code.contains(**word))
        {
            broken.push(format!("{}: `{word}` outside of a store", file.path));
        }
        if code.contains("AssertSqlSafe") {
            broken.push(format!("{}: SQL made of strings", file.path));
        }
    }
    broken
}

/// Statements of `storage`'s connections have deadlines, those of `sqlx`'s own have none.
fn connections_have_deadlines(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.is_rust_of("src/") && !file.path.starts_with("src/storage/")) {
        let code = file.code();
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        let named = code.lines().find(|line| {
            let names = ["PgPool", "PgConnection", "PgListener", "Transaction"];
            let imported = line.starts_with("use sqlx::") && names.iter().any(|name| line.contains(name));
            imported || names.iter().any(|name| line.contains(&format!("sqlx::{name}")))
        });
        if let Some(line) = named {
            broken.push(format!("{}: `{}`: take it from crate::storage", file.path, line.trim()));
        }
    }
    broken
}

#[test]
fn connections_come_from_storage() {
    holds(connections_have_deadlines);
    let store = "src/api/mls/store.rs";
    breaks(connections_have_deadlines, store, "use sqlx::{PgConnection, PgPool};");
    breaks(connections_have_deadlines, store, "async fn list(pool: &sqlx::PgPool) {}");
    passes(connections_have_deadlines, store, "use sqlx::PgExecutor;\nuse crate::storage::PgPool;");
}

/// `store.rs`, the files of a folder `store/`, and test modules.
fn in_a_store(path: &str) -> bool {
    path.ends_with("/store.rs") || path.contains("/store/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

#[test]
fn sql_stands_in_stores() {
    holds(sql_has_its_rooms);
    breaks(sql_has_its_rooms, "src/api/mls/send_message.rs", "sqlx::query!(\"select 1\")");
    breaks(sql_has_its_rooms, "src/log/writer.rs", "sqlx::query(\"select 1\")");
    breaks(sql_has_its_rooms, "src/log/store.rs", "query(AssertSqlSafe(text))");
    passes(sql_has_its_rooms, "src/log/store.rs", "query_as!(Row, \"select 1\")");
    passes(sql_has_its_rooms, "src/log/writer.rs", "fn f() {}\n#[cfg(test)]\nmod tests { query!(\"select 1\") }");
}

// ---- contents are read within a bound of bytes ----

/// Columns that hold as much as a caller sent.
const CONTENTS: &[&str] = &["content", "body", "bytes"];
/// Functions that read many of them without a sum of lengths, each with what bounds them.
const BOUNDED: &[(&str, &str, &str)] = &[
    ("src/api/admin/actions/store.rs", "list", "records of operators, of a few KiB each, 501 at most"),
    ("src/api/mls/key_packages/store.rs", "find_claimed", "the rows of one claim, which hold 4 MiB at most"),
    ("src/log/store/events.rs", "read_entries", "the keys were cut by their lengths: log::page::PageBudget"),
    ("src/log/store/replica.rs", "changes_of_reign", "a lineage has 64 links of small bodies"),
    ("src/log/store/replica.rs", "erasures", "a body names 1,000 numbers at most"),
    ("src/log/writer/store.rs", "write_batch", "writes contents, and reads none"),
    ("src/federation/replica/store/evidence.rs", "due_reports", "a proof is at most 1 MiB, and few are due at once"),
    (
        "src/federation/replica/store/snapshot.rs",
        "group_infos",
        "one stream keeps a GroupInfo for each of its last epochs",
    ),
    ("src/federation/joining/delivery/store.rs", "announced", "compares bodies, and reads the names of 200 homes"),
    ("src/federation/joining/delivery/store.rs", "due", "deliveries are leased a few at a time, and hold no Welcome"),
    ("src/api/account/store.rs", "list_devices", "600 devices at most, with links of 4 KiB"),
    ("src/api/account/chain/store.rs", "links", "a chain has 1,000 links of 4 KiB"),
    ("src/api/account/moving/store.rs", "list_welcomes", "the page of an export"),
    (
        "src/api/mls/key_packages/store.rs",
        "claim",
        "a claim names 20 accounts of 50 devices, and a key package has 16 KiB",
    ),
];

/// Each statement with `fetch_all`: the function that it stands in, and its text.
fn statements_of_many(code: &str) -> Vec<(&str, &str)> {
    let begins = code.match_indices("sqlx::query").map(|(at, _)| at);
    let statements = begins.filter_map(|at| {
        let rest = &code[at..];
        let end = [".fetch_all(", ".fetch_one(", ".fetch_optional(", ".execute(", ".fetch("]
            .into_iter()
            .filter_map(|word| Some((rest.find(word)?, word)))
            .min()?;
        let function = code[..at].rsplit("fn ").next()?.split(['(', '<']).next()?;
        (end.1 == ".fetch_all(").then(|| (function, &rest[..end.0]))
    });
    statements.collect()
}

/// Whether the word stands in the text by itself, and is more than asked about.
fn reads(statement: &str, column: &str) -> bool {
    let asked = ["is not null", "is null"];
    statement.match_indices(column).any(|(at, _)| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let (before, after) = (&statement[..at], &statement[at + column.len()..]);
        let alone = !before.ends_with(is_part) && !after.starts_with(is_part);
        let measured = before
            .rsplit('(')
            .next()
            .is_some_and(|inside| !inside.contains(')') && before[..before.len() - inside.len()].ends_with("length("));
        alone && !measured && !asked.iter().any(|question| after.trim_start().starts_with(question))
    })
}

fn contents_are_read_within_bytes(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.is_rust_of("src/")) {
        let code = file.code();
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        for (function, statement) in statements_of_many(code) {
            let bounded = ["length(", "content_bytes"].iter().any(|size| statement.contains(size))
                || BOUNDED.iter().any(|(path, name, _)| *path == file.path && *name == function);
            if let (false, Some(column)) = (bounded, CONTENTS.iter().find(|column| reads(statement, column))) {
                broken.push(format!("{}: `{function}` reads every `{column}` without a bound of bytes", file.path));
            }
        }
    }
    broken
}

#[test]
fn many_contents_are_read_within_a_bound_of_bytes() {
    let rule = contents_are_read_within_bytes;
    holds(rule);
    let statement = |sql: &str, how: &str| format!("fn page() {{ sqlx::query!(\"{sql}\", id).{how}(pool) }}");
    let path = "src/log/store/page.rs";
    breaks(rule, path, &statement("select seq, content from entry where stream_id = $1", "fetch_all"));
    breaks(rule, path, &statement("select o.body from outbox o where content is null limit $2", "fetch_all"));
    passes(rule, path, &statement("select content from entry where seq = $1", "fetch_one"));
    passes(rule, path, &statement("select seq from entry where content is not null", "fetch_all"));
    passes(rule, path, &statement("select content, sum(octet_length(content)) from entry", "fetch_all"));
    passes(rule, path, &statement("select content, sum(content_bytes) from entry", "fetch_all"));
    passes(rule, "src/log/store/events.rs", &statement("select content", "fetch_all").replace("page", "read_entries"));
}

// ---- one lexicon, one method file, one test over HTTP ----

/// Files of `src/api` that are neither `mod`, `model` nor `store` nor a method, each with its reason.
const NOT_METHODS: &[(&str, &str)] = &[
    ("src/api/account/proof.rs", "what a registration proves, apart from what becomes of it"),
    ("src/api/admin/accounts.rs", "what the admin methods share with the command line"),
    ("src/api/admin/peers.rs", "what the admin methods share with the command line"),
    ("src/api/event/feed.rs", "what streamEvents and subscribe send on"),
    ("src/api/mls/access.rs", "finds a conversation for a caller: every feature of chat begins with it"),
    ("src/api/mls/commits/elsewhere.rs", "what all methods that commit do for members on other servers"),
    ("src/api/mls/commits/newcomers.rs", "what all methods that commit do for those of this server whom they bring in"),
    ("src/api/mls/commits/intake.rs", "the one intake of all methods that commit"),
    ("src/api/mls/commits/record.rs", "the one transaction of all methods that commit"),
    ("src/api/mls/commits/snapshot.rs", "what all methods that commit are judged against"),
    ("src/api/mls/conversations/leave_here.rs", "leaveConvo where the home cannot be asked"),
    ("src/api/mls/conversations/view.rs", "the view that getConvo and getConvos share"),
    ("src/api/mls/key_packages/answer.rs", "the answer of a claim, and its stored form"),
    ("src/api/mls/key_packages/outcome.rs", "the results of a claim, and the targets that fit into its answer"),
    ("src/api/mls/key_packages/purpose.rs", "what a claim is for, apart from how it is answered"),
    ("src/api/mls/key_packages/publish.rs", "what publishKeyPackage and publishKeyPackages share"),
];

/// `(group, method)` of every method that the lexicons declare.
fn methods(files: &[File]) -> Vec<(String, String)> {
    let mut methods = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("lexicons/blue/") && is(&file.path, "json")) {
        let lexicon: Value = serde_json::from_str(&file.text).unwrap_or_default();
        let kind = lexicon["defs"]["main"]["type"].as_str().unwrap_or_default().to_owned();
        let id = lexicon["id"].as_str().unwrap_or_default().to_owned();
        let mut ends = id.rsplit('.').map(str::to_owned);
        if let (true, Some(method), Some(group)) =
            (["query", "procedure", "subscription"].contains(&kind.as_str()), ends.next(), ends.next())
        {
            methods.push((group, method));
        }
    }
    methods
}

fn snake(method: &str) -> String {
    method.chars().fold(String::new(), |mut snake, c| {
        if c.is_uppercase() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
        snake
    })
}

fn methods_have_their_files(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    // Before the first method there is nothing to compare.
    if !files.iter().any(|file| file.is_rust_of("src/api/")) {
        return broken;
    }
    let methods = methods(files);
    for (group, method) in &methods {
        let (folder, name) = (format!("src/api/{group}/"), format!("{}.rs", snake(method)));
        let found = files.iter().filter(|file| file.path.starts_with(&folder) && file.name() == name).count();
        if found != 1 {
            broken.push(format!("{group}.{method}: {found} files {folder}**/{name} instead of one"));
        }
        let (folder, mention) = (format!("tests/it/{group}"), format!("{group}.{method}"));
        let tests =
            |file: &File| file.path.starts_with(&folder) && (file.name() == name || file.text.contains(&mention));
        if !files.iter().any(tests) {
            broken.push(format!("{group}.{method}: no test {folder}/{name}, and none there that says `{mention}`"));
        }
    }
    for file in files.iter().filter(|file| is_method(file)) {
        let group = file.path.split('/').nth(2).unwrap_or_default();
        let stem = file.name().trim_end_matches(".rs");
        if !methods.iter().any(|(of, method)| of == group && snake(method) == stem) {
            broken.push(format!("{}: no lexicon declares it", file.path));
        }
    }
    broken
}

fn is_method(file: &File) -> bool {
    file.is_rust_of("src/api/")
        && file.path.split('/').count() > 3
        && !["mod.rs", "model.rs", "store.rs", "tests.rs"].contains(&file.name())
        && !NOT_METHODS.iter().any(|(path, _)| *path == file.path)
}

#[test]
fn one_lexicon_has_one_method_file_and_a_test_over_http() {
    holds(methods_have_their_files);
    let lexicon = r#"{"id": "blue.catbird.mls.sendMessage", "defs": {"main": {"type": "procedure"}}}"#;
    let tree = |method: &str, test: &str| {
        [("lexicons/blue/catbird/mls/sendMessage.json", lexicon), (method, ""), (test, "")]
            .map(|(path, text)| File { path: path.to_owned(), text: text.to_owned() })
    };
    let (method, test) = ("src/api/mls/messages/send_message.rs", "tests/it/mls/send_message.rs");
    assert_eq!(methods_have_their_files(&tree(method, test)), Vec::<String>::new());
    assert_eq!(methods_have_their_files(&tree("src/api/mls/send.rs", test)).len(), 2);
    assert_eq!(methods_have_their_files(&tree(method, "tests/it/mls/other.rs")).len(), 1);
    breaks(methods_have_their_files, "src/api/mls/send_message.rs", "");
}

// ---- sizes ----

/// Files that are longer than the limit for a reason.
const LONG: &[(&str, &str)] = &[];
const LINES_MAX: usize = 400;
const METHOD_LINES_MAX: usize = 150;

fn files_are_one_room_each(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.in_a_crate().is_some_and(|path| !path.starts_with("lexicon/"))) {
        let most = if is_method(file) { METHOD_LINES_MAX } else { LINES_MAX };
        let excused = LONG.iter().any(|(path, _)| *path == file.path);
        if file.lines() > most && !excused {
            broken.push(format!("{}: {} lines, at most {most}", file.path, file.lines()));
        }
    }
    broken
}

#[test]
fn a_file_is_one_room() {
    holds(files_are_one_room_each);
    breaks(files_are_one_room_each, "src/log/writer.rs", &"\n".repeat(401));
    breaks(files_are_one_room_each, "src/api/mls/send_message.rs", &"\n".repeat(151));
    passes(files_are_one_room_each, "src/api/mls/store.rs", &"\n".repeat(400));
    passes(files_are_one_room_each, "protocol/src/lexicon/mls.rs", &"\n".repeat(9000));
}

// ---- caches are bounded in bytes ----

/// The comment above a cache whose keys and values have one size, whoever makes them.
const FIXED_SIZE: &str = "// Fixed size:";

/// A number of entries bounds nothing where a stranger chooses how long they are.
fn caches_have_weighers(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.is_rust_of("src/")) {
        for (at, _) in ["max_capacity(", "Cache::new("].into_iter().flat_map(|word| file.text.match_indices(word)) {
            let statement = file.text[at..].split_once(';').map_or(&file.text[at..], |(statement, _)| statement);
            let line = file.text[..at].lines().count();
            let above: Vec<&str> = file.text.lines().take(line).collect();
            let excused = above.iter().rev().take(4).any(|line| line.trim_start().starts_with(FIXED_SIZE));
            if !statement.contains(".weigher(") && !excused {
                broken.push(format!("{}:{line}: a cache without a weigher", file.path));
            }
        }
    }
    broken
}

#[test]
fn a_cache_is_bounded_in_bytes() {
    holds(caches_have_weighers);
    breaks(caches_have_weighers, "src/a.rs", "let c = Cache::builder().max_capacity(10).build();\n.weigher(w)");
    breaks(caches_have_weighers, "src/a.rs", "let c: Cache<Did, ()> = Cache::new(10);");
    passes(caches_have_weighers, "src/a.rs", "let c = Cache::builder().max_capacity(10).weigher(w).build();");
    passes(caches_have_weighers, "src/a.rs", "// Fixed size: numbers.\nlet c: Cache<i64, i64> = Cache::new(10);");
}

// ---- words that must not stand in the tree ----

/// In two halves, so that this file does not break its own rules.
const UNFINISHED: &[(&str, &str)] =
    &[("to", "do!("), ("unimpl", "emented!("), ("#[ig", "nore"), ("FIX", "ME"), ("XX", "X"), ("db", "g!(")];
const MACHINE: &[(&str, &str)] = &[("/ro", "ot/"), ("/wo", "rk/"), ("/fa", "rm/"), ("/Us", "ers/"), ("/tmp/l", "ab")];

fn nothing_is_left_unfinished(files: &[File]) -> Vec<String> {
    let rust = files.iter().filter(|file| is(&file.path, "rs"));
    rust.flat_map(|file| found(file, UNFINISHED)).collect()
}

fn no_path_of_a_machine(files: &[File]) -> Vec<String> {
    files.iter().filter(|file| file.path != "Cargo.lock").flat_map(|file| found(file, MACHINE)).collect()
}

fn found(file: &File, words: &[(&str, &str)]) -> Vec<String> {
    let words = words.iter().map(|(one, two)| format!("{one}{two}"));
    words.filter(|word| file.text.contains(word)).map(|word| format!("{}: `{word}`", file.path)).collect()
}

/// The only files that may name a path outside of the repository: the public vectors lie beside it.
const OUTSIDE: &[&str] = &[".ci/run"];

/// A path into the folder beside the repository, a path of more steps up than the file's folder has steps down, or, in the
/// server's crate, a step up from its manifest.
fn no_path_leaves_the_repository(files: &[File]) -> Vec<String> {
    let beside = format!("../{}", "shared");
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| !OUTSIDE.contains(&file.path.as_str())) {
        let is_source =
            ["rs", "toml", "ts", "mjs", "json", "yaml", "yml", "py"].iter().any(|kind| is(&file.path, kind));
        let is_script = is(&file.path, "sh") || file.name() == "Makefile" || file.path.starts_with(".ci/");
        let in_server = ["src/", "tests/", "benches/"].iter().any(|folder| file.is_rust_of(folder));
        let mut ways = Vec::new();
        if is_source || is_script {
            ways.push(beside.clone());
        }
        if is_source {
            ways.push("../".repeat(file.path.matches('/').count() + 1));
        }
        if in_server {
            ways.push(format!("join(\"{}", "../"));
        }
        let found = ways.into_iter().find(|way| file.text.contains(way.as_str()));
        broken.extend(found.map(|way| format!("{}: `{way}` leaves the repository", file.path)));
    }
    broken
}

#[test]
fn no_path_leads_out_of_the_repository() {
    holds(no_path_leaves_the_repository);
    let beside = format!("/../{}/x", "shared");
    breaks(
        no_path_leaves_the_repository,
        "protocol/src/a.rs",
        &format!("concat!(env!(\"CARGO_MANIFEST_DIR\"), \"{beside}\")"),
    );
    breaks(no_path_leaves_the_repository, "tests/a.rs", &format!("include_str!(\"../{}a\")", "../"));
    breaks(no_path_leaves_the_repository, "src/log/a.rs", &format!("root.join(\"{}a\")", "../"));
    breaks(no_path_leaves_the_repository, "Makefile", &beside);
    breaks(no_path_leaves_the_repository, ".ci/other", &beside);
    passes(no_path_leaves_the_repository, ".ci/run", &beside);
    passes(no_path_leaves_the_repository, "clients/typescript/test/a.ts", "import '../src/index.ts'");
}

#[test]
fn nothing_is_unfinished_or_skipped_and_no_path_is_of_one_machine() {
    holds(nothing_is_left_unfinished);
    holds(no_path_of_a_machine);
    for (one, two) in UNFINISHED {
        breaks(nothing_is_left_unfinished, "src/log/mod.rs", &format!("{one}{two}"));
    }
    for (one, two) in MACHINE {
        breaks(no_path_of_a_machine, "docs/ARCHITECTURE.md", &format!("see {one}{two}x"));
    }
}

// ---- what deployments set ----

/// `NAME=value` lines, as kustomize reads them.
fn variables(text: &str) -> impl Iterator<Item = (String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// `NAME: value` lines of a compose file that name a setting, with something in the place of what `${…}` refers to.
fn variables_of_compose(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim().split_once(": "));
    let known = |name: &str| rookery::config::SETTINGS.iter().any(|setting| setting.name == name);
    pairs
        .filter(|(name, _)| known(name))
        .map(|(name, value)| {
            let mut value = value.trim_matches('"').to_owned();
            while let Some((before, (reference, after))) =
                value.split_once("${").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
            {
                let given = if reference.starts_with("SERVICE_DID") { "did:web:a.example" } else { "0123456789abcdef" };
                let given = if reference.contains("URL") { "" } else { given };
                value = format!("{before}{given}{after}");
            }
            (name.to_owned(), value)
        })
        .collect()
}

/// What the overlays (on top of the base) and the compose files set is what a server in production starts with. What a
/// Secret or the environment brings stands in for it.
fn settings_of_deployments_are_accepted(files: &[File]) -> Vec<String> {
    let base = files.iter().find(|file| file.path == "k8s/base/settings.env").map(|file| file.text.as_str());
    let judged = files.iter().filter_map(|file| {
        let env = if file.path.starts_with("k8s/overlays/") && file.name() == "settings.env" {
            let mut env: BTreeMap<_, _> = variables(base.unwrap_or_default()).chain(variables(&file.text)).collect();
            env.insert("DATABASE_URL".to_owned(), "postgres://rookery@database/rookery".to_owned());
            env.insert("LOG_HASH_KEY".to_owned(), "sixteen characters".to_owned());
            env
        } else if file.name().starts_with("docker-compose.") && !file.name().contains(".dev.") {
            variables_of_compose(&file.text)
        } else {
            return None;
        };
        match rookery::config::Config::load(&env, None) {
            Ok(config) if config.is_production() && config.database.url.is_some() => None,
            Ok(_) => Some(format!("{}: not a production with a database", file.path)),
            Err(error) => Some(format!("{}: {error}", file.path)),
        }
    });
    judged.collect()
}

#[test]
fn the_settings_of_overlays_and_compose_files_are_accepted() {
    let rule = settings_of_deployments_are_accepted;
    holds(rule);
    let overlay = "k8s/overlays/x/settings.env";
    passes(rule, overlay, "# A name.\nSERVICE_DID=did:web:a.example\n");
    breaks(rule, overlay, "SERVER_PORT=3000\n");
    breaks(rule, overlay, "SERVICE_DID=did:web:a.example\nSERVER_PORT=70000\n");
    breaks(rule, overlay, "SERVICE_DID=did:web:a.example\nROOKERY_ENV=development\n");
    breaks(rule, overlay, "SERVICE_DID=did:web:a.example\nROOKERY_PORT=3000\n");
    let compose = "  SERVICE_DID: ${SERVICE_DID:?set it}\n  DATABASE_URL: postgres://a:${P}@b/c\n";
    passes(rule, "docker-compose.yml", compose);
    breaks(rule, "docker-compose.yml", &format!("{compose}  SHUTDOWN_GRACE_MS: \"20s\"\n"));
    breaks(rule, "staging/docker-compose.staging.yml", "  SERVICE_DID: did:web:a.example\n");
}

// ---- documents ----

const ROOT_PROSE: &[&str] = &["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];

fn no_other_prose_at_the_root(files: &[File]) -> Vec<String> {
    let prose =
        |file: &&File| !file.path.contains('/') && ["md", "txt", "rst", "adoc"].iter().any(|e| is(&file.path, e));
    let others = files.iter().filter(prose).filter(|file| !ROOT_PROSE.contains(&file.path.as_str()));
    others.map(|file| format!("{}: prose at the root", file.path)).collect()
}

fn readme_lists_the_settings(files: &[File]) -> Vec<String> {
    let readme = files.iter().find(|file| file.path == "README.md").map(|file| file.text.as_str()).unwrap_or_default();
    if readme.contains(&rookery::config::markdown()) {
        return Vec::new();
    }
    vec![format!("README.md: its table of settings is not this one:\n{}", rookery::config::markdown())]
}

fn logging_lists_the_metrics(files: &[File]) -> Vec<String> {
    let text =
        |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.clone()).unwrap_or_default();
    let (source, document) = (text("src/telemetry/metric_name.rs"), text("docs/LOGGING.md"));
    let names = source.split('"').filter(|word| word.starts_with("rookery_"));
    names.filter(|name| !document.contains(*name)).map(|name| format!("docs/LOGGING.md: `{name}` is missing")).collect()
}

/// Errors that servers tell each other: those of the lexicons, and those that come before any method.
fn federation_lists_the_errors(files: &[File]) -> Vec<String> {
    let document = files.iter().find(|file| file.path == "docs/FEDERATION.md").map(|file| file.text.as_str());
    let of_methods =
        files.iter().filter(|file| file.path.starts_with("lexicons/blue/catbird/peer/")).flat_map(|file| {
            let lexicon: Value = serde_json::from_str(&file.text).unwrap_or_default();
            let errors = lexicon["defs"]["main"]["errors"].as_array().cloned().unwrap_or_default();
            errors.into_iter().filter_map(|error| Some(error["name"].as_str()?.to_owned())).collect::<Vec<_>>()
        });
    let refused = files.iter().filter(|file| file.path == "src/federation/refused.rs");
    let before = refused.flat_map(|file| file.text.lines().filter_map(|line| line.split("=> \"").nth(1)));
    let before = before.filter_map(|rest| rest.split('"').next()).map(str::to_owned);
    let missing = |name: &String| !document.is_some_and(|text| text.contains(&format!("`{name}`")));
    let names: std::collections::BTreeSet<String> = of_methods.chain(before).filter(missing).collect();
    names.into_iter().map(|name| format!("docs/FEDERATION.md: `{name}` is missing")).collect()
}

fn migrations_are_named_by_time(files: &[File]) -> Vec<String> {
    let good = |name: &str| {
        let (time, what) = name.trim_end_matches(".sql").split_once('_').unwrap_or_default();
        time.len() == 12 && time.bytes().all(|byte| byte.is_ascii_digit()) && !what.is_empty()
    };
    let migrations = files.iter().filter(|file| file.path.starts_with("migrations/") && is(&file.path, "sql"));
    migrations
        .filter(|file| !good(file.name()))
        .map(|file| format!("{}: not YYYYMMDDHHMM_description.sql", file.path))
        .collect()
}

#[test]
fn documents_stand_where_they_are_looked_for_and_say_what_is_so() {
    holds(no_other_prose_at_the_root);
    breaks(no_other_prose_at_the_root, "NOTES.md", "");
    passes(no_other_prose_at_the_root, "docs/NOTES.md", "");
    holds(readme_lists_the_settings);
    breaks(readme_lists_the_settings, "README.md", "| setting | default | what |");
    holds(logging_lists_the_metrics);
    breaks(logging_lists_the_metrics, "src/telemetry/metric_name.rs", "const A: &str = \"rookery_a_total\";");
    holds(federation_lists_the_errors);
    let lexicon = r#"{"defs": {"main": {"errors": [{"name": "NeverHeardOf"}]}}}"#;
    breaks(federation_lists_the_errors, "lexicons/blue/catbird/peer/x.json", lexicon);
    breaks(federation_lists_the_errors, "src/federation/refused.rs", "Self::X => \"NeverHeardOf\",");
    holds(migrations_are_named_by_time);
    breaks(migrations_are_named_by_time, "migrations/0001_log.sql", "");
    passes(migrations_are_named_by_time, "migrations/202611210900_log.sql", "");
}
