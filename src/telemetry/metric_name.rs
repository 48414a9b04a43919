//! Every metric of this server: name, kind and unit. A metric that is not here does not exist.
//!
//! Labels are of small, bounded sets (method, status, outcome, 100 peers); an account, device or stream is never a
//! label.

/// Counter: requests answered, by `method` (NSID or route) and `status`; `abandoned` where the client disconnected
/// before.
pub const HTTP_REQUESTS: &str = "rookery_http_requests_total";
/// Histogram, seconds: from the first byte of a request to the first of its answer, by `method`.
pub const HTTP_REQUEST_SECONDS: &str = "rookery_http_request_seconds";
/// Gauge: requests without an answer yet.
pub const HTTP_REQUESTS_OPEN: &str = "rookery_http_requests_open";
/// Gauge: connections of clients.
pub const CONNECTIONS_OPEN: &str = "rookery_connections_open";
/// Counter: connections refused or closed beyond a limit, by `reason` (`full`, `address`, `shed`).
pub const CONNECTIONS_REFUSED: &str = "rookery_connections_refused_total";
/// Counter: callers refused, by `error` (the name in the answer).
pub const AUTH_REFUSALS: &str = "rookery_auth_refusals_total";
/// Counter: requests of peers refused before any method saw them, by `error` (the name in the answer).
pub const PEER_REFUSALS: &str = "rookery_peer_refusals_total";
/// Counter: requests of peers with valid signatures, by `peer` (its name, or `other`: 100 peers that are not on
/// probation have their own).
pub const PEER_REQUESTS: &str = "rookery_peer_requests_total";
/// Counter: calls to peers, by `peer` (as above) and `outcome` (`answered`, `refused`, `not_sent`, `no_answer`).
pub const PEER_CALLS: &str = "rookery_peer_calls_total";
/// Histogram, seconds: calls to peers that were sent, by `peer` (as above).
pub const PEER_CALL_SECONDS: &str = "rookery_peer_call_seconds";
/// Counter: requests that a limit refused, by `limit` (its class, or `first_fetch`, `registration`, `domain`,
/// `in_flight`, `connections`).
pub const RATE_REFUSALS: &str = "rookery_rate_refusals_total";
/// Counter: entries appended, by `kind`.
pub const LOG_ENTRIES: &str = "rookery_log_entries_total";
/// Histogram, items: how many entries one commit of the writer held.
pub const LOG_BATCH_ITEMS: &str = "rookery_log_batch_items";
/// Histogram, seconds: how long one commit of the writer took.
pub const LOG_BATCH_SECONDS: &str = "rookery_log_batch_seconds";
/// Gauge, seconds: age of the oldest open writer, which holds back every reader.
pub const LOG_FENCE_LAG_SECONDS: &str = "rookery_log_fence_lag_seconds";
/// Counter, items: entries that the writer could not authorize from memory and appended under the stream's lock.
pub const LOG_LOCKED_ITEMS: &str = "rookery_log_locked_items_total";
/// Histogram, seconds: delay from the creation of an entry until the tailer of this instance hands it out.
pub const LOG_TAIL_DELAY_SECONDS: &str = "rookery_log_tail_delay_seconds";
/// Counter, entries: stored rows that readers left out, or delivered without content, because they do not decode.
pub const LOG_UNDECODABLE: &str = "rookery_log_undecodable_total";
/// Counter, entries: effects on other streams that the outbox worker appended.
pub const REPLICATION_SENT: &str = "rookery_replication_sent_total";
pub const REPLICATION_FAILURES: &str = "rookery_replication_failures_total";
/// Counter: deliveries that another server refused finally, by `error`.
pub const DELIVERIES_REFUSED: &str = "rookery_deliveries_refused_total";
pub const OUTBOX_DELIVERED: &str = "rookery_outbox_delivered_total";
/// Counter, rows: contents, identities and rows that aged out, by `job`.
pub const RETENTION_ROWS: &str = "rookery_retention_rows_total";
/// Counter: failed attempts of the outbox worker, which it will repeat.
pub const OUTBOX_PUT_OFF: &str = "rookery_outbox_put_off_total";
/// Counter, entries: effects that the outbox worker set aside because they cannot be appended. Alarm above 0.
pub const OUTBOX_PARKED: &str = "rookery_outbox_parked_total";
/// Gauge, seconds: age of the oldest job that the writer of this instance has not answered.
pub const LOG_UNANSWERED_SECONDS: &str = "rookery_log_unanswered_seconds";
/// Gauge, seconds: time since the tailer of this instance last completed a read of the log.
pub const LOG_TAILER_SILENT_SECONDS: &str = "rookery_log_tailer_silent_seconds";
/// Gauge, seconds: age of the oldest committed position that this instance has not handed out.
pub const LOG_UNDELIVERED_SECONDS: &str = "rookery_log_undelivered_seconds";
/// Gauge: 1 while signals between instances go by Redis, 0 while Postgres carries them although `REDIS_URL` is set.
pub const RELAY_BY_REDIS: &str = "rookery_relay_by_redis";
/// Gauge: running instances of this server, by `role` (`all`, `api`, `worker`). Alarm where `all` and `worker` are 0.
pub const INSTANCES: &str = "rookery_instances";
/// Gauge: open subscriptions.
pub const SUBSCRIPTIONS_OPEN: &str = "rookery_subscriptions_open";
/// Counter: subscriptions that this server ended, by `reason`.
pub const SUBSCRIPTIONS_ENDED: &str = "rookery_subscriptions_ended_total";
/// Gauge: connections of the pools, by `class` and `state` (`idle`, `used`).
pub const POOL_CONNECTIONS: &str = "rookery_pool_connections";

/// Gauge, bytes: free space on the disk of the private Postgres.
pub const DATA_DISK_FREE_BYTES: &str = "rookery_data_disk_free_bytes";
/// Counter: entries of other homes that are dated more than five minutes ahead of this machine's clock.
pub const ENTRIES_FROM_AHEAD: &str = "rookery_entries_from_ahead_total";
/// Gauge, seconds: by how much the clock of this machine is ahead of the clock of Postgres.
pub const CLOCK_AHEAD_SECONDS: &str = "rookery_clock_ahead_seconds";

/// Every name above with its help text, for `/metrics` and for the test that keeps names well-formed.
pub(super) const ALL: &[(&str, Kind, &str)] = &[
    (HTTP_REQUESTS, Kind::Counter, "Requests answered, by method and status."),
    (HTTP_REQUEST_SECONDS, Kind::Histogram, "Seconds from a request to its answer, by method."),
    (HTTP_REQUESTS_OPEN, Kind::Gauge, "Requests that are being answered."),
    (AUTH_REFUSALS, Kind::Counter, "Callers refused, by error."),
    (PEER_REFUSALS, Kind::Counter, "Requests of peers refused, by error."),
    (PEER_REQUESTS, Kind::Counter, "Requests of peers whose signatures held, by peer."),
    (PEER_CALLS, Kind::Counter, "Calls to peers, by peer and outcome."),
    (PEER_CALL_SECONDS, Kind::Histogram, "Seconds of calls to peers, by peer."),
    (CONNECTIONS_OPEN, Kind::Gauge, "Connections of clients."),
    (CONNECTIONS_REFUSED, Kind::Counter, "Connections for which there was no room, by reason."),
    (RATE_REFUSALS, Kind::Counter, "Requests that a limit refused, by limit."),
    (LOG_ENTRIES, Kind::Counter, "Entries appended, by kind."),
    (LOG_BATCH_ITEMS, Kind::Histogram, "Entries in one commit of the writer."),
    (LOG_BATCH_SECONDS, Kind::Histogram, "Seconds of one commit of the writer."),
    (LOG_FENCE_LAG_SECONDS, Kind::Gauge, "Age in seconds of the oldest open writer."),
    (LOG_LOCKED_ITEMS, Kind::Counter, "Entries appended under their stream's lock."),
    (LOG_TAIL_DELAY_SECONDS, Kind::Histogram, "Seconds from the making of an entry until it is handed out."),
    (LOG_UNDECODABLE, Kind::Counter, "Stored entries that do not decode."),
    (DELIVERIES_REFUSED, Kind::Counter, "Deliveries that other servers refused for good, by error."),
    (OUTBOX_DELIVERED, Kind::Counter, "Entries that the courier appended."),
    (REPLICATION_SENT, Kind::Counter, "Entries that followers took."),
    (REPLICATION_FAILURES, Kind::Counter, "Attempts to bring a follower on that failed, by reason."),
    (RETENTION_ROWS, Kind::Counter, "Rows that aged out, by job."),
    (OUTBOX_PUT_OFF, Kind::Counter, "Attempts of the courier that failed."),
    (OUTBOX_PARKED, Kind::Counter, "Entries that the courier set aside."),
    (LOG_UNANSWERED_SECONDS, Kind::Gauge, "Age in seconds of the oldest job that the log writer has not answered."),
    (LOG_TAILER_SILENT_SECONDS, Kind::Gauge, "Seconds since the tailer last completed a look at the log."),
    (LOG_UNDELIVERED_SECONDS, Kind::Gauge, "Seconds that a committed position has waited to be handed out."),
    (RELAY_BY_REDIS, Kind::Gauge, "1 while signals between replicas go by Redis."),
    (INSTANCES, Kind::Gauge, "Running instances of this server, by role."),
    (SUBSCRIPTIONS_OPEN, Kind::Gauge, "Open subscriptions."),
    (SUBSCRIPTIONS_ENDED, Kind::Counter, "Subscriptions ended by this server, by reason."),
    (POOL_CONNECTIONS, Kind::Gauge, "Connections of the pools, by class and state."),
    (DATA_DISK_FREE_BYTES, Kind::Gauge, "Bytes free on the disk of the private Postgres."),
    (ENTRIES_FROM_AHEAD, Kind::Counter, "Entries of other homes that are dated more than five minutes ahead."),
    (CLOCK_AHEAD_SECONDS, Kind::Gauge, "Seconds that this machine's clock is ahead of that of Postgres."),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}
