#!/usr/bin/env bash
# The laws, then random faults against three instances of one server and against servers that federate: on each Postgres
# of this machine, or on the major versions that POSTGRES_VERSIONS names ("14 18"). Each version has its own throw-away
# cluster; DATABASE_URL is not used.
#   ROOKERY_SOAK_ROUNDS  rounds of both kinds of faults; without it 200 against instances, 300 between servers
#   ROOKERY_SEED         the seed of a run that is to be repeated
set -euo pipefail
cd "$(dirname "$0")/.."

folders=$(staging/postgres.sh --each)
rounds=${ROOKERY_SOAK_ROUNDS:-}
unset DATABASE_URL ROOKERY_SOAK_ROUNDS
run() { staging/with-postgres.sh cargo test --locked --test it "$@"; }

for folder in $folders; do
  echo "== $("$folder/postgres" --version)"
  export PG_BIN=$folder
  run laws:: -- --skip laws::soak
  ROOKERY_SOAK_ROUNDS=${rounds:-200} run laws::soak -- --nocapture
  ROOKERY_SOAK_ROUNDS=${rounds:-300} run federation::partitions::random -- --nocapture
done
