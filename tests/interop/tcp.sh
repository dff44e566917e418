#!/usr/bin/env bash
# Calls over TCP, from UDP to TCP and from TCP to UDP, 2,000 each, to two servers: none fails, and each server gets half.
# TANDEM names the program; CALLS and RATE (a second) may be changed.
. "$(dirname "$0")/common.sh"
need sipp sqlite3 curl ss awk
calls=${CALLS:-2000}
rate=${RATE:-400}

write_config

# bridge CALLER SERVER: one round; u1 is UDP, t1 TCP with one connection for all calls, tn TCP with one for each.
bridge() {
    local caller=$1 server=$2 round=$1-$2 params= status=0 first second port metrics
    [ "$server" = u1 ] || params=";transport=tcp"
    SIPP_TRANSPORT=$server sipp_server "$round-7010" server 127.0.0.1 7010
    first=$started
    SIPP_TRANSPORT=$server sipp_server "$round-7011" server 127.0.0.1 7011
    second=$started
    start_tandem 127.0.0.1 "$params"

    sipp 127.0.0.1:8060 -sf "$here/caller.xml" -i 127.0.0.1 -p 5072 -t "$caller" -nostdin -buff_size 4194304 \
        -max_socket 5000 -m "$calls" -r "$rate" -l "$((rate * 10))" -d 1000 -timeout 300s -timeout_error \
        -trace_stat -stf "$work/$round-caller.csv" -fd 1 -trace_err -error_file "$work/$round-caller.err" \
        >"$work/$round-caller.log" 2>&1 </dev/null || status=$?
    metrics=$(http /metrics | awk '/^tandem_tcp_(accepted|connect_failures|queue_full)_total /{ printf "%s %s ", $1, $2 }')
    expect "$round: selections of 7010 in /metrics" "$((calls / 2))" "$(selections "127.0.0.1:7010$params")"
    expect "$round: selections of 7011 in /metrics" "$((calls / 2))" "$(selections "127.0.0.1:7011$params")"
    sipp_drain "$first"
    sipp_drain "$second"
    stop "$(running_tandem)"

    echo "$name: $caller to $server: $(counter "$round-caller" 'SuccessfulCall(C)') of $calls calls succeeded at $rate a second," \
        "$(counter "$round-caller" 'FailedCall(C)') failed, $(counter "$round-caller" 'Retransmissions(C)') retransmissions;" \
        "7010 had $(counter "$round-7010" 'SuccessfulCall(C)'), 7011 had $(counter "$round-7011" 'SuccessfulCall(C)'); $metrics"
    expect "$round: SIPp's exit status" 0 "$status"
    expect "$round: calls that failed" 0 "$(counter "$round-caller" 'FailedCall(C)')"
    expect "$round: calls that succeeded" "$calls" "$(counter "$round-caller" 'SuccessfulCall(C)')"
    for port in 7010 7011; do
        expect "$round: calls that failed on $port" 0 "$(counter "$round-$port" 'FailedCall(C)')"
        expect "$round: calls that $port served" "$((calls / 2))" "$(counter "$round-$port" 'SuccessfulCall(C)')"
    done
}

# The process that start_tandem started last is the last of the list.
running_tandem() { echo "${pids[-1]}"; }

bridge t1 t1
bridge u1 t1
bridge t1 u1
bridge tn t1
echo "PASS $name"
