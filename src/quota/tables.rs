//! The register of tables that a call of a stranger can grow. `tests/tidy.rs` compares it with the migrations: a table
//! with a column `account_id` stands here, or the test fails.

/// How the rows of a table are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// By the worker's statement in `store.rs`, for each account.
    ByAccount,
    /// As entries of the log, by their author.
    AsEntries,
    /// Not at all, for this reason.
    Not(&'static str),
}

/// Tables with rows of one account.
pub const TABLES: &[(&str, Counted)] = &[
    ("entry", Counted::AsEntries),
    ("answer", Counted::ByAccount),
    ("block", Counted::ByAccount),
    ("device", Counted::ByAccount),
    ("device_link", Counted::ByAccount),
    ("group_info", Counted::ByAccount),
    ("invitation", Counted::ByAccount),
    ("key_package", Counted::ByAccount),
    ("outbox", Counted::ByAccount),
    ("read_position", Counted::ByAccount),
    ("relationship", Counted::ByAccount),
    ("seat", Counted::ByAccount),
    ("welcome", Counted::ByAccount),
    ("account_quota", Counted::Not("an operator's word")),
    ("account_usage", Counted::Not("one row an account")),
    ("delivered", Counted::Not("of peers, and swept after a day")),
    ("erasure_job", Counted::Not("one row a seat that ended, deleted when it is done")),
    ("receipt", Counted::Not("one row an entry")),
    ("seat_device", Counted::Not("as many as the devices of a seat")),
];
