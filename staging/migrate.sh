#!/usr/bin/env bash
# Applies migrations/ with psql to the empty database that DATABASE_URL names: for tools, without building the server.
# PG_BIN is the folder of Postgres' programs (staging/with-postgres.sh sets both).
set -euo pipefail
cd "$(dirname "$0")/.."

sql() { "$PG_BIN/psql" -d "$DATABASE_URL" -X -q -v ON_ERROR_STOP=1 "$@"; }
# The server's migrator (sqlx 0.9) makes this table before the first migration.
sql -c 'create table _sqlx_migrations (version bigint primary key, description text not null,
  installed_on timestamptz not null default now(), success boolean not null, checksum bytea not null,
  execution_time bigint not null)'
for migration in migrations/*.sql; do
  one_transaction=(--single-transaction)
  head -n 1 "$migration" | grep -q '^-- no-transaction' && one_transaction=()
  sql ${one_transaction[@]+"${one_transaction[@]}"} -f - <"$migration"
done
