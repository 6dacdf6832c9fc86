#!/bin/bash
# `make run`: the coordinator on embedded SQLite and this machine's agent, enrolled through the real path.
# Enters: the variables below. Leaves: one line on standard output once everything is up; the rest goes to standard
# error and to log files. State lives in ./.run and is found again by the next run. Ctrl-C stops everything.
#   AIM_RUN_DIR         where state lives (./.run)      AIM_RUN_HTTPS_PORT  port of the API (8443)
#   AIM_RUN_PROFILE     cargo profile (dev, release)    AIM_RUN_LINK_PORT   port of the link to agents (7443)
#   AIM_RUN_BIN_DIR     programs already built; nothing is built then
# shellcheck disable=SC2317  # the trap and main reach what looks unreachable
set -euo pipefail
umask 077

repository=$(cd "$(dirname "$0")/../.." && pwd)
readonly repository
run_dir=$(realpath -m -- "${AIM_RUN_DIR:-$repository/.run}")
readonly run_dir
readonly https_port=${AIM_RUN_HTTPS_PORT:-8443}
readonly link_port=${AIM_RUN_LINK_PORT:-7443}
readonly profile=${AIM_RUN_PROFILE:-dev}
readonly url=https://127.0.0.1:$https_port
readonly password_file=$run_dir/admin-password
# Long enough for bcrypt, the CA and the first report on a busy machine.
readonly patience_s=120

bin_dir='' node='' coordinator_pid='' agent_pid='' agent_home='' agent_program=''
agent_as=()

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "make run: $1"
    if [[ -n ${2:-} && -s $2 ]]; then
        say "last lines of $2:"
        tail -n 20 "$2" >&2
    fi
    exit 1
}

prepare_run_dir() {
    case $run_dir in
        *[\"\\]* | *$'\n'*) fail "the folder's name $run_dir cannot stand in a TOML file; choose another AIM_RUN_DIR" ;;
    esac
    mkdir -p "$run_dir"
    chmod 0700 "$run_dir"
    exec 9>"$run_dir/lock"
    flock --nonblock 9 || fail "it runs already with the state in $run_dir"
}

build() {
    if [[ -n ${AIM_RUN_BIN_DIR:-} ]]; then
        bin_dir=$(realpath -- "$AIM_RUN_BIN_DIR")
    else
        say "building (the first time takes minutes)"
        "$repository/packaging/dev/prerequisites.sh" build
        (umask 022 && cd "$repository" &&
            cargo build --locked --profile "$profile" -p aim-coordinator -p aim-agent -p aim-cli >&2)
        bin_dir=${CARGO_TARGET_DIR:-$repository/target}/${profile/#dev/debug}
    fi
    mkdir -p "$run_dir/bin"
    ln -sfn "$bin_dir/aimctl" "$run_dir/bin/aimctl"
}

aimctl() { "$bin_dir/aimctl" --profile local "$@"; }

# A program in its own session, so that Ctrl-C reaches only this script, which then stops things in their order;
# it is told to end if this script is killed.
start() { # LOG COMMAND...
    local log=$1
    shift
    [[ ! -e $log ]] || mv -f "$log" "$log.1"
    setsid setpriv --pdeathsig TERM -- "$@" >"$log" 2>&1 </dev/null 9>&- &
}

write_coordinator_config() {
    local listen='[::]'
    [[ -s /proc/net/if_inet6 ]] || listen='0.0.0.0'
    cat >"$run_dir/coordinator.toml" <<TOML
# Written by make run at each start.
state_dir = "$run_dir/coordinator"

[https]
listen = "$listen:$https_port"
public_names = ["127.0.0.1", "localhost", "$node"]

[link]
listen = "$listen:$link_port"
TOML
}

start_coordinator() {
    write_coordinator_config
    start "$run_dir/coordinator.log" "$bin_dir/aim-coordinator" --config "$run_dir/coordinator.toml" \
        serve --initial-password-file "$password_file"
    coordinator_pid=$!
}

# Logs in as soon as the coordinator answers; exit code 5 of aimctl means that it does not yet.
log_in() {
    local deadline=$((SECONDS + patience_s)) pin code said
    while :; do
        alive "$coordinator_pid" || fail "the coordinator ended" "$run_dir/coordinator.log"
        if [[ -s $password_file && -s $run_dir/coordinator/ca/roots.pem ]]; then
            pin=$(root_sha256)
            code=0
            said=$(aimctl login "$url" --user admin --root-sha256 "$pin" --password-file "$password_file" 2>&1) || code=$?
            case $code in
                0) return ;;
                5) ;;
                4) fail "$said
the password of admin was changed: write the new one into $password_file" ;;
                *) fail "$said" "$run_dir/coordinator.log" ;;
            esac
        fi
        ((SECONDS < deadline)) || fail "the coordinator does not answer on $url" "$run_dir/coordinator.log"
        sleep 0.1
    done
}

# SHA-256 of the first root certificate in DER: the pin.
root_sha256() {
    awk '/BEGIN/ { on = 1; next } /END/ { exit } on' "$run_dir/coordinator/ca/roots.pem" |
        base64 -d | sha256sum | cut -d ' ' -f 1
}

# As root, the agent runs as another user with CAP_SYSLOG only, from a folder which that user can reach.
prepare_agent() {
    if ((EUID != 0)); then
        agent_home=$run_dir/agent
        agent_program=$bin_dir/aim-agent
        mkdir -p "$agent_home"
    else
        local number uid
        number=$(cksum <<<"$run_dir" | cut -d ' ' -f 1)
        # From systemd's range for dynamic users: no such user is in /etc/passwd.
        uid=$((61184 + number % 4000))
        agent_home=/var/lib/aim-run/$number
        (umask 022 && mkdir -p "$agent_home/bin")
        # A running program cannot be overwritten, but replaced.
        install -m 0755 "$bin_dir/aim-agent" "$agent_home/bin/aim-agent.new"
        mv -f "$agent_home/bin/aim-agent.new" "$agent_home/bin/aim-agent"
        agent_program=$agent_home/bin/aim-agent
        # Changing the user forgets the signal at this script's death, so it is asked for again.
        agent_as=(setpriv --reuid="$uid" --regid="$uid" --clear-groups --no-new-privs --pdeathsig TERM)
        if setpriv --bounding-set=-all,+syslog --inh-caps=-all,+syslog --ambient-caps=-all,+syslog true 2>/dev/null; then
            agent_as+=("--bounding-set=-all,+syslog" "--inh-caps=-all,+syslog" "--ambient-caps=-all,+syslog")
        else
            say "CAP_SYSLOG cannot be given here: the kernel log will be reported as unknown"
            agent_as+=(--bounding-set=-all --inh-caps=-all --ambient-caps=-all)
        fi
        agent_as+=(--)
        printf '%s\n' "$agent_home" >"$run_dir/agent-home"
    fi
    # Identities of a coordinator whose state is gone are of no use.
    [[ -e $run_dir/enrolled ]] || rm -rf "$agent_home/state"
    mkdir -p "$agent_home/state" "$agent_home/run"
    cat >"$agent_home/agent.toml" <<TOML
# Written by make run at each start.
state_dir = "$agent_home/state"
runtime_dir = "$agent_home/run"
TOML
    ((EUID != 0)) || own_by_agent "$agent_home/state" "$agent_home/run" "$agent_home/agent.toml"
}

own_by_agent() {
    local uid
    uid=$(sed -n 's/.*--reuid=\([0-9]*\).*/\1/p' <<<"${agent_as[*]}")
    chown -R "$uid:$uid" "$@"
}

enrol() {
    [[ ! -e $run_dir/enrolled ]] || return 0
    local join=$agent_home/state/join
    aimctl token create --node "$node" --replace --join-file "$join" >/dev/null
    ((EUID != 0)) || own_by_agent "$join"
    (cd / && "${agent_as[@]}" "$agent_program" --config "$agent_home/agent.toml" enroll --join-file "$join" >&2) ||
        fail "this machine's agent was not enrolled"
    printf '%s\n' "$node" >"$run_dir/enrolled"
}

start_agent() {
    cd /
    start "$run_dir/agent.log" "${agent_as[@]}" "$agent_program" --config "$agent_home/agent.toml" run
    agent_pid=$!
    # Either the node is there, or the agent has ended: whichever comes first.
    aimctl node wait "$(<"$run_dir/enrolled")" --timeout "${patience_s}s" >&2 9>&- &
    local waiting=$!
    while alive "$waiting" && alive "$agent_pid"; do sleep 0.1; done
    if ! alive "$agent_pid"; then
        kill "$waiting" 2>/dev/null || true
        fail "the agent ended" "$run_dir/agent.log"
    fi
    wait "$waiting" || fail "this machine's agent did not report" "$run_dir/agent.log"
}

alive() { kill -0 "$1" 2>/dev/null; }

# Agent first, so that it can say good-bye; each gets 20 s before it is killed.
stop_all() {
    trap '' INT TERM HUP
    local pid deadline
    for pid in $agent_pid $coordinator_pid; do
        kill -TERM "$pid" 2>/dev/null || continue
        deadline=$((SECONDS + 20))
        while alive "$pid" && ((SECONDS < deadline)); do sleep 0.05; done
        if alive "$pid"; then
            say "process $pid did not stop within 20 s and is killed"
            kill -KILL "$pid" 2>/dev/null || true
        fi
        wait "$pid" 2>/dev/null || true
    done
}

main() {
    node=$(uname -n | tr -c 'A-Za-z0-9._\n-' '-')
    prepare_run_dir
    build
    trap stop_all EXIT
    trap 'say "stopping"; exit 0' INT TERM HUP
    start_coordinator
    log_in
    prepare_agent
    enrol
    start_agent
    say "try: $run_dir/bin/aimctl node list (profile local); logs: $run_dir/*.log; stop with Ctrl-C"
    printf 'AIM ready: %s user=admin password=%s\n' "$url" "$(<"$password_file")"
    while alive "$coordinator_pid" && alive "$agent_pid"; do sleep 1; done
    alive "$coordinator_pid" || fail "the coordinator ended" "$run_dir/coordinator.log"
    fail "the agent ended" "$run_dir/agent.log"
}

main() {
    node=$(uname -n | tr -c 'A-Za-z0-9._\n-' '-')
    prepare_run_dir
    build
    trap stop_all EXIT
    trap 'say "stopping"; exit 0' INT TERM HUP
    start_coordinator
    log_in
    prepare_agent
    enrol
    start_agent
    say "try: $run_dir/bin/aimctl node list (profile local); logs: $run_dir/*.log; stop with Ctrl-C"
    printf 'AIM ready: %s user=admin password=%s\n' "$url" "$(<"$password_file")"
    local ended=0
    wait -n "$coordinator_pid" "$agent_pid" || ended=$?
    alive "$coordinator_pid" || fail "the coordinator ended ($ended)" "$run_dir/coordinator.log"
    fail "the agent ended ($ended)" "$run_dir/agent.log"
}

main
