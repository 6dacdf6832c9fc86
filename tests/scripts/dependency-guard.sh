#!/bin/bash
# Fails where the dependency tree holds what the architecture forbids (threat model SUP; deny.toml says why).
set -euo pipefail
cd "$(dirname "$0")/../.."

tree() { cargo tree --locked --target x86_64-unknown-linux-gnu -e normal,build --prefix none -f '{p}' "$@" | awk '{ print $1, $2 }' | sort -u; }

failures=0
refuse() { printf 'dependency guard: %s\n' "$*" >&2; failures=1; }

whole=$(tree --workspace)
agent=$(tree -p aim-agent)

for banned in openssl openssl-sys native-tls rsa rustls-pemfile async-std; do
    if grep -q "^$banned " <<<"$whole"; then refuse "$banned is in the workspace's tree; see deny.toml"; fi
done
if [[ $(grep -c '^rustls ' <<<"$whole") -ne 1 ]]; then refuse "there is not exactly one version of rustls"; fi
if [[ $(grep -c '^quinn-proto ' <<<"$whole") -ne 1 ]]; then refuse "there is not exactly one version of quinn-proto"; fi
if ! grep -q '^bincode v2\.0\.1$' <<<"$whole"; then refuse "bincode is not exactly 2.0.1"; fi
# One crypto provider in TLS: nothing may switch on rustls' other one.
if cargo tree --locked --target x86_64-unknown-linux-gnu --workspace -e features -i rustls | grep -q 'rustls feature "aws'; then
    refuse "rustls has its aws_lc_rs feature switched on"
fi
# What runs on every node stays small: ring only, no database, no HTTP server.
for heavy in aws-lc-rs aws-lc-sys sqlx axum utoipa; do
    if grep -q "^$heavy " <<<"$agent"; then refuse "$heavy is in the agent's tree"; fi
done

((failures == 0)) && echo "dependency guard: one rustls, ring only in the agent, nothing banned"
exit "$failures"
