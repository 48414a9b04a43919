#!/usr/bin/env bash
# Renews .sqlx (what the compiler knows about each query) from the migrations, on a throw-away Postgres.
#   staging/sqlx.sh renew   replaces .sqlx
#   staging/sqlx.sh check   compares it instead, and fails if it is out of date
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-renew}
[[ $mode == renew || $mode == check ]] || { echo "usage: staging/sqlx.sh renew|check" >&2; exit 2; }

bin=$(staging/postgres.sh)
scratch=$(mktemp -d /tmp/rookery-sqlx.XXXXXX)
as=()
if [ "$(id -u)" -eq 0 ]; then
  # Postgres refuses to run as root.
  user=postgres
  id -u "$user" >/dev/null 2>&1 || user=nobody
  chown "$user" "$scratch"
  if command -v setpriv >/dev/null; then
    as=(setpriv "--reuid=$(id -u "$user")" "--regid=$(id -g "$user")" --clear-groups)
  else
    as=(runuser -u "$user" --)
  fi
fi
postgres() { (cd "$scratch" && ${as[@]+"${as[@]}"} "$bin/$1" "${@:2}"); }
clean_up() {
  postgres pg_ctl -D "$scratch/data" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$scratch"
}
trap clean_up EXIT

postgres initdb -D "$scratch/data" -U rookery -A trust -E UTF8 --locale=C -N >"$scratch/initdb.log" 2>&1 ||
  { cat "$scratch/initdb.log" >&2; exit 1; }
postgres pg_ctl -D "$scratch/data" -w -l "$scratch/data/log" \
  -o "-k $scratch -c listen_addresses='' -c fsync=off" start >/dev/null || { cat "$scratch/data/log" >&2; exit 1; }

psql() { postgres psql -h "$scratch" -U rookery -d postgres -X -q -v ON_ERROR_STOP=1 "$@"; }
# The server's migrator (sqlx 0.9) makes this table before the first migration.
psql -c 'create table _sqlx_migrations (version bigint primary key, description text not null,
  installed_on timestamptz not null default now(), success boolean not null, checksum bytea not null,
  execution_time bigint not null)'
shopt -s nullglob
for migration in migrations/*.sql; do
  one_transaction=(--single-transaction)
  head -n 1 "$migration" | grep -q '^-- no-transaction' && one_transaction=()
  psql ${one_transaction[@]+"${one_transaction[@]}"} -f - <"$migration"
done

mkdir "$scratch/sqlx"
# The macros write a file each as they are expanded, so the crate must be compiled anew.
touch src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$scratch/sqlx" \
  DATABASE_URL="postgres://rookery@localhost:5432/postgres?host=$scratch&sslmode=disable" \
  cargo check --locked --all-targets

if [ "$mode" = check ]; then
  mkdir -p "$scratch/committed"
  cp .sqlx/*.json "$scratch/committed/" || true
  if ! diff -r "$scratch/committed" "$scratch/sqlx" >"$scratch/diff"; then
    head -n 40 "$scratch/diff" >&2
    echo ".sqlx is out of date: run \`make sqlx\` and commit it." >&2
    exit 1
  fi
else
  rm -rf .sqlx
  mkdir .sqlx
  cp "$scratch"/sqlx/*.json .sqlx/ || echo "There is no query yet." >&2
fi
