#!/usr/bin/env bash
# Holds the Kubernetes manifests, the compose files, the proxy's configuration and the Dockerfile to their schemas and to
# the server's own code (staging/manifests/check.py says how). Needs Python 3.11; the network only to install
# staging/validators.txt once.
#   staging/manifests.sh              checks them
#   staging/manifests.sh --self-test  breaks each of them in a copy, and fails if a break is not noticed
set -euo pipefail
cd "$(dirname "$0")/.."

may_install() {
  command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }
}

# Debian keeps what makes virtual environments in a package of its own.
usable() { python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if ! usable && may_install; then
  echo "Python's venv is missing: installing the distribution's packages." >&2
  as=()
  [ "$(id -u)" -eq 0 ] || as=(sudo -n)
  { ${as[@]+"${as[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get update &&
    ${as[@]+"${as[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv; } >&2
fi
usable || {
  echo "Python 3.11 or newer with venv is needed. Run this, then try again:" >&2
  echo "  sudo apt-get install -y python3-venv" >&2
  exit 2
}

# One environment for each list of pins and each Python; whoever comes second waits for the first.
pins=$({ cat staging/validators.txt; python3 -VV; command -v python3; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rookery/validators
mkdir -p "$cache"
exec 9>"$cache/$pins.lock"
flock 9
if [ ! -e "$cache/$pins/complete" ]; then
  echo "Installing the validators of staging/validators.txt into $cache/$pins" >&2
  rm -rf "${cache:?}/$pins"
  python3 -m venv "$cache/$pins"
  "$cache/$pins/bin/python" -m pip install --quiet --no-deps --only-binary :all: -r staging/validators.txt >&2
  touch "$cache/$pins/complete"
fi
exec 9>&-

PATH="$cache/$pins/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 exec "$cache/$pins/bin/python" staging/manifests "$@"
