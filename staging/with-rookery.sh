#!/usr/bin/env bash
# Runs a command beside a development server of its own, and removes that again however the command ends.
#   staging/with-rookery.sh COMMAND [ARGUMENT …]
# The command finds it in ROOKERY_URL. The server is target/debug/rookery (ROOKERY_BIN names another), with a private
# Postgres in a temporary folder, on a free port.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$root/$target ;; esac
binary=${ROOKERY_BIN:-$target/debug/rookery}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/rookery-server.XXXXXX")
# Started as root, the server runs its Postgres as another user, who must get there.
chmod 755 "$scratch"
server=
clean_up() {
  [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
  rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
ready() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
    printf 'GET /health/ready HTTP/1.0\r\nhost: localhost\r\n\r\n' >&3
    read -r -t 5 _ status _ <&3 && [ "$status" = 200 ]
  ) 2>/dev/null
}

port=$((20000 + RANDOM % 12000))
while answers "$port"; do port=$((20000 + RANDOM % 12000)); done

env -u ROOKERY_BIN -u ROOKERY_URL -u DATABASE_URL -u SERVICE_DID -u PUBLIC_URL \
  ROOKERY_ENV=development SERVER_HOST=127.0.0.1 SERVER_PORT="$port" METRICS_PORT=0 DATA_DIR="$scratch/data" \
  INVITATIONS=everyone \
  RUST_LOG="${RUST_LOG:-warn}" "$binary" serve &
server=$!
for ((tries = 0; tries < 600; tries++)); do
  kill -0 "$server" 2>/dev/null || { echo "the server ended by itself" >&2; exit 1; }
  ready && break
  sleep 0.1
done
ready || { echo "the server was not ready within a minute" >&2; exit 1; }

ROOKERY_URL="http://localhost:$port" "$@"
