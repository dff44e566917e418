# Sourced after common.sh: calls with re-INVITEs and BYE from both ends, by the scenarios in dialog/, through proxies in a row.
# Callers are on 127.0.0.5:5072, servers on 127.0.0.3, ports 7010 and 7011.

# by_way PROXY...: the proxies (HOST:PORT) in order from the caller. The scenarios demand their Vias on every request.
by_way() {
    local proxy down= up=
    for proxy in "$@"; do
        down="Via: [^ ]* $proxy;.*$down"
        up="$up.*Via: [^ ]* $proxy;"
    done
    sed "s|WAY|${down%.\*}|" "$here/dialog/server.xml" >"$work/dialog_server.xml"
    sed "s|WAY|${up#.\*}|" "$here/dialog/caller.xml" >"$work/dialog_caller.xml"
    cp "$here"/dialog/{caller_cancels,server_rings,server_480}.xml "$here/caller_refused.xml" "$work"
    printf 'SEQUENTIAL\ncaller\nserver\n' >"$work/ends.csv"
}

# servers ROUND SCENARIO TRANSPORT: one on each port; u1 is UDP, t1 TCP. Their process ids are in $servers.
servers() {
    local port
    servers=()
    for port in 7010 7011; do
        start "$work/$1-$port.log" sipp -sf "$work/$2.xml" -i 127.0.0.3 -p "$port" -t "$3" -nostdin -buff_size 4194304 \
            -trace_stat -stf "$work/$1-$port.csv" -fd 1 -trace_err -error_file "$work/$1-$port.err"
        servers+=("$started")
        until_true 10 bound 127.0.0.3 "$port" || fail "no SIPp server on port $port: $(tail -n 3 "$work/$1-$port.log")"
    done
}

# calls ROUND SCENARIO TRANSPORT PROXY COUNT: a caller; its exit status is in $status.
calls() {
    local round=$1 scenario=$2 transport=$3 proxy=$4 count=$5
    status=0
    sipp "$proxy" -sf "$work/$scenario.xml" -i 127.0.0.5 -p 5072 -t "$transport" -nostdin -buff_size 4194304 \
        -inf "$work/ends.csv" -m "$count" -r "${RATE:-100}" -l 1000 -timeout 40s -timeout_error \
        -trace_stat -stf "$work/$round-caller.csv" -fd 1 -trace_err -error_file "$work/$round-caller.err" \
        >"$work/$round-caller.log" 2>&1 </dev/null || status=$?
}

# served_all ROUND COUNT [EACH]: the servers are stopped; the caller had so many calls, each server EACH (half of them), and
# nothing unexpected.
served_all() {
    local round=$1 count=$2 each=${3:-$(($2 / 2))} server port
    for server in "${servers[@]}"; do sipp_drain "$server"; done
    check "$round: SIPp's exit status" 0 "$status"
    check "$round: calls that succeeded" "$count" "$(counter "$round-caller" 'SuccessfulCall(C)')"
    check "$round: calls that failed" 0 "$(counter "$round-caller" 'FailedCall(C)')"
    check "$round: messages of no call to the caller" 0 "$(counter "$round-caller" 'OutOfCallMsgs(C)')"
    for port in 7010 7011; do
        check "$round: messages of no call to $port" 0 "$(counter "$round-$port" 'OutOfCallMsgs(C)')"
        check "$round: calls that $port served" "$each" "$(counter "$round-$port" 'SuccessfulCall(C)')"
        check "$round: calls that failed on $port" 0 "$(counter "$round-$port" 'FailedCall(C)')"
    done
}

# check WHAT WANTED GOT: as expect, but the table goes on.
check() { [ "$2" = "$3" ] || wrong "$1: $3, not $2"; }

# resent ROUND: what caller and servers sent twice.
resent() {
    local who count sum=0
    for who in caller 7010 7011; do
        [ -e "$work/$1-$who.csv" ] || continue
        count=$(counter "$1-$who" 'Retransmissions(C)')
        sum=$((sum + ${count/none/0}))
    done
    echo "$sum"
}

# new_requests: what the node was sent, what came again not counted.
new_requests() { echo "$(($(metric tandem_requests_total) - $(metric tandem_retransmissions_total)))"; }

# at_rest: whether the node has no session, or soon; a node without rows has no sample.
no_session() { [[ $(metric tandem_sessions) = @(0|none) ]]; }
at_rest() { until_true 5 no_session; }
