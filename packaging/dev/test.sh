#!/bin/bash
# `make test`: prerequisites, formatting, clippy, dependency guard, build, every test. Ends with cargo test's summaries.
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { printf '\n== %s\n' "$*" >&2; }

step prerequisites
packaging/dev/prerequisites.sh test
step formatting
cargo fmt --all --check
step clippy
cargo clippy --locked --workspace --all-targets -- -D warnings
step "dependency guard"
tests/scripts/dependency-guard.sh
if command -v cargo-deny >/dev/null; then
    step "cargo deny"
    cargo deny --locked check
else
    echo "cargo deny is not installed: bans are held by the dependency guard, advisories and licences were not checked" >&2
fi
step build
cargo build --locked --workspace
step tests
cargo test --locked --workspace
