#!/usr/bin/env bash
# Runs a command beside a throw-away Postgres, and removes that again however the command ends.
#   staging/with-postgres.sh COMMAND [ARGUMENT …]
# The command finds it in DATABASE_URL, and its programs in PG_BIN. A DATABASE_URL that is set already is used instead.
# It is quick and forgetful (fsync off): for tests and tools. With WITH_POSTGRES_FSYNC=on it is as production wants it.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -n "${DATABASE_URL:-}" ] && exec "$@"

bin=$(staging/postgres.sh)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/rookery-pg.XXXXXX")
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
trap 'exit 130' INT TERM

postgres initdb -D "$scratch/data" -U rookery -A trust -E UTF8 --locale=C -N >"$scratch/initdb.log" 2>&1 ||
  { cat "$scratch/initdb.log" >&2; exit 1; }
postgres pg_ctl -D "$scratch/data" -w -l "$scratch/data/log" -o "-k $scratch -c listen_addresses='' \
  -c fsync=${WITH_POSTGRES_FSYNC:-off} -c full_page_writes=${WITH_POSTGRES_FSYNC:-off} -c max_connections=300 -c max_prepared_transactions=0" start >/dev/null ||
  { cat "$scratch/data/log" >&2; exit 1; }

export PG_BIN="$bin" DATABASE_URL="postgres://rookery@localhost:5432/postgres?host=$scratch&sslmode=disable"
"$@"
