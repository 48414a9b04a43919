#!/usr/bin/env bash
# Makes sure that the programs of Postgres 14 or newer are on this machine, and prints the folder of the newest version.
#   staging/postgres.sh --each    prints the folder of each version, the oldest first
# With --each, POSTGRES_VERSIONS may name some major versions ("14 18"): one that is missing is an error.
# Missing: installs the distribution's package if it may (root, or sudo without a password), without the cluster that
# the package would start; otherwise prints the one command to run and exits 2.
set -euo pipefail

least=14

# The major version and the folder of each usable version, the oldest first; the same places as
# src/storage/embedded/programs.rs. Of PG_BIN alone, if that is set and usable.
installations() {
  local dir version program major
  local -a dirs path
  IFS=: read -ra path <<<"$PATH"
  shopt -s nullglob
  dirs=(${PG_BIN:+"$PG_BIN"} "${path[@]}" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql*
    /usr/local/pgsql/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin
    /Applications/Postgres.app/Contents/Versions/*/bin)
  shopt -u nullglob
  for dir in "${dirs[@]}"; do
    [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] || continue
    version=$("$dir/postgres" --version) || continue
    # A link may stand alone; what it leads to has all the other programs (psql, pg_ctl) beside it.
    program=$(readlink -f "$dir/postgres")
    major=$(sed -E 's/^[^0-9]*([0-9]+).*/\1/' <<<"$version")
    [ "$major" -lt "$least" ] || printf '%s %s\n' "$major" "${program%/*}"
    if [ -n "${PG_BIN:-}" ] && [ "$dir" = "$PG_BIN" ]; then break; fi
  done | sort -s -n -u -k1,1
}

# The folder of the newest usable version.
find_programs() {
  local newest
  newest=$(installations | tail -n 1)
  [ -n "$newest" ] && printf '%s\n' "${newest#* }"
}

# The folder of each version, or of those that POSTGRES_VERSIONS names.
find_each() {
  local found version folder
  found=$(installations)
  for version in ${POSTGRES_VERSIONS:-$(cut -d' ' -f1 <<<"$found")}; do
    folder=$(sed -n "s/^$version //p" <<<"$found")
    if [ -z "$folder" ]; then
      echo "Postgres $version is not on this machine, which has:" $(cut -d' ' -f1 <<<"$found") >&2
      exit 2
    fi
    printf '%s\n' "$folder"
  done
}

may_install() {
  command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }
}

install_package() {
  local -a as=()
  [ "$(id -u)" -eq 0 ] || as=(sudo -n)
  # The package would make and start a cluster of its own.
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    "${as[@]}" mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" | "${as[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update
  "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y postgresql
}

advice() {
  if command -v apt-get >/dev/null; then echo "sudo apt-get install -y postgresql"
  elif command -v dnf >/dev/null; then echo "sudo dnf install -y postgresql-server"
  elif command -v pacman >/dev/null; then echo "sudo pacman -S --noconfirm postgresql"
  elif command -v apk >/dev/null; then echo "sudo apk add postgresql17"
  elif command -v brew >/dev/null; then echo "brew install postgresql@17"
  else echo "install Postgres $least or newer, or set PG_BIN to the folder of its programs"; fi
}

if [ "${1:-}" = --each ] && [ -n "$(installations)" ]; then
  find_each
  exit
fi
find_programs && exit 0
if may_install; then
  echo "Postgres is missing: installing the distribution's package." >&2
  install_package >&2
  find_programs && exit 0
fi
echo "Postgres $least or newer is needed (the server runs a private one). Run this, then try again:" >&2
echo "  $(advice)" >&2
exit 2
