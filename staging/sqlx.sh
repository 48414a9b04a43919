#!/usr/bin/env bash
# Renews .sqlx (what the compiler knows about each query) from the migrations, on a throw-away Postgres.
#   staging/sqlx.sh renew   replaces .sqlx
#   staging/sqlx.sh check   compares it instead, and fails if it is out of date
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-}
case $mode in
  renew | check) exec env -u DATABASE_URL staging/with-postgres.sh staging/sqlx.sh "on-postgres-$mode" ;;
  on-postgres-renew | on-postgres-check) ;;
  *) echo "usage: staging/sqlx.sh renew|check" >&2; exit 2 ;;
esac

scratch=$(mktemp -d "${TMPDIR:-/tmp}/rookery-sqlx.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

staging/migrate.sh

mkdir "$scratch/sqlx"
# The macros write a file each as they are expanded, so the crate must be compiled anew.
touch src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$scratch/sqlx" cargo check --locked --all-targets

if [ "$mode" = on-postgres-check ]; then
  if ! diff -r .sqlx "$scratch/sqlx" >"$scratch/diff"; then
    head -n 40 "$scratch/diff" >&2
    echo ".sqlx is out of date: run \`make sqlx\` and commit it." >&2
    exit 1
  fi
else
  rm -rf .sqlx
  mkdir .sqlx
  cp "$scratch"/sqlx/*.json .sqlx/
fi
