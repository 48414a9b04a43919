# The only list of commands. `make` alone prints it.

.DEFAULT_GOAL := help
.PHONY: help demo run test next-version vectors soak attack attack-short check format clippy tidy docs lexicons lexicons-check lexicons-official sqlx sqlx-check schema schema-check bench fuzz postgres redis pgbouncer interop client-typescript example-typescript example-rust manifests image-rehearsal load

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: postgres ## Start a server with a private Postgres, let real MLS clients talk through it, and say what happened.
	cargo build --locked --release -p rookery -p rookery-testkit --bins
	$${CARGO_TARGET_DIR:-target}/release/rookery-demo

run: postgres ## Run a development server on http://localhost:3000; it keeps its data in ./data.
	ROOKERY_ENV=development INVITATIONS=$${INVITATIONS:-everyone} cargo run --locked -- serve

test: postgres redis pgbouncer next-version ## Run every test, on a throw-away Postgres (or the one that DATABASE_URL names).
	@if cargo nextest --version >/dev/null 2>&1; then set -x; staging/with-postgres.sh cargo nextest run --locked --workspace; \
	else set -x; staging/with-postgres.sh cargo test --locked --workspace; fi

next-version: ## Build the server once more, as a later version would be: a test upgrades to it and rolls back.
	staging/next-version.sh

vectors: override export VECTORS_DIR := $(abspath $(VECTORS_DIR))
vectors: ## Judge AT Protocol's public vectors in the folder VECTORS_DIR, by the server and both clients.
	@[ -n "$(VECTORS_DIR)" ] || { echo "VECTORS_DIR must name the folder that holds atproto/, the public vectors" >&2; exit 2; }
	cargo test --locked -p rookery-protocol --features vectors --lib vectors
	cargo test --locked -p rookery --test vectors
	cd clients/typescript && PATH="$$(../../staging/interop/setup.sh node):$$PATH" && \
	npm ci && npm run generate && npm run vectors

soak: postgres redis next-version ## Run the laws, then kill, cut off and put back at random, on each installed Postgres (or POSTGRES_VERSIONS); ROOKERY_SOAK_ROUNDS, ROOKERY_SEED.
	staging/soak.sh

attack: postgres ## Attack a release server of its own in 1 GiB and 2 CPUs, beside an honest client; ATTACKS names some of them.
	cargo build --locked --release -p rookery -p rookery-attack --bins
	$${CARGO_TARGET_DIR:-target}/release/rookery-attack $(ATTACKS:%=--only %)

attack-short: postgres ## The short form of it, at most three minutes, with the program that the tests use.
	cargo build --locked --workspace --bins
	$${CARGO_TARGET_DIR:-target}/debug/rookery-attack --short $(ATTACKS:%=--only %)

interop: postgres ## Let a real PDS, official clients and another MLS implementation drive a server (the first time it installs them).
	cargo build --locked --bin rookery
	cargo build --locked -p rookery-client --example conversation
	@node=$$(staging/interop/setup.sh) && set -x && PATH="$$node:$$PATH" node staging/interop/run.mjs

client-typescript: ## Check, build and test the TypeScript client; Node comes from staging/interop.
	cd clients/typescript && PATH="$$(../../staging/interop/setup.sh node):$$PATH" && \
	npm ci && npm run generate && npm run check && npm run build && npm test

example-typescript: postgres ## Run the TypeScript client's example against a server of its own.
	cargo build --locked --bin rookery
	cd clients/typescript && PATH="$$(../../staging/interop/setup.sh node):$$PATH" && \
	npm ci && npm run generate && ../../staging/with-rookery.sh npm run example

example-rust: postgres ## Run the Rust client's example against a server of its own.
	cargo build --locked --bin rookery
	cargo build --locked -p rookery-client --example conversation
	staging/with-rookery.sh cargo run --locked --quiet -p rookery-client --example conversation

check: format clippy lexicons-check sqlx-check schema-check tidy manifests docs ## Everything that must hold before a merge, beside the tests.

format: ## Compare the formatting.
	cargo fmt --all --check

clippy: ## Lint; a warning is an error.
	cargo clippy --locked --workspace --all-targets -- -D warnings

tidy: ## Check the house rules (tests/tidy.rs).
	cargo test --locked --quiet --test tidy

manifests: ## Hold k8s/, the compose files and the Dockerfile to their schemas and to the code; see that breaks are noticed.
	staging/manifests.sh
	staging/manifests.sh --self-test

image-rehearsal: postgres ## Run the program as the image and the Deployment would: uid 1000, read-only root, mounted keys.
	staging/image-rehearsal.sh

docs: ## Build the reference; a broken link is an error.
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

lexicons: ## Generate protocol/src/lexicon from lexicons/.
	cargo run --locked -p lexicon-gen

lexicons-check: ## Compare protocol/src/lexicon with what lexicons/ generates.
	cargo run --locked -p lexicon-gen -- --check

lexicons-official: ## Judge lexicons/ with AT Protocol's own parsers and builder (Node and packages are installed once).
	PATH=$$(staging/interop/setup.sh):$$PATH node staging/interop/lexicons.mjs

sqlx: ## Renew .sqlx from the migrations, on a throw-away Postgres.
	staging/sqlx.sh renew

sqlx-check: ## Compare .sqlx with the queries and the migrations.
	staging/sqlx.sh check

schema: ## Renew docs/SCHEMA.md from the migrations.
	staging/schema.sh renew

schema-check: ## Compare docs/SCHEMA.md with the migrations.
	staging/schema.sh check

bench: LOAD_OPTIONS = --sockets 10000
bench: postgres load ## Measure: messages, sockets, reading the past, token checks and forwarded sends; the full form of make load.
	cargo bench --locked --bench token
	cargo bench --locked --bench replication
	cargo bench --locked --bench forwarded

load: postgres ## Drive a release server with many clients; fail below staging/load/floors.toml. SCENARIOS names some, LOAD_OPTIONS has options.
	cargo build --locked --release -p rookery -p rookery-load --bins
	$${CARGO_TARGET_DIR:-target}/release/rookery-load $(LOAD_OPTIONS) $(SCENARIOS:%=--only %)

FUZZ_SECONDS ?= 120
fuzz: ## Fuzz each reader of hostile bytes for FUZZ_SECONDS (needs a nightly compiler and cargo-fuzz).
	@# Without a sanitizer: the code has no unsafe block.
	for target in $$(ls fuzz/fuzz_targets | sed 's/\.rs$$//'); do \
	  cargo +nightly fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=65536 || exit 1; done

postgres: ## Make sure that Postgres 14 or newer is installed.
	@staging/postgres.sh >/dev/null

pgbouncer: ## Make sure that PgBouncer is installed: only tests need it.
	@staging/pgbouncer.sh >/dev/null

redis: ## Make sure that Redis is installed: only tests need it.
	@staging/redis.sh >/dev/null
