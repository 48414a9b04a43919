//! All SQL of the log, but for the writer's batch.

mod adopt;
mod entries;
mod events;
mod origin;
mod outbox;
mod replica;
mod retention;
mod seats;
mod signals;
mod streams;

pub(super) use adopt::{adopt_entries, find_move, find_stream_id, first_header, headers, know_members, set_state};
pub use entries::Accepted;
pub(super) use entries::{FirstAnswer, erase, find_accepted, find_head, first_answers, insert_entry, position};
pub(super) use events::{StandingRow, entries_after, entries_before, events, newest_readable, standing, tail};
pub(super) use origin::{
    ask_others, find_origin, insert_origin, lock_origin, raise_origin, reached, restored_to, retire_key_packages,
};
pub(super) use outbox::{Queue, delete_outbox, due_queues, insert_outbox, put_off, queued, try_lock_queue};
pub(super) use replica::{
    changes_of_reign, erasures, find_checkpoint, genesis, keep_checkpoint, missing_messages, newest_checkpoint,
    raise_rules, raw_entries,
};
pub(super) use retention::{
    advance, age_out, age_out_handshakes, delete_answers, delete_entries, delete_key_packages, delete_stream,
    delete_welcomes, find_silent_canary, forget_identities, insert_ageing, old_page, try_lock_sweeper,
};
pub(super) use seats::{
    SpanRow, author_state, delete_seats, hold_seats, is_seated, roster, seat_entries, silenced, spans_of_account,
    spans_of_owners, spans_of_streams, was_seated, windows, write_seats,
};
pub(super) use signals::{database, notify};
#[cfg(debug_assertions)]
pub(super) use streams::has_transaction_id;
pub use streams::{StreamInfo, StreamRow};
pub(super) use streams::{
    find_stream, first_position, insert_stream, lock_stream_advisory, stream_for_update, stream_of, stream_row,
    streams, update_head,
};

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
