# The commands of the house. `make` lists them; .ci/run calls `make test` and nothing else.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help deps demo build test test-systemd deb test-deb check fmt fmt-check clippy deny fuzz soak bench bench-deps bench-page bench-peers clean-state

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

deps: ## install what building and testing need and this machine lacks
	@.ci/deps

demo: ## build, then serve: gateway on 8080, dashboard on 8081, six simulated accounts
	@.ci/deps build
	@cargo run --locked -- demo

build: ## the optimised program: target/release/poolgate
	@.ci/deps build
	cargo build --locked --release

test: check ## everything a change must pass
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --locked; \
	else \
		cargo test --locked --no-fail-fast; \
	fi
	@python3 tests/systemd/run.py

test-systemd: deps ## under a real systemd, booted in a container: start, reload, kill, watchdog, stop
	cargo build --locked
	@python3 tests/systemd/run.py --must

check: deps fmt-check clippy deny ## formatting, lints (benches compile with them), licences and sources

fmt: ## format the code
	cargo fmt

fmt-check:
	cargo fmt --check

clippy:
	cargo clippy --locked --all-targets -- -D warnings

deny:
	cargo deny --locked check bans licenses sources

deb: ## a Debian package of the optimised program: target/debian/poolgate_*.deb
	@.ci/deps deb
	cargo build --locked --release --bin poolgate
	@deploy/deb/written target/release/poolgate
	cargo deb --locked --no-build

test-deb: deps ## the package in a Debian of its own: install, start, upgrade, remove, purge
	@.ci/deps deb
	cargo build --locked
	@deploy/deb/written target/debug/poolgate
	@python3 tests/deb/run.py

TARGETS ?=

fuzz: ## fuzz the readers of untrusted bytes, FUZZ_SECONDS=60 each; TARGETS="meter head" for some of them
	@.ci/deps build
	@fuzz/run $(TARGETS)

soak: deps ## every stress figure in full, then full load for POOLGATE_SOAK_TIME=10m on the optimised program
	POOLGATE_SOAK=1 cargo nextest run --locked --profile soak
	cargo nextest run --locked --release --test integration --profile soak --run-ignored only --no-capture -E 'test(memory_stays_flat)'

bench: ## measure: selection of an account, reading of streams
	@.ci/deps build
	cargo bench --locked

bench-deps: ## install what is measured beside poolgate, and the load generator (Debian packages)
	apt-get install -qq -y --no-install-recommends nginx-core haproxy wrk

PEERS ?= --write

bench-page: ## measure what an open dashboard costs with 1,000 accounts and 1,000 requests a second
	cargo build --locked --release --bin poolgate
	@python3 benches/page.py

bench-peers: ## measure beside bare Pingora, nginx and HAProxy; PEERS="--only poolgate,bare" and other options of run.py
	@.ci/deps build
	cargo build --locked --release --bin poolgate --bench peers
	@peers=$$(cargo build --locked --release --bench peers --message-format=json 2>/dev/null \
		| sed -n 's/.*"name":"peers".*"executable":"\([^"]*\)".*/\1/p'); \
	python3 benches/peers/run.py --peers "$$peers" $(PEERS)

clean-state: ## remove what running from here left: ./data and ./logs, keys and tokens in them too
	rm -rf data logs
