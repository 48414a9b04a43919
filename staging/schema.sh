#!/usr/bin/env bash
# docs/SCHEMA.md: the tables as the migrations make them, read from the catalogue of a throw-away Postgres.
#   staging/schema.sh renew   writes it
#   staging/schema.sh check   compares it, and fails if it is out of date
set -euo pipefail
cd "$(dirname "$0")/.."

page=docs/SCHEMA.md
mode=${1:-}
case $mode in
  renew | check) exec env -u DATABASE_URL staging/with-postgres.sh staging/schema.sh "on-postgres-$mode" ;;
  on-postgres-renew | on-postgres-check) ;;
  *) echo "usage: staging/schema.sh renew|check" >&2; exit 2 ;;
esac

staging/migrate.sh
made=$("$PG_BIN/psql" -d "$DATABASE_URL" -X -q -v ON_ERROR_STOP=1 -A -t -f - <staging/schema.sql)
if [ "$mode" = on-postgres-renew ]; then
  printf '%s\n' "$made" >"$page"
elif ! diff -u "$page" <(printf '%s\n' "$made"); then
  echo "$page is out of date: run \`make schema\` and commit it." >&2
  exit 1
fi
