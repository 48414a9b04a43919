#!/usr/bin/env bash
# Makes sure that a PgBouncer is on this machine, and prints its path. Only tests need it, and they start their own.
# Missing: installs the distribution's package if it may (root, or sudo without a password), without starting the service
# that the package brings; otherwise prints the one command to run and exits 2.
# PGBOUNCER_BIN names another program: a version before 1.21 is only refused, and a newer one is used.
set -euo pipefail

find_program() { [ -n "${PGBOUNCER_BIN:-}" ] && echo "$PGBOUNCER_BIN" || PATH=$PATH:/usr/sbin command -v pgbouncer; }

may_install() {
  command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }
}

install_package() {
  local -a as=()
  [ "$(id -u)" -eq 0 ] || as=(sudo -n)
  # What the package would start is kept from starting, unless this machine has a policy of its own.
  local policy=/usr/sbin/policy-rc.d made=""
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as[@]}" tee "$policy" >/dev/null
    "${as[@]}" chmod +x "$policy"
    made=yes
  fi
  local outcome=0
  "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update &&
    "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pgbouncer || outcome=$?
  [ -z "$made" ] || "${as[@]}" rm -f "$policy"
  return "$outcome"
}

find_program && exit 0
if may_install; then
  echo "PgBouncer is missing: installing the distribution's package." >&2
  install_package >&2
  find_program && exit 0
fi
echo "Two tests start a PgBouncer of their own, and there is none. Install the package pgbouncer, then try again." >&2
exit 2
