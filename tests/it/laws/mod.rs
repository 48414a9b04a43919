//! What holds for every method and every conversation, whatever happens meanwhile.
//!
//! The invariants of docs/ARCHITECTURE.md, and where each is attacked:
//!
//! | invariant | test |
//! | --- | --- |
//! | acknowledged means durable | `kill_9_during_load_loses_no_acknowledged_message_and_doubles_none` |
//! | | `random_faults_lose_double_and_reorder_nothing` |
//! | | `production_does_not_start_on_a_postgres_that_does_not_flush` |
//! | and across upgrades and rollbacks, on one database and between servers | `upgrades_and_rollbacks_under_load_lose_and_double_nothing` |
//! | seq is dense and unique, the chain covers it | `seq_is_dense_and_unique_under_32_concurrent_senders` |
//! | | `seq_is_dense_when_32_senders_alternate_instances` |
//! | | `messages_that_are_refused_leave_no_hole_between_those_that_are_taken` |
//! | | `a_change_of_any_part_is_found` |
//! | the same across a restore, term by term | `a_dump_that_is_loaded_into_a_new_cluster_goes_on_beyond_everything_that_was_handed_out` |
//! | | `a_volume_that_is_rolled_back_is_noticed_by_the_watermark_or_by_the_operators_word` |
//! | | `a_server_that_runs_while_the_operator_recovers_ends_and_begins_anew` |
//! | | `a_failover_under_a_running_server_ends_it_before_it_writes` |
//! | one order for all readers, nothing missed, nothing twice | `readers_on_two_replicas_see_every_entry_once_and_in_one_order_while_32_writers_commit_and_abort` |
//! | | `a_reader_that_pages_while_others_write_misses_nothing_and_sees_nothing_twice` |
//! | the entries give the seats again | `replaying_all_entries_into_an_empty_database_gives_equal_seats` |
//! | an order made elsewhere is taken over whole or not at all | `what_does_not_hold_together_is_refused_by_name_and_nothing_of_it_is_stored` |
//! | | `an_overlap_is_skipped_a_gap_is_told_and_a_contradiction_is_evidence` |
//! | | `a_term_begins_with_an_entry_that_names_the_one_before_it` |
//! | | `the_home_of_the_row_decides_which_door_is_open` |
//! | epoch and group id come from MLS bytes; one commit wins an epoch | `of_concurrent_commits_on_two_replicas_one_wins_the_epoch` |
//! | | `of_32_concurrent_commits_on_one_epoch_one_wins_and_31_learn_the_current_epoch` |
//! | the same call gets the first answer, another is refused | `the_same_call_at_once_on_three_instances_has_one_answer` |
//! | | `a_call_whose_client_went_away_at_any_moment_has_one_effect_and_one_answer` |
//! | | `a_server_that_is_killed_between_commit_and_answer_gives_that_answer_afterwards` |
//! | | `the_first_answer_comes_again_after_the_epoch_moved_and_after_the_seat_ended` |
//! | | `the_same_call_gets_its_first_answer_for_35_days_and_is_a_new_call_after` |
//! | a token is taken once, by all instances together | `a_token_is_taken_once_by_three_instances` |
//! | an effect elsewhere happens once, in its order | `effects_happen_once_and_in_order_with_several_couriers_one_of_which_is_killed` |
//! | what ages out is needed by nobody who may return | `devices_return_after_20_and_60_and_100_days` |
//! | | `a_handshake_outlasts_its_term_until_every_device_returned_or_lapsed` |
//! | nobody reads without a seat, nor before or after it | `to_a_stranger_a_conversation_does_not_exist` |
//! | | `a_member_reads_from_its_first_entry_to_its_last_and_writes_only_between` |
//! | Redis decides nothing | `redis_killed_in_the_middle_loses_nothing_and_is_used_again_when_it_returns` |
//! | Postgres alone is enough, and one connection of the pool | `one_connection_in_the_pool_suffices_for_everything` |
//! | | `one_connection_in_the_pool_suffices_for_every_named_call` |
//! | | `one_connection_in_the_pool_suffices_to_move_a_conversation` |
//! | a stream that is held delays no other | `a_stream_that_is_held_delays_no_other` |
//! | | `waiters_for_a_held_stream_delay_no_other_stream` |
//! | | `a_repeated_call_takes_no_lock_of_any_stream` |
//! | nothing slow after a transaction's first write | `a_transaction_that_reads_holds_back_no_reader` |
//! | | `a_transaction_of_too_many_rows_is_refused` |
//! | | `erasing_20_000_messages_delays_nobody` |
//! | a revocation binds what is written | `a_device_that_is_revoked_while_its_call_arrives_writes_nothing` |

mod adopt;
mod clocks;
mod contention;
mod courier;
mod crash;
mod epochs;
mod erasure;
mod flow;
mod idempotency;
mod locks;
pub mod order;
mod page_bytes;
mod paging;
mod plans;
mod relay;
mod repeats;
mod replay;
mod replicas;
mod restore;
mod retention;
mod routes;
mod seats;
mod soak;
mod tailer;
mod upgrade;
mod versions;

/// A table that names what is not there would only look like proof.
#[test]
fn every_test_in_the_table_of_invariants_exists() {
    let mut folders = vec!["tests/it", "src", "protocol/src", "clients/rust/src"]
        .into_iter()
        .map(std::path::PathBuf::from)
        .collect::<Vec<_>>();
    let mut source = String::new();
    while let Some(folder) = folders.pop() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => source.push_str(&std::fs::read_to_string(path).unwrap()),
                _ => {}
            }
        }
    }
    let rows = include_str!("mod.rs").lines().filter(|line| line.starts_with("//! |"));
    let named: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    assert!(named.len() > 20);
    for name in named {
        assert!(source.contains(&format!("fn {name}(")), "{name} is no test");
    }
}
