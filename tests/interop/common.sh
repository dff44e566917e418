# Sourced by the scripts beside it: a host and a scratch folder of its own for each, processes that end with the script,
# the node's configuration, SIPp's counters.
set -euo pipefail

# Root runs each script in an empty network namespace, where every port is free and nothing leaves the machine.
if [ "$(id -u)" -eq 0 ] && [ -z "${TANDEM_ALONE:-}" ]; then
    TANDEM_ALONE=1 exec unshare --net -- bash -c 'ip link set lo up && exec "$0" "$@"' "$0" "$@"
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TANDEM=${TANDEM:-$here/../../target/release/tandem}
name=$(basename "$0" .sh)
work=$(mktemp -d "${TMPDIR:-/tmp}/tandem-$name.XXXXXX")
pids=()
namespaces=()
grace=5     # Seconds that what `start` started has to end after SIGTERM.
inside=()   # What a command of the proxy's host is run with: `ip netns exec NAME`, or nothing.

finish() {
    local status=$?
    trap - EXIT
    local pid namespace file
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do ended "$pid" "$grace" || kill -KILL "$pid" 2>/dev/null || true; done
    for namespace in "${namespaces[@]}"; do ip netns del "$namespace" 2>/dev/null || true; rm -rf "/etc/netns/$namespace"; done
    if [ "$status" -eq 0 ]; then
        rm -rf "$work"
    else
        # What SIPp complained of first, and where the rest is.
        for file in "$work"/*.err; do [ ! -s "$file" ] || { echo "${file##*/}: $(head -c 300 "$file" | tr '\r\n' '  ')" >&2; }; done
        echo "$name: its files are in $work" >&2
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

fail() {
    echo "FAIL $name: $*"
    exit 1
}

# wrong WHAT: noted for `verdict`, so that a table is printed to its end.
faults=()
wrong() { faults+=("$*"); }

# verdict: PASS, or FAIL with everything that is wrong.
verdict() {
    if [ ${#faults[@]} -gt 0 ]; then
        echo "FAIL $name: ${faults[0]}"
        [ ${#faults[@]} -eq 1 ] || printf '  also: %s\n' "${faults[@]:1}"
        exit 1
    fi
    echo "PASS $name"
}

need() {
    local tool
    for tool in "$@"; do command -v "$tool" >/dev/null || fail "needs $tool"; done
}

# ended PID SECONDS: whether the process is gone within that time.
ended() {
    local left=$(($2 * 10))
    while kill -0 "$1" 2>/dev/null; do
        [ "$((left--))" -gt 0 ] || return 1
        sleep 0.1
    done
}

# until_true SECONDS COMMAND...: whether the command succeeds within that time.
until_true() {
    local left=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$((left--))" -gt 0 ] || return 1
        sleep 0.1
    done
}

# start LOG COMMAND...: in the background; its process id is in $started.
start() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 </dev/null &
    started=$!
    pids+=("$started")
}

# stop PID: ends a process that `start` started.
stop() {
    local pid left=()
    kill -TERM "$1" 2>/dev/null || true
    ended "$1" 10 || kill -KILL "$1" 2>/dev/null || true
    for pid in "${pids[@]}"; do [ "$pid" = "$1" ] || left+=("$pid"); done
    pids=("${left[@]}")
}

http() { "${inside[@]}" curl -fsS --max-time 5 "http://127.0.0.1:9060$1" "${@:2}"; }

# write_config [EXTRA]: the node that every script has: set 19 for the article's User-Agent, UDP and TCP at 127.0.0.1:8060.
# EXTRA is more TOML, as a [[listener]] or a [[set]].
write_config() {
    cat >"$work/tandem.toml" <<TOML
state_dir = "state"
[[listener]]
bind = "udp:127.0.0.1:8060"
role = "node"
[[listener]]
bind = "tcp:127.0.0.1:8060"
role = "node"
[database]
url = "sqlite:tandem.db"
[http]
listen = "127.0.0.1:9060"
[drain]
handover = "0s"
limit = "2s"
[[set]]
id = 19
name = "tts"
algorithm = "round_robin"
[[rule]]
name = "tts"
method = ["INVITE", "OPTIONS"]
user_agent = "OPENSIPS_TTS_MRCP_CLIENT"
set = 19
${1:-}
TOML
}

# set_rows [URI...]: the rows of set 19, one for each destination, read by the running node.
set_rows() {
    local uri
    {
        echo '.timeout 5000'
        echo 'BEGIN; DELETE FROM `dispatcher`;'
        for uri in "$@"; do
            echo "INSERT INTO \`dispatcher\` (\`setid\`, \`destination\`, \`state\`, \`weight\`, \`priority\`, \`attrs\`, \`description\`)" \
                "VALUES (19, '$uri', 0, 1, 100, 'pstn=100', 'TTS_MRCP_CLIENT_FS');"
        done
        echo 'COMMIT;'
    } | sqlite3 "$work/tandem.db"
    take_rows
}

# take_rows: makes the node read its rows, whatever they take out.
take_rows() {
    http /reload -X POST -H "Content-Type: application/json" -d '{"by": "test", "force": true}' >/dev/null ||
        fail "the rows are not taken: $(tail -n 3 "$work/tandem.log")"
}

# start_tandem [HOST [PARAMETERS]]: a fresh node with $work/tandem.toml. Its set has two rows, HOST:7010 and HOST:7011 with
# those URI parameters; without HOST none. Its process id is in $started.
start_tandem() {
    [ -x "$TANDEM" ] || fail "no program at $TANDEM: build it, or set TANDEM"
    rm -rf "$work/state" "$work/tandem.db"*
    start "$work/tandem.log" "${inside[@]}" "$TANDEM" run --config "$work/tandem.toml"
    until_true 20 http /ready || fail "tandem is not ready: $(tail -n 3 "$work/tandem.log")"
    [ $# -eq 0 ] || set_rows "sip:$1:7010${2:-}" "sip:$1:7011${2:-}"
}

# sipp_server PREFIX SCENARIO HOST PORT [COMMAND...]: a SIPp server, its counters in $work/PREFIX.csv; COMMAND runs it. It
# speaks what SIPP_TRANSPORT says: u1 (UDP, if it is not set) or t1 (TCP). SIPP_OPTIONS are more words for its command.
sipp_server() {
    local prefix=$1 scenario=$2 host=$3 port=$4
    shift 4
    start "$work/$prefix.log" "$@" sipp -sf "$here/$scenario.xml" -i "$host" -p "$port" -t "${SIPP_TRANSPORT:-u1}" -nostdin \
        ${SIPP_OPTIONS:-} -buff_size 4194304 -trace_stat -stf "$work/$prefix.csv" -fd 1 -trace_err -error_file "$work/$prefix.err"
    # A port that is bound shows in the list of its namespace.
    until_true 10 bound "$host" "$port" "$@" || fail "no SIPp server on $host:$port: $(tail -n 3 "$work/$prefix.log")"
    sleep 0.2
    kill -0 "$started" 2>/dev/null || fail "no SIPp server on $host:$port, the port is taken: $(tail -n 3 "$work/$prefix.log")"
}

bound() {
    local host=$1 port=$2
    shift 2
    [[ $host != *:* ]] || host="[$host]"
    "$@" ss -Hltun "src $host and sport = :$port" | grep -q .
}

# sipp_caller PREFIX SCENARIO HOST [OPTIONS]: SIPp's calls from port 5072 of HOST to the node there, to their end; its counters
# are in $work/PREFIX.csv, and the result is SIPp's. It speaks what SIPP_TRANSPORT says.
sipp_caller() {
    local prefix=$1 scenario=$2 host=$3 node=$3:8060
    shift 3
    [[ $host != *:* ]] || node="[$host]:8060"
    "${inside[@]}" sipp "$node" -sf "$here/$scenario.xml" -i "$host" -p 5072 -t "${SIPP_TRANSPORT:-u1}" -nostdin -buff_size 4194304 \
        -timeout 120s -timeout_error -trace_stat -stf "$work/$prefix.csv" -fd 1 -trace_err -error_file "$work/$prefix.err" "$@" \
        >"$work/$prefix.log" 2>&1 </dev/null
}

# sipp_drain PID: SIPp takes no new calls, ends those in being and writes its last counters.
sipp_drain() {
    kill -USR1 "$1" 2>/dev/null || true
    ended "$1" 60 || fail "a SIPp server does not end"
}

# counter PREFIX NAME: the last value of a column of SIPp's counters.
counter() {
    awk -F';' -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i } END { print at ? $at : "none" }' \
        "$work/$1.csv"
}

# expect_calls PREFIX CALLS: every one succeeded, and SIPp saw nothing that its scenario does not tell of.
expect_calls() {
    expect "$1: calls that failed" 0 "$(counter "$1" 'FailedCall(C)')"
    expect "$1: calls that succeeded" "$2" "$(counter "$1" 'SuccessfulCall(C)')"
    expect "$1: messages of no call" 0 "$(counter "$1" 'OutOfCallMsgs(C)')"
}

# expect_rest DROPPED: no session is left, and the node threw as many messages away as are told.
expect_rest() {
    until_true 10 no_sessions || fail "$(metric tandem_sessions) sessions are left"
    expect "messages that the node threw away" "$1" "$(metric tandem_dropped_total)"
}

no_sessions() { [ "$(metric tandem_sessions)" = 0 ]; }
no_transactions() { [ "$(metric tandem_transactions)" = 0 ]; }

# selections HOST:PORT: what /metrics says of initial INVITEs sent there, all samples of that destination added up.
selections() {
    http /metrics | awk -v to="\"sip:$1\"" '
        /^tandem_selections_total\{/ && index($0, "destination=" to) && !/="other"/ { sum += $NF; seen = 1 }
        END { print seen ? sum : "none" }'
}

# metric NAME[{LABEL="VALUE"}]: what /metrics says of it, all its samples with that label added up.
metric() {
    http /metrics | awk -v name="${1%%\{*}" -v label="$(sed 's/^[^{]*{\{0,1\}//; s/}$//' <<<"$1")" '
        { split($1, parts, "{") }
        parts[1] == name && index($0, label) { sum += $NF; seen = 1 }
        END { print seen ? sum : "none" }'
}

# lab_server PREFIX PORT [OPTIONS]: a stand-in MRCP server of our own on 127.0.0.1; `served` tells its INVITEs once it is stopped.
lab_server() {
    local prefix=$1 port=$2
    shift 2
    [ -x "$TANDEM" ] || fail "no program at $TANDEM: build it, or set TANDEM"
    start "$work/$prefix.log" "$TANDEM" mrcp-server --listen "127.0.0.1:$port" "$@"
    until_true 10 bound 127.0.0.1 "$port" || fail "no server on port $port: $(tail -n 3 "$work/$prefix.log")"
    sleep 0.2
    kill -0 "$started" 2>/dev/null || fail "no server on port $port, the port is taken: $(tail -n 3 "$work/$prefix.log")"
}

# served PREFIX: the INVITEs of a stopped server of our own, those sent again not counted; - if there was none.
served() { awk '/ INVITEs, / { print $1; seen = 1 } END { if (!seen) print "-" }' "$work/$1.log"; }

# report PREFIX FILTER: a value of the report of `tandem calls --json` in $work/PREFIX.log.
report() { tail -n 1 "$work/$1.log" | jq -r "$2"; }

# codes PREFIX: the final answers of that report, as 200:98,503:2.
codes() { report "$1" '.outcomes | to_entries | map("\(.key):\(.value)") | join(",")'; }

# below VALUE BOUND: whether it is, decimals included.
below() { awk -v value="$1" -v bound="$2" 'BEGIN { exit !(value + 0 < bound + 0) }'; }

# expect WHAT WANTED GOT
expect() {
    [ "$2" = "$3" ] || fail "$1: $3, not $2"
}
