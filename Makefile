# The house's commands. `make run` and `make test` are all that a fresh Debian 12 machine with Rust needs.
# Where they need a package that is missing they say so and install it by apt (packaging/dev/prerequisites.sh).

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help run test bench lint fmt

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Start the coordinator and this machine's agent; Ctrl-C stops both. State in ./.run.
	@exec packaging/dev/run.sh

test: ## Everything that must hold before a change lands: lint, guards, every test.
	@exec packaging/dev/test.sh

bench: ## Measure against the peers; writes target/bench/results.json (method: docs/performance.md).
	@packaging/dev/prerequisites.sh build
	cargo run --release --locked -p aim-tests --bin bench

lint: ## Formatting and clippy, warnings as errors.
	@packaging/dev/prerequisites.sh lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

fmt: ## Format the sources.
	cargo fmt --all
