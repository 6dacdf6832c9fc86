#!/bin/bash
# Fails where the dependency tree holds what the architecture forbids (threat model SUP; deny.toml says why).
#   dependency-guard.sh [RULES]
# Enters: the lock file, and the rules (deny.toml). Leaves: what is wrong, on stderr. Needs no network.
set -euo pipefail
rules=$(realpath "${1:-$(dirname "$0")/../../deny.toml}")
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

# Licences: an SPDX expression counts when the allowed ones alone make it true.
allowed=$(sed -n '/^allow = \[/,/^\]/p' "$rules" | grep -o '"[^"]*"' | tr -d '"')
is_allowed() {
    local expression=${1//\// OR } sum='' word
    # An exception belongs to the name before it.
    expression=$(sed -E 's/ WITH /+WITH+/g; s/([()])/ \1 /g' <<<"$expression")
    for word in $expression; do
        case $word in
            '(' | ')') sum+=$word ;;
            OR) sum+='||' ;;
            AND) sum+='&&' ;;
            *) if grep -qxF "${word//+WITH+/ WITH }" <<<"$allowed"; then sum+=1; else sum+=0; fi ;;
        esac
    done
    [[ $sum =~ ^[01\|\&()]+$ ]] && (($sum))
}
licences=0
while IFS='|' read -r package licence; do
    [[ $package == aim-* ]] && continue
    licences=$((licences + 1))
    is_allowed "$licence" || refuse "${package%% (*} has the licence '${licence:-none}', which deny.toml does not allow"
done < <(cargo tree --locked --offline --workspace --target x86_64-unknown-linux-gnu -e normal,build,dev --prefix none -f '{p}|{l}' | sed 's/ (\*)$//; /^$/d' | sort -u)
((licences > 100)) || refuse "only $licences licences were looked at"

# An exception to an advisory has an owner, and an end that has not come.
today=$(date -u +%F)
while read -r exception; do
    id=$(grep -o 'id = "[^"]*"' <<<"$exception")
    until=$(sed -nE 's/.*until ([0-9]{4}-[0-9]{2}-[0-9]{2}).*/\1/p' <<<"$exception")
    [[ $exception == *'"owner: '* ]] || refuse "the exception $id names no owner"
    [[ -n $until && ! $until < $today ]] || refuse "the exception $id has no end ('until YYYY-MM-DD') or is past it"
done < <(sed -n '/^ignore = \[/,/^\]/p' "$rules" | grep 'id = ')

((failures == 0)) && echo "dependency guard: one rustls, ring only in the agent, nothing banned, $licences licences allowed"
exit "$failures"
