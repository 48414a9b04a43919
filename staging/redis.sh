#!/usr/bin/env bash
# Makes sure that a Redis server is on this machine, and prints its path. Only tests need it, and they start their own.
# Missing: installs the distribution's package if it may (root, or sudo without a password), without starting the service
# that the package brings; otherwise prints the one command to run and exits 2.
set -euo pipefail

# Any of them speaks the protocol; the same names as in tests/it/support/redis.rs.
find_program() { command -v redis-server || command -v valkey-server; }

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
    "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y redis-server || outcome=$?
  [ -z "$made" ] || "${as[@]}" rm -f "$policy"
  return "$outcome"
}

advice() {
  if command -v apt-get >/dev/null; then echo "sudo apt-get install -y redis-server"
  elif command -v dnf >/dev/null; then echo "sudo dnf install -y valkey"
  elif command -v pacman >/dev/null; then echo "sudo pacman -S --noconfirm valkey"
  elif command -v apk >/dev/null; then echo "sudo apk add valkey"
  elif command -v brew >/dev/null; then echo "brew install redis"
  else echo "install Redis, so that redis-server is on PATH"; fi
}

find_program && exit 0
if may_install; then
  echo "Redis is missing: installing the distribution's package." >&2
  install_package >&2
  find_program && exit 0
fi
echo "The tests start a Redis of their own, and there is none. Run this, then try again:" >&2
echo "  $(advice)" >&2
exit 2
