#!/bin/bash
# Installs by apt what a make target needs and is missing; names what it cannot install, and stops.
#   prerequisites.sh build|lint|test
# Enters: the target. Leaves: a machine that can do it, or exit 1 with what is missing. Everything said goes to stderr.
set -euo pipefail

purpose=${1:?usage: prerequisites.sh build|lint|test}
readonly RUST_MAJOR=1 RUST_MINOR=95

say() { printf '%s\n' "$*" >&2; }

# The Rust toolchain: not from apt, Debian's is too old.
require_rust() {
    local version major minor
    local advice="install it from https://rustup.rs (rustup toolchain install stable --component clippy rustfmt), then run make again"
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        say "missing: Rust $RUST_MAJOR.$RUST_MINOR or newer (cargo, rustc); $advice"
        exit 1
    fi
    version=$(rustc --version | awk '{ print $2 }')
    IFS=. read -r major minor _ <<<"$version"
    if ((major < RUST_MAJOR || (major == RUST_MAJOR && minor < RUST_MINOR))); then
        say "too old: Rust $version; AIM needs $RUST_MAJOR.$RUST_MINOR or newer; $advice"
        exit 1
    fi
    if [[ $purpose != build ]] && ! { cargo clippy --version && cargo fmt --version; } >/dev/null 2>&1; then
        say "missing: clippy and rustfmt of the toolchain; rustup component add clippy rustfmt, then run make again"
        exit 1
    fi
}

# The packages whose sign of presence (a command or a file) is not there.
missing_packages() {
    # A C compiler builds SQLite, ring and aws-lc; no cmake, no pkg-config, no OpenSSL.
    command -v cc >/dev/null || echo gcc
    [[ -e /usr/include/stdlib.h ]] || echo libc6-dev
    command -v setpriv >/dev/null || echo util-linux
    [[ $purpose == test ]] || return 0
    command -v curl >/dev/null || echo curl                # the specification's flow by curl
    command -v ip >/dev/null || echo iproute2              # oracle for network interfaces
    command -v free >/dev/null || echo procps              # oracle for memory
    command -v lsblk >/dev/null || echo util-linux         # oracle for disks
    compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || echo faketime   # a node whose clock is wrong
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || echo postgresql
}

install_missing() {
    local -a packages sudo=()
    mapfile -t packages < <(missing_packages | sort -u)
    ((${#packages[@]})) || return 0
    if ! command -v apt-get >/dev/null; then
        say "missing: ${packages[*]} (Debian's names); install them with this system's package manager, then run make again"
        exit 1
    fi
    if ((EUID != 0)); then
        command -v sudo >/dev/null || { say "missing: ${packages[*]}; as root: apt-get install ${packages[*]}"; exit 1; }
        sudo=(sudo)
    fi
    say "installing by apt: ${packages[*]}"
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
}

require_rust
install_missing
