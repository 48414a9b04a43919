//! All SQL of the log, but for the writer's batch.

mod adopt;
mod authors;
mod entries;
mod events;
mod origin;
mod outbox;
mod partitions;
mod replica;
mod retention;
mod seats;
mod signals;
mod streams;
mod support;

pub(super) use adopt::{
    adopt_entries, entry_as_made, find_move, find_stream_id, first_header, headers, know_members, set_applied,
    set_state, unapplied_streams,
};
pub(super) use authors::{author_state, silenced, silenced_of_owners};
pub use entries::Accepted;
pub(super) use entries::{FirstAnswer, erase, find_accepted, find_head, first_answers, insert_entry};
pub(super) use events::{
    AccountKeys, KeysPerStream, KindFilter, StandingRow, account_keys, keys_after, keys_before, newest_readable,
    read_entries, standing, tail_keys,
};
pub(super) use origin::{
    Origin, ask_followers, ask_homes, begin_recovery_of, clock_ms, delete_doubtful_key_packages, distance, find_origin,
    forgive_followers, insert_origin, lock_origin, name_server, raise_origin, reached, restored_to,
};
pub(super) use outbox::{Queue, delete_outbox, due_queues, insert_outbox, put_off, queued, try_lock_queue, withdraw};
pub(super) use partitions::{add_partitions, content_weeks, drop_period, drop_week, holds_unswept, identity_periods};
pub(super) use replica::{
    changes_of_reign, erasures, find_checkpoint, genesis, keep_checkpoint, missing_messages, newest_checkpoint,
    raise_rules, raw_entries,
};
pub(super) use retention::{
    OldPage, advance, age_out_handshakes, age_out_messages, age_out_notices, delete_answers, delete_backfilled,
    delete_key_packages, delete_welcomes, insert_ageing, lock_mark, note_age, old_page, try_lock_sweeper,
};
pub(super) use seats::{
    SpanRow, acting_members, delete_seats, hold_seats, is_seated, roster, seat_entries, spans_of_account,
    spans_of_owners, spans_of_streams, was_seated, windows, write_seats,
};
pub(super) use signals::{database, notify, notify_all};
#[cfg(debug_assertions)]
pub(super) use streams::has_transaction_id;
pub use streams::{StreamInfo, StreamRow};
pub(super) use streams::{
    find_stream, first_position, grow, insert_stream, lock_stream_advisory, stream_for_update, stream_of, stream_row,
    streams, update_head,
};
pub(super) use support::outdated_followers;

use crate::storage::Error;
use crate::types::{DeviceId, Did, Hash};

fn hash(bytes: &[u8]) -> Result<Hash, Error> {
    Hash::from_slice(bytes).ok_or(Error::Corrupt("hash"))
}

fn did(text: &str) -> Result<Did, Error> {
    Did::parse(text).map_err(|_| Error::Corrupt("account.did"))
}

fn device(text: &str) -> Result<DeviceId, Error> {
    DeviceId::parse(text).map_err(|_| Error::Corrupt("device.public_id"))
}
