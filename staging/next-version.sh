#!/usr/bin/env bash
# Builds the server once more, as a later version would be (cargo feature `next-version`), for tests/it/laws/upgrade.rs.
# Only the crates of this repository are compiled again; the program stands beside the usual one, in `next-version/`.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
began=$SECONDS
cargo build --locked --bin rookery --features next-version
# The next build without the feature puts its own program in this one's place.
mkdir -p "$target/next-version"
cp -f "$target/debug/rookery" "$target/next-version/rookery"
echo "the later version took $((SECONDS - began)) s to build"
